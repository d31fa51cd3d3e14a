"""The refusals of Azure AD B2C: what its user flows say where Entra would say an AADSTS number.

https://learn.microsoft.com/azure/active-directory-b2c/error-codes.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["B2C", "B2CRefusal"]


class B2CRefusal(NamedTuple):
    """One row: the AADB2C number, the OAuth 2.0 error code, the text with its placeholders."""

    code: int
    error: str
    text: str


#: By the AADSTS number of the same refusal, whose placeholders are at hand.
B2C = {
    50011: B2CRefusal(
        90006,
        "redirect_uri_mismatch",
        "The redirect URI '{redirect_uri}' provided in the request is not registered for the "
        "client id '{client_id}'.",
    ),
    50034: B2CRefusal(
        90225, "access_denied", "The username or password provided in the request are invalid."
    ),
    50058: B2CRefusal(
        90077,
        "interaction_required",
        "User does not have an existing session and request prompt parameter has a value of "
        "'None'.",
    ),
    50126: B2CRefusal(
        90225, "access_denied", "The username or password provided in the request are invalid."
    ),
    50173: B2CRefusal(
        90129,
        "invalid_grant",
        "The provided grant has been revoked. Please reauthenticate and try again.",
    ),
    54005: B2CRefusal(
        90080,
        "invalid_grant",
        "The provided grant has expired. Please re-authenticate and try again.",
    ),
    65001: B2CRefusal(
        90205,
        "unauthorized_client",
        "This application does not have sufficient permissions against this web resource to "
        "perform the operation.",
    ),
    65004: B2CRefusal(
        90091, "access_denied", "The user has cancelled entering self-asserted information."
    ),
    70000: B2CRefusal(
        90129,
        "invalid_grant",
        "The provided grant has been revoked. Please reauthenticate and try again.",
    ),
    70003: B2CRefusal(
        90086,
        "unsupported_grant_type",
        "The supplied grant_type [{grant_type}] is not supported.",
    ),
    70007: B2CRefusal(
        90014,
        "invalid_request",
        "The requested response mode '{response_mode}' provided in the request is not supported.",
    ),
    70008: B2CRefusal(
        90080,
        "invalid_grant",
        "The provided grant has expired. Please re-authenticate and try again.",
    ),
    500112: B2CRefusal(
        90006,
        "redirect_uri_mismatch",
        "The redirect URI '{redirect_uri}' provided in the request is not registered for the "
        "client id '{client_id}'.",
    ),
    500113: B2CRefusal(
        90007,
        "invalid_request",
        "The application associated with client id '{client_id}' has no registered redirect URIs.",
    ),
    501481: B2CRefusal(90183, "invalid_grant", "The supplied code_verifier is invalid."),
    700007: B2CRefusal(
        90088,
        "invalid_grant",
        "The provided grant has not been issued for this endpoint.",
    ),
    700016: B2CRefusal(
        90018,
        "invalid_request",
        "The client id '{client_id}' specified in the request is not registered in tenant "
        "'{tenant}'.",
    ),
    700025: B2CRefusal(
        90084,
        "invalid_client",
        "Public clients should not send a client_secret when redeeming a publicly acquired grant.",
    ),
    700054: B2CRefusal(
        90013,
        "unsupported_response_type",
        "The requested response type '{response_type}' provided in the request is not supported.",
    ),
    700082: B2CRefusal(
        90080,
        "invalid_grant",
        "The provided grant has expired. Please re-authenticate and try again.",
    ),
    900144: B2CRefusal(
        90083, "invalid_request", "The request is missing required parameter: {parameter}."
    ),
    7000215: B2CRefusal(
        90081,
        "invalid_client",
        "The specified client_secret does not match the expected value for this client. Please "
        "correct the client_secret and try again.",
    ),
    7000218: B2CRefusal(
        90079,
        "invalid_client",
        "Clients must send a client_secret when redeeming a confidential grant.",
    ),
    9002313: B2CRefusal(90090, "invalid_grant", "The provided JWE is not a valid 5 segment token."),
}
# A verifier that is missing, or was never announced, is as invalid as a wrong one.
B2C[50148] = B2C[501481]
