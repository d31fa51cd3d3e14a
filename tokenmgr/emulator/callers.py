"""Which user a request is for, so that the log can say so and a failure can hit one user alone."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from .state import State

__all__ = ["realm_of", "username_of"]


def username_of(state: State, *, form: Mapping[str, str], authorization: str) -> str | None:
    """The name of the user whom a request is for, None when it is for nobody who is known.

    What the request shows is taken at its word: it may well be refused after that.
    """
    if "username" in form:
        named = state.users.find(form["username"])
        return None if named is None else named.username
    if "user_id" in form:
        acted_as = state.users.of_object(form["user_id"].lower())
        return None if acted_as is None else acted_as.username
    given = state.refresh_tokens.find(form.get("refresh_token", "")) or state.codes.find(
        form.get("code", "")
    )
    if given is not None:
        return given.user.username
    device = state.device_codes.find(form.get("device_code", ""))
    if device is not None:
        return None if device.user is None else device.user.username
    kind, _, bearer = authorization.partition(" ")
    token = form.get("assertion") or (bearer.strip() if kind.lower() == "bearer" else "")
    user = state.users.of_claims(_claims(token))
    return None if user is None else user.username


def realm_of(state: State, username: str) -> dict[str, object]:
    """Who has a user's password: their tenant, another service, or nobody that is known."""
    user = state.users.find(username)
    kind = {"managed": "Managed", "federated": "Federated"}.get(user.account if user else "")
    realm: dict[str, object] = {"ver": "1.0", "account_type": kind or "Unknown"}
    if kind is not None:
        realm |= {
            "domain_name": username.rpartition("@")[2],
            "cloud_instance_name": "microsoftonline.com",
            "cloud_audience_urn": "urn:federation:MicrosoftOnline",
        }
    if kind == "Federated":
        realm["federation_protocol"] = "WSTrust"
    return realm


def _claims(token: str) -> Mapping[str, Any]:
    _, _, rest = token.partition(".")
    payload, _, _ = rest.partition(".")
    try:
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}
