"""What the token endpoint answers, made into a token or a typed error.

The errors are those of "Microsoft Entra authentication and authorization error codes" on
Microsoft Learn, and of RFC 6749, section 5.2, where there is no AADSTS number.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import (
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
)
from ..token import AccessToken

__all__ = ["error_from_answer", "token_from_answer"]


class _Meaning(NamedTuple):
    kind: type[TokenManagerError]
    advice: str


_SIGN_IN = _Meaning(
    InteractionRequiredError, "send the user to sign in again, with this error's claims"
)
_SIGN_IN_AGAIN = _Meaning(InteractionRequiredError, "send the user to sign in again")
_ASSERTION = _Meaning(
    InteractionRequiredError,
    "pass a user's token that has not expired and whose audience is this app",
)
_TENANT = _Meaning(
    ConfigurationError, "check the tenant's id or domain name, and the cloud it is in"
)
_SCOPE = _Meaning(
    InvalidScopeError, "client credentials take one scope of the form {resource}/.default"
)

_MEANINGS: dict[int, _Meaning] = {
    7000215: _Meaning(
        InvalidCredentialError,
        "use the client secret's value, not its id; App registrations shows the value only once",
    ),
    7000222: _Meaning(
        InvalidCredentialError,
        "the client secret has expired: create a new one in App registrations, then rotate to it",
    ),
    700027: _Meaning(
        InvalidCredentialError,
        "upload the certificate in App registrations, and compare its thumbprint",
    ),
    700024: _Meaning(
        InvalidCredentialError,
        "the client assertion is outside its time: check this machine's clock, and that the "
        "federated token file is being renewed",
    ),
    700016: _Meaning(
        ConfigurationError,
        "the app is not in this tenant: check the client id and the tenant, and have the app "
        "consented to there",
    ),
    90002: _TENANT,
    900023: _TENANT,
    1002012: _SCOPE,
    70011: _SCOPE,
    500011: _Meaning(
        InvalidScopeError,
        "the tenant does not know the resource: check its name, and add its service principal",
    ),
    65001: _Meaning(ConsentRequiredError, "have an administrator consent to the app's permissions"),
    50076: _SIGN_IN,
    50079: _SIGN_IN,
    50158: _SIGN_IN,
    53003: _SIGN_IN,
    50013: _ASSERTION,
    500131: _ASSERTION,
    500133: _ASSERTION,
    50173: _SIGN_IN_AGAIN,
    70008: _SIGN_IN_AGAIN,
    700082: _SIGN_IN_AGAIN,
    90033: _Meaning(ServiceUnavailableError, "the service is asked again later"),
}

#: Those too that mean a credential: it is read again, and the request repeated once.
_CREDENTIAL_CODES = frozenset(
    {7000215, 7000222, 700027, 700024, 7000214, 1000502, 7000274, 7000277}
)

_INVALID_CREDENTIAL = _Meaning(
    InvalidCredentialError, "check the app's secret, certificate or assertion"
)

#: Where the service sends no AADSTS number that is known here.
_MEANINGS_BY_ERROR: dict[str, _Meaning] = {
    "invalid_client": _INVALID_CREDENTIAL,
    "unauthorized_client": _Meaning(
        ConfigurationError, "check what the app's registration allows it to do"
    ),
    "unsupported_grant_type": _Meaning(
        ConfigurationError, "check the authority: this one does not offer the grant"
    ),
    "invalid_scope": _Meaning(InvalidScopeError, "check the scope, and that its resource exists"),
    "invalid_resource": _Meaning(InvalidScopeError, "check the scope's resource"),
    "invalid_tenant": _TENANT,
    "consent_required": _Meaning(
        ConsentRequiredError, "have a user or an administrator consent to the app's permissions"
    ),
    "interaction_required": _SIGN_IN,
    "login_required": _SIGN_IN,
    "invalid_grant": _Meaning(
        InteractionRequiredError,
        "for a user, send them to sign in again; for the app itself, check its credential",
    ),
    "temporarily_unavailable": _Meaning(
        ServiceUnavailableError, "the service is asked again later"
    ),
    "server_error": _Meaning(ServiceUnavailableError, "the service is asked again later"),
}

_ADVICE: dict[type[TokenManagerError], str] = {
    ThrottledError: "wait as long as retry_after says, and ask less often",
    ServiceUnavailableError: "nothing here: the service is failing, and is asked again later",
}


def error_from_answer(
    answer: Mapping[str, Any],
    *,
    kind: type[TokenManagerError] = TokenRequestError,
    retry_after: float | None = None,
    status: int | None = None,
    host: str = "the service",
    secret: str | None = None,
) -> TokenManagerError:
    """Makes the typed error of an answer that holds no token.

    Args:
        answer: The JSON object that the service sent; empty when it sent none.
        kind: What to raise where the answer does not say more; for HTTP 429 and 5xx, at any rate.
        retry_after: Seconds, where the service sent ``Retry-After``.
        status: The HTTP status, where it is a failure by itself.
        host: Who answered, for the message.
        secret: The app's own proof, which a service may repeat in its description.
    """
    codes = _codes(answer)
    error = answer.get("error") if isinstance(answer.get("error"), str) else None
    advice = _ADVICE.get(kind)
    if advice is None:
        kind, advice = _meaning(codes, answer) or _Meaning(kind, _look_up(codes))
    said = _spoken(answer.get("error_description") or error or "no reason given", secret)
    return kind(
        f"{host} gave no token: {said}. What to do: {advice}.",
        error=error,
        error_codes=codes,
        correlation_id=_text(answer, "correlation_id"),
        trace_id=_text(answer, "trace_id"),
        claims=_text(answer, "claims"),
        retry_after=retry_after,
        status=status,
    )


def token_from_answer(
    answer: Mapping[str, Any], *, asked_at: float, scopes: tuple[str, ...]
) -> AccessToken:
    """Makes the token of an answer that holds one (RFC 6749, section 5.1).

    Args:
        answer: What MSAL returned.
        asked_at: The wall clock before the request was sent, so that no delay lengthens its life.
        scopes: What was asked for.

    Raises:
        ServiceUnavailableError: The answer is not whole.
    """
    # What becomes part of a header must not be able to end it (RFC 6750, section 2.1).
    if not _matches(r"[\x21-\x7e]+", answer.get("access_token")):
        raise ServiceUnavailableError("the service's answer holds no access token of use")
    token_type = answer.get("token_type", "Bearer")
    if not _matches(r"[A-Za-z0-9_-]+", token_type):
        raise ServiceUnavailableError("the service's answer holds no token type of use")
    expires_in = _seconds(answer.get("expires_in", 3599))
    if expires_in is None or expires_in <= 0:
        raise ServiceUnavailableError("the service's answer holds no expires_in of use")
    refresh_at = None
    if (refresh_on := _seconds(answer.get("refresh_on"))) is not None:
        # MSAL turns refresh_in into refresh_on on the machine's real clock; this turns it back.
        refresh_at = asked_at + max(0.0, refresh_on - time.time())
    return AccessToken(
        secret=answer["access_token"],
        expires_at=asked_at + expires_in,
        refresh_at=refresh_at,
        scopes=scopes,
        token_type=token_type,
    )


def _look_up(codes: tuple[int, ...]) -> str:
    if codes:
        return f"look it up at https://login.microsoftonline.com/error?code={codes[0]}"
    return "check the app's registration and the authority"


def _meaning(codes: tuple[int, ...], answer: Mapping[str, Any]) -> _Meaning | None:
    for code in codes:
        if code in _MEANINGS:
            return _MEANINGS[code]
        if code in _CREDENTIAL_CODES:
            return _INVALID_CREDENTIAL
    for name in ("suberror", "error"):
        meaning = _MEANINGS_BY_ERROR.get(str(answer.get(name)))
        if meaning is not None:
            return meaning
    return None


def _codes(answer: Mapping[str, Any]) -> tuple[int, ...]:
    """Reads the AADSTS numbers from ``error_codes``, or from the description without it (B2C)."""
    given = answer.get("error_codes")
    if isinstance(given, list) and given:
        return tuple(code for code in given if isinstance(code, int))
    found = re.findall(r"AADSTS(\d{4,9})", str(answer.get("error_description", "")))
    return tuple(int(code) for code in found)


def _spoken(description: object, secret: str | None) -> str:
    """Cuts a service's words to what a log may hold: one short line without tokens."""
    text = re.split(r"\s*Trace ID:", str(description), maxsplit=1)[0]
    if secret:
        text = text.replace(secret, "[…]")
    text = re.sub(r"eyJ[\w-]+(\.[\w-]*)*", "[…]", text)
    text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:300].rstrip(" .")


def _text(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) else None


def _matches(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _seconds(value: object) -> float | None:
    """Reads a number of seconds; some authorities send it as a string."""
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else None
