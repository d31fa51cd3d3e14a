"""While an authority is down one key asks it now and then; one key's trouble is its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import held, in_child
from support import EXACT, KEY, FakeClock, FakeSource, make_context
from waiting import until

from tokenmgr import (
    AccessToken,
    AccessTokenManager,
    ConfigurationError,
    InvalidCredentialError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
)
from tokenmgr._engine.cell import Cell
from tokenmgr.emulator import EntraEmulator
from tokenmgr.entra.breaker import Breaker
from tokenmgr.events import BreakerClosed, BreakerOpened, Event
from tokenmgr.manager import manager_of
from tokenmgr.token import TokenKey

KEYS = [replace(KEY, subject=f"user-{number}") for number in range(20)]
DOWN = ServiceUnavailableError("down", retry_after=30.0)
URL = "https://login.microsoftonline.com/contoso.onmicrosoft.com"
SCOPES = [f"api://service-{number}/.default" for number in range(6)]


class Watched:
    """A source whose fetches the breaker watches, as a client's are."""

    def __init__(self, source: FakeSource, key: TokenKey, breaker: Breaker) -> None:
        self._source, self._key, self._breaker = source, key, breaker

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        with self._breaker.watching(self._key):
            return self._source.fetch_token(claims=claims)


class Authority:
    """A breaker with managers behind it, each with a source of its own."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.events: list[Event] = []
        context = replace(make_context(clock), emit=self.events.append)
        self.breaker = Breaker(URL, context)
        self.sources = [FakeSource(clock) for _ in KEYS]
        quiet = replace(context, emit=lambda event: None)
        self.managers = [
            manager_of(Cell(Watched(source, key, self.breaker), key, quiet))
            for key, source in zip(KEYS, self.sources, strict=True)
        ]

    @property
    def fetches(self) -> int:
        return sum(source.fetches for source in self.sources)

    def fail(self, *numbers: int, error: TokenManagerError = DOWN) -> None:
        for number in numbers:
            self.sources[number].error = error
            with pytest.raises(type(error)):
                self.managers[number].refresh_access_token()


@pytest.fixture
def authority(clock: FakeClock) -> Authority:
    return Authority(clock)


def test_it_opens_when_three_keys_have_failed_in_a_row(authority: Authority) -> None:
    authority.fail(0, 1)
    assert authority.managers[5].get_access_token() == "token-1"
    authority.fail(2, 3)
    assert authority.events == []
    authority.fail(4)
    assert authority.events == [BreakerOpened(authority.clock.wall(), URL, 30.0)]


def test_while_it_is_open_other_keys_fail_at_once_without_a_request(authority: Authority) -> None:
    authority.fail(0, 1, 2)
    authority.clock.advance(10)
    for number in range(3, 20):
        with pytest.raises(ServiceUnavailableError, match="left alone for 20 s") as caught:
            authority.managers[number].get_access_token()
        assert caught.value.retry_after == 20.0
        assert caught.value.retryable
    assert authority.fetches == 3


def test_while_it_is_open_valid_tokens_are_handed_out(authority: Authority) -> None:
    assert authority.managers[9].get_access_token() == "token-1"
    authority.fail(0, 1, 2)
    authority.clock.advance(1)
    assert authority.managers[9].get_access_token() == "token-1"


def test_one_key_that_fails_never_opens_it_and_delays_nobody(authority: Authority) -> None:
    for _ in range(20):
        authority.fail(0)
        authority.clock.advance(30)
    for number in range(1, 20):
        assert authority.managers[number].get_access_token() == "token-1"
    assert authority.events == []


@pytest.mark.parametrize(
    "error",
    [ThrottledError("slow down", retry_after=3600.0), InvalidCredentialError("no")],
    ids=["429", "400"],
)
def test_refusals_never_open_it(authority: Authority, error: TokenManagerError) -> None:
    authority.fail(*range(19), error=error)
    assert authority.managers[19].get_access_token() == "token-1"
    assert authority.events == []


def test_one_probe_goes_through_and_the_others_wait_for_what_it_learns(
    authority: Authority,
) -> None:
    authority.fail(0, 1, 2)
    authority.clock.advance(30)
    probe = authority.sources[3]
    probe.gate.clear()
    got: list[str] = []
    asking = threading.Thread(target=lambda: got.append(authority.managers[3].get_access_token()))
    asking.start()
    assert probe.entered.acquire(timeout=30)
    for number in range(4, 20):
        with pytest.raises(ServiceUnavailableError, match="ask again soon") as caught:
            authority.managers[number].get_access_token()
        assert caught.value.retry_after is None  # the probe may end at any moment
    assert authority.fetches == 4
    probe.gate.set()
    asking.join(30)
    assert got == ["token-1"]
    assert [type(event) for event in authority.events] == [BreakerOpened, BreakerClosed]
    authority.clock.advance(60)
    assert authority.managers[4].get_access_token() == "token-1"


def test_keys_that_wait_for_themselves_are_not_too_late_for_the_next_probe(
    authority: Authority,
) -> None:
    breaker, failed_at = authority.breaker, authority.clock.elapsed()
    authority.fail(0, 1)
    assert not breaker.is_worth_asking(failed_at)  # it is not open
    authority.fail(2)
    assert not breaker.is_worth_asking(failed_at)
    authority.clock.advance(30)
    assert breaker.is_worth_asking(failed_at)
    with breaker.watching(KEYS[3]):
        assert not breaker.is_worth_asking(failed_at)  # there is a probe
    assert breaker.is_worth_asking(failed_at)


@pytest.mark.parametrize(("lasts", "left"), [(0, 12), (10, 2), (40, 1)])
def test_probes_are_12_s_apart_however_long_one_takes(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, lasts: float, left: float
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    breaker = Breaker(URL, make_context(clock, RefreshPolicy(backoff_base=60.0)))
    for key in KEYS[:3]:
        with suppress(ServiceUnavailableError), breaker.watching(key):
            clock.advance(lasts)
            raise ServiceUnavailableError("no answer")
    with (
        pytest.raises(ServiceUnavailableError, match=f"left alone for {left} s"),
        breaker.watching(KEYS[3]),
    ):
        pytest.fail("it is not open")


def test_a_probe_that_fails_leaves_it_open_for_longer(authority: Authority) -> None:
    authority.fail(0, 1, 2)
    authority.clock.advance(30)
    authority.fail(3)
    with pytest.raises(ServiceUnavailableError, match="left alone"):
        authority.managers[4].get_access_token()
    assert [type(event) for event in authority.events] == [BreakerOpened, BreakerOpened]
    assert authority.fetches == 4


def test_an_answer_that_is_a_refusal_closes_it_too(authority: Authority) -> None:
    authority.fail(0, 1, 2)
    authority.clock.advance(30)
    authority.fail(3, error=InvalidCredentialError("no", error="invalid_client"))
    assert authority.events[-1] == BreakerClosed(authority.clock.wall(), URL)
    assert authority.managers[4].get_access_token() == "token-1"


def test_a_failure_that_never_left_this_machine_says_nothing_of_the_authority(
    authority: Authority,
) -> None:
    authority.fail(0, 1, 2)
    authority.clock.advance(30)
    authority.fail(3, error=ConfigurationError("the token file cannot be read"))
    assert BreakerClosed not in [type(event) for event in authority.events]


def test_a_probe_that_never_ends_lets_another_one_through_later(authority: Authority) -> None:
    authority.fail(0, 1, 2)
    authority.clock.advance(30)
    probe = authority.breaker.watching(KEYS[3])
    probe.__enter__()  # and nobody ever hears of it again
    with pytest.raises(ServiceUnavailableError):
        authority.managers[4].get_access_token()
    authority.clock.advance(EXACT.backoff_cap)
    assert authority.managers[4].get_access_token() == "token-1"


def test_requests_that_were_under_way_when_it_opened_do_not_lengthen_it(
    authority: Authority,
) -> None:
    under_way = [authority.breaker.watching(key) for key in KEYS]
    for each in under_way:
        each.__enter__()
    late = ServiceUnavailableError("down", retry_after=3000.0)
    for number, each in enumerate(under_way):
        error = DOWN if number < 3 else late
        assert not each.__exit__(type(error), error, None)
    assert len(authority.events) == 1
    authority.clock.advance(30)
    assert authority.managers[4].get_access_token() == "token-1"


def test_an_interruption_says_nothing_of_the_authority(authority: Authority) -> None:
    for number in range(3):
        with pytest.raises(KeyboardInterrupt), authority.breaker.watching(KEYS[number]):
            raise KeyboardInterrupt
    authority.fail(0, 1)
    with pytest.raises(KeyboardInterrupt), authority.breaker.watching(KEYS[2]):
        raise KeyboardInterrupt
    assert authority.managers[4].get_access_token() == "token-1"
    authority.fail(5, 6, 7)
    authority.clock.advance(30)
    with pytest.raises(KeyboardInterrupt), authority.breaker.watching(KEYS[3]):
        raise KeyboardInterrupt
    assert [type(event) for event in authority.events] == [BreakerOpened]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), TimeoutError(), ConfigurationError("the file is unreadable")]
)
def test_a_probe_that_learns_nothing_lets_another_one_through_at_once(
    authority: Authority, error: BaseException
) -> None:
    authority.fail(0, 1, 2)
    authority.clock.advance(30)
    with pytest.raises(type(error)), authority.breaker.watching(KEYS[3]):
        raise error
    assert authority.managers[4].get_access_token() == "token-1"


@needs_fork
@unwarned_forks
def test_what_a_child_knows_of_the_authority_is_what_its_parent_knew(authority: Authority) -> None:
    authority.fail(0, 1, 2)

    def work() -> str:
        with pytest.raises(ServiceUnavailableError, match="left alone"):
            authority.managers[3].get_access_token()
        authority.clock.advance(30)
        return authority.managers[3].get_access_token()

    with held(authority.breaker._lock):
        assert in_child(work) == "token-1"


@contextmanager
def managers(
    entra: EntraEmulator, clock: FakeClock, **more: object
) -> Iterator[list[AccessTokenManager]]:
    policy = RefreshPolicy(jitter=0.0, backoff_base=0.0)
    with entra.registry(clock=clock, policy=policy, timeout=5.0, **more) as tokens:
        yield [tokens.manager(scope) for scope in SCOPES]


def test_a_registry_leaves_a_dead_authority_alone_and_finds_it_again(entra: EntraEmulator) -> None:
    clock, events = FakeClock(), []
    with managers(entra, clock, on_event=events.append) as asked:
        entra.fail_next(1000, status=503, retry_after=30)
        for manager in asked[:3]:
            with pytest.raises(ServiceUnavailableError):
                manager.get_access_token()
        before = entra.count()
        for manager in asked[3:]:
            with pytest.raises(ServiceUnavailableError, match="left alone"):
                manager.get_access_token()
        assert entra.count() == before
        entra.recover()
        clock.advance(60)
        assert all(manager.get_access_token() for manager in asked)
        until(lambda: any(isinstance(event, BreakerClosed) for event in events))
    opened = [event for event in events if isinstance(event, BreakerOpened)]
    assert [event.authority for event in opened] == [entra.authority()]


def test_a_registry_does_not_mind_one_scope_that_is_throttled(entra: EntraEmulator) -> None:
    with managers(entra, FakeClock()) as asked:
        entra.fail_next(1000, status=429, retry_after=3600, scope=SCOPES[0])
        with pytest.raises(ThrottledError):
            asked[0].get_access_token()
        assert all(manager.get_access_token() for manager in asked[1:])


def test_answers_to_users_never_open_it_and_answers_to_the_app_do(clock: FakeClock) -> None:
    in_trouble = ServiceUnavailableError("in trouble", status=503)
    users = Authority(clock)
    users.fail(*range(10), error=in_trouble)
    assert users.events == []
    for key in (replace(KEY, scopes=(scope,)) for scope in SCOPES[:3]):
        with suppress(ServiceUnavailableError), users.breaker.watching(key):
            raise in_trouble
    assert users.events == [BreakerOpened(clock.wall(), URL, 0.0)]


def test_a_user_whose_answer_is_that_it_is_in_trouble_ends_the_probe(authority: Authority) -> None:
    authority.fail(0, 1, 2)
    authority.clock.advance(31)
    authority.fail(3, error=ServiceUnavailableError("in trouble", status=503, retry_after=20.0))
    with pytest.raises(ServiceUnavailableError, match="left alone for 20 s"):
        authority.managers[4].get_access_token()
