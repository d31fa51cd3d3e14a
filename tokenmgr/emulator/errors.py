"""What Microsoft Entra answers when it refuses, in Entra's own words and shape.

The numbers and texts are those of
https://learn.microsoft.com/entra/identity-platform/reference-error-codes; the JSON around them is
described in
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#error-response-1.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from authlib.oauth2 import OAuth2Error

__all__ = ["EntraError", "error_body"]


class _Refusal(NamedTuple):
    """One row of the catalogue: the OAuth 2.0 error code and the text, with its placeholders."""

    error: str
    text: str


_CATALOGUE = {
    50027: _Refusal("invalid_client", "JWT token is invalid or malformed."),
    50059: _Refusal(
        "invalid_request",
        "No tenant-identifying information found in either the request or implied by any "
        "provided credentials.",
    ),
    70003: _Refusal(
        "unsupported_grant_type", "The app requested an unsupported grant type '{grant_type}'."
    ),
    70011: _Refusal(
        "invalid_scope",
        "The provided request must include a 'scope' input parameter. The provided value for the "
        "input parameter 'scope' is not valid. The scope {scope} is not valid.",
    ),
    90002: _Refusal(
        "invalid_tenant",
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are "
        "signing into the correct cloud. Check with your subscription administrator, this may "
        "happen if there are no active subscriptions for the tenant.",
    ),
    500011: _Refusal(
        "invalid_resource",
        "The resource principal named {resource} was not found in the tenant named {tenant}. This "
        "can happen if the application has not been installed by the administrator of the tenant "
        "or consented to by any user in the tenant.",
    ),
    700016: _Refusal(
        "unauthorized_client",
        "Application with identifier '{client_id}' was not found in the directory '{tenant}'. "
        "This can happen if the application has not been installed by the administrator of the "
        "tenant or consented to by any user in the tenant.",
    ),
    700021: _Refusal(
        "invalid_client",
        "Client assertion application identifier doesn't match 'client_id' parameter.",
    ),
    700023: _Refusal(
        "invalid_client", "Client assertion audience claim does not match Realm issuer."
    ),
    700024: _Refusal(
        "invalid_client", "Client assertion is not within its valid time range. {detail}"
    ),
    700027: _Refusal("invalid_client", "Client assertion failed signature validation. {detail}"),
    700211: _Refusal(
        "invalid_client",
        "No matching federated identity record found for presented assertion issuer '{issuer}'.",
    ),
    700212: _Refusal(
        "invalid_client",
        "No matching federated identity record found for presented assertion audience "
        "'{audience}'.",
    ),
    700213: _Refusal(
        "invalid_client",
        "No matching federated identity record found for presented assertion subject '{subject}'.",
    ),
    900144: _Refusal(
        "invalid_request",
        "The request body must contain the following parameter: '{parameter}'.",
    ),
    1002012: _Refusal(
        "invalid_scope",
        "The provided value for scope {scope} is not valid. Client credential flows must have a "
        "scope value with /.default suffixed to the resource identifier (application ID URI).",
    ),
    7000215: _Refusal(
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client "
        "secret value, not the client secret ID, for a secret added to app '{client_id}'.",
    ),
    7000216: _Refusal(
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is required for the '{grant_type}' grant "
        "type.",
    ),
    7000222: _Refusal(
        "invalid_client",
        "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal "
        "to create new keys for your app: https://aka.ms/NewClientSecret, or consider using "
        "certificate credentials for added security: https://aka.ms/certCreds.",
    ),
    9001023: _Refusal(
        "invalid_request",
        "The grant type is not supported over the /common or /consumers endpoints. Please use the "
        "/organizations or tenant-specific endpoint.",
    ),
}


class EntraError(OAuth2Error):
    """A refusal with an AADSTS number.

    Args:
        code: The AADSTS number; the catalogue has its OAuth 2.0 error and its text.
        details: What the placeholders of the text stand for. Never a secret.
    """

    def __init__(self, code: int, **details: str) -> None:
        refusal = _CATALOGUE[code]
        status = 401 if refusal.error == "invalid_client" else 400
        super().__init__(error=refusal.error, status_code=status)
        self.code = code
        self.name: str = refusal.error
        # Not given to the base class: it refuses the quotes that callers may have sent as a
        # scope (RFC 6749, section 5.2), where Entra repeats whatever it was sent.
        self.text: str = refusal.text.format(**details)


def error_body(
    error: str, text: str, *, codes: Sequence[int], correlation_id: str | None, base_url: str
) -> dict[str, object]:
    """The JSON of a refusal.

    Args:
        error: The OAuth 2.0 error code, such as ``invalid_client``.
        text: What went wrong, without the ``AADSTS`` prefix.
        codes: The AADSTS numbers; the first one leads the description.
        correlation_id: The ``client-request-id`` that the caller sent, which Entra repeats.
        base_url: Where ``error_uri`` points.
    """
    trace_id = str(uuid.uuid4())
    correlation_id = correlation_id or str(uuid.uuid4())
    timestamp = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    prefix = f"AADSTS{codes[0]}: " if codes else ""
    body: dict[str, object] = {
        "error": error,
        "error_description": (
            f"{prefix}{text} Trace ID: {trace_id} Correlation ID: {correlation_id} "
            f"Timestamp: {timestamp}"
        ),
        "error_codes": list(codes),
        "timestamp": timestamp,
        "trace_id": trace_id,
        "correlation_id": correlation_id,
    }
    if codes:
        body["error_uri"] = f"{base_url}/error?code={codes[0]}"
    return body
