"""What fifty callers cost where a machine's identity, or ``az``, gives the token."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import msal
import requests
from azure.identity import AzureCliCredential, ManagedIdentityCredential

from tokenmgr import AzureCredential, ManagedIdentity, TokenRegistry

from .crowd import together
from .figure import Figure, Section
from .service import Service

if TYPE_CHECKING:
    from tokenmgr.emulator import EntraEmulator

__all__ = ["section"]

_RESOURCE = "https://vault.azure.net"
_SCOPE = f"{_RESOURCE}/.default"
#: Seconds that a token of the outage lives: valid, and due for renewal by everybody's account.
_LIFE = 240

_METHOD = (
    "{callers} threads ask at once for a token that nobody has yet. The local Entra has App "
    "Service's endpoint of managed identities, which takes {latency:g} s, in another process; `az` "
    "is a stand-in on the path that takes {seconds:g} s and gives a token. In the outage the "
    "metadata service of a virtual machine answers 503 from then on, and the token that each has "
    f"is valid for {_LIFE} s still: one call, by one thread."
)

_AZ = """#!{python}
import json, time
with open({log!r}, "a") as log:
    log.write("asked\\n")
time.sleep({seconds})
print(json.dumps({{"accessToken": "a-token", "expires_on": int(time.time()) + 3600}}))
"""

#: Gives a token, or raises.
_Get = Callable[[], object]


class _Cost(NamedTuple):
    asked: int
    failed: int
    seconds: float


def section(
    *, callers: int = 50, latency: float = 0.2, seconds: float = 1.0, outage: bool = True
) -> Section:
    """The figures.

    Args:
        callers: How many ask at once.
        latency: Seconds that the endpoint takes.
        seconds: Those that ``az`` takes.
        outage: Whether an outage is measured too, in which azure-identity's goes on for 25 s.
    """
    rows = [*_of_app_service(callers, latency), *_of_az(callers, seconds)]
    if outage:
        rows.extend(_of_outage())
    method = _METHOD.format(callers=callers, latency=latency, seconds=seconds)
    return Section("Without secrets", method, rows)


def _of_app_service(callers: int, latency: float) -> Iterator[Figure]:
    with Service(latency=latency) as service, _on(service, "app_service"):
        for name, contestant in _CONTESTANTS.items():
            service.ask(methodcaller("clear"))
            with contestant() as get:
                cost = _crowd(get, callers, lambda: int(service.ask(_asked)))
            yield _figure(f"{name}: requests", cost, goal=name == _OURS)


def _of_az(callers: int, seconds: float) -> Iterator[Figure]:
    with _az(seconds) as log:

        def asked() -> int:
            return len(log.read_text().splitlines())

        credential = AzureCliCredential()
        with TokenRegistry(credential=AzureCredential(credential)) as tokens:
            ours = _crowd(tokens.manager(_SCOPE).get_access_token, callers, asked)
        log.write_text("")
        theirs = _crowd(lambda: credential.get_token(_SCOPE), callers, asked)
    yield _figure("tokenmgr over AzureCliCredential: runs of az", ours, goal=True)
    yield _figure("azure-identity's AzureCliCredential: runs of az", theirs)


def _of_outage() -> Iterator[Figure]:
    with Service(token_lifetime=_LIFE) as service, _on(service, "vm"):
        for name, contestant in _CONTESTANTS.items():
            service.ask(methodcaller("recover"))
            with contestant() as get:
                get()
                service.ask(methodcaller("fail_next", 1_000, status=503, path="identity"))
                cost = _crowd(get, 1, lambda: int(service.ask(_asked)))
            said = "a token" if cost.failed == 0 else "no token"
            yield Figure(
                f"{name}: in an outage",
                f"{said}, {cost.seconds * 1000:,.0f} ms",
                "a token" if name == _OURS else "",
                cost.failed == 0 if name == _OURS else None,
            )


def _crowd(get: _Get, callers: int, asked: Callable[[], int]) -> _Cost:
    began = time.perf_counter()
    outcomes = together([get] * callers)
    seconds = time.perf_counter() - began
    return _Cost(asked(), sum(isinstance(each, Exception) for each in outcomes), seconds)


def _figure(what: str, cost: _Cost, *, goal: bool = False) -> Figure:
    failed = f", {cost.failed} callers without a token" if cost.failed else ""
    measured = f"{cost.asked}, {cost.seconds:.1f} s for all{failed}"
    return Figure(what, measured, "1" if goal else "", cost.asked == 1 if goal else None)


def _asked(entra: EntraEmulator) -> int:
    return len(entra.identity_requests)


@contextmanager
def _on(service: Service, host: str) -> Iterator[None]:
    """Has this process run on a machine of that kind."""
    with _variables(service.ask(methodcaller("identity_environment", host))):
        yield


@contextmanager
def _az(seconds: float) -> Iterator[Path]:
    """Puts a stand-in for ``az`` on the path; gives the file in which it notes each run."""
    with TemporaryDirectory() as folder:
        log, program = Path(folder) / "log", Path(folder) / "az"
        log.touch()
        program.write_text(_AZ.format(python=sys.executable, log=str(log), seconds=seconds))
        program.chmod(0o755)
        with _variables({"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}):
            yield log


@contextmanager
def _variables(changed: dict[str, str]) -> Iterator[None]:
    before = os.environ.copy()
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _of_tokenmgr() -> Iterator[_Get]:
    with TokenRegistry(credential=ManagedIdentity()) as tokens:
        yield tokens.manager(_SCOPE).get_access_token


@contextmanager
def _of_azure_identity() -> Iterator[_Get]:
    with ManagedIdentityCredential() as credential:
        yield lambda: credential.get_token(_SCOPE).token


@contextmanager
def _of_msal() -> Iterator[_Get]:
    with requests.Session() as session:
        identity = msal.SystemAssignedManagedIdentity()
        client = msal.ManagedIdentityClient(identity, http_client=session)

        def get() -> None:
            answer = client.acquire_token_for_client(resource=_RESOURCE)
            if "access_token" not in answer:
                raise RuntimeError(f"MSAL got no token: {answer.get('error')}")

        yield get


_OURS = "tokenmgr"
_CONTESTANTS = {
    _OURS: _of_tokenmgr,
    "azure-identity's ManagedIdentityCredential": _of_azure_identity,
    "MSAL's ManagedIdentityClient": _of_msal,
}
