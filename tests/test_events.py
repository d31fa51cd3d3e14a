"""What happened is told at its moment, holds no secret, and the telling is in nobody's way."""

from __future__ import annotations

import dataclasses
import logging
import threading

import pytest
from programs import run
from support import KEY, SCOPE, FakeClock, FakeSource, HandRefresher, in_threads, make_manager
from waiting import until

from tokenmgr import RefreshPolicy, ServiceUnavailableError, ThrottledError, TokenManagerError
from tokenmgr._runtime.threads import DaemonThread
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import (
    _MOST_WAITING,
    BackingOff,
    Event,
    FlightJoined,
    Hook,
    RequestFailed,
    ServedStale,
    TokenInvalidated,
    TokenLetGo,
    TokenRenewed,
    TokenRequested,
)

DOWN = ThrottledError("slow down", retry_after=30.0, error_codes=(90033,))


def told(events: list[Event], count: int) -> list[Event]:
    until(lambda: len(events) >= count)
    return events[:count]


def test_each_kind_is_told_at_its_moment(clock: FakeClock, source: FakeSource) -> None:
    events: list[Event] = []
    refresher = HandRefresher(clock)
    manager = make_manager(clock, source, refresher=refresher, on_event=events.append)
    source.during = lambda: clock.advance(2)
    at = clock.wall()
    manager.get_access_token()
    told(events, 2)
    source.error = DOWN
    clock.advance(2998)
    with pytest.raises(ThrottledError):
        manager.refresh_access_token()
    told(events, 6)
    manager.invalidate("token-1")
    source.error = None
    clock.advance(30)
    manager.get_access_token()
    told(events, 9)
    clock.advance(2880)
    refresher.run_due()
    told(events, 11)
    clock.advance(2880)
    refresher.run_due()
    assert told(events, 11) == [
        TokenRequested(at, KEY, "none"),
        TokenRenewed(at + 2, KEY, took=2.0, expires_in=3588.0),
        TokenRequested(at + 3000, KEY, "forced"),
        RequestFailed(at + 3002, KEY, 2.0, "ThrottledError", (90033,), "slow down", 588.0, 30.0),
        BackingOff(at + 3002, KEY, 30.0),
        ServedStale(at + 3002, KEY, 588.0),
        TokenInvalidated(at + 3002, KEY),
        TokenRequested(at + 3032, KEY, "none"),
        TokenRenewed(at + 3034, KEY, took=2.0, expires_in=3588.0),
        TokenRequested(at + 5914, KEY, "aging"),
        TokenRenewed(at + 5916, KEY, took=2.0, expires_in=3588.0),
    ]
    assert told(events, 12)[11] == TokenLetGo(at + 8796, KEY)


