"""The life of real programs: servers that fork, programs that end, threads that never run."""

from __future__ import annotations

import asyncio
import json
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import programs
import pytest
from fork_marks import needs_fork
from gunicorn_servers import WORKERS, Gunicorn, gunicorn
from support import FakeClock, FakeSource, RecordingStore, make_manager
from waiting import until

from tokenmgr import AccessTokenManager, ServiceUnavailableError
from tokenmgr._runtime import workers
from tokenmgr._runtime.refresher import Refresher
from tokenmgr.emulator import EntraEmulator

# Servers that fork

all_kinds = pytest.mark.parametrize(("worker", "kind"), WORKERS.values(), ids=WORKERS.keys())


def preloaded(kind: str, worker: str, entra: EntraEmulator) -> AbstractContextManager[Gunicorn]:
    """A gunicorn with two workers that has loaded the app before it forks."""
    options = ("--preload", f"--worker-class={worker}")
    return gunicorn(f'web_app:fetched("{kind}")', *options, workers=2, **entra.environment())


@needs_fork
@all_kinds
def test_workers_of_a_preloaded_app_share_the_token_of_before_the_fork(
    entra: EntraEmulator, worker: str, kind: str
) -> None:
    with preloaded(kind, worker, entra) as server:
        until(lambda: server.have_answered(2), "an answer of both workers")
        log = server.stop()
    assert len(set.union(*server.tokens.values())) == 1
    assert entra.count() == 1
    assert "Traceback" not in log
    assert "SIGKILL" not in log


@needs_fork
@all_kinds
def test_each_worker_of_a_preloaded_app_renews_by_itself(worker: str, kind: str) -> None:
    with EntraEmulator(token_lifetime=2) as entra, preloaded(kind, worker, entra) as server:
        until(
            lambda: (
                server.have_answered(2) and all(len(seen) > 1 for seen in server.tokens.values())
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


@needs_fork
def test_children_that_fork_as_celery_does_cost_no_request(entra: EntraEmulator) -> None:
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # of forks, from Python 3.12 on
    done = programs.run(
        "-c", textwrap.dedent(PREFORK), **entra.environment(), **programs.with_tests(), **quiet
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "all served\n")
    assert entra.count() == 1


# multiprocessing


def spawning(method: str, entra: EntraEmulator) -> dict[str, object]:
    program = str(programs.TESTS / "spawning_program.py")
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
    done = programs.run(program, method, **entra.environment(), **programs.with_tests(), **quiet)
    assert (done.returncode, done.stderr) == (0, "")
    outcome: dict[str, object] = json.loads(done.stdout)
    return outcome


@needs_fork
def test_a_child_of_multiprocessing_inherits_the_registry(entra: EntraEmulator) -> None:
    outcome = spawning("fork", entra)
    assert outcome["inherited"] == outcome["parent"]
    assert str(outcome["made there"]).startswith("eyJ")
    assert entra.count() == 2


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=needs_fork)])
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
    from support import KEY, SCOPE, FakeClock
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
        clock = FakeClock(time.time())
        manager = AccessTokenManager(source, KEY, clock=clock)
        source.go_on.set()
        manager.get_access_token()
        source.go_on.clear(), source.asked.clear()
        clock.advance(3500)
        assert manager.get_access_token() == "t"
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
    with programs.running("-X", "dev", "-c", script, **programs.with_tests()) as process:
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
    monkeypatch.setattr(workers, "_PATIENCE", 0.05)
    if request.param == "not started":
        monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    else:
        monkeypatch.setattr(threading.Thread, "run", lambda thread: end.wait(30))
    yield make_manager(
        clock,
        source,
        refresher=Refresher(clock),
        workers=workers.Workers(4, name="tokenmgr-fetch"),
        store=RecordingStore(clock),
    )
    end.set()


def test_where_threads_never_run_callers_fetch_by_themselves(
    threadless: AccessTokenManager, source: FakeSource
) -> None:
    assert [threadless.get_access_token() for _ in range(3)] == ["token-1"] * 3
    # More often than there may be threads.
    assert [threadless.refresh_access_token() for _ in range(6)] == [
        f"token-{number}" for number in range(2, 8)
    ]
    assert source.fetches == 7


def test_where_threads_never_run_the_next_caller_renews(
    threadless: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    threadless.get_access_token()
    clock.advance(2880)
    assert [threadless.get_access_token() for _ in range(4)] == ["token-2"] * 4
    assert source.fetches == 2
    source.error = ServiceUnavailableError("the service is down")
    clock.advance(2880)
    assert [threadless.get_access_token() for _ in range(3)] == ["token-2"] * 3


def test_where_threads_never_run_what_would_go_on_behind_is_done_at_once(
    threadless: AccessTokenManager, source: FakeSource
) -> None:
    threadless.prefetch()
    assert source.fetches == 1
    assert threadless.get_access_token() == "token-1"
    threadless.invalidate("token-1")
    assert threadless._cell.shared is not None
    assert threadless._cell.shared.look(()) is None
    assert threadless.get_access_token() == "token-2"


def test_where_threads_never_run_coroutines_share_a_fetch(
    threadless: AccessTokenManager, source: FakeSource
) -> None:
    async def main() -> list[str]:
        return await asyncio.gather(*[threadless.aget_access_token() for _ in range(3)])

    assert asyncio.run(main()) == ["token-1"] * 3
    assert asyncio.run(threadless.arefresh_access_token()) == "token-2"
    assert source.fetches == 2


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
    ended = programs.run("-W", "ignore::DeprecationWarning", "-c", IMPORTS)
    assert ended.stdout == "child 0\n"
    # Nobody is at its authority, and the child's own call says so.
    assert ended.stderr.startswith("no new token for ")
    assert "Traceback" not in ended.stderr


@pytest.mark.traces  # coverage has ended by then
def test_an_object_that_asks_for_a_token_as_the_interpreter_ends_has_it() -> None:
    began = time.monotonic()
    done = programs.run(str(programs.TESTS / "last_words_program.py"), **programs.with_tests())
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "token-2")
    assert time.monotonic() - began < 20, "it waited for a thread that runs no more"
