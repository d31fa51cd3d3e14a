"""Calls of a program's own functions: they have an end, and what comes of them is theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from waiting import until

from tokenmgr._runtime import workers
from tokenmgr._runtime.calls import _MOST, Calls, CallTimeoutError


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging functions wait for; open once the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_what_a_function_gives_comes_back_hidden_out_of_another_thread() -> None:
    given = Calls().call(threading.get_ident, 30.0)
    assert given.cell_contents != threading.get_ident()
    assert str(given.cell_contents) not in repr(given)


def test_what_a_function_raises_is_raised() -> None:
    failure = LookupError("shut")

    def fail() -> None:
        raise failure

    with pytest.raises(LookupError) as raised:
        Calls().call(fail, 30.0)
    assert raised.value is failure


def test_a_coroutine_is_awaited_in_a_loop_that_is_nobody_else_s() -> None:
    loops: list[object] = []

    async def ask() -> str:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        return "asked"

    async def main() -> None:
        calls = Calls()
        assert (await asyncio.to_thread(calls.call, ask, 30.0)).cell_contents == "asked"
        loops.append(asyncio.get_running_loop())

    asyncio.run(main())
    assert loops[0] is not loops[1]


def test_a_coroutine_s_own_timeout_is_its_own() -> None:
    async def ask() -> None:
        raise TimeoutError("of the vault")

    with pytest.raises(TimeoutError, match="of the vault"):
        Calls().call(ask, 30.0)


def test_a_function_that_hangs_is_given_up(gate: threading.Event) -> None:
    with pytest.raises(CallTimeoutError):
        Calls().call(gate.wait, 0.01)


def test_a_coroutine_that_hangs_is_cancelled() -> None:
    ended = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(CallTimeoutError):
        Calls().call(hang, 0.01)
    assert ended.wait(30)


def test_calls_that_hang_keep_so_many_threads_and_what_waits_behind_them_is_not_made(
    gate: threading.Event,
) -> None:
    calls, made = Calls(), []
    for _ in range(_MOST + 4):
        with pytest.raises(CallTimeoutError):
            calls.call(lambda: made.append(gate.wait()), 0.01)
    gate.set()
    until(lambda: len(made) == _MOST)
    assert calls.call(lambda: "well again", 30.0).cell_contents == "well again"
    assert len(made) == _MOST


def test_where_no_thread_runs_the_call_is_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "DaemonThread", none)
    assert Calls().call(threading.get_ident, 30.0).cell_contents == threading.get_ident()


def test_a_coroutine_that_cannot_be_run_leaves_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> None:
        """Is never begun."""

    async def main() -> None:
        Calls().call(ask, 30.0)

    monkeypatch.setattr(workers, "DaemonThread", none)
    with pytest.raises(RuntimeError, match="event loop runs"):
        asyncio.run(main())
