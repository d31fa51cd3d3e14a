"""What a short program pays for its first token: a cron job, a function, a command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

import tokenmgr

from .distant_cloud import HOST, DistantCloud, running_cloud
from .figure import Figure, Section
from .turns import ratio

__all__ = ["PROGRAMS", "Start", "section", "starts"]

#: Seconds.
_ROUND_TRIP = 0.03

_OURS = "tokenmgr"
_THEIRS = "MSAL"

#: Programs to their first token, by what they use for it.
PROGRAMS = {
    _OURS: """
from tokenmgr import TokenRegistry
tokens = TokenRegistry(client_id={client!r}, credential="a-secret", authority={authority!r})
tokens.manager({scope!r}).get_access_token()
""",
    _THEIRS: """
import msal
app = msal.ConfidentialClientApplication(
    {client!r}, client_credential="a-secret", authority={authority!r}
)
app.acquire_token_for_client([{scope!r}])["access_token"]
""",
    "azure-identity": """
from azure.identity import ClientSecretCredential
credential = ClientSecretCredential({tenant!r}, {client!r}, "a-secret")
credential.get_token({scope!r}).token
""",
    "requests by hand": """
import requests
form = {{
    "grant_type": "client_credentials", "client_id": {client!r}, "client_secret": "a-secret",
    "scope": {scope!r},
}}
requests.post({authority!r} + "/oauth2/v2.0/token", data=form).json()["access_token"]
""",
    "a bare interpreter, without any token": "",
}

#: The clock is the same in all processes, and what is measured ends before the interpreter does.
_REPORT = """
import time
print(time.monotonic(), time.process_time())
"""

_METHOD = (
    "New interpreters, from the start of the process to the first token: a client secret, the "
    "public cloud, no settings. " + HOST + " is led to a local service with a certificate of its "
    "own, at {round_trip:.0f} ms of round trip (a new connection waits for one in which TCP would "
    "open it), the same for all. Each reads what programs trust by default (certifi) along with "
    "that certificate's authority. Processor time is that of all threads, in user and system. "
    "Median of {rounds} rounds, in each of which every program has its turn; a ratio is the "
    "median of the rounds' ratios."
)


class Start(NamedTuple):
    """What one program took to its first token."""

    #: Seconds of processor time.
    processor: float
    #: Seconds on the clock.
    wall: float
    requests: int


def starts(cloud: DistantCloud, programs: Iterable[str], *, rounds: int) -> dict[str, list[Start]]:
    """Starts each program once in each round, each round in another order.

    Args:
        cloud: What they ask.
        programs: Their names.
        rounds: How often each has its turn.
    """
    names = list(programs)
    found: dict[str, list[Start]] = {name: [] for name in names}
    for number in range(-1, rounds):  # in the first round files are read that are in memory then
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = _start(cloud, PROGRAMS[name])
            if number >= 0:
                found[name].append(start)
    return found


def section(programs: Iterable[str] = tuple(PROGRAMS), *, rounds: int = 25) -> Section:
    """The figures."""
    with running_cloud(_ROUND_TRIP) as cloud:
        found = starts(cloud, programs, rounds=rounds)
    method = _METHOD.format(rounds=rounds, round_trip=_ROUND_TRIP * 1000)
    rows = [*_goals(found), *(_row(name, runs) for name, runs in found.items())]
    return Section("A program's first token", method, rows)


def _goals(found: Mapping[str, list[Start]]) -> Iterable[Figure]:
    for what, field, goal in (("processor time", "processor", 1.05), ("wall time", "wall", 0.85)):
        ours, theirs = ([getattr(each, field) for each in found[who]] for who in (_OURS, _THEIRS))
        times = ratio(ours, theirs)
        measured = f"{times:.2f} times"
        yield Figure(f"{what} against MSAL", measured, f"at most {goal} times", times <= goal)
    made = max(each.requests for each in found[_OURS])
    yield Figure("requests", str(made), "1", made == 1)


def _row(name: str, runs: list[Start]) -> Figure:
    processor, wall, made = (median(values) for values in zip(*runs, strict=True))
    times = f"{processor * 1000:.0f} ms of processor time, {wall * 1000:.0f} ms"
    return Figure(name, f"{times}, {made:.0f} request{'' if made == 1 else 's'}")


def _start(cloud: DistantCloud, program: str) -> Start:
    tenant = "contoso.onmicrosoft.com"
    text = program.format(
        client="11111111-2222-3333-4444-555555555555",
        tenant=tenant,
        authority=f"https://{HOST}/{tenant}",
        scope="https://graph.microsoft.com/.default",
    )
    library = str(Path(tokenmgr.__file__).parents[1])
    paths = os.pathsep.join((cloud.environment["PYTHONPATH"], library))
    # What is installed is compiled; a checkout is by the first round, unless that is forbidden.
    compiled = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": ""}
    cloud.requests()
    began = time.monotonic()
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", text + _REPORT],
        env=os.environ | cloud.environment | compiled,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ended, processor = (float(word) for word in done.stdout.split())
    return Start(processor, ended - began, cloud.requests())
