"""Workers of a web API behind a load, with tokens that live for seconds."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import requests

from .figure import Figure, Section
from .service import Service

if TYPE_CHECKING:
    from tokenmgr.emulator import EntraEmulator

__all__ = ["Outcome", "section"]

_ROOT = Path(__file__).parents[1]
#: Seconds that the tokens live, by which the users' own are far outlived.
_LIFETIME = 5.0
#: Who calls, and how often each of them does in a second.
_USERS, _CALLERS, _CALLS = 4, 24, 5.0
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: The servers: the class of gunicorn's workers, its options, and the application.
SERVERS = {
    "FastAPI, uvicorn's workers": ("uvicorn_worker.UvicornWorker", (), "asgi"),
    "Flask, gunicorn's threads": ("gthread", ("--threads=8",), "wsgi"),
}
#: The goal: token requests over those of one worker.
_GOAL = 1.2

_METHOD = (
    "A web API that validates each call's bearer and has a token on behalf of its user, served by "
    "gunicorn with {workers} workers over one SQLite file, and, before that, with one. Locust's "
    "{callers} callers, of {users} users, make {calls:.0f} calls a second each, for {lasts:.0f} s; "
    "tokens live {lifetime:.0f} s."
)


class Outcome(NamedTuple):
    """What came of it."""

    calls: int
    failed: int
    #: Token requests on behalf of users.
    asked: int
    #: Milliseconds in which 99 % of the calls were answered.
    slow: float


def section(servers: Iterable[str] = SERVERS, *, workers: int = 8, lasts: float = 30.0) -> Section:
    """The figures of each server."""
    told = {"workers": workers, "callers": _CALLERS, "users": _USERS, "calls": _CALLS}
    found = Section("Workers of a web API", _METHOD.format(**told, lasts=lasts, lifetime=_LIFETIME))
    with Service() as service:
        for name in servers:
            alone = _under_load(service, name, workers=1, lasts=lasts)
            fleet = _under_load(service, name, workers=workers, lasts=lasts)
            found.figures.append(
                Figure(
                    name,
                    f"{fleet.failed} of {fleet.calls:,} failed, {fleet.asked} token requests "
                    f"({alone.asked} of one worker), 99 % within {fleet.slow:.0f} ms",
                    f"none fails, at most {_GOAL} times as many requests",
                    fleet.failed == 0 and fleet.asked <= _GOAL * alone.asked,
                )
            )
    return found


def _under_load(service: Service, name: str, *, workers: int, lasts: float) -> Outcome:
    with TemporaryDirectory() as folder:
        bearers = Path(folder, "bearers")
        bearers.write_text("\n".join(service.ask(_sign_in)), encoding="ascii")
        with _serving(service, name, workers, folder) as url:
            _warm_up(url, service.ask(_sign_in)[0])
            before = service.ask(methodcaller("count", _GRANT))
            calls, failed, slow = _call(url, bearers, lasts)
            asked = service.ask(methodcaller("count", _GRANT)) - before
    return Outcome(calls, failed, asked, slow)


def _warm_up(url: str, bearer: str) -> None:
    """Has one worker import what it needs."""
    answer = requests.get(url, headers={"Authorization": f"Bearer {bearer}"}, timeout=60)
    answer.raise_for_status()


def _sign_in(entra: EntraEmulator) -> list[str]:
    users = (f"user{number}@contoso.onmicrosoft.com" for number in range(_USERS))
    entra.token_lifetime = _LIFETIME
    return [entra.sign_in(user, lifetime=3600.0) for user in users]


@contextmanager
def _serving(service: Service, name: str, workers: int, folder: str) -> Iterator[str]:
    kind, options, app = SERVERS[name]
    settings = service.settings
    variables = {
        "AZURE_TENANT_ID": settings.tenant_id,
        "AZURE_CLIENT_ID": settings.client_id,
        "AZURE_CLIENT_SECRET": settings.client_secret,
        "AZURE_AUTHORITY_HOST": settings.url,
        "REQUESTS_CA_BUNDLE": settings.ca_file,
        "TOKENMGR_STORE": f"sqlite:///{folder}/tokens.db",
    }
    command = (
        *(sys.executable, "-m", "gunicorn", f"--workers={workers}", f"--worker-class={kind}"),
        *(*options, "--bind=127.0.0.1:0", "--no-control-socket"),
        f"benchmarks.web_fleet_app:{app}",
    )
    log = Path(folder, "gunicorn.log")
    with log.open("w") as out:
        server = subprocess.Popen(  # noqa: S603 - our own words
            command, cwd=_ROOT, env=os.environ | variables, stdout=out, stderr=out
        )
    try:
        yield _address(server, log, workers)
    finally:
        server.terminate()
        server.wait(30)


def _address(server: subprocess.Popen[bytes], log: Path, workers: int) -> str:
    """Where the server listens, once all its workers do."""
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at and server.poll() is None:
        said = log.read_text()
        listens = re.search(r"Listening at: (http://\S+)", said)
        if listens and said.count("Booting worker") == workers:
            return listens[1]
        time.sleep(0.05)
    raise RuntimeError(f"gunicorn does not listen:\n{log.read_text()}")


def _call(url: str, bearers: Path, lasts: float) -> tuple[int, int, float]:
    """Has locust call; gives the calls, those that failed, and how long 99 % took at most (ms)."""
    results = bearers.with_name("results")
    command = (
        *(sys.executable, "-m", "locust", "--headless", "--only-summary", "--host", url),
        *("--users", str(_CALLERS), "--spawn-rate", str(_CALLERS), "--run-time", f"{lasts:.0f}s"),
        *("--stop-timeout", "10", "--csv", str(results), "--exit-code-on-error", "0"),
        *("--locustfile", str(Path(__file__).with_name("web_fleet_load.py"))),
    )
    variables = {"BEARERS": str(bearers), "CALLS_PER_SECOND": str(_CALLS)}
    subprocess.run(  # noqa: S603 - our own words
        command, env=os.environ | variables, check=True, capture_output=True
    )
    with results.with_name("results_stats.csv").open(newline="") as rows:
        total = next(row for row in csv.DictReader(rows) if row["Name"] == "Aggregated")
    return int(total["Request Count"]), int(total["Failure Count"]), float(total["99%"])
