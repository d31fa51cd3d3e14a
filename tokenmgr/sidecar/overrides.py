"""What a call asks for beyond its service's profile: checked, and written as the service reads it.

The service passes over what it cannot read: a GUID that is none, a user without an agent. So all of
that is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypedDict

from .._runtime.secrecy import Hidden, is_unicode
from .._runtime.values import Value
from ..errors import ConfigurationError
from ..identity.addresses import is_guid
from ..token import normalize_scopes

__all__ = ["CallOverrides", "Query", "TokenOverrides", "Wanted", "query_of", "wanted_of"]

#: Names and values of a query, as they are sent.
Query = tuple[tuple[str, str], ...]

_LONGEST = 16_384
#: The name of a header (RFC 9110, section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_NOBODY = "00000000-0000-0000-0000-000000000000"


class TokenOverrides(TypedDict, total=False):
    """What a call may ask of the token, by keyword."""

    #: The agent's user, by object id; goes with ``agent_identity``, and not with a user name.
    agent_user_id: str
    #: Whether the token is to be the app's (or agent's) own, and not one on behalf of the caller.
    request_app_token: bool
    #: Whether the sidecar passes over the token that it has.
    force_refresh: bool
    #: The claims that a resource asked for in a challenge, as JSON text.
    claims: str
    #: A GUID by which Microsoft support finds the request.
    correlation_id: str
    #: The path of a federated managed identity.
    fmi_path: str
    #: By what the sidecar finds the session of a long-running process again.
    long_running_session_key: str
    #: The public key that the token is to be bound to.
    pop_public_key: str
    #: The client id of a managed identity that is assigned by its user.
    managed_identity_client_id: str


class CallOverrides(TokenOverrides, total=False):
    """What a call of a downstream API may ask for, by keyword."""

    #: The tenant, by its GUID or domain.
    tenant: str
    #: The agent that acts, by its client id.
    agent_identity: str
    #: The agent's user, by user principal name; goes with ``agent_identity``.
    agent_username: str
    #: The ``Accept`` header; ``application/json`` when left out.
    accept: str
    #: What the body is, such as ``text/csv``.
    content_type: str
    #: Headers that the downstream API gets besides.
    extra_headers: Mapping[str, str]
    #: Query parameters that it gets besides.
    extra_query: Mapping[str, str]


class Wanted(Value):
    """Whose token an answer has to hold, as far as the call says; lower case, empty for anybody."""

    #: The app or agent, by client id.
    client_id: str = ""
    #: Whether that is an agent, for messages.
    is_agent: bool = False
    user_id: str = ""
    username: str = ""
    #: The tenant's GUID.
    tenant: str = ""
    #: Whether it has to be no user's, or has to be one's, as is said in so many words.
    is_app: bool = False
    is_user: bool = False
    #: Whether it can be no user's, as there is no caller, nor an agent's user.
    has_no_user: bool = False
    #: Who has called: tenant and object id.
    caller: tuple[str, str] | None = None


def query_of(overrides: Hidden) -> Query:
    """Writes overrides as the service reads them.

    Args:
        overrides: They by the names of :class:`CallOverrides`, and ``scopes``, ``relative_path``
            and ``method``; hidden, as some may be secret. What is None is left out.

    Raises:
        ConfigurationError: One cannot be right, or two do not go together.
        TypeError: There is no override of that name.
    """
    given = Hidden({k: v for k, v in overrides.cell_contents.items() if v is not None})
    unknown = given.cell_contents.keys() - _WRITERS.keys()
    if unknown:
        raise TypeError(
            f"the sidecar has no override {sorted(unknown)[0]!r}: see those of "
            "tokenmgr.sidecar.CallOverrides"
        )
    _check_agent(given)
    pairs: Hidden = Hidden([])
    for name, (wire, write) in _WRITERS.items():
        if name in given.cell_contents:
            pairs.cell_contents.extend(write(name, wire, Hidden(given.cell_contents[name])))
    return tuple(pairs.cell_contents)


def wanted_of(overrides: Hidden, client_id: str = "", *, as_app: bool) -> Wanted:
    """Says whose token an answer to these overrides has to hold; they were checked before.

    Args:
        overrides: As for :func:`query_of`.
        as_app: Whether there is no caller.
        client_id: The sidecar's app, where the program knows it and no agent is asked for.
    """
    app_token = overrides.cell_contents.get("request_app_token")
    given = Hidden({k: v or "" for k, v in overrides.cell_contents.items()})
    tenant = str(given.cell_contents.get("tenant", "")).lower()
    agent = str(given.cell_contents.get("agent_identity", "")).lower()
    user_id = str(given.cell_contents.get("agent_user_id", "")).lower()
    username = str(given.cell_contents.get("agent_username", "")).lower()
    return Wanted(
        client_id=agent or client_id.lower(),
        is_agent=agent != "",
        user_id=user_id,
        username=username,
        tenant=tenant if is_guid(tenant) else "",
        is_app=app_token is True,
        is_user=app_token is False and not as_app,
        has_no_user=as_app and app_token is None and not (user_id or username),
    )


def _check_agent(given: Hidden) -> None:
    names = given.cell_contents.keys()
    users = names & {"agent_username", "agent_user_id"}
    if len(users) == 2:
        raise ConfigurationError("agent_username= and agent_user_id= are two users: give one")
    if users and "agent_identity" not in names:
        raise ConfigurationError(
            f"{users.pop()}= is an agent's user, and the sidecar passes over it without the agent: "
            "give agent_identity= too"
        )


_Writer = Callable[[str, str, Hidden], Iterable[tuple[str, str]]]


def _refuse(name: str, why: str) -> NoReturn:
    raise ConfigurationError(f"{name}= {why}: correct it")


def _checked(name: str, value: Hidden) -> Hidden:
    text = Hidden(value.cell_contents if isinstance(value.cell_contents, str) else "")
    if not 0 < len(text.cell_contents) <= _LONGEST or not is_unicode(text.cell_contents):
        _refuse(name, f"is a text of up to {_LONGEST} characters")
    if any(ord(each) < 32 and each not in "\t\r\n" for each in text.cell_contents):
        _refuse(name, "has a control character")
    return text


def _text(name: str, wire: str, value: Hidden) -> Query:
    return ((wire, _checked(name, value).cell_contents),)


def _line(name: str, wire: str, value: Hidden) -> Query:
    if not _checked(name, value).cell_contents.isprintable():
        _refuse(name, "has a control character")
    return ((wire, value.cell_contents),)


def _media_type(name: str, wire: str, value: Hidden) -> Query:
    if not _checked(name, value).cell_contents.isascii():
        _refuse(name, "is a media type, such as text/csv")
    return _line(name, wire, value)


def _guid(name: str, wire: str, value: Hidden) -> Query:
    text = _checked(name, value).cell_contents.lower()
    if not is_guid(text) or text == _NOBODY:
        _refuse(name, "is a GUID, such as 11111111-2222-3333-4444-555555555555")
    return ((wire, text),)


def _user_name(name: str, wire: str, value: Hidden) -> Query:
    text = Hidden(_checked(name, value).cell_contents)
    local, at, domain = text.cell_contents.partition("@")
    whole = all((local, at, domain)) and text.cell_contents.isprintable()
    local = domain = ""
    if not whole or " " in text.cell_contents:
        _refuse(name, "is a user principal name, such as agent@contoso.com")
    return ((wire, text.cell_contents),)


def _flag(name: str, wire: str, value: Hidden) -> Query:
    if not isinstance(value.cell_contents, bool):
        _refuse(name, "is True or False")
    return ((wire, "true" if value.cell_contents else "false"),)


def _scopes(_: str, wire: str, value: Hidden) -> Query:
    return tuple((wire, each) for each in normalize_scopes(value.cell_contents))


def _headers(name: str, wire: str, value: Hidden) -> Query:
    return _named(name, wire, value, lambda each: _TOKEN.fullmatch(each) is not None)


def _parameters(name: str, wire: str, value: Hidden) -> Query:
    return _named(name, wire, value, lambda each: 0 < len(each) <= 256 and each.isprintable())


def _named(name: str, wire: str, value: Hidden, is_name: Callable[[str], bool]) -> Query:
    if not isinstance(value.cell_contents, Mapping):
        _refuse(name, "is a dict of texts")
    pairs: Hidden = Hidden([])
    for each in value.cell_contents:
        if not isinstance(each, str) or not is_name(each):
            _refuse(name, "has a name that is none")
        of_it = Hidden(value.cell_contents[each])
        pairs.cell_contents.extend(_line(name, f"{wire}.{each}", of_it))
    return tuple(pairs.cell_contents)


def _override(name: str) -> str:
    return f"optionsOverride.{name}"


def _acquire(name: str) -> str:
    return f"optionsOverride.AcquireTokenOptions.{name}"


#: What each is called on the wire, and how it is written.
_WRITERS: dict[str, tuple[str, _Writer]] = {
    "agent_identity": ("AgentIdentity", _guid),
    "agent_username": ("AgentUsername", _user_name),
    "agent_user_id": ("AgentUserId", _guid),
    "scopes": (_override("Scopes"), _scopes),
    "request_app_token": (_override("RequestAppToken"), _flag),
    "relative_path": (_override("RelativePath"), _line),
    "method": (_override("HttpMethod"), _line),
    "accept": (_override("AcceptHeader"), _media_type),
    "content_type": (_override("ContentType"), _media_type),
    "extra_headers": (_override("ExtraHeaderParameters"), _headers),
    "extra_query": (_override("ExtraQueryParameters"), _parameters),
    "tenant": (_acquire("Tenant"), _line),
    "force_refresh": (_acquire("ForceRefresh"), _flag),
    "claims": (_acquire("Claims"), _text),
    "correlation_id": (_acquire("CorrelationId"), _guid),
    "fmi_path": (_acquire("FmiPath"), _line),
    "long_running_session_key": (_acquire("LongRunningWebApiSessionKey"), _line),
    "pop_public_key": (_acquire("PopPublicKey"), _text),
    "managed_identity_client_id": (_acquire("ManagedIdentity.UserAssignedClientId"), _guid),
}
