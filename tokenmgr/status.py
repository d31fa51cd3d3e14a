"""How a key stands, for people and dashboards. No secret is in it."""

from __future__ import annotations

from dataclasses import dataclass

from .token import TokenKey

__all__ = ["TokenStatus"]


@dataclass(frozen=True)
class TokenStatus:
    """How the token of one key stands."""

    key: TokenKey
    #: ``fresh``, ``aging``, ``expired`` or ``none``.
    state: str
    #: Seconds for which it is still handed out; 0 when it is not.
    expires_in: float
    #: When the last fetch succeeded, in seconds since 1970; None when none has.
    last_success: float | None
    #: The class and the message of the failure that stands; None when the last fetch succeeded.
    last_error: str | None
    #: How many calls have waited for a fetch.
    waits: int
