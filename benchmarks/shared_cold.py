"""How many token requests a fleet of processes makes that finds no token in its store."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .figure import Figure, Section
from .redis_server import running_server
from .service import SCOPE, Service, Settings
from .workers import Crowd, warm_up

__all__ = ["Outcome", "cold", "cold_extensions", "section"]

#: Seconds that the service takes: about what the real one does.
_LATENCY = 0.2
#: Seconds that a fetch may take; a lease lasts two more.
_TIMEOUT = 1.0
#: Far above what it takes until the next worker asks.
_DEADLINE = 30.0

_METHOD = (
    "All threads of all processes start at the same moment, with one store between them and no "
    f"token in it; the service takes {_LATENCY} s to answer and counts what it is asked. The "
    "processes are forked from one that has everything imported, and each makes its registry "
    "after the fork, as gunicorn's workers do. Where some are killed, the service holds each "
    "request until the process that made it, which has the lease, is ended with `kill -9`; the "
    f"last request is answered. A fetch may take {_TIMEOUT:g} s, so that a lease lasts "
    f"{_TIMEOUT + 2:g} s. msal-extensions has one thread in each process."
)

Call = Callable[[], Any]


class Outcome(NamedTuple):
    """What came of it."""

    requests: int
    #: How many callers lived to be served.
    callers: int
    #: What was raised in those that were not.
    failures: list[str]
    #: Seconds until all were served.
    took: float


def cold(
    store: str, *, processes: int, threads: int, kills: int = 0, timeout: float = _TIMEOUT
) -> Outcome:
    """A cold start of workers that share a store. To be asked in a process of its own.

    Args:
        store: The store's URL.
        processes: How many there are.
        threads: How many threads each has.
        kills: How many of those that ask the service are killed, one after another.
        timeout: Seconds that a fetch may take.
    """
    with Service(latency=_LATENCY) as service:
        warm_up(service, store)
        call_of = partial(_call, service, store, timeout)
        return _cold(service, call_of, processes, threads, kills)


def cold_extensions(file: str, *, processes: int) -> Outcome:
    """A cold start of processes that share a file of msal-extensions."""
    with Service(latency=_LATENCY) as service:
        call_of = partial(_extensions_call, service.settings, file)
        return _cold(service, call_of, processes, threads=1, kills=0)


def section(*, processes: int = 8, threads: int = 50, kills: int = 4) -> Section:
    """The figures. To be asked in a process of its own."""
    figures = []
    crowd = f"{processes} processes with {threads} threads each"
    with TemporaryDirectory() as folder, running_server() as one, running_server() as other:
        for what, store in ((f"{crowd}, SQLite", _sqlite(folder, 1)), (f"{crowd}, Redis", one.url)):
            found = cold(store, processes=processes, threads=threads)
            met = found.requests == 1 and not found.failures
            figures.append(Figure(what, _measured(found), "1 token request", met))
        found = cold_extensions(f"{folder}/msal.json", processes=processes)
        what = f"{processes} processes, one file of msal-extensions"
        figures.append(Figure(what, _measured(found)))
        for name, store in (("SQLite", _sqlite(folder, 2)), ("Redis", other.url)):
            found = cold(store, processes=processes, threads=threads, kills=kills)
            figures.append(
                Figure(
                    f"{crowd}, {name}, {kills} times whoever asks is killed",
                    f"{_measured(found)}, after {found.took:.1f} s",
                    f"at most {kills + 1} token requests, everybody served",
                    found.requests <= kills + 1 and not found.failures,
                )
            )
    return Section("Cold workers that share a store", _METHOD, figures)


def _cold(
    service: Service, call_of: Callable[[], Call], processes: int, threads: int, kills: int
) -> Outcome:
    service.ask(methodcaller("clear"))
    crowd = Crowd(call_of, processes=processes, threads=threads)
    if kills:
        service.ask(methodcaller("pause"))
    began = time.perf_counter()
    crowd.start()
    for number in range(kills):
        service.ask(methodcaller("wait_for_requests", number + 1, _DEADLINE))
        crowd.kill_who_asks(urlsplit(service.settings.url).port or 0)
    if kills:
        service.ask(methodcaller("wait_for_requests", kills + 1, _DEADLINE))
        service.ask(methodcaller("resume"))
    failures = crowd.failures()
    took = time.perf_counter() - began
    made = service.ask(methodcaller("count"))
    return Outcome(made, len(crowd.living) * threads, failures, took)


def _call(service: Service, store: str, timeout: float) -> Call:
    """A new worker's call."""
    return service.registry(store=store, timeout=timeout).manager(SCOPE).get_access_token


def _extensions_call(settings: Settings, file: str) -> Call:
    """A new worker's call of MSAL's, with the file of msal-extensions for its cache."""
    import msal
    from msal_extensions import FilePersistence, PersistedTokenCache

    app = msal.ConfidentialClientApplication(
        settings.client_id,
        client_credential=settings.client_secret,
        authority=settings.authority,
        verify=settings.ca_file,
        instance_discovery=False,
        token_cache=PersistedTokenCache(FilePersistence(file)),
    )

    def call() -> None:
        answer = app.acquire_token_for_client([SCOPE])
        if "access_token" not in answer:
            raise RuntimeError(f"MSAL got no token: {answer.get('error')}")

    return call


def _sqlite(folder: str, number: int) -> str:
    return f"sqlite:///{folder}/{number}.db"


def _measured(outcome: Outcome) -> str:
    requests = f"{outcome.requests} token request{'' if outcome.requests == 1 else 's'}"
    served = outcome.callers - len(outcome.failures)
    first = f" (the first of the others: {outcome.failures[0]})" if outcome.failures else ""
    return f"{requests}, {served} of {outcome.callers} callers served{first}"
