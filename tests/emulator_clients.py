"""Clients of an emulator that talk to it by hand."""

from __future__ import annotations

from typing import Any

import jwt
import requests
from support import SCOPE

from tokenmgr.emulator import EntraEmulator


def trusting(emulator: EntraEmulator) -> requests.Session:
    """A session that believes the emulator's certificate."""
    session = requests.Session()
    # REQUESTS_CA_BUNDLE would win over the session's own verify.
    session.trust_env = False
    session.verify = emulator.ca_file
    return session


def ask_for_token(
    http: requests.Session, emulator: EntraEmulator, authority: str | None = None, **fields: Any
) -> requests.Response:
    """Asks for a token; a field that is None is left out."""
    form = {
        "grant_type": "client_credentials",
        "client_id": emulator.client_id,
        "client_secret": emulator.client_secret,
        "scope": SCOPE,
    } | fields
    return http.post(f"{authority or emulator.authority()}/oauth2/v2.0/token", data=form)


OBO = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ORDERS = "api://orders/read"


#: Where users are sent back to. Nobody listens there.
CALLBACK = "http://localhost:5000/signed-in"


def authorize_endpoint(authority: str) -> str:
    """Where an authority signs users in."""
    others = {"/oidc/": "/", "/adfs": "/oauth2/"}
    middle = next((others[each] for each in others if each in authority), "/oauth2/v2.0/")
    return f"{authority}{middle}authorize"


def refused(answer: requests.Response, code: int, error: str, status: int = 400) -> dict[str, Any]:
    """The body of a refusal, which is this one."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [code])
    assert "access_token" not in body
    return body


def exchange(
    http: requests.Session,
    emulator: EntraEmulator,
    assertion: str | None,
    authority: str | None = None,
    **fields: Any,
) -> requests.Response:
    """Asks for a token on behalf of a user; a field that is None is left out."""
    fields = {
        "grant_type": OBO,
        "assertion": assertion,
        "requested_token_use": "on_behalf_of",
        "scope": f"{ORDERS} openid profile offline_access",
        "client_info": "1",
    } | fields
    return ask_for_token(http, emulator, authority, **fields)


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims
