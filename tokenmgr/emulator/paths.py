"""Where each kind of authority answers, and which authority an address names."""

from __future__ import annotations

import re
from urllib.parse import unquote

from .authorities import Authority, AuthorityKind
from .errors import EntraError
from .state import State

__all__ = ["PATHS", "authority_at", "existing"]

#: The paths of each kind of authority, by what is behind them.
PATHS: dict[AuthorityKind, dict[str, str]] = {
    AuthorityKind.ADFS: {
        "discovery": "/adfs/.well-known/openid-configuration",
        "token": "/adfs/oauth2/token",
        "keys": "/adfs/discovery/keys",
        "authorize": "/adfs/oauth2/authorize",
        "logout": "/adfs/oauth2/logout",
    },
    AuthorityKind.OIDC: {
        "discovery": "/oidc/{tenant}/.well-known/openid-configuration",
        "token": "/oidc/{tenant}/token",
        "keys": "/oidc/{tenant}/keys",
        "authorize": "/oidc/{tenant}/authorize",
        "logout": "/oidc/{tenant}/logout",
        "devicecode": "/oidc/{tenant}/devicecode",
    },
    AuthorityKind.ENTRA: {
        "discovery": "/{tenant}/v2.0/.well-known/openid-configuration",
        "legacy_discovery": "/{tenant}/.well-known/openid-configuration",
        "legacy_keys": "/{tenant}/discovery/keys",
        "token": "/{tenant}/oauth2/v2.0/token",
        "keys": "/{tenant}/discovery/v2.0/keys",
        "authorize": "/{tenant}/oauth2/v2.0/authorize",
        "logout": "/{tenant}/oauth2/v2.0/logout",
        "devicecode": "/{tenant}/oauth2/v2.0/devicecode",
    },
    AuthorityKind.B2C: {
        "discovery": "/{tenant}/{policy}/v2.0/.well-known/openid-configuration",
        "token": "/{tenant}/{policy}/oauth2/v2.0/token",
        "keys": "/{tenant}/{policy}/discovery/v2.0/keys",
        "authorize": "/{tenant}/{policy}/oauth2/v2.0/authorize",
        "logout": "/{tenant}/{policy}/oauth2/v2.0/logout",
    },
}


def authority_at(state: State, path: str, *, endpoint: str) -> Authority:
    """The authority whose endpoint is at this path.

    Raises:
        ValueError: None is.
        EntraError: There is no such tenant.
    """
    for kind, paths in PATHS.items():
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", paths.get(endpoint, ""))
        found = re.fullmatch(pattern, path) if pattern else None
        if found is not None:
            named = {name: unquote(text) for name, text in found.groupdict().items()}
            return existing(state.authority(kind, **named))
    raise ValueError(f"nothing of this emulator's answers at {path}")


def existing(authority: Authority) -> Authority:
    """The authority, if its tenant exists.

    Raises:
        EntraError: It does not.
    """
    if not authority.exists:
        raise EntraError(90002, tenant=authority.tenant)
    return authority
