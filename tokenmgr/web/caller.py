"""Caller: who has called this API, as a bearer that was validated says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._runtime.secrecy import Hidden, Unpicklable
from .._runtime.values import Value

__all__ = ["Caller"]


class Caller(Value, Unpicklable):
    """Who calls: a user by way of an app, or an app by itself. Its repr shows no claims, no token.

    What it says is what the authority has signed. See "Access token claims reference" on Microsoft
    Learn.
    """

    _hidden = frozenset({"claims", "assertion"})

    #: All that the token says.
    claims: Mapping[str, Any]
    #: The token itself, for :meth:`~tokenmgr.TokenRegistry.on_behalf_of`: a cell whose
    #: ``cell_contents`` is the text.
    assertion: Hidden
    #: Who it is to this API (``sub``): another one to each app, and never anybody else's.
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
    #: Azure AD B2C does not say so, and has an app's roles in ``scp``.
    is_app: bool = False

    def __hash__(self) -> int:
        return hash((self.subject, self.tenant, self.object_id, self.client_id))
