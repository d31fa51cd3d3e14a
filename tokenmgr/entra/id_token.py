"""The id token: who has signed in, and whether that is the sign-in that was begun.

It comes from the token endpoint itself, over TLS, which vouches for its issuer in place of its
signature (OpenID Connect Core, section 3.1.3.7, point 6). All else that it says is checked here:
MSAL checks nothing of it any more.
"""

from __future__ import annotations

import hmac
import json
import math
from contextlib import suppress

from .._runtime.secrecy import Hidden
from .._runtime.values import Value
from ..errors import InteractionRequiredError, TokenManagerError, TokenRequestError
from ..identity.assertions import json_part

__all__ = ["Expected", "check_id_token", "check_same_user", "is_issuer"]

#: Seconds by which the clocks of two machines may differ.
_SKEW = 60.0
_TENANT = "{tenantid}"
#: What tells one user from another: what an id token has to repeat, and what it may.
_SAME, _SAME_IF_SAID = ("sub", "iss"), ("oid", "tid")


class Expected(Value):
    """What an id token has to say."""

    _hidden = frozenset({"nonce"})

    #: Who issues the authority's tokens; ``{tenantid}`` in it is the tenant that the token names.
    issuer: str
    client_id: str
    #: What the sign-in was begun with; empty where it had none.
    nonce: str = ""
    #: Seconds within which the user has to have signed in; None where that was not asked for.
    max_age: float | None = None


def check_id_token(text: Hidden, expected: Expected, now: float) -> Hidden:
    """Reads an id token, and refuses one that is not what was asked for.

    Args:
        text: The token.
        expected: What it has to say.
        now: The wall clock, in seconds since 1970.

    Returns:
        Its claims, a dict.

    Raises:
        InteractionRequiredError: It is that of another sign-in, or the user signed in too long ago.
        TokenRequestError: It cannot be read, has expired, or is another issuer's, or for another
            app.
    """
    claims = _read(text)
    _check_whose(claims, expected)
    ends_at = _number(claims, "exp")
    if ends_at is None or now - _SKEW > ends_at:
        raise _refusal("has expired: set this machine's clock, and have the user sign in again")
    given = Hidden(claims.cell_contents.get("nonce"))
    if expected.nonce and not _same(given, expected.nonce):
        raise InteractionRequiredError(
            "the id token is not that of the sign-in that was begun (its nonce is another one): "
            "begin another"
        )
    if expected.max_age is not None:
        _check_age(_number(claims, "auth_time"), expected.max_age, now)
    return claims


def check_same_user(text: Hidden, known: Hidden, expected: Expected) -> None:
    """Refuses an id token that comes with a later token, and is another user's.

    See OpenID Connect Core, section 12.2. Its times are not looked at: it signs nobody in.

    Args:
        text: The token.
        known: Whose session it is: the claims of the id token of the sign-in, a dict; or those of
            an assertion, which may call the same user otherwise, and of which less is compared.
        expected: What an id token of the app has to say.

    Raises:
        InteractionRequiredError: It is another user's.
        TokenRequestError: It cannot be read, or is another issuer's, or for another app.
    """
    is_of_id_token = _is_whose(known, expected)
    try:
        again = _read(text)
        if is_of_id_token:
            _check_whose(again, expected)
    except TokenManagerError:
        if is_of_id_token:
            raise
        return
    before, after = known.cell_contents.get, again.cell_contents.get
    names = [name for name in _SAME_IF_SAID if None not in (before(name), after(name))]
    names += [name for name in _SAME if is_of_id_token and before(name) is not None]
    if any(before(name) != after(name) for name in names):
        raise InteractionRequiredError(
            "the service has answered with another user's tokens than the session is of, and "
            "nothing is kept of them: have the user sign in again, and report it to the service",
            status=200,  # it was asked, and is not to be asked again at once
        )


def is_issuer(issuer: str, expected: str) -> bool:
    """Whether an issuer is the expected one; ``{tenantid}`` in that is any tenant."""
    before, of_all, behind = expected.partition(_TENANT)
    if not of_all or issuer == expected:
        return issuer == expected
    tenant = issuer.removeprefix(before).removesuffix(behind)
    return issuer == f"{before}{tenant}{behind}" and tenant.replace("-", "").isalnum()


def _read(text: Hidden) -> Hidden:
    parts = Hidden(text.cell_contents.split("."))
    claims = Hidden(None)
    if len(parts.cell_contents) == 3:
        claims = Hidden(json_part(Hidden(parts.cell_contents[1])))
    try:
        # What UTF-8 or JSON cannot say could be kept nowhere.
        json.dumps(claims.cell_contents, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        claims = Hidden(None)
    if claims.cell_contents is None:
        raise _refusal("is no JWT that can be read: report it to the service")
    return claims


def _check_whose(claims: Hidden, expected: Expected) -> None:
    _check_issuer(claims, expected.issuer)
    _check_audience(claims, expected.client_id)


def _is_whose(claims: Hidden, expected: Expected) -> bool:
    with suppress(TokenManagerError):
        _check_whose(claims, expected)
        return True
    return False


def _check_issuer(claims: Hidden, expected: str) -> None:
    issuer, tenant = claims.cell_contents.get("iss"), claims.cell_contents.get("tid")
    if _TENANT in expected:
        named = isinstance(tenant, str) and tenant.replace("-", "").isalnum()
        expected = expected.replace(_TENANT, tenant) if named else ""
    if not expected or issuer != expected:
        raise _refusal(
            "is another issuer's than the authority's metadata names: check the authority's "
            "address, and its tenant"
        )


def _check_audience(claims: Hidden, client_id: str) -> None:
    audience, party = claims.cell_contents.get("aud"), claims.cell_contents.get("azp", client_id)
    several = isinstance(audience, list)
    if client_id not in (audience if several else [audience]) or (several and party != client_id):
        raise _refusal("is for another app: check client_id=")


def _check_age(signed_in_at: float | None, max_age: float, now: float) -> None:
    if signed_in_at is None:
        raise _refusal("does not say when the user signed in: leave max_age= out here")
    if now - _SKEW > signed_in_at + max_age:
        raise InteractionRequiredError(
            f"the user signed in longer ago than max_age={max_age:g} s: begin another sign-in with "
            "prompt='login'"
        )


def _same(given: Hidden, expected: str) -> bool:
    text = given.cell_contents if isinstance(given.cell_contents, str) else ""
    return hmac.compare_digest(text.encode(errors="replace"), expected.encode())


def _number(claims: Hidden, name: str) -> float | None:
    """Reads a time (NumericDate, RFC 7519, section 2); None where there is none."""
    value = claims.cell_contents.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    seconds = float(max(-1e11, min(value, 1e11)))
    return seconds if math.isfinite(seconds) else None


def _refusal(what: str) -> TokenManagerError:
    return TokenRequestError(f"the id token {what}")
