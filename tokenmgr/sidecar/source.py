"""SidecarSource: tokens that come from the sidecar, for a manager that keeps them fresh."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .._runtime.clock import SYSTEM_CLOCK, Clock
from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import ConfigurationError, SidecarError
from ..events import Event
from ..identity.assertions import UserAssertion
from ..manager import AccessTokenManager
from ..policy import RefreshPolicy
from ..token import AccessToken, TokenKey, normalize_scopes
from .asking import asked_of, bearer_of
from .calls import Steps
from .client import SidecarClient
from .overrides import query_of
from .tokens import claims_of, token_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .._sharing.keys import EncryptionKey
    from ..stores import TokenStore
    from .overrides import TokenOverrides

__all__ = ["SidecarSource"]

#: Seconds that a token is taken to live at most, whatever it says: Entra's live for 28 hours.
_LONGEST_LIFE = 48 * 3_600.0


class SidecarSource(Unpicklable):
    """The tokens that the sidecar gives for a downstream API, as a source of a manager.

    A manager renews them in time, keeps them while the sidecar is away, and shares them with other
    workers; every client of ``tokenmgr.http`` takes it.

    Example:
        >>> from tokenmgr.sidecar import SidecarClient, SidecarSource
        >>> graph = SidecarSource(SidecarClient(), "Graph", as_app=True).manager()
        >>> graph.scopes
        ('Graph',)

    Args:
        client: The sidecar. It stays open when a manager is closed.
        service_name: The downstream API, as the sidecar's ``DownstreamApis`` name it.
        incoming_token: The token of the caller on whose behalf they are; they end with it.
        as_app: Whether they are the app's or agent's own, without a caller.
        client_id: The app that the sidecar runs as. Tokens of any other are refused. It has to be
            known where they are shared, as its name is what tells them from those of other apps.
        scopes: As for :meth:`SidecarClient.get_authorization_header`, and so is what follows.
        tenant: As there.
        agent_identity: As there.
        agent_username: As there.
        **overrides: As there.

    Raises:
        BearerRefusedError: The caller has sent no token.
        ConfigurationError: Something of it cannot be right.
    """

    def __init__(
        self,
        client: SidecarClient,
        service_name: str,
        *,
        incoming_token: str | None = None,
        as_app: bool = False,
        client_id: str = "",
        scopes: str | Iterable[str] | None = None,
        tenant: str | None = None,
        agent_identity: str | None = None,
        agent_username: str | None = None,
        **overrides: Unpack[TokenOverrides],
    ) -> None:
        incoming_token, overrides, token, more = None, {}, Hidden(incoming_token), Hidden(overrides)
        _check_types(client, client_id)
        self._client = client
        self._name = service_name
        self._as_app = as_app
        self._app = client_id.lower()
        self._asked = asked_of(
            more,
            scopes=None if scopes is None else normalize_scopes(scopes),
            tenant=tenant,
            agent_identity=agent_identity,
            agent_username=agent_username,
        )
        self._token = bearer_of(token, as_app=as_app)
        #: The wall clock.
        self._wall: Callable[[], float] = SYSTEM_CLOCK.wall
        #: Seconds that a fetch may take: the sidecar may be asked twice.
        self.fetch_timeout: float = 2 * client._sidecar.timeout  # noqa: SLF001 - they are one
        #: When there is no more to be had, in seconds since 1970.
        self.ends_at: float = float("inf")
        subject = self._read_caller()
        self.key: TokenKey = self._key(subject)
        #: The last token, by its digest: the sidecar gives one again for as long as it serves.
        self._last = b""
        self._steps(self._asked)  # whatever cannot be right is told now, not with the first fetch

    def __repr__(self) -> str:
        return f"<SidecarSource of {self._name} at {self._client.base_url}>"

    def manager(
        self,
        *,
        store: TokenStore | str | None = None,
        encryption_key: EncryptionKey | None = None,
        namespace: str = "tokenmgr",
        policy: RefreshPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_event: Callable[[Event], object] | None = None,
    ) -> AccessTokenManager:
        """Makes a manager of these tokens. Its arguments are those of ``AccessTokenManager``.

        Raises:
            ConfigurationError: Tokens are to be shared, and nobody knows whose they are.
        """
        store, encryption_key, given = None, None, Hidden((store, encryption_key))
        if given.cell_contents[0] is not None and not self.key.client_id:
            raise ConfigurationError(
                "what is shared in a store is found by the app's name, and two sidecars at the "
                "same address may be two apps: give SidecarSource(…, client_id=), the app that the "
                "sidecar runs as"
            )
        self._wall = clock.wall
        return AccessTokenManager(
            self,
            self.key,
            store=given.cell_contents[0],
            encryption_key=given.cell_contents[1],
            namespace=namespace,
            policy=policy,
            clock=clock,
            on_event=on_event,
        )

    def check(self) -> None:
        """Refuses to ask for what cannot be had any more.

        Raises:
            InteractionRequiredError: The caller's token has expired.
        """
        if self._token.cell_contents is not None:
            UserAssertion(self._token).check_time(self._wall())

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        """Fetches a token from the sidecar: another one than the last, where there is another.

        Args:
            claims: The claims that a resource asked for in a challenge, as JSON text.

        Raises:
            TokenManagerError: As :meth:`SidecarClient.get_authorization_header` does.
        """
        self.check()
        asked = Hidden({**self._asked.cell_contents})
        if claims is not None:
            asked.cell_contents["claims"] = claims
        token = self._ask(asked)
        if _digest(token) == self._last:
            asked.cell_contents["force_refresh"] = True
            token = self._ask(asked)
        self._last = _digest(token)
        return self._access_token(token)

    def _ask(self, asked: Hidden) -> Hidden:
        return Hidden(self._client._go(self._steps(asked)))  # noqa: SLF001 - they are one

    def _steps(self, asked: Hidden) -> Steps[str]:
        return self._client._sidecar.authorization_header(  # noqa: SLF001 - they are one
            self._token, self._name, asked, as_app=self._as_app, client_id=self._app
        )

    def _access_token(self, header: Hidden) -> AccessToken:
        said = claims_of(token_of(header))
        expires_at: Any = (said.cell_contents or {}).get("exp")
        number = isinstance(expires_at, (int, float)) and not isinstance(expires_at, bool)
        now = self._wall()
        if not number or not expires_at > now:
            raise SidecarError(
                "the sidecar's token has expired, or does not say when it does: check the clocks "
                "of both machines, or use get_authorization_header()",
                retryable=True,
            )
        return AccessToken(
            secret=token_of(header).cell_contents,
            expires_at=float(min(expires_at, now + _LONGEST_LIFE, self.ends_at)),
            scopes=self.key.scopes,
            token_type=header.cell_contents.partition(" ")[0],
        )

    def _read_caller(self) -> str:
        """Tells the caller's token from all others; empty without a caller."""
        if self._token.cell_contents is None:
            return ""
        assertion = UserAssertion(self._token)
        self.ends_at = assertion.expires_at
        return assertion.digest("sidecar", self._client.base_url)

    def _key(self, subject: str) -> TokenKey:
        asked = Hidden(query_of(self._asked))
        agent = self._asked.cell_contents.get("agent_identity")
        return TokenKey(
            authority=self._client.base_url,
            client_id=(agent or self._app).lower(),
            grant="sidecar",
            scopes=self._asked.cell_contents.get("scopes") or (self._name,),
            subject=subject,
            extra=(("service", self._name), ("as_app", str(self._as_app)), *asked.cell_contents),
        )


def _check_types(client: object, client_id: object) -> None:
    if not isinstance(client, SidecarClient):
        raise ConfigurationError(
            "a source asks by a SidecarClient, in threads of its own: give one. Coroutines await "
            "aget_access_token() of its manager"
        )
    if not isinstance(client_id, str):
        raise ConfigurationError("client_id= is the client id of the sidecar's app: a text")


def _digest(header: Hidden) -> bytes:
    return hashlib.sha256(header.cell_contents.encode()).digest()
