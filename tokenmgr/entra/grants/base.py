"""What the sources of all grants have in common: an app asks, by its client."""

from __future__ import annotations

from ...errors import TokenManagerError
from ...identity.proofs import Proof
from ...token import TokenKey
from ..client import Client

__all__ = ["ClientSource"]


class ClientSource:
    """A source whose tokens an app's client asks for."""

    __slots__ = ("_client", "key")

    _client: Client
    key: TokenKey

    @property
    def longest_wait(self) -> float:
        """Seconds that a fetch may wait for the tokens that it takes."""
        return self._client.longest_wait

    def read_proof(self) -> Proof:
        """Reads what proves who the app is, for one fetch."""
        return self._client.read_proof()

    def is_gone(self, error: TokenManagerError, failed_at: float) -> bool:
        """Whether what a failure came from has changed since; see the client."""
        return self._client.is_gone(error, failed_at)
