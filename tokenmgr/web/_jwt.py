"""What PyJWT does for us, asked as strictly as it can be (RFC 7515, RFC 7519, RFC 8725).

A key says what may be signed by it, and not the token. A token's header has one say: the name of
the key. What PyJWT raises ends here: its frames hold the token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from .._runtime.forks import no_fork
from .._runtime.secrecy import Hidden, is_unicode
from .._runtime.stack import handled_now, let_interruptions_pass
from ..entra.signing_keys import Metadata
from ..errors import AuthorityError
from ..identity.assertions import is_deep
from ._claims import check_types

if TYPE_CHECKING:
    from jwt.types import Options

__all__ = ["Unreadable", "VerifyingKey", "key_name", "keys_of", "unverified_claims", "verified"]

T = TypeVar("T")

#: What a key of each kind, and curve, may sign. No secret is a key here, and nothing is unsigned.
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
}
#: The members of a key that are public (RFC 7518, section 6).
_PUBLIC = ("kty", "n", "e", "crv", "x", "y")
#: Bits of RSA: fewer are not safe (RFC 7518, section 3.3), and more take long.
_LEAST_BITS, _MOST_BITS = 2_048, 8_192
#: What a token may say that it is (RFC 8725, section 3.11; RFC 9068, section 2.1), in lower case.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
#: What an access token has to have (RFC 9068, section 2.2).
_NEEDED = ["exp", "iss", "aud"]
#: Headers that are remembered, which hold nothing but the name of a key; and the longest of them.
_MOST_HEADERS, _LONGEST_HEADER = 128, 1_024
#: So many objects and lists are in a token without that it is deep.
_MANY = 32


class VerifyingKey(NamedTuple):
    """A public key, and what may be signed by it."""

    #: Of cryptography's.
    key: Any
    algorithms: tuple[str, ...]
    #: Whose tokens it signs alone, as Microsoft Entra says; ``{tenantid}`` in it is any tenant.
    issuer: str | None = None


class Unreadable(Exception):  # noqa: N818 - it tells what the token is
    """Why a token is not taken: the kind of what PyJWT raised, and nothing that it said."""

    def __init__(self, kind: type[Exception]) -> None:
        super().__init__(kind.__name__)
        self.kind = kind


def keys_of(
    metadata: Metadata, written: tuple[Mapping[str, Any], ...]
) -> dict[str | None, VerifyingKey]:
    """Makes keys of what an authority has published; what is no key to verify with is left out.

    Raises:
        AuthorityError: None is.
    """
    keys: dict[str | None, VerifyingKey] = {}
    for each in written:
        name, key = each.get("kid"), _verifying_key(each, metadata.algorithms)
        if key is not None and (name is None or isinstance(name, str)):
            keys.setdefault(name, key)
    if len(written) > 1:
        keys.pop(None, None)  # which of several is meant nobody can tell
    if not keys:
        raise AuthorityError(
            f"there is no key at {metadata.keys_url} that could verify a token: check the "
            "authority's address"
        )
    return keys


def _verifying_key(written: Mapping[str, Any], stated: tuple[str, ...]) -> VerifyingKey | None:
    operations = written.get("key_ops", ["verify"])
    signs = isinstance(operations, list) and "verify" in operations
    algorithms = _algorithms(written, stated)
    if not algorithms or not signs or written.get("use", "sig") != "sig":
        return None
    public = {name: written[name] for name in _PUBLIC if name in written}
    try:
        with no_fork():
            key = jwt.PyJWK(public, algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError):
        return None
    if isinstance(key, RSAPublicKey) and not _LEAST_BITS <= key.key_size <= _MOST_BITS:
        return None
    issuer = written.get("issuer")
    return VerifyingKey(key, algorithms, issuer if isinstance(issuer, str) else None)


def _algorithms(written: Mapping[str, Any], stated: tuple[str, ...]) -> tuple[str, ...]:
    """What a key may sign: what it says, else what the authority says, else the first of its kind.

    Args:
        written: The key.
        stated: What the authority's metadata says.
    """
    kind, curve, own = (written.get(name) for name in ("kty", "crv", "alg"))
    fitting: tuple[str, ...] = ()
    if kind == "RSA":
        fitting = _RSA
    elif kind in ("EC", "OKP") and isinstance(curve, str):
        fitting = _CURVES.get(curve, ())
    if own is not None:
        return (own,) if own in fitting else ()
    return tuple(each for each in fitting if each in stated) or fitting[:1]


def key_name(token: Hidden) -> str | None:
    """Says which key a token says that it is signed with; None where it says nothing.

    Raises:
        Unreadable: Its header is none of an access token's.
    """
    header = token.cell_contents.partition(".")[0]
    return _name_in(header) if len(header) <= _LONGEST_HEADER else _name_in.__wrapped__(header)


@lru_cache(maxsize=_MOST_HEADERS)
def _name_in(header: str) -> str | None:
    """Says which key a header names. All tokens that one key has signed have the same header."""
    # With nothing behind it PyJWT reads no more.
    said = _asked(lambda: jwt.get_unverified_header(f"{header}.."))
    kind = said.get("typ", "JWT")
    typed = isinstance(kind, str) and kind.lower() in _TYPES
    # No access token has anything critical in its header, and none is detached (RFC 7797).
    if not typed or "crit" in said or "b64" in said:
        raise Unreadable(jwt.InvalidTokenError)
    name: str | None = said.get("kid")
    return name


def verified(token: Hidden, key: VerifyingKey, audience: list[str], leeway: float) -> Hidden:
    """Gives what a token says, once its signature, times and audience have been checked.

    Args:
        token: A text.
        key: The authority's.
        audience: Any one of these it has to be for.
        leeway: Seconds by which two clocks may differ.

    Returns:
        A dict.

    Raises:
        Unreadable: One of them is not right.
    """

    def claims() -> Hidden:
        options: Options = {"require": _NEEDED}
        with no_fork():  # it takes locks of OpenSSL's
            return Hidden(
                _STRICT.decode(
                    token.cell_contents,
                    key.key,
                    algorithms=list(key.algorithms),
                    options=options,
                    audience=audience,
                    leeway=leeway,
                )
            )

    return _asked(claims)


def unverified_claims(token: Hidden) -> Hidden:
    """Gives what a token says that is refused, so that its caller can be told what it is.

    Returns:
        A dict; empty where it cannot be read.
    """
    try:
        return _asked(
            lambda: Hidden(_STRICT.decode(token.cell_contents, options={"verify_signature": False}))
        )
    except Unreadable:
        return Hidden({})


def _asked(work: Callable[[], T]) -> T:
    """Does what asks PyJWT, and lets nothing of what it raises get out."""
    handled, kind = handled_now(), Exception
    try:
        return work()
    except Exception as exc:  # noqa: BLE001 - the token is anybody's, and may break it anyhow
        let_interruptions_pass(exc, handled)
        kind = type(exc)
    raise Unreadable(kind)


class _Strict(jwt.PyJWT):
    """PyJWT, which reads what JSON of which two readers could disagree no way at all."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        decoded, given = {}, Hidden(decoded["payload"])
        try:
            text = Hidden(given.cell_contents.decode())
            said = Hidden(_READER.decode(text.cell_contents))
        except (ValueError, RecursionError):
            raise jwt.DecodeError("no JSON") from None
        if not isinstance(said.cell_contents, dict) or _is_odd(text, said):
            raise jwt.DecodeError("no JSON object of a token")
        check_types(said)
        claims: dict[str, Any] = said.cell_contents
        return claims


def _is_odd(text: Hidden, said: Hidden) -> bool:
    """Whether it has characters, or a depth, that nobody who takes it further could bear."""
    if "\\u" in text.cell_contents and not is_unicode(
        json.dumps(said.cell_contents, ensure_ascii=False)
    ):
        return True
    many = text.cell_contents.count("{") + text.cell_contents.count("[") > _MANY
    return many and is_deep(Hidden([said.cell_contents]))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    pairs, given = [], Hidden(pairs)
    made = Hidden(dict(given.cell_contents))
    if len(made.cell_contents) != len(given.cell_contents):
        raise ValueError("a name is there twice")
    found: dict[str, Any] = made.cell_contents
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _no_number(_: str) -> float:
    raise ValueError("NaN and Infinity are no JSON")


_READER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_number
)
_STRICT = _Strict()
