"""How many token requests a crowd of callers makes that finds no token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

from tokenmgr import AccessTokenManager

from .crowd import loop_of, together
from .figure import Figure, Section
from .service import SCOPE, Service, Settings

__all__ = ["mixed", "requests_of", "section", "tasks", "threads"]

_METHOD = (
    "All callers start at the same moment and share one manager, app object or credential, which "
    "has no token yet; the service takes {latency} s to answer and counts what it is asked. The "
    "peers are shown with 50 threads."
)

#: Seconds that the service takes: about what the real one does, and long enough to meet in.
_LATENCY = 0.2

Job = Callable[[], object]


def threads(count: int, manager: AccessTokenManager) -> list[Job]:
    """So many callers, each a thread."""
    return [manager.get_access_token] * count


def tasks(count: int, loops: int, manager: AccessTokenManager) -> list[Job]:
    """So many callers, each a task of one of the loops."""
    return [loop_of(count // loops, manager.aget_access_token)] * loops


def mixed(count: int, loops: int, manager: AccessTokenManager) -> list[Job]:
    """So many callers, half threads and half tasks."""
    return threads(count // 2, manager) + tasks(count // 2, loops, manager)


def requests_of(service: Service, jobs: Sequence[Job]) -> tuple[int, int]:
    """How many token requests they made, and how many of them failed."""
    service.ask(methodcaller("clear"))
    failed = sum(isinstance(outcome, Exception) for outcome in together(jobs))
    return service.ask(methodcaller("count")), failed


def section(peers: dict[str, Callable[[Settings], Callable[[], Any]]]) -> Section:
    """The figures, ours and those of the peers that are given."""
    found = Section("Cold callers", _METHOD.format(latency=_LATENCY))
    crowds: dict[str, Callable[[AccessTokenManager], list[Job]]] = {
        "50 threads": partial(threads, 50),
        "1,000 threads": partial(threads, 1000),
        "1,000 tasks on 4 event loops": partial(tasks, 1000, 4),
        "500 threads and 500 tasks on 4 event loops": partial(mixed, 1000, 4),
    }
    with Service(latency=_LATENCY) as service:
        for name, crowd in crowds.items():
            with service.registry() as tokens:
                made, failed = requests_of(service, crowd(tokens.manager(SCOPE)))
            met = made == 1 and not failed
            found.figures.append(Figure(name, _requests(made, failed), "1 token request", met))
        for name, call_of in peers.items():
            made, failed = requests_of(service, [call_of(service.settings)] * 50)
            found.figures.append(Figure(f"50 threads, {name}", _requests(made, failed)))
    return found


def _requests(made: int, failed: int) -> str:
    unserved = f", {failed} callers without a token" if failed else ""
    return f"{made} token request{'' if made == 1 else 's'}{unserved}"
