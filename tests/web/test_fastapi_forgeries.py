"""Bearers that no API may accept, sent to a real one: refused, with nothing of its own failing."""

from __future__ import annotations

from typing import Any

import httpx
import programs
import pytest
from forgeries import FORGERIES, Forged, Forger
from protected_app import protect

from tokenmgr.emulator import EntraEmulator

ANN = "ann@contoso.com"


@pytest.fixture(scope="module")
def entra():
    with EntraEmulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def forger(entra: EntraEmulator) -> Forger:
    return Forger(entra)


def check(forged: Forged, answer: httpx.Response) -> None:
    """What came of a forgery is what has to."""
    assert answer.status_code == forged.status
    told = answer.headers["WWW-Authenticate"]
    assert told.isascii()
    if forged.error is None:
        assert told == 'Bearer realm=""'
    else:
        assert told.startswith(f'Bearer error="{forged.error}", error_description="')
    assert set(answer.json()) == {"error", "error_description"}
    for value in forged.authorization:
        token = value.rpartition(" ")[2]
        assert len(token) < 20 or token[-20:] not in answer.text + str(answer.headers)


def sent(forged: Forged) -> list[tuple[bytes, bytes]]:
    """Its headers, as a client would send them that checks nothing."""
    return [(b"Authorization", value.encode()) for value in forged.authorization]


async def test_no_forgery_passes_and_none_fails_or_costs_a_request(entra, forger):
    with entra.registry() as registry:
        transport = httpx.ASGITransport(protect(registry), raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            good = {"Authorization": f"Bearer {entra.sign_in(ANN)}"}
            assert (await http.get("/who", headers=good)).status_code == 200
            asked: Any = None
            for name in FORGERIES:
                forged = forger.forge(name)
                check(forged, await http.get("/who", headers=sent(forged)))
                # The first kid that is not known has the keys asked for anew; no other does.
                asked = len(entra.requests) if asked is None else asked
            assert len(entra.requests) <= asked + 1
            assert (await http.get("/who", headers=good)).status_code == 200


@pytest.mark.uncovered
def test_none_passes_a_real_server(entra, forger):
    with programs.serving(
        *("uvicorn", "protected_app:app"), **(entra.environment() | programs.with_tests())
    ) as served:
        with httpx.Client(base_url=served.url, timeout=30) as http:
            for name in FORGERIES:
                forged = forger.forge(name)
                # What no client sends is for the test above.
                if all(
                    each == each.strip() and each.isprintable() for each in forged.authorization
                ):
                    check(forged, http.get("/who", headers=sent(forged)))
            good = {"Authorization": f"Bearer {entra.sign_in(ANN)}"}
            assert http.get("/who", headers=good).status_code == 200
        served.process.terminate()
        log, _ = served.process.communicate()
    assert "Traceback" not in log
