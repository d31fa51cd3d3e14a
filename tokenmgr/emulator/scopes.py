"""The scopes of a request for a user's token: one resource, its permissions, and OpenID's own.

https://learn.microsoft.com/entra/identity-platform/scopes-oidc.
"""

from __future__ import annotations

from dataclasses import dataclass

from .authorities import GRAPH_PREFIX
from .errors import EntraError

__all__ = ["DEFAULT", "DelegatedScopes"]

#: How a scope ends that asks for all that an app was consented to.
DEFAULT = "/.default"

_OPENID = frozenset({"openid", "profile", "email", "offline_access"})
#: The resource that a scope without one is of.
_GRAPH = "https://graph.microsoft.com"


@dataclass(frozen=True)
class DelegatedScopes:
    """What an app asks for on behalf of a user.

    Attributes:
        resource: Whose permissions they are, which is what the token's audience is.
        names: The permissions. ``.default`` stands for the one that every app is consented to:
            ``User.Read`` of Microsoft Graph, ``user_impersonation`` of everything else.
        openid: Those of OpenID Connect: ``openid``, ``profile``, ``email``, ``offline_access``.
    """

    resource: str
    names: tuple[str, ...]
    openid: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> DelegatedScopes:
        """Read a request's ``scope``.

        Raises:
            EntraError: There is none, it is of several resources, or it mixes ``.default`` with
                others.
        """
        words = list(dict.fromkeys(text.split()))
        if not words:
            raise EntraError(900144, parameter="scope")
        openid = frozenset(word for word in words if word in _OPENID)
        pairs = [_split(word, text) for word in words if word not in _OPENID]
        resources = {resource for resource, _ in pairs} or {_GRAPH}
        if len(resources) > 1:
            raise EntraError(28000, scope=text)
        names = tuple(name for _, name in pairs)
        if ".default" in names and len(names) > 1:
            raise EntraError(70011, scope=text)
        (resource,) = resources
        if names == (".default",):
            names = (_consented_by_default(resource),)
        return cls(resource, names, openid)

    @property
    def permissions(self) -> tuple[str, ...]:
        """The ``scp`` of the token. Microsoft Graph counts OpenID's as its own."""
        if not self.resource.startswith(GRAPH_PREFIX):
            return self.names
        return (*sorted(self.openid - {"offline_access"}), *self.names)

    @property
    def granted(self) -> str:
        """The ``scope`` of the answer."""
        return " ".join(
            [
                *(f"{self.resource}/{name}" for name in self.names),
                *sorted(self.openid - {"offline_access"}),
            ]
        )


def _split(word: str, text: str) -> tuple[str, str]:
    resource, slash, name = word.rpartition("/")
    if not slash:
        return _GRAPH, word
    if not resource or not name:
        raise EntraError(70011, scope=text)
    return resource, name


def _consented_by_default(resource: str) -> str:
    return "User.Read" if resource.startswith(GRAPH_PREFIX) else "user_impersonation"
