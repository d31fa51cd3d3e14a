"""What a round is like."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tokenmgr import RefreshPolicy

__all__ = ["FETCH_TIMEOUT", "MOODS", "Scene"]

#: Seconds that a fetch may take.
FETCH_TIMEOUT = 10.0
#: Seconds that the service takes, in turns.
_DURATIONS = ((0.0,), (0.1,), (0.0, 0.1, 1.0), (0.0, 2.0, 9.0))
#: What the service may do, by its moods.
MOODS = {
    "well": ("token",),
    "shaky": ("token", "token", "unavailable", "throttled"),
    "down": ("unavailable", "unavailable", "unreachable"),
    "throttling": ("throttled",),
    "refusing": ("credential",),
    "buggy": ("foreign", "token"),
    "interrupting": ("interrupted", "token"),
}
#: What the store may do.
_STORE_MOODS = (
    "failing",
    "flaky",
    "losing answers",
    "forgetting",
    "slow",
    "hanging",
    "putting back",
)


@dataclass
class Scene:
    """What a round is like. Each of its troubles makes some promises impossible to look at."""

    workers: int
    keys: int
    shares: bool
    #: Whether the records' key is derived from the credential, which may be rotated.
    derives: bool
    rotates: bool
    lives: tuple[float, ...]
    #: Seconds that the service takes.
    durations: tuple[float, ...]
    #: What the service may do, in turns.
    moods: tuple[str, ...]
    #: What the store may do, in turns.
    store_moods: tuple[str, ...]
    #: How threads start: ``well``, ``refused`` at times or ``always refused``, or ``late``.
    threads: str
    #: Whether callers are interrupted.
    interrupts: bool
    hook: str
    most_fetches: int
    #: Seconds for which time may go on while what could run stands still.
    patience: float
    policy: RefreshPolicy

    @classmethod
    def of(cls, chance: random.Random) -> Scene:
        """Draws one."""

        def rarely(value: object, usual: object, often: float = 0.25) -> object:
            return value if chance.random() < often else usual

        def some(choices: tuple[str, ...]) -> tuple[str, ...]:
            return ("well", *chance.sample(choices, chance.randint(1, len(choices))))

        shares = chance.random() < 0.6
        derives = chance.random() < 0.5
        return cls(
            workers=chance.choice((1, 2, 2, 3)) if shares else 1,
            keys=chance.choice((1, 1, 2)),
            shares=shares,
            derives=derives,
            rotates=derives and chance.random() < 0.3,
            lives=tuple(chance.sample((1.0, 4.0, 30.0, 90.0, 600.0, 3600.0, 86400.0), 2)),
            durations=rarely((0.1, 8.0, 14.0, 70.0), chance.choice(_DURATIONS), 0.12),  # type: ignore[arg-type]
            moods=rarely(some(tuple(MOODS)), ("well",), 0.7),  # type: ignore[arg-type]
            store_moods=rarely(some(_STORE_MOODS), ("well",), 0.35),  # type: ignore[arg-type]
            threads=chance.choice(("well",) * 9 + ("refused", "refused", "always refused", "late")),
            interrupts=chance.random() < 0.3,
            hook=chance.choice(("", "", "quick", "slow", "raises")),
            most_fetches=chance.choice((1, 2, 64, 64)),
            patience=rarely(20.0, 0.4, 0.15),  # type: ignore[arg-type]
            policy=RefreshPolicy(
                max_wait=chance.choice((3.0, 20.0, 60.0)),
                backoff_base=chance.choice((0.2, 1.0)),
                jitter=chance.choice((0.0, 0.1)),
            ),
        )

    @property
    def is_slow(self) -> bool:
        """Whether tokens may be useless to other workers when they come, and leases pass on."""
        longest = max(self.durations)
        return longest * 3 > min(self.lives) or longest * 2 > FETCH_TIMEOUT

    @property
    def store_is_well(self) -> bool:
        return self.store_moods == ("well",)

    @property
    def keeps_time(self) -> bool:
        """Whether flights and leases end before they are given up."""
        in_time = (
            max(self.durations) <= FETCH_TIMEOUT and self.patience < 1.0 and self.threads != "late"
        )
        return in_time and self.store_is_well
