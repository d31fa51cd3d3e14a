"""The ``claims`` parameter of a token request (OpenID Connect Core 1.0, section 5.5).

What clients say in it of themselves, and what they pass on of a resource's challenge:
https://learn.microsoft.com/entra/identity-platform/claims-challenge.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .errors import EntraError

__all__ = ["CHALLENGEABLE", "RequestedClaims", "demand", "newer_than"]

#: What a client says that answers claims challenges.
CHALLENGEABLE = "CP1"

#: The claims that a policy asks for, and that only the user can bring.
_STEP_UP = ("capolids", "polids", "acrs")


@dataclass(frozen=True)
class RequestedClaims:
    """What a request says in ``claims``.

    Attributes:
        capabilities: What the client can do: ``CP1`` for one that answers challenges.
        step_up: What of it wants more than a password of the user, as JSON; None for nothing.
    """

    capabilities: tuple[str, ...] = ()
    step_up: str | None = None

    @classmethod
    def parse(cls, text: str | None) -> RequestedClaims:
        """Read the parameter.

        Raises:
            EntraError: It is no JSON object.
        """
        if not text:
            return cls()
        try:
            wanted = json.loads(text)
        except ValueError:
            raise EntraError(9002313, error="invalid_request") from None
        of_token = wanted.get("access_token", {}) if isinstance(wanted, dict) else None
        if not isinstance(of_token, dict):
            raise EntraError(9002313, error="invalid_request")
        step_up = {name: of_token[name] for name in _STEP_UP if name in of_token}
        return cls(
            capabilities=tuple(_values(of_token.get("xms_cc"))),
            step_up=_compact({"access_token": step_up}) if step_up else None,
        )


def demand(policy_id: str) -> str:
    """The claims that say which policy the user has to satisfy, as Entra has them in an error."""
    return _compact({"access_token": {"capolids": {"essential": True, "values": [policy_id]}}})


def newer_than(when: int) -> str:
    """The claims of a token that was issued after this time, in seconds since 1970.

    See https://learn.microsoft.com/entra/identity-platform/app-resilience-continuous-access-evaluation.
    """
    return _compact({"access_token": {"nbf": {"essential": True, "value": str(when)}}})


def _values(member: Any) -> list[str]:
    values = member.get("values") if isinstance(member, dict) else None
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else []


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
