"""The life of real programs: servers that fork, programs that end, threads that never run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import programs
import pytest
import requests
from forking import until
from support import EXACT, KEY, FakeClock, FakeSource, in_threads

from tokenmgr import AccessTokenManager
from tokenmgr._runtime.refresher import Refresher
from tokenmgr._runtime.workers import Workers
from tokenmgr.emulator import EntraEmulator

TESTS = Path(__file__).parent
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def path() -> dict[str, str]:
    """Where programs find the library, and what tests stand on."""
    return {"PYTHONPATH": os.pathsep.join((programs.environment()["PYTHONPATH"], str(TESTS)))}


# Servers that fork

WORKERS = {
    "sync": ("forked_app:wsgi", "sync"),
    "threads": ("forked_app:wsgi", "gthread"),
    "uvicorn": ("forked_app:asgi", "uvicorn_worker.UvicornWorker"),
}
both_kinds = pytest.mark.parametrize(("app", "worker"), WORKERS.values(), ids=WORKERS.keys())


class Gunicorn:
    """A gunicorn with two workers that has loaded the app before it forks."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._log = programs.read_until(process, "Listening at: ")
        found = re.search(r"Listening at: (http://\S+)", self._log)
        assert found is not None
        self._url = found[1]
        #: The tokens that each worker has given, by its process id.
        self.tokens: dict[int, set[str]] = {}

    def ask(self) -> None:
        """Eight requests at once."""
        for answer in in_threads(8, lambda: requests.get(self._url, timeout=20).json()):
            assert isinstance(answer, dict), answer
            self.tokens.setdefault(answer["pid"], set()).add(answer["token"])

    def stop(self) -> str:
        """Ends it as an orchestrator does; gives its log."""
        self._process.send_signal(signal.SIGTERM)
        rest, _ = self._process.communicate(timeout=15)
        assert self._process.returncode == 0
        return self._log + rest


@contextmanager
def gunicorn(app: str, worker: str, entra: EntraEmulator) -> Iterator[Gunicorn]:
    options = ["--preload", "--workers=2", "--bind=127.0.0.1:0", f"--worker-class={worker}"]
    with programs.running(
        "-m", "gunicorn", *options, app, stderr=subprocess.STDOUT, **entra.environment(), **path()
    ) as process:
        yield Gunicorn(process)


@forks
@both_kinds
def test_workers_of_a_preloaded_app_share_the_token_of_before_the_fork(
    entra: EntraEmulator, app: str, worker: str
) -> None:
    with gunicorn(app, worker, entra) as server:
        until(lambda: server.ask() or len(server.tokens) == 2, "an answer of both workers")
        log = server.stop()
    assert len(set.union(*server.tokens.values())) == 1
    assert entra.count() == 1
    assert "Traceback" not in log
    assert "SIGKILL" not in log


@forks
@both_kinds
def test_each_worker_of_a_preloaded_app_renews_by_itself(app: str, worker: str) -> None:
    with EntraEmulator(token_lifetime=2) as entra, gunicorn(app, worker, entra) as server:
        until(
            lambda: (
                server.ask()
                or (
                    len(server.tokens) == 2
                    and all(len(seen) > 1 for seen in server.tokens.values())
                )
            ),
            "a renewal in both workers",
        )
        log = server.stop()
    one, other = server.tokens.values()
    # What they have in common is at most the token of before the fork.
    assert len(one & other) <= 1
    assert "Traceback" not in log


PREFORK = """
    import os, sys, threading
    from tokenmgr import TokenRegistry
    from support import SCOPE, in_threads
    tokens = TokenRegistry.from_env()
    graph = tokens.manager(SCOPE)
    first = graph.get_access_token()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            served = in_threads(5, lambda: [graph.get_access_token() for _ in range(10)])
            assert {token for each in served for token in each} == {first}
            sys.exit(7)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [7] * 4
    assert graph.get_access_token() == first
    print("all served")
"""


@forks
def test_children_that_fork_as_celery_does_cost_no_request(entra: EntraEmulator) -> None:
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # of forks, from Python 3.12 on
    done = programs.run("-c", textwrap.dedent(PREFORK), **entra.environment(), **path(), **quiet)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "all served\n")
    assert entra.count() == 1


# multiprocessing


def spawning(method: str, entra: EntraEmulator) -> dict[str, object]:
    program = str(TESTS / "spawning_program.py")
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
    done = programs.run(program, method, **entra.environment(), **path(), **quiet)
    assert (done.returncode, done.stderr) == (0, "")
    outcome: dict[str, object] = json.loads(done.stdout)
    return outcome


@forks
def test_a_child_of_multiprocessing_inherits_the_registry(entra: EntraEmulator) -> None:
    outcome = spawning("fork", entra)
    assert outcome["inherited"] == outcome["parent"]
    assert str(outcome["made there"]).startswith("eyJ")
    assert entra.count() == 2


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=forks)])
def test_a_child_of_multiprocessing_that_starts_anew_is_given_the_configuration(
    entra: EntraEmulator, method: str
) -> None:
    outcome = spawning(method, entra)
    assert str(outcome["made there"]).startswith("eyJ")
    assert outcome["made there"] != outcome["parent"]
    refusals = outcome["refusals"]
    assert isinstance(refusals, list)
    assert len(refusals) == 3
    assert all("does not pickle" in each and "pass the configuration" in each for each in refusals)
    assert entra.count() == 2


# The end of a program

PRELUDE = """
    import asyncio, atexit, sys, threading, time
    from support import KEY, SCOPE
    from tokenmgr import AccessToken, AccessTokenManager, RefreshPolicy, TokenTimeoutError

    class Source:
        def __init__(self):
            self.asked, self.go_on = threading.Event(), threading.Event()

        def fetch_token(self, *, claims=None):
            self.asked.set()
            self.go_on.wait()
            return AccessToken("t", time.time() + 3600)

    source = Source()
    manager = AccessTokenManager(source, KEY)
"""

