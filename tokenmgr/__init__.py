"""tokenmgr keeps Microsoft Entra access tokens ready for the programs that need them.

Each name is imported when it is first used, and ``msal`` and ``requests`` with the first fetch: a
command that only may need a token starts as fast as one that does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import (
        AuthorityError,
        BearerRefusedError,
        ConfigurationError,
        ConsentRequiredError,
        HostNotAllowedError,
        InsufficientScopeError,
        InteractionRequiredError,
        InvalidCredentialError,
        InvalidScopeError,
        OverrideIgnoredError,
        ServiceUnavailableError,
        SessionNotFoundError,
        SidecarError,
        StoreError,
        ThrottledError,
        TokenManagerError,
        TokenRequestError,
        TokenTimeoutError,
    )
    from .flows import AuthCodeFlow, DeviceCodeFlow, SignInOptions
    from .identity.authority import Authority
    from .identity.credentials import Certificate, ClientAssertion, ClientSecret, WorkloadIdentity
    from .manager import AccessTokenManager
    from .policy import RefreshPolicy
    from .registry import TokenRegistry
    from .sessions import UserSession
    from .token import AccessToken, TokenKey, TokenSource

__version__ = "0.1.0.dev0"

__all__ = [
    "AccessToken",
    "AccessTokenManager",
    "AuthCodeFlow",
    "Authority",
    "AuthorityError",
    "BearerRefusedError",
    "Certificate",
    "ClientAssertion",
    "ClientSecret",
    "ConfigurationError",
    "ConsentRequiredError",
    "DeviceCodeFlow",
    "HostNotAllowedError",
    "InsufficientScopeError",
    "InteractionRequiredError",
    "InvalidCredentialError",
    "InvalidScopeError",
    "OverrideIgnoredError",
    "RefreshPolicy",
    "ServiceUnavailableError",
    "SessionNotFoundError",
    "SidecarError",
    "SignInOptions",
    "StoreError",
    "ThrottledError",
    "TokenKey",
    "TokenManagerError",
    "TokenRegistry",
    "TokenRequestError",
    "TokenSource",
    "TokenTimeoutError",
    "UserSession",
    "WorkloadIdentity",
]

_HOMES = {
    "flows": ("AuthCodeFlow", "DeviceCodeFlow", "SignInOptions"),
    "identity.authority": ("Authority",),
    "identity.credentials": ("Certificate", "ClientAssertion", "ClientSecret", "WorkloadIdentity"),
    "manager": ("AccessTokenManager",),
    "policy": ("RefreshPolicy",),
    "registry": ("TokenRegistry",),
    "sessions": ("UserSession",),
    "token": ("AccessToken", "TokenKey", "TokenSource"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
