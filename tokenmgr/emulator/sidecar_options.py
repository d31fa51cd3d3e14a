"""What a call of the sidecar asks for: its profile, and what overrides it, as the service reads it.

Microsoft Entra SDK for AgentID 1.x; the names are those of its OpenAPI description.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

__all__ = ["Agent", "Options", "SidecarApi"]

_PREFIX = "optionsoverride."
_ACQUIRE = f"{_PREFIX}acquiretokenoptions."
_HEADERS, _QUERY = f"{_PREFIX}extraheaderparameters.", f"{_PREFIX}extraqueryparameters."


@dataclass(frozen=True)
class SidecarApi:
    """One of the sidecar's ``DownstreamApis``.

    Attributes:
        base_url: Where it is; None for the emulator's protected API.
        scopes: What its tokens are for.
        relative_path: What follows its address.
        method: The HTTP method.
        accept: The ``Accept`` header.
        request_app_token: Whether its tokens are the app's own, whoever calls.
    """

    base_url: str | None = None
    scopes: tuple[str, ...] = ("https://graph.microsoft.com/.default",)
    relative_path: str = ""
    method: str = "GET"
    accept: str = "application/json"
    request_app_token: bool = False


@dataclass(frozen=True)
class Agent:
    """The agent that acts, and its user if it has one."""

    client_id: str
    username: str | None = None
    user_id: str | None = None

    @classmethod
    def read(cls, query: Mapping[str, list[str]]) -> Agent | None:
        """The agent of a query; None where none is named.

        What cannot be read is passed over: a user without an agent, and a user id that is no GUID.
        """
        named = query.get("agentidentity", [""])[-1].strip()
        if not named:
            return None
        username = query.get("agentusername", [""])[-1].strip()
        return cls(named, username or None, _guid(query.get("agentuserid", [""])[-1]))


@dataclass(frozen=True)
class Options:
    """What is asked for in the end."""

    api: SidecarApi
    agent: Agent | None = None
    tenant: str | None = None
    claims: str | None = None
    correlation_id: str | None = None
    force_refresh: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls, api: SidecarApi, pairs: Iterable[tuple[str, str]], *, overridden: bool
    ) -> Options:
        """What a profile and a query come to.

        Args:
            api: The profile.
            pairs: The query. Names count in any case.
            overridden: Whether the route takes overrides, and agents; else both are passed over.
        """
        query: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        for name, value in pairs:
            query.setdefault(name.lower(), []).append(value)
            names[name.lower()] = name
        if not overridden:
            return cls(api)
        last = {name: values[-1] for name, values in query.items() if values[-1]}
        if any(name.startswith(_PREFIX) for name in last):
            api = _merged(api, query, last)
        return cls(
            api,
            Agent.read(query),
            last.get(f"{_ACQUIRE}tenant"),
            last.get(f"{_ACQUIRE}claims"),
            _guid(last.get(f"{_ACQUIRE}correlationid", "")),
            _is_true(last.get(f"{_ACQUIRE}forcerefresh")),
            _extra(_HEADERS, last, names),
            _extra(_QUERY, last, names),
        )


def _merged(api: SidecarApi, query: Mapping[str, list[str]], last: Mapping[str, str]) -> SidecarApi:
    """The profile with overrides: any of them takes its method and its ``Accept`` away."""
    scopes = tuple(each for each in query.get(f"{_PREFIX}scopes", []) if each)
    return replace(
        api,
        scopes=scopes or api.scopes,
        relative_path=last.get(f"{_PREFIX}relativepath", api.relative_path),
        method=last.get(f"{_PREFIX}httpmethod", "GET"),
        accept=last.get(f"{_PREFIX}acceptheader", "application/json"),
        request_app_token=api.request_app_token or _is_true(last.get(f"{_PREFIX}requestapptoken")),
    )


def _extra(prefix: str, last: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {
        names[name][len(prefix) :]: value
        for name, value in last.items()
        if name.startswith(prefix) and len(name) > len(prefix)
    }


def _guid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _is_true(text: str | None) -> bool:
    return (text or "").lower() == "true"
