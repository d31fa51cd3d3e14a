"""What Microsoft Entra answers when it refuses, in Entra's own words and shape.

The numbers and texts are those of
https://learn.microsoft.com/entra/identity-platform/reference-error-codes; the JSON around them is
described in
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#error-response-1.
Where that page is silent (``suberror``, the texts of 50173, 65001, 500131 and more), they are as
answers that were published on GitHub have them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from authlib.oauth2 import OAuth2Error

__all__ = ["B2CError", "EntraError", "error_body"]


class _Refusal(NamedTuple):
    """One row of the catalogue: the OAuth 2.0 error code and the text, with its placeholders."""

    error: str
    text: str
    suberror: str | None = None


_CATALOGUE = {
    28000: _Refusal(
        "invalid_scope",
        "Provided value for the input parameter scope is not valid because it contains more than "
        "one resource. Scope {scope} is not valid.",
    ),
    50013: _Refusal("invalid_grant", "Assertion failed signature validation. [Reason - {detail}]"),
    50027: _Refusal("invalid_client", "JWT token is invalid or malformed."),
    50034: _Refusal(
        "invalid_grant",
        # Entra hides the name just so.
        "The user account {{EmailHidden}} does not exist in the {tenant} directory. To sign into "
        "this application, the account must be added to the directory.",
    ),
    50057: _Refusal("invalid_grant", "The user account is disabled."),
    50059: _Refusal(
        "invalid_request",
        "No tenant-identifying information found in either the request or implied by any "
        "provided credentials.",
    ),
    50076: _Refusal(
        "interaction_required",
        "Due to a configuration change made by your administrator, or because you moved to a new "
        "location, you must use multi-factor authentication to access '{resource}'.",
        "basic_action",
    ),
    50173: _Refusal(
        "invalid_grant",
        "The provided grant has expired due to it being revoked, a fresh auth token is needed. The "
        "user might have changed or reset their password. The grant was issued on '{issued}' and "
        "the TokensValidFrom date (before which tokens are not valid) for this user is "
        "'{valid_from}'.",
    ),
    65001: _Refusal(
        "invalid_grant",
        "The user or administrator has not consented to use the application with ID '{client_id}' "
        "named '{client_id}'. Send an interactive authorization request for this user and "
        "resource.",
        "consent_required",
    ),
    70000: _Refusal("invalid_grant", "Provided grant is invalid or malformed.", "bad_token"),
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
    90100: _Refusal("invalid_request", "{parameter} parameter is empty or not valid."),
    240002: _Refusal("invalid_request", "Input id_token cannot be used as '{grant_type}' grant."),
    500011: _Refusal(
        "invalid_resource",
        "The resource principal named {resource} was not found in the tenant named {tenant}. This "
        "can happen if the application has not been installed by the administrator of the tenant "
        "or consented to by any user in the tenant.",
    ),
    500131: _Refusal(
        "invalid_grant",
        "Assertion audience does not match the Client app presenting the assertion. The audience "
        "in the assertion was '{audience}' and the expected audience is '{client_id}' or one of "
        "the Application Uris of this application with App ID '{client_id}'({client_id}). The "
        "downstream client must request a token for the expected audience (the application that "
        "made the OBO request) and this application should use that token as the assertion.",
    ),
    500133: _Refusal(
        "invalid_grant",
        "Assertion is not within its valid time range. Ensure that the access token is not expired "
        "before using it for user assertion, or request a new token. Current time: {now}, expiry "
        "time of assertion {expiry}.",
    ),
    700007: _Refusal("invalid_grant", "The grant was issued for a different client id."),
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
    700082: _Refusal(
        "invalid_grant",
        "The refresh token has expired due to inactivity. The token was issued on {issued} and was "
        "inactive for {lifetime}.",
    ),
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
    7000114: _Refusal(
        "unauthorized_client",
        "Application '{client_id}' is not allowed to make application on-behalf-of calls.",
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
    9002313: _Refusal("invalid_grant", "Invalid request. Request is malformed or invalid."),
    9002332: _Refusal(
        "invalid_request",
        "Application '{client_id}'({client_id}) is configured for use by Azure Active Directory "
        "users only. Please do not use the /consumers endpoint to serve this request.",
    ),
}


class EntraError(OAuth2Error):
    """A refusal with an AADSTS number.

    Args:
        code: The AADSTS number; the catalogue has its OAuth 2.0 error and its text.
        error: The OAuth 2.0 error, where Entra has more than one with this number.
        claims: The JSON text of what a new sign-in has to bring.
        details: What the placeholders of the text stand for. Never a secret.
    """

    def __init__(
        self, code: int, *, error: str | None = None, claims: str | None = None, **details: str
    ) -> None:
        refusal = _CATALOGUE[code]
        self.name: str = error or refusal.error
        status = 401 if self.name == "invalid_client" else 400
        super().__init__(error=self.name, status_code=status)
        self.code = code
        # Not given to the base class: it refuses the quotes that callers may have sent as a
        # scope (RFC 6749, section 5.2), where Entra repeats whatever it was sent.
        self.text: str = refusal.text.format(**details)
        more = {"suberror": refusal.suberror, "claims": claims}
        self._more = {name: value for name, value in more.items() if value is not None}

    def json(self, *, correlation_id: str | None, base_url: str) -> dict[str, object]:
        """The answer. See :func:`error_body`."""
        body = error_body(
            self.name,
            self.text,
            codes=[self.code],
            correlation_id=correlation_id,
            base_url=base_url,
        )
        return body | self._more


class B2CError(OAuth2Error):
    """A refusal of a B2C user flow, which says less than Entra does.

    See https://learn.microsoft.com/azure/active-directory-b2c/error-codes.

    Args:
        code: The AADB2C number.
        error: The OAuth 2.0 error code.
        text: What went wrong, without the number.
    """

    def __init__(self, code: int, error: str, text: str) -> None:
        super().__init__(error=error, status_code=400)
        self._error = error
        self._text = f"AADB2C{code}: {text}"

    def json(self, *, correlation_id: str | None, base_url: str) -> dict[str, object]:  # noqa: ARG002 - Entra's
        """The answer."""
        return {
            "error": self._error,
            "error_description": (
                f"{self._text}\r\nCorrelation ID: {correlation_id or uuid.uuid4()}\r\n"
                f"Timestamp: {_timestamp()}\r\n"
            ),
        }


def _timestamp() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


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
    timestamp = _timestamp()
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
