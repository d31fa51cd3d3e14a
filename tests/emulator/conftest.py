"""A running emulator, and clients that talk to it as applications do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msal
import pytest
import requests

from tokenmgr.emulator import EntraEmulator

GRAPH = "https://graph.microsoft.com/.default"


@pytest.fixture
def emulator() -> Iterator[EntraEmulator]:
    with EntraEmulator() as running:
        yield running


@pytest.fixture
def http(emulator: EntraEmulator) -> Iterator[requests.Session]:
    with requests.Session() as session:
        # REQUESTS_CA_BUNDLE would win over the session's own verify.
        session.trust_env = False
        session.verify = emulator.ca_file
        yield session


@pytest.fixture
def ask(emulator: EntraEmulator, http: requests.Session) -> Callable[..., requests.Response]:
    """Ask for a token; a field that is None is left out."""

    def post(authority: str | None = None, **fields: Any) -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": emulator.client_id,
            "client_secret": emulator.client_secret,
            "scope": GRAPH,
        } | fields
        return http.post(f"{authority or emulator.authority()}/oauth2/v2.0/token", data=form)

    return post


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
