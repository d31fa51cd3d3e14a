"""How long calls go on failing after an outage is over, in virtual time: nothing here waits."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msal
import requests
from msal.exceptions import MsalError

from tokenmgr import Authority, ClientSecret, TokenManagerError
from tokenmgr._engine.cell import Cell
from tokenmgr._runtime.workers import Workers
from tokenmgr.entra.client import Client
from tokenmgr.entra.grants.client_credentials import ClientCredentialsSource
from tokenmgr.manager import manager_of

from .day import stepped_context
from .figure import Figure, Section
from .virtual_service import (
    AUTHORITY,
    SECRET,
    TROUBLES,
    VirtualConnection,
    VirtualService,
    in_virtual_time,
)
from .virtual_time import VirtualTime

__all__ = ["WRONG_SECRET", "Recovery", "msal_calls", "our_calls", "recover", "section"]

WRONG_SECRET = "a wrong secret in the file"  # noqa: S105 - what is wrong
#: How long outages last, in seconds.
_LASTS = (30.0, 90.0, 600.0)
#: From so many scopes on a registry can tell that it is not a scope that is in trouble.
_SCOPES = tuple(f"api://{number}/.default" for number in range(4))
_CLIENT = "11111111-2222-3333-4444-555555555555"
#: Seconds from a failed call to the next one, at least and at most.
_PAUSE = (0.5, 1.0)
#: Seconds that one fetch may take: what a registry allows.
_TIMEOUT = 10.0
#: Seconds after an outage for which callers go on at most.
_LONGEST = 3600.0
#: The goal, in seconds.
_GOAL = 15.0
#: MSAL's outages: each of them takes seconds, as it asks at every call.
_MSAL_ROUNDS = 3

_METHOD = (
    f"A process starts in an outage. For each of {len(_SCOPES)} scopes a caller asks for a token, "
    f"and again {_PAUSE[0]:g} to {_PAUSE[1]:g} s after each failure. Seconds from the outage's end "
    "until the last of them has one: the median, and the longest of {rounds} outages. Time is "
    "virtual, and all is the library's own but the socket: nobody listens, each request is "
    f"answered with 503, or none within {_TIMEOUT:g} s, not even the last one that was sent before "
    "the end; a wrong secret is put right in its file. No process has a store. Requests are those "
    "during the outage (median), of all scopes together. Beside them MSAL with the same timeout "
    "({msal_rounds} outages), which asks at every call, but for 5 s after a 503; its applications "
    "keep the secret that they were made with."
)

Call = Callable[[], object]


class Recovery(NamedTuple):
    """What came of an outage."""

    #: Seconds from its end until every scope had a token.
    seconds: float
    #: What the service was asked during the outage.
    requests: int


class _NoWorkers(Workers):
    """Where no thread runs callers fetch, and each has a thread of its own here."""

    def do(self, work: Callable[[], object]) -> None:
        raise RuntimeError(f"callers fetch, and do {work}")


def our_calls(service: VirtualService, secret: Path) -> list[Call]:
    """Calls for a token of each scope, as a registry's managers make them."""
    context = replace(
        stepped_context(service.time),
        workers=_NoWorkers(1, name="none"),
        emit=str,  # and nobody hears of it
        fetch_timeout=_TIMEOUT,
    )
    client = Client(
        Authority.parse(AUTHORITY),
        _CLIENT,
        ClientSecret(file=secret),
        connection=VirtualConnection(service, timeout=_TIMEOUT),
        context=context,
    )
    sources = [ClientCredentialsSource(client, (scope,)) for scope in _SCOPES]
    return [manager_of(Cell(each, each.key, context)).get_access_token for each in sources]


def msal_calls(service: VirtualService, secret: Path) -> list[Call]:
    """The same by MSAL, on one application."""
    session = requests.Session()
    session.mount("https://", service)
    application = msal.ConfidentialClientApplication(
        _CLIENT,
        client_credential=secret.read_text(encoding="utf-8"),
        authority=AUTHORITY,
        http_client=session,
        instance_discovery=False,
    )

    def call(scope: str) -> None:
        said = application.acquire_token_for_client([scope])
        if "access_token" not in said:
            raise MsalError(said["error"])

    return [partial(call, scope) for scope in _SCOPES]


def recover(
    calls_of: Callable[[VirtualService, Path], list[Call]], trouble: str, lasts: float, seed: int
) -> Recovery:
    """Lets callers go through an outage.

    Args:
        calls_of: Makes their calls, of the service and of the file of the secret.
        trouble: One of the troubles of the service, or ``WRONG_SECRET``.
        lasts: Seconds that the outage lasts.
        seed: Of all random times.
    """
    random.seed(seed)
    time = VirtualTime()
    service = VirtualService(time)
    with TemporaryDirectory() as folder, in_virtual_time(time):
        secret = Path(folder, "secret")
        secret.write_text(SECRET, encoding="utf-8")
        calls = calls_of(service, secret)
        ends = time.now + lasts
        served: list[float] = []
        asked = partial(_outage, service, secret, trouble, lasts)
        time.run([asked, *(partial(_caller, time, call, ends, served) for call in calls)])
    return Recovery(max(served) - ends, service.requests_in_trouble)


def _outage(service: VirtualService, secret: Path, trouble: str, lasts: float) -> None:
    if trouble == WRONG_SECRET:
        secret.write_text("a wrong one", encoding="utf-8")
    service.trouble = TROUBLES.get(trouble)
    before = service.requests
    service.time.sleep(lasts)
    service.trouble = None
    secret.write_text(SECRET, encoding="utf-8")
    service.requests_in_trouble = service.requests - before


def _caller(time: VirtualTime, call: Call, ends: float, served: list[float]) -> None:
    time.sleep(random.uniform(0.0, _PAUSE[1]))  # noqa: S311 - callers are not in step
    while time.now < ends + _LONGEST and not _serves(call):
        time.sleep(random.uniform(*_PAUSE))  # noqa: S311
    served.append(time.now)


def _serves(call: Call) -> bool:
    with suppress(TokenManagerError, requests.RequestException, MsalError):
        call()
        return True
    return False


def section(*, rounds: int = 50, lasts: Sequence[float] = _LASTS) -> Section:
    """The figures."""
    found = Section(
        "An outage is over",
        _METHOD.format(rounds=rounds, msal_rounds=_MSAL_ROUNDS),
    )
    # Each of them busies one processor.
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for trouble in (*TROUBLES, WRONG_SECRET):
            for seconds in lasts:
                each = partial(pool.starmap, recover)
                ours = each([(our_calls, trouble, seconds, seed) for seed in range(rounds)])
                theirs = []
                if trouble != WRONG_SECRET:
                    peers = range(min(rounds, _MSAL_ROUNDS))
                    theirs = each([(msal_calls, trouble, seconds, seed) for seed in peers])
                found.figures.append(_figure(f"{trouble}, for {seconds:g} s", ours, theirs))
    return found


def _figure(what: str, ours: Sequence[Recovery], theirs: Sequence[Recovery]) -> Figure:
    longest = max(each.seconds for each in ours)
    measured = f"median {median(each.seconds for each in ours):.1f} s, {_words(ours)}"
    if theirs:
        measured += f" (MSAL: {_words(theirs)})"
    return Figure(what, measured, f"at most {_GOAL:g} s", longest <= _GOAL)


def _words(found: Sequence[Recovery]) -> str:
    made = median(each.requests for each in found)
    return f"longest {max(each.seconds for each in found):.1f} s, {made:,.0f} requests"
