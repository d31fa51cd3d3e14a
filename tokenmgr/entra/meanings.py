"""What an error of the token endpoint means: the type that it is raised as, and what to do next.

See "Microsoft Entra authentication and authorization error codes" on Microsoft Learn, and RFC 6749,
section 5.2, where there is no AADSTS number.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import (
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
)

__all__ = ["Meaning", "meaning_of"]


class Meaning(NamedTuple):
    """What an error is raised as, and what to do."""

    kind: type[TokenManagerError]
    advice: str


_SIGN_IN = Meaning(
    InteractionRequiredError, "send the user to sign in again, with this error's claims"
)
_SIGN_IN_AGAIN = Meaning(InteractionRequiredError, "send the user to sign in again")
_CODE = Meaning(
    InteractionRequiredError,
    "begin another sign-in: a code serves once, for minutes, and for the sign-in it was given to",
)
_DECLINED = Meaning(
    ConsentRequiredError,
    "the user has said no: tell them what the app needs it for, and let them sign in again",
)
_BLOCKED = Meaning(
    InteractionRequiredError,
    "refuse the user: an administrator of theirs has to enable, add or assign them",
)
_ASSERTION = Meaning(
    InteractionRequiredError,
    "pass a user's token that has not expired and whose audience is this app",
)
_TENANT = Meaning(
    ConfigurationError, "check the tenant's id or domain name, and the cloud it is in"
)
_SCOPE = Meaning(
    InvalidScopeError,
    "client credentials take one scope of the form {resource}/.default; a user's token, scopes of "
    "one resource",
)

_FEDERATED = Meaning(
    InvalidCredentialError,
    "compare the assertion's issuer, subject and audience with the app's federated credentials, "
    "letter by letter",
)

_MEANINGS: dict[int, Meaning] = {
    7000215: Meaning(
        InvalidCredentialError,
        "use the client secret's value, not its id; App registrations shows the value only once",
    ),
    7000222: Meaning(
        InvalidCredentialError,
        "the client secret has expired: create a new one in App registrations, then rotate to it",
    ),
    700027: Meaning(
        InvalidCredentialError,
        "upload the certificate in App registrations, compare its thumbprint, and see when it ends",
    ),
    700024: Meaning(
        InvalidCredentialError,
        "the client assertion is outside its time: check this machine's clock, and that the "
        "federated token file is being renewed",
    ),
    700211: _FEDERATED,
    700212: _FEDERATED,
    700213: _FEDERATED,
    700016: Meaning(
        ConfigurationError,
        "the app is not in this tenant: check the client id and the tenant, and have the app "
        "consented to there",
    ),
    90002: _TENANT,
    900023: _TENANT,
    1002012: _SCOPE,
    70011: _SCOPE,
    28000: _SCOPE,
    500011: Meaning(
        InvalidScopeError,
        "the tenant does not know the resource: check its name, and add its service principal",
    ),
    65001: Meaning(
        ConsentRequiredError,
        "have the user sign in for this scope, where they may consent to it themselves, or an "
        "administrator consent to the app's permissions",
    ),
    50076: _SIGN_IN,
    50079: _SIGN_IN,
    50158: _SIGN_IN,
    53003: _SIGN_IN,
    50013: _ASSERTION,
    500131: _ASSERTION,
    500133: _ASSERTION,
    7000114: _ASSERTION,
    240002: _ASSERTION,
    50020: _BLOCKED,
    50034: _BLOCKED,
    50057: _BLOCKED,
    50105: _BLOCKED,
    50126: Meaning(
        InteractionRequiredError, "have the user type their name and their password again"
    ),
    50011: Meaning(
        ConfigurationError,
        "add the redirect URI to the app's registration, letter by letter; for sign_in(), "
        "http://localhost as one of mobile and desktop applications",
    ),
    7000218: Meaning(
        ConfigurationError,
        "pass credential=, or allow public client flows in the app's registration",
    ),
    700025: Meaning(
        ConfigurationError, "leave credential= out: the app's registration is a public client's"
    ),
    54005: _CODE,
    501481: _CODE,
    7000014: _CODE,
    65004: _DECLINED,
    90094: Meaning(ConsentRequiredError, "have an administrator consent to the app's permissions"),
    50173: _SIGN_IN_AGAIN,
    70008: _SIGN_IN_AGAIN,
    700082: _SIGN_IN_AGAIN,
    90033: Meaning(ServiceUnavailableError, "the service is asked again later"),
}

#: Those too that mean a credential: it is read again, and the request repeated once.
_CREDENTIAL_CODES = frozenset(
    {7000215, 7000222, 700027, 700024, 7000214, 1000502, 7000274, 7000277}
)

_INVALID_CREDENTIAL = Meaning(
    InvalidCredentialError, "check the app's secret, certificate or assertion"
)

#: Where the service sends no AADSTS number that is known here.
_MEANINGS_BY_ERROR: dict[str, Meaning] = {
    "invalid_client": _INVALID_CREDENTIAL,
    "unauthorized_client": Meaning(
        ConfigurationError, "check what the app's registration allows it to do"
    ),
    "unsupported_grant_type": Meaning(
        ConfigurationError, "check the authority: this one does not offer the grant"
    ),
    "invalid_scope": Meaning(InvalidScopeError, "check the scope, and that its resource exists"),
    "invalid_resource": Meaning(InvalidScopeError, "check the scope's resource"),
    "invalid_tenant": _TENANT,
    "consent_required": Meaning(
        ConsentRequiredError, "have a user or an administrator consent to the app's permissions"
    ),
    "interaction_required": _SIGN_IN,
    "login_required": _SIGN_IN,
    "account_selection_required": _SIGN_IN,
    "access_denied": _DECLINED,
    "authorization_declined": _DECLINED,
    "expired_token": _CODE,
    "bad_verification_code": _CODE,
    "invalid_grant": Meaning(
        InteractionRequiredError,
        "for a user, send them to sign in again; for the app itself, check its credential",
    ),
    "temporarily_unavailable": Meaning(ServiceUnavailableError, "the service is asked again later"),
    "server_error": Meaning(ServiceUnavailableError, "the service is asked again later"),
}

_IN_TROUBLE: dict[type[TokenManagerError], str] = {
    ThrottledError: "wait as long as retry_after says, and ask less often",
    ServiceUnavailableError: "nothing here: the service is failing, and is asked again later",
}


def meaning_of(
    codes: tuple[int, ...], names: tuple[str | None, ...], kind: type[TokenManagerError]
) -> Meaning:
    """Says what an error means.

    Args:
        codes: Its AADSTS numbers.
        names: Its names, the nearest to the cause first.
        kind: What it is where neither says more; for a service in trouble, at any rate.
    """
    if kind in _IN_TROUBLE:
        return Meaning(kind, _IN_TROUBLE[kind])
    for code in codes:
        if code in _MEANINGS:
            return _MEANINGS[code]
        if code in _CREDENTIAL_CODES:
            return _INVALID_CREDENTIAL
    for name in names:
        if name in _MEANINGS_BY_ERROR:
            return _MEANINGS_BY_ERROR[name]
    return Meaning(kind, _look_up(codes))


def _look_up(codes: tuple[int, ...]) -> str:
    if codes:
        return f"look it up at https://login.microsoftonline.com/error?code={codes[0]}"
    return "check the app's registration and the authority"
