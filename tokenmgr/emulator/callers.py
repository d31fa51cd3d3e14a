"""Which user a request is for, so that the log can say so and a failure can hit one user alone."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from .state import State

__all__ = ["username_of"]


def username_of(state: State, *, form: Mapping[str, str], authorization: str) -> str | None:
    """The name of the user whom a request is for, None when it is for nobody who is known.

    What the request shows is taken at its word: it may well be refused after that.
    """
    refresh_token = state.refresh_tokens.find(form.get("refresh_token", ""))
    if refresh_token is not None:
        return refresh_token.user.username
    kind, _, bearer = authorization.partition(" ")
    token = form.get("assertion") or (bearer.strip() if kind.lower() == "bearer" else "")
    user = state.users.of_claims(_claims(token))
    return None if user is None else user.username


def _claims(token: str) -> Mapping[str, Any]:
    _, _, rest = token.partition(".")
    payload, _, _ = rest.partition(".")
    try:
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}
