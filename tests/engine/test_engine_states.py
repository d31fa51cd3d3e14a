"""Callers, failures, interruptions and clock steps in any order: promises 1, 2, 4 and 5 hold."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support import KEY, FakeClock, HandRefresher, in_threads, make_context, settle

from tokenmgr import (
    AccessToken,
    ConfigurationError,
    InvalidCredentialError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenTimeoutError,
)
from tokenmgr._engine.cell import Cell
from tokenmgr._engine.current import Current
from tokenmgr.manager import manager_of

POLICY = RefreshPolicy()
NAMES = ("alice", "bob")
ERRORS: list[Exception] = [
    ServiceUnavailableError("down"),
    ServiceUnavailableError("down", retry_after=120.0),
    ThrottledError("slow down", retry_after=3.0),
    ThrottledError("slow down", retry_after=4000.0),
    InvalidCredentialError("no"),
    ValueError("a bug of the source's"),
]


#: Seconds that a fetch may take, and after which a key gives its flight up.
FETCH_TIMEOUT = 30.0
GIVEN_UP = FETCH_TIMEOUT + 5.0


class InterruptedHereError(BaseException):
    """What a signal's handler raises."""


def interrupt() -> None:
    raise InterruptedHereError


class Clock(FakeClock):
    """A clock whose two hands move as one, for threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def advance(self, seconds: float) -> None:
        with self._lock:
            super().advance(seconds)

    def both(self) -> tuple[float, float]:
        with self._lock:
            return self.elapsed(), self.wall()


class Inline:
    """Workers without threads: work is done when a rule says so, or a call waits for it."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], object]] = deque()
        #: Whether no thread runs: then callers do it by themselves.
        self.none_runs = False
        #: Whether whoever comes back out of work is known for the one who does it.
        self.knows_itself = False
        #: Whether the next one who waits is interrupted.
        self.interrupts = False

    def do(self, work: Callable[[], object]) -> None:
        if self.none_runs:
            raise RuntimeError("no thread runs here")
        self.waiting.append(work)

    def run_one(self) -> bool:
        if not self.waiting:
            return False
        work = self.waiting.popleft()
        if self.knows_itself:
            getattr(work, "taken", bool)()
        with contextlib.suppress(InterruptedHereError):
            work()
        return True

    def wait(self, call: Any) -> Current:
        """Has a call wait as a thread does, while the workers work."""
        try:
            flight, seconds = next(call)
            while True:
                interrupts, self.interrupts = self.interrupts, False
                if interrupts:
                    interrupt()
                while seconds > 0 and not flight.landed and self.run_one():
                    pass
                flight, seconds = call.send(flight.landed)
        except StopIteration as end:
            return end.value


