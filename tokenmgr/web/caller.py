"""Caller: who has called this API, as a bearer that was validated says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from .._runtime.secrecy import Hidden, Unpicklable
from .._runtime.values import Value

__all__ = ["Caller", "Claims"]


class Claims(Mapping[str, Any], Unpicklable):
    """What a token says. Its repr shows nothing of it.

    One object serves all requests that bring the token. So lists and objects in it are given as
    copies: what one request does with them, the next one does not see.

    Args:
        said: A dict, hidden.
    """

    #: So that one whose making is broken off says nothing, to whoever reports that.
    _said: Hidden = Hidden({})

    def __init__(self, said: Hidden) -> None:
        self._said = said

    def __getitem__(self, name: str) -> Any:
        value = Hidden(self._said.cell_contents[name])
        if isinstance(value.cell_contents, (list, dict)):
            return deepcopy(value.cell_contents)
        return value.cell_contents

    def __iter__(self) -> Iterator[str]:
        return iter(self._said.cell_contents)

    def __len__(self) -> int:
        return len(self._said.cell_contents)


class Caller(Value, Unpicklable):
    """Who calls: a user by way of an app, or an app by itself. Its repr shows no claims, no token.

    What it says is what the authority has signed. See "Access token claims reference" on Microsoft
    Learn.
    """

    _hidden = frozenset({"claims", "assertion"})

    #: All that the token says. Lists in it are copies, each time that they are asked for.
    claims: Mapping[str, Any]
    #: The token itself, for :meth:`~tokenmgr.TokenRegistry.on_behalf_of`: a cell whose
    #: ``cell_contents`` is the text.
    assertion: Hidden
    #: Who it is to this API (``sub``): another one to each app, and never anybody else's. Of an app
    #: that calls by itself it is the client id, where the token does not say; of a user who is not
    #: named, as AD FS may not, it is empty.
    subject: str
    #: The delegated permissions that the calling app has of the user (``scp``).
    scopes: frozenset[str] = frozenset()
    #: The app roles that the caller has been given (``roles``).
    roles: frozenset[str] = frozenset()
    #: The GUID of the tenant that the caller is of (``tid``); None where there is none.
    tenant: str | None = None
    #: Who it is in that tenant (``oid``), the same to all apps; None where there is none.
    object_id: str | None = None
    #: The app that has called (``azp``, ``appid``); None where the authority does not say.
    client_id: str | None = None
    #: Whether an app calls by itself: there is no user, on whose behalf others could be called.
    #: Azure AD B2C does not say so, and has an app's roles in ``scp``; nor does every provider of
    #: OpenID Connect.
    is_app: bool = False

    def __hash__(self) -> int:
        return hash((self.subject, self.tenant, self.object_id, self.client_id))
