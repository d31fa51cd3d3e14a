"""Callers of a library that keeps tokens, while whoever gives it tokens is down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tokenmgr import AccessToken, AccessTokenManager, TokenKey

from .crowd import together
from .figure import Figure, Section
from .service import SCOPE

__all__ = ["Crowd", "Provider", "cold", "kept", "ours", "section"]

_CALLERS = 50
#: Seconds until a provider that is down says so.
_LATENCY = 0.2
#: Seconds after which a token that was given is due for renewal here.
_DUE = 1.0
#: Seconds that a token has left when the provider goes down.
_LEFT = (100.0, 20.0)

_METHOD = (
    f"{_CALLERS} threads ask for a token at the same moment, once, while the provider that a "
    f"library was given takes {_LATENCY:g} s to fail, with a ConnectionError, as sockets do. There "
    "is no token yet, or one that has some life left, and that tokenmgr takes as due for renewal. "
    "The peers have their own settings: anthropic's TokenCache falls back on a token that has more "
    "than 30 s left, where the error is its own or httpx2's; databricks-sdk's Refreshable is shown "
    "blocking, as it is by itself, and with its asynchronous refresh. Requests are the provider's "
    "calls; seconds are those until the last thread had its token or its error."
)

#: Makes what keeps the tokens of a provider, and gives its call for one.
Keeper = Callable[["Provider"], Callable[[], object]]


class Provider:
    """Gives tokens until it is down, and counts how often it is asked.

    Args:
        lifetime: Seconds that its tokens live.
    """

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.lifetime = lifetime
        self.down = False
        self.calls = 0
        self._lock = threading.Lock()  # guards the count

    def end_of_token(self) -> float:
        """Is asked for a token, and says when that ends, in seconds since 1970.

        Raises:
            ConnectionError: It is down.
        """
        with self._lock:
            self.calls += 1
        if self.down:
            time.sleep(_LATENCY)
            raise ConnectionError("the provider is down")
        return time.time() + self.lifetime


class Crowd(NamedTuple):
    """What came of callers that asked at once."""

    #: The provider's calls.
    requests: int
    #: How many had no token.
    failed: int
    #: Seconds until the last one had its answer.
    seconds: float


class _Source:
    """A provider, as tokenmgr takes one."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:  # noqa: ARG002
        """Fetches a token that is due for renewal soon, whatever its claims."""
        ends = self._provider.end_of_token()
        return AccessToken("token", ends, refresh_at=time.time() + _DUE)


def ours(provider: Provider) -> Callable[[], object]:
    """A manager over a source of the program's own."""
    key = TokenKey("https://login.example", "app", "client_credentials", (SCOPE,))
    return AccessTokenManager(_Source(provider), key).get_access_token


def cold(keeper: Keeper, *, callers: int = _CALLERS) -> Crowd:
    """Callers that find no token, and none to be had."""
    provider = Provider()
    provider.down = True
    return _ask(provider, keeper(provider), callers)


def kept(keeper: Keeper, left: float, *, callers: int = _CALLERS) -> Crowd:
    """Callers that find a token with some seconds left, and no new one to be had."""
    provider = Provider(left + _DUE)
    call = keeper(provider)
    call()
    provider.down, provider.calls = True, 0
    time.sleep(_DUE)
    return _ask(provider, call, callers)


def _ask(provider: Provider, call: Callable[[], object], callers: int) -> Crowd:
    began = time.perf_counter()
    outcomes = together([call] * callers)
    seconds = time.perf_counter() - began
    failed = sum(isinstance(outcome, Exception) for outcome in outcomes)
    requests, provider.down = provider.calls, False  # what asks it behind the callers, is done
    return Crowd(requests, failed, seconds)


def section(peers: Mapping[str, Keeper]) -> Section:
    """The figures, ours and those of the peers that are given."""
    found = Section("A provider that is down, and what is kept meanwhile", _METHOD)
    for name, keeper in {"tokenmgr": ours, **peers}.items():
        crowd = cold(keeper)
        goal = f"1 request, within {2 * _LATENCY:g} s" if keeper is ours else ""
        met = crowd.requests == 1 and crowd.seconds < 2 * _LATENCY if keeper is ours else None
        found.figures.append(Figure(f"no token, {name}", _told(crowd), goal, met))
    for left in _LEFT:
        for name, keeper in {"tokenmgr": ours, **peers}.items():
            crowd = kept(keeper, left)
            goal = f"none fails, none waits {_LATENCY:g} s" if keeper is ours else ""
            met = not crowd.failed and crowd.seconds < _LATENCY if keeper is ours else None
            found.figures.append(Figure(f"{left:g} s left, {name}", _told(crowd), goal, met))
    return found


def _told(crowd: Crowd) -> str:
    requests = f"{crowd.requests} request{'' if crowd.requests == 1 else 's'}"
    return f"{requests}, {crowd.failed} of {_CALLERS} failed, {crowd.seconds:.2f} s"