class Issuer:
    """A source that knows, on true elapsed time, until when each of its tokens is good."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.lifetime = 3600.0
        self.error: Exception | None = None
        self.during: Callable[[], object] = lambda: None
        self.fetches = 0
        self.overlapped = False
        self.ends: dict[str, float] = {}
        self.claims: dict[str, str | None] = {}
        #: The newest token with these claims, and until when it is to be served whatever happens.
        self.newest: dict[str | None, tuple[str, float]] = {}
        #: Since when it is asked with these claims.
        self._under_way: dict[str | None, float] = {}
        self._lock = threading.Lock()

    def newest_of(self, claims: str | None) -> tuple[str, float]:
        return self.newest.get(claims, ("", float("-inf")))

    def forget(self, secret: str) -> None:
        """Its tokens are to be served no more, as this one of them was refused."""
        for claims, (newest, _) in list(self.newest.items()):
            if newest == secret:
                del self.newest[claims]

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        with self._lock:
            now = self.clock.elapsed()
            if now < self._under_way.get(claims, float("-inf")) + GIVEN_UP:
                self.overlapped = True  # an error raised here would be taken for the service's
                raise AssertionError("two fetches of one key at a time")
            self._under_way[claims] = now
            self.fetches += 1
            secret = f"{self.name}-{self.fetches}"
        try:
            return self._fetch(secret, claims)
        finally:
            self._under_way.pop(claims, None)

    def _fetch(self, secret: str, claims: str | None) -> AccessToken:
        (elapsed, wall), lifetime, error = self.clock.both(), self.lifetime, self.error
        offset = wall - elapsed
        self.ends[secret], self.claims[secret] = elapsed + lifetime, claims
        during, self.during = self.during, lambda: None
        during()
        if error is not None:
            raise error
        now, wall = self.clock.both()
        stepped = max(0.0, wall - now - offset)
        left = elapsed + lifetime - stepped - now
        is_newest = secret_number(secret) > secret_number(self.newest_of(claims)[0])
        if left > 0 and is_newest:
            self.newest[claims] = (secret, now + left - min(POLICY.skew, left / 4))
        return AccessToken(secret, expires_at=elapsed + offset + lifetime)


def secret_number(secret: str) -> int:
    return int(secret.rpartition("-")[2] or 0)


class Engine(RuleBasedStateMachine):
    """Two managers with one clock, one refresher and one queue of work."""

    @initialize()
    def start(self) -> None:
        self.clock = Clock()
        self.workers = Inline()
        self.refresher = HandRefresher(self.clock)
        context = make_context(
            self.clock,
            POLICY,
            refresher=self.refresher,
            workers=self.workers,  # type: ignore[arg-type]
            fetch_timeout=FETCH_TIMEOUT,
        )
        self.issuers = [Issuer(name, self.clock) for name in NAMES]
        self.managers = [
            manager_of(Cell(issuer, replace(KEY, subject=issuer.name), context))
            for issuer in self.issuers
        ]
        #: The claims of the token that each has in hand.
        self.claims: list[str | None] = [None, None]
        #: Whether what is asked comes out of a fetch, and is known to; and what failed there.
        self.comes_back = False
        self.broken: list[AssertionError] = []
        for manager in self.managers:
            manager._wait = self.workers.wait  # type: ignore[method-assign]

    def ask(
        self, which: int, call: Callable[[float | None], str], *, plain: bool, patient: bool
    ) -> str | None:
        """Makes a call and checks what it gives; None when it fails and may."""
        issuer, manager = self.issuers[which], self.managers[which]
        cells = [manager._cell, *manager._by_claims.values()]
        under_way = any(cell._flight for cell in cells)
        try:
            secret = call(None if patient else 0.0)
        except TokenTimeoutError:
            secret = None
            assert under_way or not patient, "waited for nobody"
            assert not (self.comes_back and patient), "waited for himself"
        except InterruptedHereError:
            return None
        except TokenManagerError:
            secret = None
        if secret is None:
            served_until = issuer.newest_of(self.claims[which])[1]
            assert not plain or self.clock.elapsed() >= served_until, "failed with a valid token"
            return None
        assert secret in issuer.ends, "another key's token"
        assert self.clock.elapsed() < issuer.ends[secret], "an expired token"
        return secret

    who = st.sampled_from([0, 1])

    @rule(which=who, patient=st.booleans())
    def get(self, which: int, patient: bool) -> None:
        manager = self.managers[which]
        secret = self.ask(
            which,
            lambda timeout: manager.get_access_token(timeout=timeout),
            plain=True,
            patient=patient,
        )
        if secret is not None:
            assert self.issuers[which].claims[secret] == self.claims[which], "other claims"

    @rule(which=who, min_ttl=st.sampled_from([1.0, 60.0, 1800.0, 3500.0, 7200.0]))
    def get_with_min_ttl(self, which: int, min_ttl: float) -> None:
        manager = self.managers[which]
        secret = self.ask(
            which,
            lambda timeout: manager.get_access_token(min_ttl=min_ttl, timeout=timeout),
            plain=False,
            patient=True,
        )
        if secret is not None:
            assert self.issuers[which].ends[secret] - self.clock.elapsed() >= min_ttl

    @rule(which=who, claims=st.sampled_from([None, "a", "b"]), patient=st.booleans())
    def force(self, which: int, claims: str | None, patient: bool) -> None:
        manager, issuer = self.managers[which], self.issuers[which]
        before = issuer.fetches
        secret = self.ask(
            which,
            lambda timeout: manager.refresh_access_token(claims=claims, timeout=timeout),
            plain=False,
            patient=patient,
        )
        if secret is not None:
            if claims is not None:
                self.claims[which] = claims
            assert secret_number(secret) > before, "not a new one"
            assert issuer.claims[secret] == self.claims[which]

    @rule(which=who, old=st.booleans())
    def invalidate(self, which: int, old: bool) -> None:
        manager, issuer = self.managers[which], self.issuers[which]
        refused = issuer.newest_of(self.claims[which])[0]
        if old:
            refused = f"{issuer.name}-{issuer.fetches - 1}"
        manager.invalidate(refused)
        issuer.forget(refused)

    @rule(seconds=st.one_of(st.floats(0.1, 70), st.floats(70, 4000), st.just(100_000.0)))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-7200.0, -30.0, 30.0, 7200.0]))
    def step_the_wall_clock(self, seconds: float) -> None:
        self.clock.step_wall(seconds)

    @rule(which=who, error=st.sampled_from(ERRORS))
    def fail(self, which: int, error: Exception) -> None:
        self.issuers[which].error = error

    @rule(which=who, lifetime=st.sampled_from([3600.0, 86_400.0, 300.0, 90.0, 8.0]))
    def heal(self, which: int, lifetime: float) -> None:
        self.issuers[which].error = None
        self.issuers[which].lifetime = lifetime

    @rule(
        which=who,
        seconds=st.one_of(st.floats(0, 20), st.just(GIVEN_UP)),
        step=st.sampled_from([-60.0, 0.0, 60.0]),
        patient=st.booleans(),
    )
    def in_the_middle_of_the_next_fetch(
        self, which: int, seconds: float, step: float, patient: bool
    ) -> None:
        def during() -> None:
            self.clock.advance(seconds)
            self.clock.step_wall(step)
            self.comes_back = self.workers.knows_itself
            try:
                self.get(which, patient)
            except AssertionError as exc:  # which would be taken for the source's
                self.broken.append(exc)
            self.comes_back = False
            if patient:
                self.workers.run_one()

        self.issuers[which].during = during

    @rule(which=who)
    def the_next_fetch_is_interrupted(self, which: int) -> None:
        self.issuers[which].during = interrupt

    @rule()
    def the_next_one_who_waits_is_interrupted(self) -> None:
        self.workers.interrupts = True

    @rule(knows_itself=st.booleans())
    def who_comes_back_is_known(self, knows_itself: bool) -> None:
        self.workers.knows_itself = knows_itself

    @rule()
    def the_refresher_runs(self) -> None:
        # Where it fetches by itself and is interrupted, its thread ends; the next plan has another.
        with contextlib.suppress(InterruptedHereError):
            self.refresher.run_due()

    @rule(none_runs=st.booleans())
    def a_worker_runs(self, none_runs: bool) -> None:
        self.workers.none_runs = none_runs
        self.workers.run_one()

    @invariant()
    def nothing_is_told_and_nothing_grows(self) -> None:
        if not hasattr(self, "managers"):
            return
        assert not any(issuer.overlapped for issuer in self.issuers), "two fetches at a time"
        assert self.broken == []
        told = repr([manager.status() for manager in self.managers])
        assert not any(f"{name}-" in told for name in NAMES)
        cells = sum(1 + len(manager._by_claims) for manager in self.managers)
        assert len(self.refresher._queue) <= 64 + 2 * cells + 1

    def teardown(self) -> None:
        for manager in getattr(self, "managers", []):
            manager.close()
            with contextlib.suppress(ConfigurationError):
                manager.get_access_token()
                raise AssertionError("a closed manager gave a token")
            assert manager.status().state == "none"


TestEngine = Engine.TestCase
TestEngine.settings = settings(
    max_examples=settings.default.max_examples,
    stateful_step_count=40,
)


class Round:
    """Four threads that do what a seed says, with the real workers."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.issuer = Issuer("alice", self.clock)
        self.broken: list[object] = []
        #: Whether flights are given up as the clock goes on.
        self.gives_up = self.chance.random() < 0.3
        longest = FETCH_TIMEOUT if self.gives_up else 1e6
        context = make_context(self.clock, RefreshPolicy(max_wait=1e6), fetch_timeout=longest)
        self.manager = manager_of(Cell(self.issuer, KEY, context))
        #: Whether tokens are invalidated; only where none is may a call count on one.
        self.invalidates = self.chance.random() < 0.5
        self.scripts = [[self.chance.random() for _ in range(12)] for _ in range(4)]

    def run(self) -> list[object]:
        scripts = iter(self.scripts)
        lock = threading.Lock()

        def work() -> None:
            with lock:
                script = next(scripts)
            for number in script:
                self.act(number)

        outcomes = in_threads(4, work) + self.broken
        settle(self.manager)
        self.manager.close()
        if self.issuer.overlapped and not self.gives_up:
            outcomes.append("two fetches at a time")
        return [outcome for outcome in outcomes if outcome is not None]

    def act(self, number: float) -> None:
        if number < 0.02:
            self.issuer.during = sys.exit  # which interrupts whoever fetches
        elif number < 0.05:
            self.issuer.during = self.come_back
        elif number < 0.1:
            asyncio.run(self.give_up())
        elif number < 0.15:
            self.clock.advance(number * 20_000)
        elif number < 0.25:
            self.issuer.error = ERRORS[int(number * 1000) % len(ERRORS)]
        elif number < 0.4:
            self.issuer.error = None
        elif number < 0.5 and self.invalidates:
            self.manager.invalidate(self.newest[0])
        elif number < 0.55:
            self.manager._cell.renew_if_used()
        elif number < 0.7:
            claims = None if number < 0.6 else str(number < 0.65)
            secret = self.check(
                lambda: self.manager.refresh_access_token(claims=claims), plain=False
            )
            assert None in (claims, secret) or self.issuer.claims[secret] == claims
        else:
            self.check(self.manager.get_access_token, plain=not self.invalidates)

    def come_back(self) -> None:
        """What fetches a token asks for it."""
        try:
            self.check(self.manager.get_access_token, plain=False)
        except BaseException as exc:  # noqa: BLE001 - which would be taken for the service's
            self.broken.append(exc)

    async def give_up(self) -> None:
        """A task is cancelled while it waits."""
        task = asyncio.ensure_future(self.manager.aget_access_token())
        await asyncio.sleep(0)
        cancels = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or not cancels, "a cancellation is swallowed"
        assert task.cancelled() or isinstance(task.exception(), (TokenManagerError, type(None)))

    @property
    def newest(self) -> tuple[str, float]:
        return self.issuer.newest_of(self.manager._cell.key.claims or None)

    def check(self, call: Callable[[], str], *, plain: bool) -> str | None:
        before, cell, (newest, served_until) = self.clock.elapsed(), self.manager._cell, self.newest
        # The source knows of a token a moment before the manager does.
        landed = cell.current.secret == newest
        try:
            secret = call()
        except TokenManagerError:
            valid = landed and cell is self.manager._cell and self.clock.elapsed() < served_until
            assert not (plain and valid), "failed with a valid token"
            return None
        assert before < self.issuer.ends[secret], "an expired token"
        return secret


def test_two_hundred_rounds_of_threads_keep_the_promises(monkeypatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # of interrupted workers
    for number in range(200):
        seed = random.randrange(1 << 32)
        broken = Round(seed).run()
        assert broken == [], f"round {number}, Round({seed})"
