"""How long a call takes whose token falls due for renewal while the service is in trouble."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from statistics import median

from tokenmgr import AccessTokenManager, RefreshPolicy

from .crowd import together
from .figure import Figure, Section
from .service import SCOPE, Service

__all__ = ["TROUBLES", "longest_call", "section", "spell"]

_CALLERS = 50
#: When renewal falls due, and for how long callers call, in seconds.
_DUE = 1.0
_SPELL = 2.5
_PAUSE = 0.02
#: The goal, in seconds.
_GOAL = 0.005

_METHOD = (
    f"{_CALLERS} threads ask for a token every {_PAUSE * 1000:.0f} ms for {_SPELL} s; after "
    f"{_DUE} s it falls due for renewal, which does not succeed. The longest of all calls in "
    "{rounds} rounds, and the median of the rounds' longest. The first row shows what the same "
    "threads see while nothing falls due: what is longer there, Python's threads and the machine "
    "make them wait for."
)


def _nothing(service: Service) -> None:
    pass


TROUBLES: dict[str, Callable[[Service], object]] = {
    "nothing falls due": _nothing,
    "service answers 503": lambda service: service.ask(
        methodcaller("fail_next", 10**6, status=503)
    ),
    "service takes 5 s to answer": lambda service: service.ask(
        methodcaller("__setattr__", "latency", 5.0)
    ),
    "service is gone, its port closed": Service.close,
}


def longest_call(manager: AccessTokenManager, *, lasts: float) -> float:
    """Calls over and over, and gives the seconds of the longest call. Raises what a call raises."""
    longest, ends_at = 0.0, time.perf_counter() + lasts
    while (start := time.perf_counter()) < ends_at:
        manager.get_access_token()
        longest = max(longest, time.perf_counter() - start)
        time.sleep(_PAUSE)
    return longest


def spell(
    service: Service, trouble: Callable[[Service], object], *, callers: int, lasts: float
) -> tuple[float, int]:
    """Many callers through one trouble.

    Returns:
        The seconds of the longest call, and how many callers were failed.
    """
    with service.registry(policy=RefreshPolicy(jitter=0.0)) as tokens:
        manager = tokens.manager(SCOPE)
        manager.get_access_token()
        trouble(service)
        outcomes = together([partial(longest_call, manager, lasts=lasts)] * callers)
        state = manager.status().state
    if state != ("fresh" if trouble is _nothing else "aging"):
        raise RuntimeError(f"the token is {state} at the end, and the figure would mean nothing")
    calm = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    return max(calm, default=float("inf")), len(outcomes) - len(calm)


def section(*, rounds: int) -> Section:
    """The figures."""
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in TROUBLES}
    for _ in range(rounds):
        for name, trouble in TROUBLES.items():
            refresh_in = None if trouble is _nothing else _DUE
            with Service(refresh_in=refresh_in) as service:
                outcome = spell(service, trouble, callers=_CALLERS, lasts=_SPELL)
                found[name].append(outcome)
    figures = [_figure(name, outcomes) for name, outcomes in found.items()]
    return Section("A token due for renewal, 50 callers", _METHOD.format(rounds=rounds), figures)


def _figure(name: str, outcomes: list[tuple[float, int]]) -> Figure:
    longest = max(seconds for seconds, _ in outcomes)
    failed = sum(failed for _, failed in outcomes)
    measured = (
        f"longest {longest * 1000:.2f} ms (median round "
        f"{median(seconds for seconds, _ in outcomes) * 1000:.2f} ms), {failed} failed"
    )
    if name == "nothing falls due":
        return Figure(name, measured)
    met = longest <= _GOAL and not failed
    return Figure(name, measured, "none over 5 ms, none fails", met)
