"""What callers notice of a store that is in trouble."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tokenmgr import TokenRegistry

from .crowd import together
from .figure import Figure, Section
from .outage import longest_call
from .service import SCOPE, Service
from .shared_troubles import TROUBLES
from .turns import called, in_turns, ratio
from .workers import warm_up

__all__ = ["Notice", "cold_calls", "one_after_another", "section", "warm_calls"]

#: The goals: seconds over those without a store, and times as long as without one.
_COLD_GOAL, _WARM_GOAL = 1.0, 1.1
#: Seconds that the service takes.
_LATENCY = 0.02
#: Threads that call while their token is renewed, each every 20 ms.
_CALLERS = 20
#: Seconds until the token falls due for renewal meanwhile.
_DUE = 1.0
#: Seconds in which one thread makes a thousand warm calls.
_TURN = 0.0001

_METHOD = (
    "Each trouble is there before the registry is. Cold: {cold} calls, each for another scope, by "
    "a registry that has no token yet: in one thread, and by a second registry in as many threads. "
    f"The service takes {_LATENCY} s to answer each. Warm: about 1,000 calls in a row that find a "
    "token in hand, in {rounds} turns, and the median of the turns' ratios. Renewing: "
    f"{_CALLERS} threads that call every 20 ms, for {{lasts:g}} s, while their token falls due for "
    f"renewal every {_DUE} s, and the longest of their calls. All of it beside a registry without "
    "a store. SQLite's file is locked all the time by another program's `BEGIN EXCLUSIVE`, or "
    "read-only by its mode, and so is its directory."
)

Call = Callable[[], Any]
Registry = Callable[[], TokenRegistry]


class Notice(NamedTuple):
    """What callers notice: how long they take, in seconds, and how many of them fail."""

    seconds: float
    failed: int


def one_after_another(calls: Sequence[Call]) -> list[Any]:
    """Makes calls in one thread; gives what each returned or raised, as :func:`together` does."""
    return [_outcome(call) for call in calls]


def _outcome(call: Call) -> Any:
    try:
        return call()
    except Exception as exc:  # noqa: BLE001 - it is the outcome
        return exc


_WAYS = {"one after another": one_after_another, "all at once": together}


def cold_calls(
    registry: Registry, make: Callable[[Sequence[Call]], list[Any]], *, count: int
) -> Notice:
    """Asks a new registry for so many tokens.

    Args:
        registry: Makes it.
        make: Makes the calls.
        count: How many tokens, each of another scope.
    """
    with registry() as tokens:
        calls = [partial(tokens.get_access_token, f"api://{n}/.default") for n in range(count)]
        began = time.perf_counter()
        outcomes = make(calls)
        took = time.perf_counter() - began
    return Notice(took, sum(isinstance(outcome, Exception) for outcome in outcomes))


def warm_calls(service: Service, registry: Registry, lasts: float) -> Notice:
    """Makes calls in many threads while their token is renewed; gives the longest one."""
    service.ask(methodcaller("__setattr__", "refresh_in", _DUE))
    service.ask(methodcaller("clear"))
    with registry() as tokens:
        manager = tokens.manager(SCOPE)
        manager.get_access_token()
        outcomes = together([partial(longest_call, manager, lasts=lasts)] * _CALLERS)
    service.ask(methodcaller("__setattr__", "refresh_in", None))
    if service.ask(methodcaller("count")) < 2:
        raise RuntimeError("the token was not renewed, and the figure would mean nothing")
    calm = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    return Notice(max(calm, default=float("inf")), len(outcomes) - len(calm))


def section(
    troubles: Collection[str] = tuple(TROUBLES),
    *,
    cold: int = 100,
    rounds: int = 300,
    lasts: float = 2.0,
) -> Section:
    """The figures. To be asked in a process of its own."""
    found = Section("A store in trouble", _METHOD.format(cold=cold, rounds=rounds, lasts=lasts))
    with Service(latency=_LATENCY) as service, TemporaryDirectory() as folder:
        base = Path(folder)
        base.chmod(0o711)  # for the user without rights
        without = partial(service.registry, verify=shutil.copy(service.settings.ca_file, base))
        warm_up(service, None)
        for number, name in enumerate(troubles):
            own = base / str(number)
            own.mkdir()
            with TROUBLES[name](own) as store:
                troubled = partial(without, store=store)
                found.figures.append(_cold(name, without, troubled, cold))
                found.figures.append(_warm(name, service, without, troubled, rounds, lasts))
    return found


def _cold(name: str, without: Registry, troubled: Registry, count: int) -> Figure:
    slower, failed, measured = 0.0, 0, []
    for how, make in _WAYS.items():
        calm, found = (cold_calls(each, make, count=count) for each in (without, troubled))
        more = found.seconds - calm.seconds
        slower, failed = max(slower, more), failed + found.failed
        measured.append(f"{how} {more:+.2f} s ({found.seconds:.2f} s against {calm.seconds:.2f} s)")
    return Figure(
        f"{name}: {count} cold calls",
        f"{', '.join(measured)}, {failed} failed",
        f"within {_COLD_GOAL:g} s of those without a store, none fails",
        slower <= _COLD_GOAL and not failed,
    )


def _warm(
    name: str,
    service: Service,
    without: Registry,
    troubled: Registry,
    rounds: int,
    lasts: float,
) -> Figure:
    calm, found = (warm_calls(service, each, lasts) for each in (without, troubled))
    with without() as one, troubled() as other:
        calls = {"calm": one.manager(SCOPE), "found": other.manager(SCOPE)}
        contestants = {
            each: called("call()", call=manager.get_access_token) for each, manager in calls.items()
        }
        costs = in_turns(contestants, rounds=rounds, turn=_TURN)
    share = ratio(costs["found"], costs["calm"])
    return Figure(
        f"{name}: warm calls",
        f"{share:.2f} times as long, {found.failed} failed; renewing, the longest takes "
        f"{found.seconds * 1000:.2f} ms (without a store {calm.seconds * 1000:.2f} ms)",
        f"at most {_WARM_GOAL} times, none fails",
        share <= _WARM_GOAL and not found.failed,
    )
