"""What tests of sign-ins have in common: the users, and what was handed over to be kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ANN = "ann@contoso.com"
ORDERS = "api://orders/read"
CALLBACK = "http://localhost:5000/signed-in"


@dataclass
class Kept:
    """Stands in for the sessions of a registry: shows what each sign-in brought."""

    signed_in: list[Any] = field(default_factory=list)
    scopes: list[tuple[str, ...]] = field(default_factory=list)

    is_idle = True

    def sign_in(self, signed_in: Any, scopes: tuple[str, ...], registry: object) -> Any:
        self.signed_in.append(signed_in)
        self.scopes.append(scopes)
        return signed_in

    def close(self) -> None:
        pass

    def close_store(self) -> None:
        pass
