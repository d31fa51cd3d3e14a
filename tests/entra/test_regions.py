"""Entra's regional hosts, which MSAL asks where ``MSAL_FORCE_REGION`` is set."""

from __future__ import annotations

import json

import pytest
from support import SCOPE

from tokenmgr import TokenRegistry
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.entra.wire.endpoints import check_endpoint
from tokenmgr.entra.wire.exchange import Exchange
from tokenmgr.entra.wire.transport import Response

TENANT = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555"
REGION = TENANT.replace("login.microsoftonline.com", "westus3.login.microsoft.com")


# MSAL tells of a region that it was told, and could not find out by itself.
@pytest.mark.filterwarnings("ignore")
def test_the_region_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def send(exchange: Exchange, method: str, url: str, given: Hidden) -> Response:
        check_endpoint(exchange._authority, url)
        asked.append(url)
        metadata = {
            "issuer": f"{TENANT}/v2.0",
            "token_endpoint": f"{REGION}/oauth2/v2.0/token",
            "authorization_endpoint": f"{TENANT}/oauth2/v2.0/authorize",
        }
        answer = {"access_token": "regional", "expires_in": 3600, "token_type": "Bearer"}
        return Response(200, json.dumps(metadata if method == "GET" else answer), {})

    monkeypatch.setenv("MSAL_FORCE_REGION", "westus3")
    monkeypatch.setattr(Exchange, "_send", send)  # there is no such host here
    with TokenRegistry(client_id="an-app", credential="a secret", authority=TENANT) as tokens:
        assert tokens.get_access_token(SCOPE) == "regional"
    assert asked[-1] == f"{REGION}/oauth2/v2.0/token"
    assert all(url.startswith(REGION) for url in asked)
