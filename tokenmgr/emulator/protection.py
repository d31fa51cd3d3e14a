"""What the protected API asks of a token, beyond that it is a good one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Protection"]


@dataclass(frozen=True)
class Protection:
    """What a caller's token has to say. See ``EntraEmulator.protect_api``."""

    audience: str | None = None
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()

    def takes_audience(self, audience: str) -> bool:
        """Whether a token for this audience is one for the API."""
        return self.audience in (None, audience)

    def allows(self, claims: Mapping[str, Any]) -> bool:
        """Whether the caller may do what it asks: an app by its roles, a user by their scopes."""
        if not self.scopes and not self.roles:
            return True
        if "scp" in claims:
            return bool(self.scopes & set(claims["scp"].split()))
        return bool(self.roles & set(claims.get("roles", ())))
