"""Who comes back in the middle of a fetch: a log handler, a store, a source, a hook.

Each has the token in hand, or a typed error at once; none waits for itself for a minute.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis
from redis_servers import BINARIES, running_server
from support import (
    KEY,
    SCOPE,
    FakeClock,
    FakeSource,
    RecordingStore,
    in_threads,
    make_manager,
    settle,
)
from waiting import until

from tokenmgr import (
    AccessToken,
    AccessTokenManager,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)
from tokenmgr._runtime.workers import Workers
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import Event
from tokenmgr.stores import RedisStore

#: Well under a second is what is promised; whoever waits for itself does so for a minute.
AT_ONCE = 10.0
PASSWORD = "https://redis.azure.com/.default"


class Shipping(logging.Handler):
    """Ships each line with a token."""

    def __init__(self, ask: Callable[[], str]) -> None:
        super().__init__()
        self._ask = ask
        self.shipped = 0
        self.lines: list[str] = []
        self.errors: list[TokenManagerError] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._ask()
        except TokenManagerError as exc:
            self.errors.append(exc)
        else:
            self.shipped += 1
            self.lines.append(record.getMessage())


@pytest.fixture
def ship() -> Iterator[Callable[[Callable[[], str]], Shipping]]:
    """Has all lines of all loggers shipped."""
    root, level = logging.getLogger(), logging.getLogger().level
    handlers: list[Shipping] = []

    def start(ask: Callable[[], str]) -> Shipping:
        handlers.append(Shipping(ask))
        root.addHandler(handlers[-1])
        root.setLevel(logging.DEBUG)
        return handlers[-1]

    yield start
    root.setLevel(level)
    for each in handlers:
        root.removeHandler(each)


# Log handlers


def test_a_log_handler_that_asks_for_the_token_whose_fetch_it_logs_holds_up_nobody(
    entra: EntraEmulator, ship: Callable[[Callable[[], str]], Shipping]
) -> None:
    with entra.registry() as tokens:
        graph = tokens.manager(SCOPE)
        shipping = ship(graph.get_access_token)
        began = time.monotonic()
        token = graph.get_access_token()
        logging.getLogger("app").info("a line of the program's")
        assert graph.refresh_access_token() != token
        assert time.monotonic() - began < AT_ONCE
        errors = shipping.errors.copy()
    assert shipping.shipped > 0
    assert errors
    assert {type(each) for each in errors} <= {TokenRequestError, TokenTimeoutError}
    assert entra.count() == 2


def test_a_log_handler_that_asks_first_of_all_fails_at_once_and_has_the_next_line_shipped(
    entra: EntraEmulator, ship: Callable[[Callable[[], str]], Shipping]
) -> None:
    with entra.registry() as tokens:
        graph = tokens.manager(SCOPE)
        shipping = ship(graph.get_access_token)
        began = time.monotonic()
        # The handler's lock is taken, for which whoever fetches waits, as it logs too.
        logging.getLogger("app").info("the first line")
        assert time.monotonic() - began < AT_ONCE
        assert isinstance(shipping.errors[0], TokenTimeoutError)
        until(lambda: graph.status().state == "fresh", "the fetch")
        logging.getLogger("app").info("the next line")
        assert "the first line" not in shipping.lines
        assert "the next line" in shipping.lines


def test_what_a_log_handler_asks_for_is_not_logged_lest_it_ask_again(
    clock: FakeClock, source: FakeSource, ship: Callable[[Callable[[], str]], Shipping]
) -> None:
    manager, depth, deepest = make_manager(clock, source), 0, 0
    source.gate.clear()

    def ask() -> str:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        try:
            return manager.get_access_token()
        finally:
            depth -= 1

    ship(ask)
    manager.prefetch()
    assert source.entered.acquire(timeout=30)
    logging.getLogger("app").info("a line in the middle of the fetch")  # which ask() joins
    source.gate.set()
    settle(manager)
    assert deepest == 1


# Stores


class Asking(RecordingStore):
    """A store that wants a token for each operation, as a Redis without a password does."""

    ask: Callable[[], str]

    def _note(self, operation: str) -> None:
        super()._note(operation)
        self.ask()


def test_a_store_that_needs_a_token_of_the_same_key_is_passed_by_at_once(
    clock: FakeClock, source: FakeSource
) -> None:
    store = Asking(clock)
    manager = make_manager(clock, source, store=store)
    store.ask = manager.get_access_token
    began = time.monotonic()
    assert manager.get_access_token() == "token-1"
    clock.advance(30)  # and is found to be well once there is a token
    manager.refresh_access_token()
    until(lambda: manager.status().store == "well", "the probe")
    manager.refresh_access_token()
    assert time.monotonic() - began < AT_ONCE
    assert store.names


def managers_of_a_store_that_asks(
    clock: FakeClock, workers: Workers, count: int
) -> list[AccessTokenManager]:
    """Managers of one registry, of which the first has what the store of all of them asks for."""
    store = Asking(clock)
    made = [
        make_manager(
            clock,
            FakeSource(clock, name=f"key{number}"),
            workers=workers,
            key=replace(KEY, scopes=(PASSWORD if number == 0 else f"api://{number}/.default",)),
            store=store,
        )
        for number in range(count)
    ]
    store.ask = made[0].get_access_token
    return made


def test_a_store_that_needs_a_token_of_the_same_registry_has_it(clock: FakeClock) -> None:
    password, graph = managers_of_a_store_that_asks(clock, Workers(8, name="tokenmgr-fetch"), 2)
    began = time.monotonic()
    assert graph.get_access_token() == "key1-1"
    assert password.get_access_token() == "key0-1"
    assert time.monotonic() - began < AT_ONCE


@pytest.mark.parametrize("most", [1, 2])
def test_workers_that_all_wait_for_one_more_fetch_have_it_done(clock: FakeClock, most: int) -> None:
    made = managers_of_a_store_that_asks(clock, Workers(most, name="tokenmgr-fetch"), 6)
    waiting = iter(made[1:])
    began = time.monotonic()
    got = in_threads(5, lambda: next(waiting).get_access_token())
    assert sorted(map(str, got)) == [f"key{number}-1" for number in range(1, 6)]
    assert time.monotonic() - began < AT_ONCE


@pytest.mark.parametrize("kind", BINARIES)
def test_a_redis_whose_password_is_a_token_of_the_same_registry_is_shared(
    entra: EntraEmulator, kind: str
) -> None:
    class Password(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            asked.append(tokens.get_access_token(PASSWORD))
            return "default", asked[-1]

    asked: list[str] = []
    with running_server(BINARIES[kind]) as server:
        client = server.client(credential_provider=Password())
        with entra.registry(store=RedisStore(client)) as tokens:
            graph = tokens.manager(SCOPE)
            began = time.monotonic()
            graph.get_access_token()
            assert time.monotonic() - began < AT_ONCE
            assert asked == [tokens.get_access_token(PASSWORD)]
            until(lambda: graph.refresh_access_token() and server.client().dbsize(), "sharing")
        client.close()


# Sources


class Chained:
    """A source that needs another manager's token first."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.other: AccessTokenManager

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        return AccessToken(f"after {self.other.get_access_token()}", self._clock.wall() + 3600)


