"""Calls of a registry's own: what they give, and how they fail."""

from __future__ import annotations

from typing import TypeVar

import pytest
from support import SCOPE

from tokenmgr import TokenManagerError, TokenRegistry

VAULT = "https://vault.azure.net/.default"

E = TypeVar("E", bound=TokenManagerError)


def fetch(tokens: TokenRegistry, scope: str = SCOPE) -> str:
    """A token that was asked for just now."""
    return tokens.manager(scope).refresh_access_token()


def failure(
    tokens: TokenRegistry, kind: type[E], scope: str = SCOPE, match: str | None = None
) -> E:
    """The error of this very kind that a fetch raises."""
    with pytest.raises(kind, match=match) as caught:
        fetch(tokens, scope)
    assert type(caught.value) is kind
    return caught.value