def test_a_request_is_told_before_what_comes_of_it_however_late_its_caller_goes_on(
    clock: FakeClock, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    manager = make_manager(clock, source, on_event=events.append)
    me = threading.current_thread()

    def late(record: logging.LogRecord) -> bool:
        if threading.current_thread() is me:
            until(lambda: manager._cell.current.secret)
        return True

    caplog.set_level(logging.DEBUG, "tokenmgr")
    logging.getLogger("tokenmgr").addFilter(late)
    try:
        manager.get_access_token()
    finally:
        logging.getLogger("tokenmgr").removeFilter(late)
    assert [type(event) for event in told(events, 2)] == [TokenRequested, TokenRenewed]


@pytest.mark.parametrize("reason", ["expired", "min_ttl", "claims"])
def test_a_request_says_why(clock: FakeClock, source: FakeSource, reason: str) -> None:
    events: list[Event] = []
    manager = make_manager(clock, source, on_event=events.append)
    manager.get_access_token()
    clock.advance(3600 if reason == "expired" else 1000)
    if reason == "claims":
        manager.refresh_access_token(claims="c")
    else:
        manager.get_access_token(min_ttl=3000 if reason == "min_ttl" else None)
    assert [e.reason for e in told(events, 4) if isinstance(e, TokenRequested)] == ["none", reason]


def test_whoever_waits_for_another_s_fetch_is_told_of(clock: FakeClock, source: FakeSource) -> None:
    events: list[Event] = []
    manager = make_manager(clock, source, on_event=events.append)
    source.gate.clear()
    source_opens = threading.Timer(0, lambda: (until(lambda: manager.status().waits == 5), open_()))

    def open_() -> None:
        source.gate.set()

    source_opens.start()
    in_threads(5, manager.get_access_token)
    source_opens.join()
    assert len([e for e in told(events, 6) if isinstance(e, FlightJoined)]) == 4


def test_events_cannot_be_changed_and_have_no_field_for_a_secret() -> None:
    kinds: list[type[Event]] = [Event]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    assert fields <= {
        *("at", "key", "reason", "took", "expires_in", "error", "error_codes"),
        *("seconds", "authority", "operation", "message", "retry_in"),
        *("thumbprint", "ends_at"),
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        Event(1.0).at = 2.0  # type: ignore[misc]


def test_no_secret_is_in_any_event_or_log_line(
    entra: EntraEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger().setLevel(logging.DEBUG)
    events: list[Event] = []
    with entra.registry(on_event=events.append) as tokens:
        manager = tokens.manager(SCOPE)
        secrets = [entra.client_secret, manager.get_access_token(), manager.refresh_access_token()]
        broken = '{"access_token": "broken-secret", "expires_in": '
        entra.fail_next(5, status=200, body=broken)
        with pytest.raises(TokenManagerError) as caught:
            manager.refresh_access_token()
        until(lambda: any(isinstance(event, RequestFailed) for event in events))
        said = repr(events) + caplog.text + repr(caught.value) + repr(tokens.status())
    assert "TokenRenewed" in said
    for secret in [*secrets, "broken-secret"]:
        assert secret not in said


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(1)])
def test_a_hook_that_raises_harms_nobody_and_is_told_the_rest(
    clock: FakeClock, source: FakeSource, error: BaseException
) -> None:
    events: list[Event] = []

    def hook(event: Event) -> None:
        events.append(event)
        raise error

    manager = make_manager(clock, source, on_event=hook)
    for _ in range(5):
        manager.refresh_access_token()
    kinds = [type(event) for event in told(events, 10)]
    assert kinds == [TokenRequested, TokenRenewed] * 5


def test_a_hook_that_blocks_delays_no_call_and_its_queue_drops_the_oldest() -> None:
    gate, seen = threading.Event(), []

    def blocked(event: Event) -> None:
        assert gate.wait(30)
        seen.append(event.at)

    hook = Hook(blocked)
    hook.emit(Event(-1.0))
    until(lambda: not hook._waiting)
    for number in range(_MOST_WAITING + 500):
        hook.emit(Event(float(number)))
    assert seen == []
    gate.set()
    until(lambda: len(seen) == _MOST_WAITING + 1)
    assert seen == [-1.0, *map(float, range(500, _MOST_WAITING + 500))]


def test_a_hook_may_call_back_into_the_manager(clock: FakeClock, source: FakeSource) -> None:
    got: list[str] = []
    manager = make_manager(clock, source, on_event=lambda _: got.append(manager.get_access_token()))
    assert manager.get_access_token() == "token-1"
    until(lambda: len(got) >= 2)
    assert set(got) == {"token-1"}


def test_where_no_thread_runs_events_wait_for_one_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: DaemonThread) -> None:
        raise RuntimeError("can't start new thread")

    events: list[Event] = []
    hook = Hook(events.append)
    with monkeypatch.context() as patch:
        patch.setattr(DaemonThread, "start", refuse)
        hook.emit(Event(1.0))
    assert events == []
    hook.emit(Event(2.0))
    assert [event.at for event in told(events, 2)] == [1.0, 2.0]


def test_a_logging_filter_that_raises_harms_nobody(clock: FakeClock, source: FakeSource) -> None:
    def broken(record: logging.LogRecord) -> bool:
        raise ValueError("a filter of the program's own")

    def hook(event: Event) -> None:
        events.append(event)
        raise ValueError("and a hook")

    events: list[Event] = []
    logger = logging.getLogger("tokenmgr")
    logger.addFilter(broken)
    try:
        manager = make_manager(clock, source, on_event=hook)
        assert manager.refresh_access_token() == "token-1"
        told(events, 2)
        assert manager.refresh_access_token() == "token-2"
        told(events, 4)
    finally:
        logger.removeFilter(broken)


