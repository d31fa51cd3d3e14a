"""A call under way, and what it has to keep to."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from explorer.patches import LOOK_EVERY
from explorer.schedule import KilledError
from explorer.service import LONGEST_FLIGHT, Demand, InterruptedWorkerError
from explorer.world import Worker, World
from tokenmgr import (
    AccessTokenManager,
    ConfigurationError,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)
from tokenmgr._engine.cell import Cell

__all__ = ["Call", "InterruptedCallerError"]

#: Seconds that rounding takes, and the first looks whether threads run.
_GRAIN = 4 * LOOK_EVERY + 0.01
#: Seconds for which a caller may be held up where he has to fetch by himself.
_LEADING = 400.0


class InterruptedCallerError(BaseException):
    """What the handler of a signal raises in the middle of a call."""


@dataclass(eq=False)
class Call:
    """A call under way: entered when it begins, left with what comes of it."""

    world: World
    worker: Worker
    what: str
    manager: AccessTokenManager | None = None
    #: What is asked; None where it waits for nothing.
    cell: Cell | None = None
    #: For how long it may wait.
    seconds: float = 0.0
    min_ttl: float | None = None
    renew: bool = False
    claims: str | None = None
    returned: str | None = None
    may_be_interrupted: bool = False
    cancelled: bool = False
    task: asyncio.Task[None] | None = None

    def __enter__(self):
        world = self.world
        self._began = world.schedule.now
        self._paused = world.schedule.paused
        self._held = None if self.cell is None else self.cell.current
        self._strict, self._demand = self.renew or self.min_ttl is not None, None
        if self._strict and self.cell is not None:
            min_ttl = math.inf if self.renew else self.min_ttl or 0.0
            self._demand = Demand(self.cell.key.subject, min_ttl)
            world.service.demands.append(self._demand)
        world.calls.append(self)
        world.schedule.tell(f"calls {self.what}")
        return self

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> bool:
        self.abandon(lands=exc is None or isinstance(exc, TokenRequestError))
        if isinstance(exc, (KilledError, GeneratorExit)) or self.world.schedule.over:
            return False
        self.world.schedule.tell(f"has {exc!r} of {self.what}" if exc else f"returns {self.what}")
        if self.cancelled and not isinstance(exc, asyncio.CancelledError):
            self._fail("swallowed a cancellation")
        if exc is not None:
            self._check_failure(exc)
        elif self.returned is not None:
            self.check_token(self.returned)
        return True

    def abandon(self, *, lands: bool = False) -> None:
        """Nobody waits for it any more; what it has started has landed, or goes on."""
        if self in self.world.calls:
            self.world.calls.remove(self)
            if self._demand is not None:
                now = self.world.clock.elapsed()
                self._demand.until = now - 1.0 if lands else now + LONGEST_FLIGHT

    def _fail(self, text: str) -> None:
        self.world.schedule.fail(f"{self.what} of worker {self.worker.number} {text}")

    @property
    def _since(self) -> float:
        """Seconds for which threads stood still since it began."""
        return self.world.schedule.paused - self._paused

    def check_time(self) -> None:
        """Looks whether it has gone on for too long."""
        extra = _GRAIN if self.world.scene.threads == "well" else _LEADING
        took = self.world.schedule.now - self._began - self._since
        if took > self.seconds + extra:
            self._fail(f"has not ended after {took:.3f} s")

    def check_token(self, secret: str) -> None:
        """Looks whether this is a token that may be handed out."""
        world, issued = self.world, self.world.service.issued.get(secret)
        if issued is None:
            self._fail(f"gave {secret!r}, which nobody has issued")
        now = world.clock.elapsed() - self._since
        skew = 0.0
        if world.scene.store_is_well:  # else it may have come here late, with a shorter life
            skew = min(10.0, max(0.0, issued.ends - issued.came_at - world.schedule.paused) / 4)
        if now > issued.ends - skew + _GRAIN:
            self._fail(f"gave a token that has expired: {issued}")
        if self.cell is not None and issued.key.subject != self.cell.key.subject:
            self._fail(f"gave a token of another key: {issued}")
        if self.claims is not None and self.claims != issued.key.claims:
            self._fail(f"gave a token of other claims: {issued}")
        if self.min_ttl is not None and issued.ends - now < self.min_ttl - _GRAIN:
            self._fail(f"gave a token that is valid for less than {self.min_ttl} s: {issued}")

    def _check_failure(self, exc: BaseException) -> None:
        if self._is_meant(exc):
            return
        took = self.world.schedule.now - self._began
        if not isinstance(exc, TokenManagerError):
            self._fail(f"raised {exc!r}")
        if self.worker.closing:
            return
        if isinstance(exc, ConfigurationError):
            self._fail(f"raised {exc!r}, and nobody has closed it")
        if isinstance(exc, TokenTimeoutError) and took < self.seconds - _GRAIN:
            self._fail(f"gave up after {took:.3f} s")
        if self._serves():
            self._fail(f"raised {exc!r} with a valid token in hand: {self._held}")

    def _is_meant(self, exc: BaseException) -> bool:
        """Whether the round itself has raised it."""
        leads = self.world.scene.threads != "well"
        return (
            (self.may_be_interrupted and isinstance(exc, InterruptedCallerError))
            or (self.cancelled and isinstance(exc, asyncio.CancelledError))
            or (leads and isinstance(exc, (InterruptedWorkerError, SystemExit)))
        )

    def _serves(self) -> bool:
        """Whether the token that was in hand when it began would have served to the end."""
        held = self._held
        if held is None or self._strict or self.world.clock.elapsed() >= held.valid_until:
            return False
        return not self.world.service.issued[held.secret].refused
