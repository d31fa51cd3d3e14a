"""uWSGI, which forks without Python's knowledge, and runs no threads unless it is told to."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec

import programs
import pytest
import requests
from support import in_threads
from waiting import until

from tokenmgr.emulator import EntraEmulator

# Whoever imports it is a server from then on.
pytestmark = pytest.mark.skipif(find_spec("pyuwsgi") is None, reason="there is no uWSGI here")

#: In a session of its own, since at its end it ends its whole process group.
PROGRAM = "import os; os.setsid(); import pyuwsgi; pyuwsgi.run()"

#: The application with a token that was fetched as it was loaded, and with none.
FETCHED = ("--eval", "import web_app; application = web_app.fetched('wsgi')")
PLAIN = ("--module", "web_app:wsgi")


@contextlib.contextmanager
def uwsgi(entra: EntraEmulator, *options: str) -> Iterator[str]:
    """The URL of a server with two workers, ended with the block."""
    with programs.running(
        *("-c", PROGRAM, "--master", "--processes=2", "--need-app"),
        *("--http-socket=127.0.0.1:0", "--die-on-term", *options),
        stderr=subprocess.STDOUT,
        **(entra.environment() | programs.with_tests()),
    ) as process:
        said = programs.read_until(process, "bound to TCP address")
        said += programs.read_until(process, "spawned uWSGI worker 2")
        found = re.search(r"bound to TCP address (\S+)", said)
        assert found is not None
        yield f"http://{found[1]}"


def have_all_answered(url: str, tokens: dict[int, str]) -> bool:
    for answer in in_threads(8, lambda: requests.get(url, timeout=20).json()):
        assert isinstance(answer, dict), answer
        assert tokens.setdefault(answer["pid"], answer["token"]) == answer["token"]
    return len(tokens) == 2


@pytest.mark.parametrize("threads", [("--enable-threads",), ()], ids=["threads", "no threads"])
@pytest.mark.parametrize(
    "app",
    [(*FETCHED, "--lazy-apps"), (*PLAIN, "--lazy-apps"), PLAIN],
    ids=["a token in each worker", "an app in each worker", "a registry of before the fork"],
)
def test_every_worker_has_its_token(
    entra: EntraEmulator, app: tuple[str, ...], threads: tuple[str, ...]
) -> None:
    tokens: dict[int, str] = {}
    with uwsgi(entra, *app, *threads) as url:
        until(lambda: have_all_answered(url, tokens), "an answer of both workers")
    assert len(set(tokens.values())) == entra.count() == 2