def test_a_source_that_needs_another_managers_token_has_it(
    clock: FakeClock, manager: AccessTokenManager
) -> None:
    source = Chained(clock)
    source.other = manager
    assert make_manager(clock, source).get_access_token() == "after token-1"  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sources_that_need_each_others_tokens_fail_at_once(clock: FakeClock, count: int) -> None:
    sources = [Chained(clock) for _ in range(count)]
    made = [
        make_manager(clock, source, key=replace(KEY, subject=str(number)))  # type: ignore[arg-type]
        for number, source in enumerate(sources)
    ]
    for number, source in enumerate(sources):
        source.other = made[(number + 1) % count]
    waiting = iter(made)
    began = time.monotonic()
    for outcome in in_threads(count, lambda: next(waiting).get_access_token()):
        assert isinstance(outcome, TokenManagerError)
        assert count > 1 or "asked for by what fetches it" in str(outcome)
    assert time.monotonic() - began < AT_ONCE


# Hooks


def test_a_hook_may_wait_for_a_token_and_close_what_it_hears_of(
    clock: FakeClock, source: FakeSource
) -> None:
    got: list[str] = []

    def hook(event: Event) -> None:
        if not got:
            got.append(manager.get_access_token())
            manager.close()

    manager = make_manager(clock, source, on_event=hook)
    manager.prefetch()
    until(lambda: got == ["token-1"], "the hook's token")
    until(lambda: manager.status().state == "none", "the end")
