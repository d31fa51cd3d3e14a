"""Users whose calls land on any worker of several, which share a store."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from .figure import Figure, Section
from .made_users import READ
from .redis_server import RedisServer, running_server
from .service import Service
from .users import sign_in
from .workers import FORK, Crowd, warm_up

__all__ = ["Outcome", "anywhere", "section"]

_METHOD = (
    "{processes} worker processes, forked, with {threads} threads each, take the calls of a queue, "
    "in which each user's {calls} calls are spread: so each call lands on any worker, and those of "
    "one user may be under way together. Each worker makes its registry after the fork. The "
    "service counts its requests, and Redis its commands. By formula, as in "
    "[Scaling](scaling.md), there are 5 operations for each request, and one for each other worker "
    "that a user comes to; where calls of one user meet, those that wait look at the lease besides."
)
#: What is counted of a server's commands: all that stores send it.
_COMMANDS = ("getrange", "set", "eval")


class Outcome(NamedTuple):
    """What came of the calls."""

    requests: int
    #: What was raised in the workers.
    failures: list[str]
    #: Commands that the server had from the stores; None where there is no server.
    operations: int | None


def anywhere(
    store: str | None,
    *,
    users: int,
    calls: int,
    processes: int,
    threads: int,
    redis: RedisServer | None = None,
) -> Outcome:
    """Lets users call workers. To be asked in a process of its own.

    Args:
        store: The store's URL; None for MSAL, whose workers share nothing.
        users: How many there are.
        calls: How many each of them makes.
        processes: How many workers there are.
        threads: How many threads each has.
        redis: The server, where there is one.
    """
    with Service() as service:
        texts: list[str] = service.ask(partial(sign_in, users))
        order = [number for number in range(users) for _ in range(calls)]
        random.Random(1).shuffle(order)  # noqa: S311 - the same in each run
        next_call = FORK.Value("i", 0)
        warm_up(service, store)
        get_of = partial(_ours, service, store) if store else partial(_theirs, service)

        def call_of() -> Callable[[], None]:
            get = get_of()

            def work() -> None:
                while True:
                    with next_call.get_lock():
                        number = next_call.value
                        next_call.value += 1
                    if number >= len(order):
                        return
                    get(texts[order[number]])

            return work

        crowd = Crowd(call_of, processes=processes, threads=threads)
        service.ask(methodcaller("clear"))
        before = _operations(redis)
        crowd.start()
        failures = crowd.failures()
        made = _operations(redis) - before if redis else None
        return Outcome(service.ask(methodcaller("count")), failures, made)


def section(
    *, users: int = 1000, calls: int = 10, processes: int = 8, threads: int = 4, few: int = 100
) -> Section:
    """The figures. To be asked in a process of its own."""
    method = _METHOD.format(processes=processes, threads=threads, calls=calls)
    crowd = partial(anywhere, calls=calls, processes=processes, threads=threads)
    figures = []
    with TemporaryDirectory() as folder, running_server() as redis:
        in_sqlite = crowd(f"sqlite:///{folder}/tokens.db", users=users)
        in_redis = crowd(redis.url, users=users, redis=redis)
    for name, found in (("SQLite", in_sqlite), ("Redis", in_redis)):
        what = f"{users:,} users, {calls} calls each, {name}"
        met = found.requests == users and not found.failures
        figures.append(Figure(what, _told(found), f"{users:,} token requests", met))
    # The workers that a user comes to, on average, who is sent to any of them each time.
    met_workers = processes * (1 - (1 - 1 / processes) ** calls)
    by_formula = users * (5 + met_workers - 1)
    figures.append(
        Figure(
            "Redis, operations by the formula of Scaling",
            f"{in_redis.operations:,}, {(in_redis.operations or 0) / by_formula:.2f} times the "
            f"{by_formula:,.0f} by formula",
        )
    )
    theirs = crowd(None, users=few)
    figures.append(Figure(f"MSAL, {few} users, {calls} calls each", _told(theirs)))
    return Section("Users who come to any worker", method, figures)


def _ours(service: Service, store: str) -> Callable[[str], object]:
    tokens = service.registry(store=store, timeout=60.0)
    return lambda text: tokens.on_behalf_of(text, READ).get_access_token(timeout=60.0)


def _theirs(service: Service) -> Callable[[str], object]:
    import msal

    settings = service.settings
    app = msal.ConfidentialClientApplication(
        settings.client_id,
        client_credential=settings.client_secret,
        authority=settings.authority,
        verify=settings.ca_file,
        instance_discovery=False,
    )
    return lambda text: app.acquire_token_on_behalf_of(text, [READ])["access_token"]


def _operations(redis: RedisServer | None) -> int:
    if redis is None:
        return 0
    with redis.client() as client:
        stats: dict[str, Any] = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in _COMMANDS)


def _told(found: Outcome) -> str:
    first = f" (the first: {found.failures[0]})" if found.failures else ""
    return (
        f"{found.requests:,} token requests, {len(found.failures)} workers' threads failed{first}"
    )