ENDS = {
    "with a flight under way": """
        try:
            manager.get_access_token(timeout=0.01)
        except TokenTimeoutError:
            assert source.asked.wait(10)
            print("ended")
    """,
    "with a renewal to come": """
        source.go_on.set()
        manager.get_access_token()
        assert [each.name for each in threading.enumerate()][1:] == ["tokenmgr-refresher"]
        print("ended")
    """,
    "with a renewal under way": """
        source.go_on.set()
        manager.get_access_token()
        source.go_on.clear(), source.asked.clear()
        manager._keeper.renew_if_used()
        assert source.asked.wait(10)
        print("ended")
    """,
    "with a cancelled event loop": """
        async def main():
            task = asyncio.ensure_future(manager.aget_access_token())
            while not source.asked.is_set():
                await asyncio.sleep(0)
            raise KeyboardInterrupt

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("ended")
    """,
    "with an event loop that is gone when the token comes": """
        async def main():
            await asyncio.wait_for(manager.aget_access_token(), 0.01)

        try:
            asyncio.run(main())
        except asyncio.TimeoutError:
            print("ended")
        atexit.register(source.go_on.set)
    """,
    "by sys.exit with threads of its own": """
        source.go_on.set()
        threads = [threading.Thread(target=manager.get_access_token) for _ in range(5)]
        for thread in threads:
            thread.start()
        print("ended")
        sys.exit()
    """,
    "with a first call at its very end": """
        source.go_on.set()
        atexit.register(lambda: print("en" + ("ded" if manager.get_access_token() else "")))
    """,
    "with calls of every kind at its very end": """
        def last():
            assert manager.get_access_token(timeout=10) == "t"
            assert manager.refresh_access_token() == "t"
            assert asyncio.run(manager.arefresh_access_token()) == "t"
            manager.close()
            print("ended")

        source.go_on.set()
        atexit.register(last)
    """,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_program_ends_at_once_and_quietly(end: str) -> None:
    script = textwrap.dedent(PRELUDE) + textwrap.dedent(end)
    with programs.running("-X", "dev", "-c", script, **path()) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err, out) == (0, "", "ended\n")


# Servers in which threads start and never run


@pytest.fixture(params=["not started", "not scheduled"])
def threadless(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    source: FakeSource,
) -> Iterator[AccessTokenManager]:
    """A manager where no thread runs, as in uWSGI without ``--enable-threads``."""
    end = threading.Event()
    if request.param == "not started":
        monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    else:
        monkeypatch.setattr(threading.Thread, "run", lambda thread: end.wait(30))
    yield AccessTokenManager(
        source,
        KEY,
        policy=EXACT,
        clock=clock,
        refresher=Refresher(clock),
        workers=Workers(4, name="tokenmgr-fetch"),
    )
    end.set()


def test_where_threads_never_run_callers_fetch_by_themselves(
    threadless: AccessTokenManager, source: FakeSource
) -> None:
    assert [threadless.get_access_token() for _ in range(3)] == ["token-1"] * 3
    assert threadless.refresh_access_token() == "token-2"
    assert source.fetches == 2


def test_where_threads_never_run_the_next_caller_renews(
    threadless: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    threadless.get_access_token()
    clock.advance(2880)
    assert [threadless.get_access_token() for _ in range(3)] == ["token-1"] * 3
    assert source.fetches == 1  # a thread might run yet
    clock.advance(1)
    assert threadless.get_access_token() == "token-1"
    assert [threadless.get_access_token() for _ in range(3)] == ["token-2"] * 3
    assert source.fetches == 2


def test_where_threads_never_run_a_fetch_that_was_left_to_them_is_taken_over(
    threadless: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    threadless.prefetch()
    assert source.fetches == 0
    clock.advance(1)
    assert threadless.get_access_token() == "token-1"
    threadless.invalidate("token-1")
    assert asyncio.run(_with_a_sync_caller(threadless, clock)) == ["token-2", "token-2"]


async def _with_a_sync_caller(manager: AccessTokenManager, clock: FakeClock) -> list[str]:
    waiting = asyncio.ensure_future(manager.aget_access_token())
    while not manager._keeper._flight:
        await asyncio.sleep(0)
    clock.advance(1)
    return [manager.get_access_token(), await waiting]


def test_where_threads_never_run_a_manager_closes(threadless: AccessTokenManager) -> None:
    threadless.get_access_token()
    threadless.close()
    assert threadless.status().state == "none"


IMPORTS = """
import importlib.abc, os, signal, sys, threading
from tokenmgr import TokenManagerError, TokenRegistry

started, forking = threading.Event(), threading.Event()

class SlowImport(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "msal":
            started.set()
            forking.wait(10)
            threading.Event().wait(0.2)

sys.meta_path.insert(0, SlowImport())
tokens = TokenRegistry(
    client_id="c", credential="s", authority="https://127.0.0.1:9/contoso.com", timeout=1
)
graph = tokens.manager("https://graph.microsoft.com/.default")

def fetch():
    try:
        graph.get_access_token()
    except TokenManagerError as error:
        return type(error).__name__

thread = threading.Thread(target=fetch)
thread.start()
started.wait(10)
forking.set()
child = os.fork()
if child == 0:
    signal.alarm(10)
    os._exit(0 if fetch() == "ServiceUnavailableError" else 1)
thread.join()
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_waits_for_the_imports_of_the_first_fetch() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", IMPORTS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("child 0\n", "")
