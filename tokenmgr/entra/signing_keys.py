"""What an authority publishes for those who check its tokens: who issues them, and the keys.

See OpenID Connect Discovery 1.0, section 3, and RFC 7517. Nothing of it is secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._runtime.values import Value
from ..errors import AuthorityError, TokenManagerError
from ..identity.authority import Authority
from .wire.exchange import Exchange

__all__ = ["Metadata", "older_issuers", "read_keys", "read_metadata"]

_DISCOVERY = "/.well-known/openid-configuration"
#: The kinds of Microsoft Entra, which has metadata of its own for each version of its tokens.
_VERSIONED = frozenset({"entra", "ciam"})
#: So many keys are looked at: an authority has a few, and a dozen in the middle of a change.
_MOST_KEYS = 200
_THROTTLED = 429
#: The longest address, or issuer, that is taken for one.
_LONGEST = 2_048


class Metadata(Value):
    """What an authority's OpenID metadata says of its tokens."""

    #: Who issues them; ``{tenantid}`` in it stands for the tenant of each.
    issuers: tuple[str, ...]
    #: Where the keys are.
    keys_url: str
    #: What its tokens are signed by, where it says so.
    algorithms: tuple[str, ...] = ()


def read_metadata(exchange: Exchange, authority: Authority) -> Metadata:
    """Asks an authority who issues its tokens, and where the keys are.

    Raises:
        TokenManagerError: It does not say, or names what cannot be its own.
    """
    version = "" if authority.kind in ("adfs", "oidc") else "/v2.0"
    url = f"{authority.url}{version}{_DISCOVERY}"
    said = exchange.read(url)
    keys_url, algorithms = said.get("jwks_uri"), said.get("id_token_signing_alg_values_supported")
    issuers = [said.get("issuer")]
    if authority.kind == "adfs":
        # The issuer of its access tokens has another name than that of its id tokens.
        issuers.append(said.get("access_token_issuer"))
    named = tuple(filter(_is_name, issuers))
    if not named or not _is_name(keys_url):
        missing = "jwks_uri" if named else "issuer"
        raise AuthorityError(
            f"the metadata at {url} has no {missing}: check the authority's address"
        )
    algorithms = algorithms if isinstance(algorithms, list) else []
    return Metadata(named, keys_url, tuple(each for each in algorithms if isinstance(each, str)))


def older_issuers(exchange: Exchange, authority: Authority) -> tuple[str, ...]:
    """Asks who issues an authority's tokens of version 1.0; nobody does where it has none.

    An API's registration decides in which version its tokens are (``requestedAccessTokenVersion``).
    The keys are the same for both.

    Raises:
        TokenManagerError: The authority cannot be asked.
    """
    if authority.kind not in _VERSIONED:
        return ()
    try:
        issuer = exchange.read(f"{authority.url}{_DISCOVERY}").get("issuer")
    except TokenManagerError as error:
        if isinstance(error, AuthorityError) or _is_refusal(error.status):
            return ()
        raise
    return (issuer,) if _is_name(issuer) else ()


def read_keys(exchange: Exchange, metadata: Metadata) -> tuple[Mapping[str, Any], ...]:
    """Asks an authority for its public keys (RFC 7517, section 5), as they are written.

    Raises:
        TokenManagerError: It does not have them, or the address is none of its own.
    """
    keys = exchange.read(metadata.keys_url).get("keys")
    if not isinstance(keys, list):
        raise AuthorityError(
            f"there are no keys at {metadata.keys_url}: check the authority's address"
        )
    return tuple(each for each in keys[:_MOST_KEYS] if isinstance(each, dict))


def _is_refusal(status: int | None) -> bool:
    """Whether it is the HTTP status of what is not there."""
    return status is not None and 400 <= status < 500 and status != _THROTTLED


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST
