"""How a seed decides who runs."""

from __future__ import annotations

import random
from types import CodeType
from typing import TypeVar

__all__ = ["Strategy"]

T = TypeVar("T")


class Strategy:
    """Switches now and then, and holds threads up at certain lines until nobody else can run.

    So a gap of one line between two others is as likely to be met as any.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lines = chance.choice((4, 12, 40, 120, 400, 1_000_000))
        self._share = chance.choice((0.0, 0.01, 0.05, 0.2, 0.5))
        self._often = chance.choice((0.1, 0.5))
        self._salt = chance.random()
        self._held: set[object] = set()

    def gap(self) -> int:
        """Gives the lines until the next switch."""
        return 1 + int(self._chance.expovariate(1 / self._lines))

    def places(self, code: CodeType) -> frozenset[int]:
        """Gives the lines of a function at which threads are held up."""
        # By the function, and not by when it is first called: the same in each replay.
        name = f"{self._salt} {code.co_filename.split('/')[-1]} {code.co_name}"
        chance = random.Random(f"{name} {code.co_firstlineno}")
        lines = sorted({line for _, _, line in code.co_lines() if line is not None})
        return frozenset(line for line in lines if chance.random() < self._share)

    def reaches(self, strand: object) -> bool:
        """Is told who has come to such a line; says whether he is held up."""
        if self._chance.random() < self._often:
            self._held.add(strand)
        return strand in self._held

    def holds_up(self, ready: list[T]) -> bool:
        """Whether all who could run are held up."""
        return self._held.issuperset(ready)

    def pick(self, ready: list[T]) -> T:
        """Says who goes on."""
        ready = [each for each in ready if each not in self._held] or ready
        picked = ready[0] if len(ready) == 1 else self._chance.choice(ready)
        self._held.discard(picked)
        return picked
