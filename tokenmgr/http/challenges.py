"""What an answer of 401 or 403 says of the token that it was called with. No I/O.

The challenges of ``WWW-Authenticate`` are those of RFC 9110, section 11.6.1, and RFC 6750,
section 3; Microsoft's claims challenges are described in "Claims challenges, claims requests and
client capabilities" on Microsoft Learn. They are read leniently, as services write them: values
quoted or not, parts separated by commas or not, base64 of either alphabet, padded or not.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Answer", "decode_claims", "read"]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word for a word
#: A parameter, up to its end where its quotation has one, up to that of all where not.
_PARAMETER = re.compile(
    rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)("|\\?\Z)|([^\s,"]*))', re.DOTALL
)
_SCHEME = re.compile(rf"{_TOKEN}(?=[\s,]|\Z)")
_SEPARATORS = re.compile(r"[\s,]+")
_JUNK = re.compile(r'"|[^\s,"]+')
#: Characters of claims, in base64: each set of them has a token of its own.
_LONGEST_CLAIMS = 16_384


class Answer(NamedTuple):
    """What an answer means for the token that it was asked with."""

    #: Whether another token may serve.
    renew: bool = False
    #: The claims that this has to have, as JSON text; None where any new one will do.
    claims: str | None = None
    #: The scopes that are needed and that no new token will have; None where that is not so.
    missing: tuple[str, ...] | None = None


_FINAL, _REFUSED = Answer(), Answer(renew=True)


def read(status: int, headers: Iterable[str]) -> Answer:
    """Says what an answer means.

    Args:
        status: Its HTTP status.
        headers: The values of its ``WWW-Authenticate`` headers.
    """
    challenges = [each for header in headers for each in _challenges(header)]
    wanting = [each for each in challenges if _is_about_claims(each)]
    for challenge in wanting:
        claims = decode_claims(challenge.get("claims"))
        if claims is not None:
            return Answer(renew=True, claims=claims)
    for challenge in challenges:
        if status == 403 and challenge.get("error") == "insufficient_scope":
            return Answer(missing=tuple((challenge.get("scope") or "").split()))
    # Claims that cannot be read are not to be had by any token.
    return _REFUSED if status == 401 and not wanting else _FINAL


def _challenges(header: str) -> list[dict[str, str | None]]:
    """The parameters of each Bearer challenge in a header; None is a value without an end."""
    found: list[dict[str, str | None]] = []
    parameters: dict[str, str | None] = {}  # of another scheme, or of none
    position, end = 0, len(header)
    while position < end:
        if match := _SEPARATORS.match(header, position):
            pass
        elif match := _PARAMETER.match(header, position):
            name, quoted, closed, bare = match.groups()
            whole = re.sub(r"\\(.)", r"\1", quoted or "") if closed == '"' else None
            parameters.setdefault(name.lower(), bare if quoted is None else whole)
        elif match := _SCHEME.match(header, position):
            parameters = {}
            if match[0].lower() == "bearer":
                found.append(parameters)
        else:
            match = _JUNK.match(header, position)
        position = match.end() if match else end
    return found


def _is_about_claims(challenge: dict[str, str | None]) -> bool:
    return "claims" in challenge or challenge.get("error") == "insufficient_claims"


def decode_claims(encoded: str | None) -> str | None:
    """The JSON text of claims; None for what is none."""
    if not encoded or len(encoded) > _LONGEST_CLAIMS:
        return None
    bare = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        text = b64decode(bare + "=" * (-len(bare) % 4), validate=True).decode()
        claims = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return text if isinstance(claims, dict) and claims else None
