"""The client of the Microsoft Entra SDK for AgentID, the sidecar that holds an app's credential.

Each name is imported when it is first used: ``AsyncSidecarClient`` needs httpx, and nothing else
does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aio import AsyncSidecarClient
    from .client import SidecarClient
    from .overrides import CallOverrides, TokenOverrides
    from .results import DownstreamResponse, ValidatedToken
    from .source import SidecarSource

__all__ = [
    "AsyncSidecarClient",
    "CallOverrides",
    "DownstreamResponse",
    "SidecarClient",
    "SidecarSource",
    "TokenOverrides",
    "ValidatedToken",
]

_HOMES = {
    "AsyncSidecarClient": "aio",
    "CallOverrides": "overrides",
    "DownstreamResponse": "results",
    "SidecarClient": "client",
    "SidecarSource": "source",
    "TokenOverrides": "overrides",
    "ValidatedToken": "results",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
