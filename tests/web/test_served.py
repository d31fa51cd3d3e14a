"""What every framework's module does, behind real servers: forked workers, threads, event loops."""

from __future__ import annotations

from collections.abc import Iterator

import programs
import pytest
from web_compliance import BY_SERVERS, Ask, ServedCompliance, by_http
from web_django_classes import ClassesOfViews

from tokenmgr.emulator import EntraEmulator


class ByServer(ServedCompliance):
    """Inherited with a server's command, and what it is told of the application."""

    refused_by_server = BY_SERVERS
    server: tuple[str, ...]
    variables: dict[str, str] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def ask(cls, entra: EntraEmulator) -> Iterator[Ask]:
        variables = entra.environment() | programs.with_tests() | cls.variables
        with programs.serving(*cls.server, **variables) as served:
            yield by_http(served.url)


#: A worker that is forked from a process that has the application, which sees what is too large.
GUNICORN = ("gunicorn", "--preload", "--threads=8", "--limit-request-field_size=65536")


class TestFlaskByGunicorn(ByServer):
    server = (*GUNICORN, "web_flask:make_app()")


class TestDjangoByGunicorn(ByServer):
    server = (*GUNICORN, "web_django:wsgi")


class TestDjangoByUvicorn(ByServer):
    server = ("uvicorn", "--lifespan=off", "web_django:asgi")


class WithoutMiddleware(ClassesOfViews, ByServer):
    """Each view for itself; where anybody may call, nothing of ours takes part."""

    test_no_caller_is_left_for_the_next = None
    test_whoever_sends_a_bad_one_is_nobody_where_anybody_may_call = None

    variables = {"DJANGO_BEARERS": "views"}


class TestDjangosViewsByGunicorn(WithoutMiddleware):
    server = TestDjangoByGunicorn.server


class TestDjangosViewsByUvicorn(WithoutMiddleware):
    server = TestDjangoByUvicorn.server
