"""What gives tokens, and knows whether it was asked once, and not in vain."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass

from support import SCOPE

from explorer.scene import MOODS, Scene
from explorer.schedule import Schedule
from tokenmgr import (
    AccessToken,
    InvalidCredentialError,
    ServiceUnavailableError,
    ThrottledError,
    TokenKey,
    TokenManagerError,
)

__all__ = ["LONGEST_FLIGHT", "Clock", "Demand", "InterruptedWorkerError", "Service"]

#: Seconds after which a flight has ended that nobody waits for.
LONGEST_FLIGHT = 45.0
#: Seconds for which a verdict stands, by which each is to ask for itself, and rounding.
_VERDICT_TTL = 2.01


class InterruptedWorkerError(BaseException):
    """What ends a worker in the middle of a fetch."""


@dataclass
class Issued:
    """A token, as the service knows it; on the elapsed clock."""

    token: AccessToken
    key: TokenKey
    asked_at: float
    #: When it came, and how long it lived still.
    came_at: float
    ends: float
    #: When somebody may renew it, without being asked to.
    due: float
    #: Whether it was asked for beside others, who may have put theirs over it.
    alone: bool
    refused: bool = False


@dataclass
class Demand:
    """What a call wants."""

    #: Of which key, with whatever claims; of any, when it is empty.
    subject: str
    #: For how long a token has to be valid; for ever, where only a new one will do.
    min_ttl: float = math.inf
    #: Until when there may be a fetch for it.
    until: float = math.inf


class Clock:
    """Both hands of the schedule's clock."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def elapsed(self) -> float:
        return 1_000.0 + self._schedule.now

    def wall(self) -> float:
        return 1_800_000_000.0 + self._schedule.now


class Service:
    """What gives tokens. It knows which, to whom, and whether it was asked in vain."""

    def __init__(
        self, schedule: Schedule, scene: Scene, clock: Clock, chance: random.Random
    ) -> None:
        self._schedule = schedule
        self._scene = scene
        self._clock = clock
        self._chance = chance
        self.mood = "well"
        #: Whether the storm is over.
        self.is_calm = False
        self.issued: dict[str, Issued] = {}
        #: The newest token of each key.
        self.newest: dict[TokenKey, Issued] = {}
        #: Who is asking for what just now, and whether for itself.
        self.asking: Counter[tuple[int, TokenKey, bool]] = Counter()
        #: Until when each worker asks for itself, as one has failed in a way of its own.
        self.alone_until: dict[TokenKey, float] = {}
        #: Until when the service does not want to be asked by a worker for a key.
        self.not_before: dict[tuple[int, TokenKey], float] = {}
        #: Which good tokens will not do.
        self.demands: list[Demand] = []
        #: The workers that have been closed.
        self.closing: set[int] = set()
        self.fetches = 0

    def fetch(self, worker: int, key: TokenKey) -> AccessToken:
        """Gives a token, or what the mood brings."""
        self.fetches += 1
        asked_at, number = self._clock.elapsed(), self.fetches
        alone = asked_at <= self.alone_until.get(key, 0.0)
        self._check(worker, key, alone=alone)
        outcome = self._chance.choice(MOODS[self.mood])
        took = self._chance.choice((0.0, 0.1) if self.is_calm else self._scene.durations)
        self._schedule.tell(f"asks the service, {number}: {outcome} after {took}")
        self.asking[worker, key, alone] += 1
        try:
            self._schedule.sleep(took)
            return self._answer(outcome, worker, key, asked_at, f"{number}", alone=alone)
        except TokenManagerError as exc:
            self.not_before[worker, key] = self._clock.elapsed() + (exc.retry_after or 0.0)
            raise
        finally:
            self.asking[worker, key, alone] -= 1
            self._schedule.tell(f"is answered by the service, {number}")

    def _answer(
        self,
        outcome: str,
        worker: int,
        key: TokenKey,
        asked_at: float,
        number: str,
        *,
        alone: bool,
    ) -> AccessToken:
        chance, clock = self._chance, self._clock
        asks, derives = chance.choice((None, 1.0, 5.0, 40.0)), self._scene.derives
        if outcome in ("unreachable", "foreign") or (outcome == "credential" and not derives):
            self.alone_until[key] = clock.elapsed() + _VERDICT_TTL
        if outcome == "unavailable":
            raise ServiceUnavailableError("down", status=503, retry_after=asks)
        if outcome == "unreachable":
            raise ServiceUnavailableError("no connection")
        if outcome == "throttled":
            raise ThrottledError("slow down", status=429, retry_after=asks or 3.0)
        if outcome == "credential":
            raise InvalidCredentialError("no", error="invalid_client")
        if outcome == "foreign":
            raise ValueError("a bug of the source's")
        if outcome == "interrupted":
            raise chance.choice((InterruptedWorkerError, SystemExit))
        now, life = clock.elapsed(), chance.choice(self._scene.lives)
        refresh_in = chance.choice((None, None, life / 2))
        wall = clock.wall()
        token = AccessToken(
            secret=f"token-{number}",
            expires_at=wall + life,
            refresh_at=None if refresh_in is None else wall + refresh_in,
            scopes=(SCOPE,),
        )
        margin = max(0.2 * life, min(300.0, life / 2))
        skew = min(10.0, life / 4)
        due = min(life - margin if refresh_in is None else refresh_in, life - skew)
        issued = Issued(token, key, asked_at, now, now + life, asked_at + 0.89 * due, alone)
        self.issued[token.secret] = self.newest[key] = issued
        self.may_be_asked(worker, key.subject)
        return token

    def may_be_asked(self, worker: int, subject: str) -> None:
        """Forgets when it wanted to be asked again, as there is a token now."""
        for asked in [each for each in self.not_before if each[0] == worker]:
            if asked[1].subject == subject:
                del self.not_before[asked]

    def _check(self, worker: int, key: TokenKey, *, alone: bool) -> None:
        """Looks whether it is asked once, and not in vain."""
        scene, now, fail = self._scene, self._clock.elapsed(), self._schedule.fail
        if not scene.keeps_time or (scene.interrupts and scene.threads != "well"):
            return
        ends = self.not_before.get((worker, key), 0.0)
        if now < ends and not scene.shares:
            fail(f"worker {worker} asks at {now}, and may at {ends}: {key}")
        asking = [who for who, count in self.asking.items() if who[1] == key and count]
        same = [who for who, _, _ in asking if who == worker]
        others = [who for who, _, apart in asking if not apart and not alone]
        others = [who for who in others if who not in self.closing]  # their leases are given back
        if same and not self._is_demanded("", 0.0):
            fail(f"worker {worker} asks for what it asks for already")
        if scene.rotates or scene.is_slow or (alone and scene.workers > 1):
            return
        if others and scene.shares:
            fail(f"worker {worker} asks for what worker {others} asks for")
        newest = self.newest.get(key)
        if newest is None or newest.alone or newest.refused or now >= newest.due:
            return
        if same or others:
            return
        if not self._is_demanded(key.subject, newest.ends - now - 10.0):
            fail(f"worker {worker} asks for a token, and {newest} is good")

    def _is_demanded(self, subject: str, left: float) -> bool:
        """Whether a call wants more than a token that is valid for so many seconds."""
        now = self._clock.elapsed()
        self.demands = [demand for demand in self.demands if demand.until >= now]
        return any(
            demand.subject in (subject, "") and left < demand.min_ttl for demand in self.demands
        )
