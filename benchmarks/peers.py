"""The libraries that tokenmgr is compared with, each with a valid token in its cache.

MSAL and azure-identity have fetched theirs from the local Entra; the others were handed one by the
means that they offer.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msal
from authlib.integrations.requests_client import OAuth2Session
from azure.identity import ClientSecretCredential
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential
from botocore.credentials import RefreshableCredentials
from botocore.tokens import DeferredRefreshableToken, FrozenAuthToken
from google.oauth2.credentials import Credentials

from .service import SCOPE, Settings
from .turns import Contestant, awaited, called

__all__ = ["DISTRIBUTIONS", "azure_call", "msal_call", "warm_peers"]

#: Whose versions the results name.
DISTRIBUTIONS = ("msal", "azure-identity", "google-auth", "botocore", "Authlib", "requests")

_HOUR = 3600.0


def msal_call(settings: Settings) -> Callable[[], Any]:
    """MSAL's ``acquire_token_for_client``, on one app object."""
    app = msal.ConfidentialClientApplication(
        settings.client_id,
        client_credential=settings.client_secret,
        authority=settings.authority,
        verify=settings.ca_file,
        instance_discovery=False,
    )
    return partial(app.acquire_token_for_client, [SCOPE])


def azure_call(settings: Settings) -> Callable[[], Any]:
    """azure-identity's ``get_token``, on one credential."""
    credential = ClientSecretCredential(**_azure(settings))
    return partial(credential.get_token, SCOPE)


def warm_peers(settings: Settings, loop: asyncio.AbstractEventLoop) -> dict[str, Contestant]:
    """What each library calls to get at a token that it has already, by name."""
    return {
        "MSAL acquire_token_for_client()": called("call()", call=_warmed(msal_call(settings))),
        "azure-identity get_token()": called("call()", call=_warmed(azure_call(settings))),
        "azure-identity.aio get_token()": _azure_aio(settings, loop),
        "google-auth valid and token": _google(),
        **_botocore(),
        "Authlib ensure_active_token()": _authlib(settings),
    }


def _azure(settings: Settings) -> dict[str, Any]:
    return {
        "tenant_id": settings.tenant_id,
        "client_id": settings.client_id,
        "client_secret": settings.client_secret,
        "authority": settings.url,
        "disable_instance_discovery": True,
        "connection_verify": settings.ca_file,
    }


def _warmed(call: Callable[[], Any]) -> Callable[[], Any]:
    answer = call()
    if isinstance(answer, dict) and "access_token" not in answer:
        raise RuntimeError(f"MSAL got no token: {answer.get('error')}")
    return call


def _azure_aio(settings: Settings, loop: asyncio.AbstractEventLoop) -> Contestant:
    credential = AsyncClientSecretCredential(**_azure(settings))

    async def warm() -> None:
        await credential.get_token(SCOPE)
        await credential.close()  # its connections: the token stays in its cache

    loop.run_until_complete(warm())
    return awaited(loop, lambda: credential.get_token(SCOPE))


def _google() -> Contestant:
    naive_utc = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    ends = naive_utc + dt.timedelta(seconds=_HOUR)
    credentials = Credentials("a", expiry=ends)  # type: ignore[no-untyped-call]
    # Not before_request(), which also starts a thread that looks up a regional access boundary.
    return called("credentials.valid and credentials.token", credentials=credentials)


def _botocore() -> dict[str, Contestant]:
    ends = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=_HOUR)
    # In the first minute after a fetch it does not look at the token's end, and is at its fastest.
    token = DeferredRefreshableToken("benchmark", lambda: FrozenAuthToken("a", expiration=ends))
    token.get_frozen_token()
    keys = RefreshableCredentials("a", "b", "c", ends, dict, "benchmark")
    return {
        "botocore get_frozen_token()": called("token.get_frozen_token()", token=token),
        "botocore get_frozen_credentials()": called("keys.get_frozen_credentials()", keys=keys),
    }


def _authlib(settings: Settings) -> Contestant:
    token = {"access_token": "a", "token_type": "Bearer", "expires_at": time.time() + _HOUR}
    session = OAuth2Session(settings.client_id, settings.client_secret, token=token)
    return called("session.ensure_active_token(session.token)", session=session)
