"""How a call goes: what is sent, how often, within which time. It has no I/O: clients have."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from typing import Any, Generic, NamedTuple, TypeVar, cast

from .._runtime.secrecy import Hidden
from ..errors import SidecarError, ThrottledError, TokenManagerError
from .answers import Received

__all__ = ["Call", "Outcome", "Pause", "Send", "Steps", "look", "readiness", "steps_of"]

T = TypeVar("T")

#: Seconds before the first repeat, of which each is four times as long; spread by half.
_FIRST_PAUSE = 0.1
#: Seconds between two looks whether the sidecar is ready, and that one of them takes at most.
_LOOK_EVERY, _LONGEST_LOOK = 0.25, 2.0


class Call(Generic[T]):
    """One request, and what its answer means.

    Args:
        method: The HTTP method.
        url: The URL, hidden.
        headers: The headers, hidden.
        body: The bytes to send, hidden; None for none.
        most: So many bytes may be in the answer.
        meaning: What makes of an answer what the caller gets, or raises.
    """

    def __init__(
        self,
        method: str,
        url: Hidden,
        headers: Hidden,
        body: Hidden,
        most: int,
        meaning: Callable[[Received], T],
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.most = most
        self.meaning = meaning

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does."""
        return self.method == "GET"

    @property
    def with_bearer(self) -> bool:
        """Whether a caller's token goes along."""
        return "Authorization" in self.headers.cell_contents


class Send(NamedTuple):
    """Asks a client to send a call, and to give its answer, or the error that stands for it."""

    call: Call[Any]
    #: Seconds that it may take in all.
    seconds: float


class Pause(NamedTuple):
    """Asks a client to let so many seconds pass."""

    seconds: float


class Outcome(Generic[T]):
    """What comes of a call. It is hidden: what ends a generator shows what that has returned.

    Args:
        value: What it is, hidden.
    """

    def __init__(self, value: Hidden) -> None:
        self._value = value

    def get(self) -> T:
        """Gives it."""
        return cast(T, self._value.cell_contents)


#: What asks a client for these, and is told of answers.
Steps = Generator[Send | Pause, Received | TokenManagerError | None, Outcome[T]]


def steps_of(call: Call[T], *, timeout: float, retries: int) -> Steps[T]:
    """Goes through a call.

    Args:
        call: The call.
        timeout: Seconds that it may take, with all that is repeated.
        retries: How often it is repeated at most, where it may be.

    Raises:
        TokenManagerError: What came of it, once it is not repeated.
    """
    deadline = time.monotonic() + timeout
    left, pause = retries if call.is_repeatable else 0, _FIRST_PAUSE
    while True:
        answer = yield Send(call, deadline - time.monotonic())
        try:
            if isinstance(answer, Received):
                return Outcome(Hidden(call.meaning(answer)))
            if answer is not None:
                raise answer
        except TokenManagerError as exc:
            wait = max(pause * random.uniform(0.5, 1.5), exc.retry_after or 0.0)  # noqa: S311 - spreads
            late = time.monotonic() + wait >= deadline
            if not exc.retryable or isinstance(exc, ThrottledError) or left == 0 or late:
                raise
        left, pause = left - 1, pause * 4
        yield Pause(wait)


def look(health: Call[bool]) -> Steps[bool]:
    """Looks once whether the sidecar is ready."""
    answer = yield Send(health, _LONGEST_LOOK)
    return Outcome(Hidden(isinstance(answer, Received) and health.meaning(answer)))


def readiness(health: Call[bool], *, timeout: float, where: str) -> Steps[None]:
    """Looks until the sidecar is ready.

    Args:
        health: What asks whether it is.
        timeout: Seconds to go on at most.
        where: Where it is, for the message.

    Raises:
        SidecarError: It was not.
    """
    give_up_at = time.monotonic() + timeout
    while True:
        seconds = min(_LONGEST_LOOK, give_up_at - time.monotonic())
        answer = yield Send(health, max(0.001, seconds))
        if isinstance(answer, Received) and health.meaning(answer):
            return Outcome(Hidden(None))
        if time.monotonic() + _LOOK_EVERY >= give_up_at:
            break
        yield Pause(_LOOK_EVERY)
    said = f"HTTP {answer.status}" if isinstance(answer, Received) else f"{answer}"
    raise SidecarError(
        f"the sidecar at {where} was not ready within {timeout:g} s ({said}): see its log, and "
        "wait longer where it starts slowly",
        retryable=True,
    )
