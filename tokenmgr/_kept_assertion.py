"""The assertion that a managed identity gives for an app, kept as every other token is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._engine.cell import Cell
from ._engine.state import GRACE
from ._runtime.workers import Workers
from .entra.client import Client
from .entra.sources.base import GivenSource, SourceCredential
from .errors import ConfigurationError
from .identity.clouds import CLOUDS, cloud_of
from .identity.credentials import ClientAssertion, FederatedAssertion
from .identity.proofs import Proof, SignedAssertion
from .manager import AccessTokenManager, manager_of

if TYPE_CHECKING:
    from ._context import Context
    from .identity.authority import Authority

__all__ = ["KeptAssertion", "kept_assertion"]

#: One token, and one for each set of claims.
_MOST_FETCHES = 8


class KeptAssertion(ClientAssertion):
    """The assertion of an identity, asked for once for all tokens of an app, and renewed in time.

    Args:
        manager: What keeps it.
        identity: What gives it.
        seconds: How long it is waited for, whatever the policy says of the callers of an app.
    """

    #: It is the same for all requests.
    _maker = None

    def __init__(
        self, manager: AccessTokenManager, identity: SourceCredential, seconds: float
    ) -> None:
        self._manager = manager
        self.longest_wait: float = seconds
        self._identity = identity
        identity.hold(self)

    def __repr__(self) -> str:
        return f"<ClientAssertion from {self._identity!r}>"

    def read(self) -> SignedAssertion:
        return SignedAssertion(self._manager.get_access_token(timeout=self.longest_wait))

    def peek(self) -> Proof | None:
        return None  # it may have to be fetched

    def reread(self, refused: Proof) -> Proof | None:
        if isinstance(refused, SignedAssertion):
            self._manager.invalidate(refused.text)
        return super().reread(refused)

    def close(self) -> None:
        """Ends its renewal."""
        self._manager.close()
        self._identity.let_go(self)


def kept_assertion(
    credential: FederatedAssertion, authority: Authority, context: Context
) -> KeptAssertion:
    """Has an identity's assertion be kept.

    Args:
        credential: The app's.
        authority: Whom the app asks, in whose cloud the assertion is exchanged.
        context: The time, where events go, and what else the app's managers have in common.

    Raises:
        ConfigurationError: What is to give it gives no tokens.
    """
    identity = credential.identity
    if not isinstance(identity, SourceCredential):
        raise ConfigurationError(
            "ClientAssertion.from_managed_identity() takes a ManagedIdentity, or an AzureCredential"
        )
    cloud = cloud_of(authority.host)
    audience = credential.audience or (cloud or CLOUDS[0]).exchange_audience
    # Threads of its own, as all of the app's may wait for it.
    own = context._replace(workers=Workers(_MOST_FETCHES, name="tokenmgr-assertion"))
    client = Client(identity.authority, identity.name, None, context=own, given_by=identity)
    source = GivenSource(client, identity, (f"{audience}/.default",))
    manager = manager_of(Cell(source, source.key, own))
    return KeptAssertion(manager, identity, context.fetch_timeout + GRACE)
