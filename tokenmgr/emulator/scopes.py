"""The scopes of a request for a user's token: one resource, its permissions, and OpenID's own.

https://learn.microsoft.com/entra/identity-platform/scopes-oidc.
"""

from __future__ import annotations

from dataclasses import dataclass

from .authorities import GRAPH_PREFIX, Authority, AuthorityKind
from .errors import B2CError, EntraError

__all__ = ["DEFAULT", "DelegatedScopes", "read_scopes"]

#: How a scope ends that asks for all that an app was consented to.
DEFAULT = "/.default"

_OPENID = frozenset({"openid", "profile", "email", "offline_access"})
#: The resource that a scope without one is of; that of AD FS, which has no other permissions.
_GRAPH, _USER_INFO = "https://graph.microsoft.com", "urn:microsoft:userinfo"


@dataclass(frozen=True)
class DelegatedScopes:
    """What an app asks for on behalf of a user.

    Attributes:
        resource: Whose permissions they are, which is what the token's audience is. Empty where
            they are nobody's: in a user flow of B2C that names no API there is no access token.
        names: The permissions. ``.default`` stands for the one that every app is consented to:
            ``User.Read`` of Microsoft Graph, ``user_impersonation`` of everything else.
        openid: Those of OpenID Connect: ``openid``, ``profile``, ``email``, ``offline_access``.
        short: Those of the permissions that were asked for without their resource, as those of
            Microsoft Graph may be.
    """

    resource: str
    names: tuple[str, ...]
    openid: frozenset[str]
    short: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> DelegatedScopes:
        """Read the ``scope`` of a request for a token.

        Raises:
            EntraError: There is none, it is of several resources, or it mixes ``.default`` with
                others.
        """
        parsed = cls.parse_all(text)
        if len(parsed) > 1:
            raise EntraError(28000, scope=text)
        return parsed[0]

    @classmethod
    def parse_all(cls, text: str) -> tuple[DelegatedScopes, ...]:
        """Read the ``scope`` of a sign-in, whose user may consent to several resources at once.

        Raises:
            EntraError: There is none, or it mixes ``.default`` with others.
        """
        openid, words = _sorted_out(text)
        names: dict[str, list[str]] = {}
        for resource, name in (_split(word, text) for word in words):
            names.setdefault(resource, []).append(name)
        short = {_GRAPH: frozenset(word for word in words if "/" not in word)}
        return tuple(
            cls(
                resource,
                _permissions(resource, tuple(of_it), text),
                openid,
                short.get(resource, frozenset()),
            )
            for resource, of_it in (names or {_GRAPH: []}).items()
        )

    @property
    def permissions(self) -> tuple[str, ...]:
        """The ``scp`` of the token. Microsoft Graph counts OpenID's as its own."""
        if not self.resource.startswith(GRAPH_PREFIX):
            return self.names
        return (*sorted(self.openid - {"offline_access"}), *self.names)

    @property
    def granted(self) -> str:
        """The ``scope`` of the answer: each as it was asked for.

        The device authorization grant's page has an answer with Graph's short names, and that of
        the authorization code grant one with the long ones, each to a request that has them so:
        https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code#successful-authentication-response.
        """
        prefix = f"{self.resource}/" if self.resource else ""
        return " ".join(
            [
                *(name if name in self.short else f"{prefix}{name}" for name in self.names),
                *sorted(self.openid - {"offline_access"}),
            ]
        )


def read_scopes(
    text: str | None, *, authority: Authority, client_id: str
) -> tuple[DelegatedScopes, ...]:
    """What a request asks for, as its kind of authority has it: one for each resource.

    Raises:
        EntraError: It cannot be asked for.
        B2CError: It cannot be asked for in a user flow.
    """
    if authority.kind is AuthorityKind.ENTRA:
        return DelegatedScopes.parse_all(text or "")
    openid, words = _sorted_out(text or "")
    if authority.kind is AuthorityKind.B2C:
        return (_of_b2c(openid, words, client_id),)
    if authority.kind is AuthorityKind.ADFS:
        return (_of_adfs(openid, words, text or ""),)
    # Another provider's scopes are names, and it knows by itself whose they are.
    return (DelegatedScopes("", tuple(words), openid),)


def _of_b2c(openid: frozenset[str], words: list[str], client_id: str) -> DelegatedScopes:
    """Those of a user flow: of one API by its full name, or the app itself by its id, or none."""
    if words == [client_id]:
        return DelegatedScopes(client_id, (), openid)
    for word in words:
        if "/" not in word:
            text = f"The scope '{word}' provided in request must specify a resource, such as "
            raise B2CError(90055, "invalid_scope", text + "'https://example.com/calendar.read'.")
    pairs = [word.rpartition("/") for word in words]
    resources = {resource for resource, _, _ in pairs}
    if len(resources) > 1:
        text = f"The scope '{' '.join(words)}' provided in request specifies more than one resource"
        raise B2CError(
            90146, "invalid_scope", text + " for an access token, which is not supported."
        )
    return DelegatedScopes("".join(resources), tuple(name for _, _, name in pairs), openid)


def _of_adfs(openid: frozenset[str], words: list[str], text: str) -> DelegatedScopes:
    """Those of AD FS, as MSAL says them: of one resource by its full name, or of none.

    https://learn.microsoft.com/windows-server/identity/ad-fs/development/ad-fs-openid-connect-oauth-concepts#scopes.
    """
    pairs = [word.rpartition("/") for word in words]
    resources = {resource for resource, slash, _ in pairs if slash}
    if len(resources) > 1:
        raise EntraError(28000, scope=text)
    resource = next(iter(resources), _USER_INFO)
    return DelegatedScopes(resource, tuple(name for _, _, name in pairs), openid)


def _sorted_out(text: str) -> tuple[frozenset[str], list[str]]:
    """OpenID Connect's own, and the others in their order."""
    words = list(dict.fromkeys(text.split()))
    if not words:
        raise EntraError(900144, parameter="scope")
    return (
        frozenset(word for word in words if word in _OPENID),
        [word for word in words if word not in _OPENID],
    )


def _permissions(resource: str, names: tuple[str, ...], text: str) -> tuple[str, ...]:
    if ".default" in names and len(names) > 1:
        raise EntraError(70011, scope=text)
    return (_consented_by_default(resource),) if names == (".default",) else names


def _split(word: str, text: str) -> tuple[str, str]:
    resource, slash, name = word.rpartition("/")
    if not slash:
        return _GRAPH, word
    if not resource or not name:
        raise EntraError(70011, scope=text)
    return resource, name


def _consented_by_default(resource: str) -> str:
    return "User.Read" if resource.startswith(GRAPH_PREFIX) else "user_impersonation"
