"""What other libraries put a token on a request with, each with a valid one in its cache."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import Any

import httpx
import requests
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential
from google.oauth2.credentials import Credentials
from httpx_auth import OAuth2ClientCredentials
from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth

from .clients import URL, of_httpx, of_requests
from .service import SCOPE, Settings
from .turns import Contestant, called

__all__ = ["BESIDE", "DISTRIBUTIONS", "contestants"]

#: Whose versions the results name.
DISTRIBUTIONS = ("httpx", "httpx2", "aiohttp", "azure-core", "requests_oauth2client", "httpx_auth")

#: For each contestant, our client that it stands beside, and what it is counted from. azure-core's
#: policy is for its own pipeline alone.
BESIDE = {
    "requests_oauth2client": ("requests", "bare requests"),
    "azure-core": ("", "nothing"),
    "google-auth": ("requests", "nothing"),
    "httpx_auth": ("httpx", "bare httpx"),
}


def contestants(settings: Settings) -> dict[str, Contestant]:
    """Requests of each library that find a valid token, by name."""
    prepared = requests.Request("GET", URL).prepare()
    return {
        "requests_oauth2client": of_requests(prepared, _of_requests_oauth2client(settings)),
        "azure-core": _of_azure_core(settings),
        "google-auth": _of_google_auth(),
        "httpx_auth": of_httpx(httpx, _of_httpx_auth(settings)),
        "nothing": called("pass"),
    }


def _of_requests_oauth2client(settings: Settings) -> Any:
    """requests_oauth2client's auth, with a token of the local Entra's."""
    session = requests.Session()
    session.verify = settings.ca_file
    client = OAuth2Client(
        f"{settings.authority}/oauth2/v2.0/token",
        (settings.client_id, settings.client_secret),
        session=session,
    )
    return OAuth2ClientCredentialsAuth(client, scope=SCOPE)


def _of_httpx_auth(settings: Settings) -> httpx.Auth:
    """httpx_auth's auth, with a token of the local Entra's."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    auth: httpx.Auth = OAuth2ClientCredentials(
        f"{settings.authority}/oauth2/v2.0/token",
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        scope=SCOPE,
        client=httpx.Client(verify=context),
    )
    return auth


def _of_azure_core(settings: Settings) -> Contestant:
    """azure-core's policy over azure-identity, with a token of the local Entra's."""
    credential = ClientSecretCredential(
        settings.tenant_id,
        settings.client_id,
        settings.client_secret,
        authority=settings.url,
        disable_instance_discovery=True,
        connection_verify=settings.ca_file,
    )
    policy: Any = BearerTokenCredentialPolicy(credential, SCOPE)
    request: Any = PipelineRequest(HttpRequest("GET", URL), PipelineContext(None))
    policy.on_request(request)
    return called("policy.on_request(request)", policy=policy, request=request)


def _of_google_auth() -> Contestant:
    """google-auth's credentials, which are handed a token.

    Not before_request(), which also starts a thread that looks up a regional access boundary.
    """
    ends = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None) + dt.timedelta(hours=1)
    credentials = Credentials("a", expiry=ends)  # type: ignore[no-untyped-call]
    statement = "credentials.valid and credentials.apply(headers)"
    return called(statement, credentials=credentials, headers={})