def test_the_logger_tells_renewals_at_debug_and_failures_as_warnings(
    clock: FakeClock, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tokenmgr")
    manager = make_manager(clock, source, RefreshPolicy(jitter=0.0, backoff_base=0.0))
    manager.get_access_token()
    source.error = ServiceUnavailableError("down: wait. Correlation id: 1-2")
    with pytest.raises(ServiceUnavailableError):
        manager.refresh_access_token()
    until(lambda: len(caplog.records) == 6)
    said = [(record.levelname, record.message.split("(")[0]) for record in caplog.records]
    assert [level for level, _ in said] == ["DEBUG", "DEBUG", "DEBUG", "WARNING", "DEBUG", "DEBUG"]
    assert [what for _, what in said[:3]] == ["TokenRequested", "TokenRenewed", "TokenRequested"]
    assert caplog.records[3].message == (
        f"no new token for {SCOPE} at {KEY.authority}: ServiceUnavailableError: down: wait. "
        "Correlation id: 1-2 (the one in hand serves for 3590 s more; asked again in 0 s)"
    )


def test_a_program_that_configures_no_logging_sees_failures_on_stderr() -> None:
    done = run(
        "-c",
        "from tokenmgr import *\n"
        "class Down:\n"
        "    def fetch_token(self, *, claims=None):\n"
        "        raise ServiceUnavailableError('down')\n"
        "key = TokenKey('https://a', 'c', 'g', ('s',))\n"
        "try: AccessTokenManager(Down(), key, on_event=print).get_access_token()\n"
        "except ServiceUnavailableError: print('failed')\n"
        "import time; time.sleep(0.2)\n",
    )
    assert "failed" in done.stdout
    assert done.stderr.startswith(
        "no new token for s at https://a: ServiceUnavailableError: down (no token is in hand; "
    )
    assert done.stderr.count("\n") == 1


def test_status_tells_each_state_and_no_secret(clock: FakeClock, source: FakeSource) -> None:
    manager = make_manager(clock, source, RefreshPolicy(jitter=0.0, backoff_base=0.0))
    assert (manager.status().state, manager.status().last_success) == ("none", None)
    at = clock.wall()
    manager.get_access_token()
    status = manager.status()
    assert (status.state, status.expires_in, status.last_success) == ("fresh", 3590.0, at)
    assert (status.last_error, status.waits) == (None, 1)
    clock.advance(2880)
    assert manager.status().state == "aging"
    source.error = DOWN
    with pytest.raises(ThrottledError):
        manager.refresh_access_token()
    assert manager.status().last_error == "ThrottledError: slow down"
    clock.advance(3600)
    assert (manager.status().state, manager.status().expires_in) == ("expired", 0.0)
    assert "token-1" not in repr(manager.status())


SCOPES = [f"api://service-{number}/.default" for number in range(5)]


def test_prefetch_asks_side_by_side(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        managers = [tokens.manager(scope) for scope in SCOPES]
        with entra.paused():
            waiting = threading.Thread(target=tokens.prefetch)
            waiting.start()
            entra.wait_for_requests(5)
        waiting.join(30)
        assert [manager.status().state for manager in managers] == ["fresh"] * 5
    assert entra.count() == 5


async def test_aprefetch_asks_side_by_side_and_raises_the_first_failure(
    entra: EntraEmulator,
) -> None:
    async with entra.registry() as tokens:
        managers = [tokens.manager(scope) for scope in SCOPES]
        entra.fail_next(1, status=429, retry_after=60, scope=SCOPES[2])
        with pytest.raises(ThrottledError):
            await tokens.aprefetch()
        assert [manager.status().state for manager in managers].count("fresh") == 4
    assert entra.count() == 5


def test_prefetch_with_one_failure_has_the_others_and_raises_it(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        managers = [tokens.manager(scope) for scope in SCOPES]
        entra.fail_next(1, status=429, retry_after=60, scope=SCOPES[0])
        with pytest.raises(ThrottledError):
            tokens.prefetch(*managers)
        assert [status.state for status in tokens.status()] == ["none"] + ["fresh"] * 4
