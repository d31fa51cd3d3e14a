"""What workers tell each other about a key: its token, or why there is none."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .. import errors
from ..token import AccessToken, Record, TokenKey

#: What an error says besides its message.
_SAID = (
    *("retryable", "error", "error_codes", "correlation_id", "trace_id"),
    *("claims", "retry_after", "status"),
)

__all__ = [
    "AnotherOwnersError",
    "Verdict",
    "binding_of",
    "name_of",
    "record_from_bytes",
    "record_to_bytes",
]


#: What a key says of how its tokens are presented and of what they are bound to, and what that is
#: where whoever bears them may use them.
_OF_BINDINGS, _UNBOUND = ("token_type", "binding_key_id"), ("Bearer", "")


class AnotherOwnersError(ValueError):
    """A record is another key's."""


def name_of(key: TokenKey) -> str:
    """Tells a key from all others, as one text.

    That of a bearer token says nothing of a binding, as it did before there were any: so the
    records of earlier versions are found, and theirs find ours.
    """
    said = {name: value for name, value in vars(key).items() if name not in _OF_BINDINGS}
    return json.dumps([*said.values(), *binding_of(key)])


def binding_of(key: TokenKey) -> tuple[str, ...]:
    """Gives what of a key is said where its tokens are bound; nothing where they are not."""
    binding = tuple(str(getattr(key, name)) for name in _OF_BINDINGS)
    return () if binding == _UNBOUND else binding


def record_to_bytes(record: Record, owner: str) -> bytes:
    """Writes a record, as what a store keeps, once that is sealed.

    Args:
        record: The record.
        owner: Whose it is: what its key is called.
    """
    token = record.token
    return _to_bytes(
        owner=owner,
        secret=token.secret,
        token_type=token.token_type,
        binding_key_id=token.binding_key_id,
        expires_at=token.expires_at,
        refresh_at=token.refresh_at,
        scopes=token.scopes,
        obtained_at=record.obtained_at,
    )


def record_from_bytes(content: bytes, owner: str) -> Record:
    """Reads a record. What a later version adds is passed over; an earlier one's is not bound.

    Args:
        content: What a store kept, once it is opened.
        owner: Whose it has to be.

    Raises:
        AnotherOwnersError: It is another one's.
        ValueError: It is none.
    """
    said = _from_bytes(content)
    token = AccessToken(
        secret=_text(said, "secret"),
        expires_at=_number(said, "expires_at"),
        refresh_at=None if said.get("refresh_at") is None else _number(said, "refresh_at"),
        scopes=tuple(str(scope) for scope in said.get("scopes") or ()),
        token_type=_text(said, "token_type"),
        binding_key_id=_text({"binding_key_id": "", **said}, "binding_key_id", or_empty=True),
    )
    record = Record(token, _number(said, "obtained_at"))
    if said.get("owner") != owner:
        raise AnotherOwnersError
    return record


class Verdict(NamedTuple):
    """What a lease's holder leaves in its place when there is no token."""

    #: What the service answered, for all who waited; None when it could not be reached, which
    #: another host may be able to: then each asks for itself.
    error: errors.TokenManagerError | None
    #: When, in seconds since 1970.
    at: float
    #: Until when it counts, likewise. A store may keep it for longer, or bring it back.
    until: float

    def to_bytes(self) -> bytes:
        """Writes it, as what a store keeps, once that is sealed."""
        error = self.error
        if error is None:
            return _to_bytes(at=self.at, until=self.until, kind=None)
        said = {name: getattr(error, name) for name in _SAID}
        said |= {"kind": type(error).__name__, "message": str(error)}
        return _to_bytes(at=self.at, until=self.until, **said)

    @classmethod
    def from_bytes(cls, content: bytes) -> Verdict:
        """Reads it.

        Raises:
            ValueError: It is none.
        """
        said = _from_bytes(content)
        at, until, name = _number(said, "at"), _number(said, "until"), said.pop("kind", None)
        if name is None:
            return cls(None, at, until)
        if name not in errors.__all__:
            raise ValueError("an error of a later version")
        message = _text(said, "message")
        del said["at"], said["until"], said["message"]
        codes = tuple(int(code) for code in said.pop("error_codes", ()))
        try:
            return cls(getattr(errors, name)(message, error_codes=codes, **said), at, until)
        except TypeError:
            raise ValueError("an error of a later version") from None


def _to_bytes(**said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()


def _from_bytes(content: bytes) -> dict[str, Any]:
    said = json.loads(content)
    if not isinstance(said, dict):
        raise ValueError("no JSON object")
    return said


def _text(said: dict[str, Any], name: str, *, or_empty: bool = False) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not (value or or_empty):
        raise ValueError(f"no {name}")
    return value


def _number(said: dict[str, Any], name: str) -> float:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"no {name}")
    return float(value)
