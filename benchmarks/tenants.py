"""What a thousand tenants take of a process that has a token for each: files, threads, memory."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil

from tokenmgr import TokenRegistry

from .figure import Figure, Section
from .service import SCOPE, Service, Settings

__all__ = ["Taken", "of_msal", "of_tokenmgr", "section"]

_METHOD = (
    "{count:,} tenants of one app in one process, all of which are asked for a token at once: "
    "`registry.tenant()` of one registry with `prefetch()`, and for comparison with a registry for "
    "each; MSAL with an application for each, in 64 threads. The local Entra is another process. "
    "Connections, descriptors and threads were counted every 5 ms, and once more when all had "
    "their tokens; what the process had before is not counted. Memory is what it grew by (RSS) "
    "from the first tenant to the last."
)
#: The goals: descriptors at the worst moment, and kilobytes for each tenant. A registry has 512
#: fetches under way at most, each with a connection.
_MOST_FILES, _MOST_MEMORY = 520, 60.0


class _Counts(NamedTuple):
    connections: int
    files: int
    threads: int


class Taken(NamedTuple):
    """What was taken."""

    failed: int
    #: Connections, descriptors, threads at the worst moment, and afterwards.
    most: _Counts
    afterwards: _Counts
    #: Kilobytes for each tenant.
    memory: float
    #: Seconds until all had their tokens.
    seconds: float


def of_tokenmgr(
    settings: Settings, count: int, store: str | None = None, *, apart: bool = False
) -> Taken:
    """What it takes tokenmgr; best asked in a new process.

    Args:
        settings: Whom it asks.
        count: How many tenants there are.
        store: The store's URL.
        apart: Whether each has a registry that was made for it alone.
    """

    def new(authority: str) -> TokenRegistry:
        return TokenRegistry(
            client_id=settings.client_id,
            credential=settings.client_secret,
            authority=authority,
            verify=settings.ca_file,
            store=store,
        )

    def make(number: int) -> TokenRegistry:
        return new(_authority(settings, number)) if apart else tokens.tenant(_tenant(number))

    tokens = new(settings.authority)

    def fetch(registries: list[TokenRegistry]) -> int:
        managers = [tokens.manager(SCOPE) for tokens in registries]
        for manager in managers:
            manager.prefetch()
        return sum(_fails(manager.get_access_token) for manager in managers)

    return _taken(make, fetch, count)


def of_msal(settings: Settings, count: int) -> Taken:
    """What it takes MSAL; best asked in a new process."""
    import msal

    def make(number: int) -> Callable[[], object]:
        def ask() -> object:
            app = msal.ConfidentialClientApplication(
                settings.client_id,
                client_credential=settings.client_secret,
                authority=_authority(settings, number),
                verify=settings.ca_file,
                instance_discovery=False,
            )
            kept.append(app)
            return app.acquire_token_for_client([SCOPE])["access_token"]

        return ask

    def fetch(asking: list[Callable[[], object]]) -> int:
        with ThreadPoolExecutor(64) as threads:
            return sum(threads.map(_fails, asking))

    kept: list[object] = []
    return _taken(make, fetch, count)


def section(*, count: int = 1000) -> Section:
    """The figures."""
    with TemporaryDirectory() as folder, Service() as service:
        settings = service.settings
        ours = _alone(partial(of_tokenmgr, settings, count))
        shared = _alone(partial(of_tokenmgr, settings, count, f"sqlite:///{folder}/tokens.db"))
        apart = _alone(partial(of_tokenmgr, settings, count, apart=True))
        theirs = _alone(partial(of_msal, settings, count))
    figures = [
        figure
        for name, taken in (("tokenmgr", ours), ("tokenmgr with SQLite", shared))
        for figure in _judged(name, taken)
    ]
    figures += _rows("tokenmgr, a registry for each", apart) + _rows("MSAL", theirs)
    return Section("Many tenants", _METHOD.format(count=count), figures)


def _judged(name: str, taken: Taken) -> list[Figure]:
    goals = (
        (f"none fails, at most {_MOST_FILES} descriptors", taken.most.files <= _MOST_FILES),
        (f"at most {_MOST_MEMORY:.0f} kB", taken.memory <= _MOST_MEMORY),
    )
    most, memory = _rows(name, taken)
    return [
        Figure(most.what, most.measured, goals[0][0], met=goals[0][1] and not taken.failed),
        Figure(memory.what, memory.measured, goals[1][0], met=goals[1][1]),
    ]


def _rows(name: str, taken: Taken) -> list[Figure]:
    counts = (
        f"{taken.failed} failed; {_told(taken.most)}; afterwards {_told(taken.afterwards)}; "
        f"{taken.seconds:.1f} s"
    )
    return [
        Figure(f"{name}, at the worst moment", counts),
        Figure(f"{name}, memory for each tenant", f"{taken.memory:.0f} kB"),
    ]


def _told(counts: _Counts) -> str:
    return (
        f"{counts.connections:,} connections, {counts.files:,} descriptors, "
        f"{counts.threads:,} threads"
    )


def _taken(make: Callable[[int], object], fetch: Callable[[list], int], count: int) -> Taken:  # type: ignore[type-arg]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    process, over, seen = psutil.Process(), threading.Event(), []
    before = _counts(process)
    first = [make(-1)]
    fetch(first)  # what it imports and sets up is not counted
    gc.collect()
    memory, began = process.memory_info().rss, time.perf_counter()

    def watch() -> None:
        while not over.wait(0.005):
            seen.append(_counts(process))

    watcher = threading.Thread(target=watch)
    watcher.start()
    tenants = [make(number) for number in range(count)]
    failed = fetch(tenants)
    seconds = time.perf_counter() - began
    over.set()
    watcher.join()
    gc.collect()
    memory = process.memory_info().rss - memory
    afterwards = _counts(process)
    seen.append(afterwards)
    most = _Counts(*map(max, zip(*seen, strict=True)))
    del first, tenants
    return Taken(
        failed, _less(most, before), _less(afterwards, before), memory / count / 1024, seconds
    )


def _counts(process: psutil.Process) -> _Counts:
    connections = len(process.net_connections("tcp"))
    return _Counts(connections, process.num_fds(), process.num_threads())


def _less(counts: _Counts, before: _Counts) -> _Counts:
    return _Counts(*(now - then for now, then in zip(counts, before, strict=True)))


def _fails(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except Exception:  # noqa: BLE001 - whatever it is, there is no token
        return True
    return False


def _authority(settings: Settings, number: int) -> str:
    return f"{settings.url}/{_tenant(number)}"


def _tenant(number: int) -> str:
    return f"tenant-{number}.onmicrosoft.com"


def _alone(work: Callable[[], Taken]) -> Taken:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        return alone.submit(work).result()
