"""What a B2C user flow's answer has beyond Entra's.

https://learn.microsoft.com/azure/active-directory-b2c/authorization-code-flow#2-get-an-access-token.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping

from .delegation import Delegation
from .scopes import DelegatedScopes
from .state import State

__all__ = ["ID_TOKEN_LIFETIME", "b2c_members"]

#: Seconds that an ID token lives.
ID_TOKEN_LIFETIME = 3600.0


def b2c_members(
    delegation: Delegation,
    scopes: DelegatedScopes,
    state: State,
    answer: Mapping[str, object],
) -> dict[str, object]:
    """The members of an answer that only B2C has.

    Args:
        delegation: Who gives it to whom.
        scopes: What was asked for.
        state: The emulator's settings.
        answer: What the answer has already.
    """
    now = int(time.time())
    members: dict[str, object] = {"not_before": now}
    if scopes.resource:
        members |= {"expires_on": now + int(state.token_lifetime), "resource": scopes.resource}
    if "id_token" in answer:
        members["id_token_expires_in"] = int(ID_TOKEN_LIFETIME)
        members["profile_info"] = _profile_info(delegation)
    if "refresh_token" in answer:
        members["refresh_token_expires_in"] = int(state.refresh_token_lifetime)
    return members


def _profile_info(delegation: Delegation) -> str:
    info = {
        "ver": "1.0",
        "tid": delegation.authority.tenant_id,
        "sub": None,
        "name": delegation.user.username.partition("@")[0].title(),
        "preferred_username": None,
        "idp": None,
    }
    return urlsafe_b64encode(json.dumps(info).encode()).rstrip(b"=").decode()
