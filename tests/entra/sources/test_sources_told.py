"""Wherever a fetch breaks that a credential of its own makes, nobody is told the token."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from machine import VAULT
from reporting import Struck, told_at_every_line

from tokenmgr import AzureCredential, ManagedIdentity
from tokenmgr.entra.sources.base import Asked

TOKEN = "eyJ0b2tlbg-of-the-machine"
ROOMS = ("entra/sources/", "entra/wire/machine_session.py")

pytestmark = pytest.mark.traces


def asked() -> Asked:
    return Asked(scopes=(VAULT,), claims=None, cae=True, tenant=None, seconds=5.0, now=time.time())


class _Token:
    """One of azure-core's, whose repr shows it."""

    token, expires_on = TOKEN, 4_000_000_000

    def __repr__(self) -> str:
        return f"AccessTokenInfo(token={self.token!r})"


@pytest.mark.parametrize("method", ["get_token", "get_token_info"])
def test_a_credential_s_token_is_told_by_no_frame(method) -> None:
    credential = AzureCredential(SimpleNamespace(**{method: lambda *_, **__: _Token()}))
    work = lambda: credential.fetch(asked())  # noqa: E731 - it is what is broken off
    assert told_at_every_line(work, (TOKEN,), within=ROOMS) == []


# Who is interrupted before it is awaited leaves it so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine.*never awaited:RuntimeWarning")
def test_an_asynchronous_one_s_is_told_by_no_frame() -> None:
    async def get_token(*_scopes: str, **_options: object) -> _Token:
        return _Token()

    credential = AzureCredential(SimpleNamespace(get_token=get_token))
    work = lambda: credential.fetch(asked())  # noqa: E731 - it is what is broken off
    assert told_at_every_line(work, (TOKEN,), (Struck,), ROOMS) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_machine_s_token_and_header_are_told_by_no_frame(machine, monkeypatch) -> None:
    expires_on = str(int(time.time()) + 3600)
    said = {"access_token": TOKEN, "expires_on": expires_on, "resource": "r"}
    machine.on_get = lambda handler: handler.answer(200, said)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{machine.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "the-header-of-the-machine")
    identity = ManagedIdentity()
    work = lambda: identity.fetch(asked())  # noqa: E731 - it is what is broken off
    secrets = (TOKEN, "the-header-of-the-machine")
    assert told_at_every_line(work, secrets, (Struck,), ROOMS) == []
