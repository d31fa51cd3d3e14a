"""What an app has at each of its tenants: the same thing for as long as it is in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from ._app import App
from ._members import Members
from ._runtime.secrecy import Hidden, Unpicklable
from .entra.client import Client
from .entra.particulars import checked_claims, checked_extra
from .entra.unified_cache import UnifiedCache
from .errors import ConfigurationError
from .identity.authority import neighbour
from .manager import AccessTokenManager
from .token import Scopes

if TYPE_CHECKING:
    from ._session import Account
    from ._sessions import Sessions
    from .users import Users

__all__ = ["Tenant", "Tenants"]

#: So many are kept that nobody uses: one may be named now, and asked for a token later.
_MOST_IDLE = 1_000


class Tenant(Unpicklable):
    """What an app has at one tenant: its own tokens, its users, and what was imported.

    Args:
        app: The app.
        client: The same, at this one's authority.
    """

    #: Made with the first of them.
    users: Users | None = None
    sessions: Sessions | None = None
    #: What a program has of it, for as long as it has that.
    registry: Callable[[], Any] = staticmethod(lambda: None)
    #: Whether it has been closed, alone or with all others.
    closed = False

    def __init__(self, app: App, client: Client) -> None:
        self.app = app
        self.client = client
        self.members: Members = app.members_at(client)
        self.imported: UnifiedCache = UnifiedCache(client, app.context.clock)

    @property
    def name(self) -> str | None:
        """Its GUID or domain name; None where the authority has none."""
        return self.client.authority.tenant

    @property
    def is_idle(self) -> bool:
        """Whether nobody would miss anything if it went."""
        kept = (self.members, self.users, self.sessions)
        idle = all(each is None or each.is_idle for each in kept)
        return idle and self.imported.is_idle and self.registry() is None

    def special(
        self, scopes: Scopes, cae: bool | None, claims: Hidden, extra: Hidden
    ) -> AccessTokenManager:
        """Gives the manager of a token that is asked for otherwise than the registry says.

        Raises:
            TokenManagerError: As :meth:`~tokenmgr.TokenRegistry.manager` has it.
        """
        said, told = self.client.particulars, claims.cell_contents is not None
        own = Hidden(checked_extra(extra))
        return self.members.find(
            scopes,
            cae=cae,
            forwarded_claims=checked_claims(claims) if told else None,
            extra=tuple(sorted({**dict(said.extra), **dict(own.cell_contents)}.items())),
        )

    def begin_users(self) -> Users:
        """Gives the managers of its users.

        Raises:
            ConfigurationError: The authority has no such grant, or it is closed.
        """
        users = self.app.users_at(self.client)
        with self.app.lock:
            self.check_open()
            self.users = self.users or users
            return self.users

    def begin_sessions(self) -> Sessions:
        """Gives the sessions of its users.

        Raises:
            ConfigurationError: The store's key is derived from the credential, or it is closed.
        """
        self.check_open()
        if self.sessions is not None:
            return self.sessions
        sessions = self.app.sessions_at(self.client)
        with self.app.lock:
            self.check_open()
            self.sessions = self.sessions or sessions
            return self.sessions

    def signed_in(self) -> list[tuple[Account, Hidden]]:
        """Gives who has signed in, and what carries their sessions on; where none can be, nobody.

        Raises:
            ConfigurationError: It is closed.
        """
        sealed = self.app.sealed
        if sealed is None and self.sessions is None:
            return []
        kept = sealed is None or not sealed.keys.is_derived
        return self.begin_sessions().signed_in() if kept else []

    def check_open(self) -> None:
        """Refuses to go on once it is closed.

        Raises:
            ConfigurationError: It is.
        """
        if self.closed:
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")

    def let_go(self) -> None:
        """Lets all of its tokens go."""
        self.members.close()
        if self.users is not None:
            self.users.close()
        if self.sessions is not None:
            self.sessions.close()
        self.imported.clear()


class Tenants:
    """All tenants of an app, by name.

    Those that somebody holds are kept, those that have managers, which are bounded themselves, and
    a few besides. The first one is kept by its registry alone, so that the garbage collector has
    nothing to take apart where there is but one.

    Args:
        home: The first one, of the authority that the program has named.
    """

    def __init__(self, home: Tenant) -> None:
        self._app = home.app
        self._home = ref(home)
        #: The others, in the order in which they came.
        self._others: dict[str | None, Tenant] = {}
        #: Beyond so many it is looked which of them are idle.
        self._long = 2 * _MOST_IDLE

    def at(self, name: str) -> Tenant:
        """Gives the tenant of a name, in the cloud of the first one. With the app's lock held.

        Raises:
            AuthorityError: It is no tenant.
            ConfigurationError: The authority has no others.
        """
        authority = self._app.client.authority
        if authority.kind != "entra":
            raise ConfigurationError(
                f"an authority of kind {authority.kind!r} has no other tenants: make a "
                "TokenRegistry with the authority that is meant"
            )
        found = self._find(name) if isinstance(name, str) else None
        if found is None:
            client = self._app.client.at(neighbour(authority, name))
            found = self._find(client.authority.tenant) or self._keep(Tenant(self._app, client))
        return found

    def close(self, tenant: Tenant) -> None:
        """Closes one of them; with the first one, all, and the app."""
        whole = tenant.client is self._app.client
        with self._app.lock:
            home = self._home()
            going = {tenant, *self._others.values(), home or tenant} if whole else {tenant}
            for each in going:
                each.closed = True
                if self._others.get(each.name) is each:
                    del self._others[each.name]
        for each in going:
            each.let_go()
        if whole:
            self._app.close()

    def _find(self, name: str | None) -> Tenant | None:
        home = self._home()
        return home if home is not None and home.name == name else self._others.get(name)

    def _keep(self, tenant: Tenant) -> Tenant:
        self._others[tenant.name] = tenant
        if len(self._others) > self._long:
            idle = [name for name, each in self._others.copy().items() if each.is_idle]
            for name in idle[:-_MOST_IDLE]:
                del self._others[name]
            self._long = 2 * max(_MOST_IDLE, len(self._others))
        return tenant
