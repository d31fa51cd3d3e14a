"""A running emulator, and clients that talk to it as applications do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

import msal
import pytest
import requests
from emulator_browser import PageBrowser
from emulator_clients import (
    CALLBACK,
    ORDERS,
    ask_for_token,
    authorize_endpoint,
    exchange,
    trusting,
)

from tokenmgr.emulator import EntraEmulator


@pytest.fixture
def emulator() -> Iterator[EntraEmulator]:
    with EntraEmulator() as running:
        yield running


@pytest.fixture
def http(emulator: EntraEmulator) -> Iterator[requests.Session]:
    with trusting(emulator) as session:
        yield session


@pytest.fixture
def ask(emulator: EntraEmulator, http: requests.Session) -> Callable[..., requests.Response]:
    """Ask for a token; a field that is None is left out."""
    return partial(ask_for_token, http, emulator)


@pytest.fixture
def on_behalf_of(
    emulator: EntraEmulator, http: requests.Session
) -> Callable[..., requests.Response]:
    """Exchange an assertion; a field that is None is left out."""
    return partial(exchange, http, emulator)


@pytest.fixture
def refresh(ask: Callable[..., requests.Response]) -> Callable[..., requests.Response]:
    """Redeem a refresh token; a field that is None is left out."""

    def redeem(refresh_token: str | None, **fields: Any) -> requests.Response:
        fields = {"grant_type": "refresh_token", "scope": None} | fields
        return ask(refresh_token=refresh_token, **fields)

    return redeem


@pytest.fixture
def call(emulator: EntraEmulator, http: requests.Session) -> Callable[..., requests.Response]:
    """Call the protected API."""

    def get(token: str | None, path: str = "users") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return http.get(f"{emulator.url}/graph/v1.0/{path}", headers=headers)

    return get


@pytest.fixture
def msal_app(
    emulator: EntraEmulator, http: requests.Session
) -> Callable[..., msal.ConfidentialClientApplication]:
    def build(
        authority: str | None = None, credential: Any = None, **kwargs: Any
    ) -> msal.ConfidentialClientApplication:
        if "oidc_authority" not in kwargs:
            kwargs["authority"] = authority or emulator.authority()
        return msal.ConfidentialClientApplication(
            emulator.client_id,
            client_credential=credential or emulator.client_secret,
            instance_discovery=False,
            http_client=http,
            **kwargs,
        )

    return build


@pytest.fixture
def browser(http: requests.Session) -> PageBrowser:
    """A browser without scripts, in which nobody is signed in yet."""
    return PageBrowser(http)


@pytest.fixture
def app(emulator: EntraEmulator) -> str:
    """The id of the first app, whose users may be sent back to ``CALLBACK``."""
    emulator.add_redirect_uri(CALLBACK)
    emulator.add_user("ann@contoso.com")
    return emulator.client_id


@pytest.fixture
def native(emulator: EntraEmulator) -> str:
    """The id of an app on a user's machine, which has no secret."""
    emulator.add_user("ann@contoso.com")
    return emulator.add_client(public=True, redirect_uris=["http://localhost"])


@pytest.fixture
def address(emulator: EntraEmulator, app: str) -> Callable[..., str]:
    """Where the app sends its users to sign in; a parameter that is None is left out."""

    def build(authority: str | None = None, **parameters: Any) -> str:
        asked = {
            "client_id": app,
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": f"{ORDERS} openid profile offline_access",
            "state": "the state",
        } | parameters
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return f"{authorize_endpoint(authority or emulator.authority())}?{query}"

    return build


@pytest.fixture
def redeem(ask: Callable[..., requests.Response]) -> Callable[..., requests.Response]:
    """Redeem a code; a field that is None is left out."""

    def ask_with(code: str | None, **fields: Any) -> requests.Response:
        fields = {
            "grant_type": "authorization_code",
            "redirect_uri": CALLBACK,
            "scope": None,
        } | fields
        return ask(code=code, **fields)

    return ask_with
