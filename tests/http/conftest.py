from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

pytest.register_assert_rewrite("http_compliance")

from http_api import Api, Server, serve  # noqa: E402 - what it asserts is told only after that
from support import PROXIES, unset  # noqa: E402 - the same


@pytest.fixture
def api(tls: trustme.CA) -> Iterator[Api]:
    """An API over TLS. Whatever it holds is let go in the end."""
    api = Api()
    server = serve(api, tls)
    yield api
    api.let_go.set()
    server.close()


@pytest.fixture
def plain() -> Iterator[Server]:
    """An API without TLS."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def proxy() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    unset(monkeypatch, *PROXIES)
