"""The first requests of many users at once: whether each is under way, and nobody waits."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import NamedTuple

from .crowd import together
from .figure import Figure, Section
from .made_users import READ
from .service import Service
from .users import sign_in
from .workers import alone

__all__ = ["AtOnce", "at_once", "section"]

#: Far above what any of them takes, in seconds.
_DEADLINE = 120.0

_METHOD = (
    "Each user's first call comes from a thread of its own, all at the same moment. The local "
    "Entra, which is another process, answers none of them until all have come, or no more do: so "
    "whoever waited for another would not be among them. In a new process, in which each library "
    "has served one user before."
)

Get = Callable[[str], object]


class AtOnce(NamedTuple):
    """What came of them."""

    #: Requests that had come before any was answered, and in the end.
    under_way: int
    requests: int
    failed: int
    #: Seconds until all had come, and from then on until all were served.
    came: float
    served: float


def at_once(count: int, library: str) -> AtOnce:
    """Lets so many users call for the first time. To be asked in a process of its own.

    Args:
        count: How many.
        library: ``tokenmgr`` or ``MSAL``.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Service() as service:
        texts: list[str] = service.ask(partial(sign_in, count + 1))
        if library == "MSAL":
            return _at_once(service, texts, _of_msal(service))
        with service.registry(timeout=_DEADLINE) as tokens:

            def get(text: str) -> None:
                tokens.on_behalf_of(text, READ).get_access_token(timeout=_DEADLINE)

            return _at_once(service, texts, get)


def section(*, count: int = 500) -> Section:
    """The figures."""
    ours, theirs = (alone(at_once, count=count, library=name) for name in ("tokenmgr", "MSAL"))
    met = ours.under_way == ours.requests == count and not ours.failed
    goal = f"{count} requests, all under way together"
    return Section(
        "First requests of many users",
        _METHOD,
        [
            Figure(f"{count} users", _told(ours), goal, met),
            Figure(f"{count} users of MSAL's", _told(theirs)),
        ],
    )


def _at_once(service: Service, texts: list[str], get: Get) -> AtOnce:
    get(texts.pop())  # what it imports and sets up is not counted
    service.ask(methodcaller("clear"))
    service.ask(methodcaller("pause"))
    outcomes: list[object] = []
    crowd = threading.Thread(
        target=lambda: outcomes.extend(together([partial(get, text) for text in texts]))
    )
    began = time.perf_counter()
    crowd.start()
    under_way = service.ask(partial(_wait_for, len(texts)))
    came = time.perf_counter()
    service.ask(methodcaller("resume"))
    crowd.join()
    served = time.perf_counter() - came
    failed = sum(isinstance(outcome, Exception) for outcome in outcomes)
    return AtOnce(under_way, service.ask(methodcaller("count")), failed, came - began, served)


def _wait_for(count: int, entra: object) -> int:
    """Waits until so many have come, or no more do; asked in the emulator's process."""
    seen, give_up_at = -1, time.monotonic() + _DEADLINE
    while seen < (come := entra.count()) < count and time.monotonic() < give_up_at:  # type: ignore[attr-defined]
        seen = come
        time.sleep(2.0)
    return come


def _of_msal(service: Service) -> Get:
    import msal

    settings = service.settings
    app = msal.ConfidentialClientApplication(
        settings.client_id,
        client_credential=settings.client_secret,
        authority=settings.authority,
        verify=settings.ca_file,
        instance_discovery=False,
    )

    def get(text: str) -> None:
        answer = app.acquire_token_on_behalf_of(text, [READ])
        if "access_token" not in answer:
            raise RuntimeError(f"MSAL got no token: {answer.get('error')}")

    return get


def _told(found: AtOnce) -> str:
    return (
        f"{found.under_way} under way before any was answered, {found.requests} in all, "
        f"{found.failed} failed; {found.came:.1f} s until all had come, and {found.served:.1f} s "
        "until all were served"
    )
