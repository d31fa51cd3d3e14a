"""An agent identity: what asks for tokens by those of the app that is its blueprint.

See "Agent OAuth protocols in Microsoft Entra Agent ID" on Microsoft Learn. An agent has no
credential. Its blueprint asks for a token that proves it (T1), and the agent shows that one as its
client assertion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import (
    ConfigurationError,
    InvalidCredentialError,
    ServiceUnavailableError,
    TokenManagerError,
)
from ..identity.credentials import ClientCredential
from ..identity.proofs import Proof, SignedAssertion
from ..token import AccessToken, TokenKey
from .client import Client

if TYPE_CHECKING:
    from .answers import Answer

__all__ = ["AgentClient", "ExchangeToken"]

#: The AADSTS numbers of an assertion that no federated credential of the agent fits: its issuer,
#: its audience, its subject. And that of an agent which the tenant does not have.
_NO_CHILD = frozenset({700211, 700212, 700213})
_UNKNOWN = 700016


class ExchangeToken(Protocol):
    """A token that is exchanged for another one, and kept like every other."""

    #: Seconds that it is waited for, at most.
    longest_wait: float

    def get(self, claims: str) -> AccessToken:
        """Gives it.

        Args:
            claims: What the other one is asked for with; empty for none.

        Raises:
            TokenManagerError: There is none to be had.
        """
        ...

    def drop(self, token: AccessToken) -> None:
        """Drops one that the service refused, if it is still the one in hand."""
        ...


class _None(ClientCredential):
    """An agent's credential: it has none, and shows T1, or nothing."""

    def read(self) -> Proof:
        raise ConfigurationError("an agent has no credential: its blueprint proves it")

    def reread(self, refused: Proof) -> None:  # noqa: ARG002 - who has shown it asks for another
        return None


class AgentClient(Client):
    """An agent at its tenant, that asks for tokens.

    Args:
        blueprint: The app that proves it.
        agent_id: The agent's client id.
        exchange: The token by which it does (T1).
    """

    def __init__(self, blueprint: Client, agent_id: str, exchange: ExchangeToken) -> None:
        super().__init__(
            blueprint.authority,
            agent_id,
            _None(),
            connection=blueprint._connection,  # noqa: SLF001 - it is one client in two roles
            context=blueprint._context,  # noqa: SLF001
            cae=blueprint.cae,
            # It signs nothing by itself.
            particulars=blueprint.particulars._replace(client_claims=""),
        )
        self._breaker = blueprint._breaker  # noqa: SLF001 - the authority's
        self._blueprint = blueprint
        self._exchange_token = exchange

    @property
    def longest_wait(self) -> float:
        """Seconds that asking may take beyond a fetch: it waits for T1, and perhaps once more."""
        return self._blueprint.longest_wait + 2 * self._exchange_token.longest_wait

    def _subject(self, subject: str) -> str:
        return f"agent of {self._blueprint.client_id} {subject}".rstrip()

    def read_proof(self) -> Proof:
        """Reads what proves the blueprint: it seals what is kept, and the agent never shows it.

        Raises:
            TokenManagerError: It cannot be read.
        """
        return self._blueprint.read_proof()

    def is_gone(self, error: TokenManagerError, failed_at: float) -> bool:
        """Whether what a failure came from has changed: the service, or the app's credential."""
        refused = self._blueprint._refused is not None  # noqa: SLF001 - else it was another thing
        known = refused or isinstance(error, ServiceUnavailableError)
        return known and self._blueprint.is_gone(error, failed_at)

    def ask(
        self,
        grant: Callable[[Any], Any],
        key: TokenKey,
        proof: Proof | None = None,  # noqa: ARG002 - the blueprint's, which T1 is asked for with
        *,
        hear_all: Callable[[Answer, str], object] | None = None,
        plain: bool = False,
    ) -> AccessToken:
        """Asks for a token, by T1, and once more where that was refused.

        Args:
            grant: As the base has it.
            key: What it asks for; T1 is asked for with its claims.
            proof: As the base has it.
            hear_all: As the base has it.
            plain: As the base has it.

        Raises:
            ConfigurationError: The agent is none of the blueprint's.
            TokenManagerError: There is none to be had.
        """
        refused: TokenManagerError | None = None
        shown: AccessToken | None = None
        for _ in range(2):
            before, shown = shown, self._exchange_token.get(key.claims)
            if before == shown:
                break  # as when every one is refused, and no other is fetched for a while
            proven = SignedAssertion(shown.secret)
            try:
                return super().ask(grant, key, proven, hear_all=hear_all, plain=plain)
            except TokenManagerError as exc:
                refused = self._told(exc)
            if not isinstance(refused, InvalidCredentialError):
                break
            self._exchange_token.drop(shown)
        assert refused is not None  # noqa: S101 - or a token was returned
        raise refused

    def _told(self, error: TokenManagerError) -> TokenManagerError:
        """Says of an agent that is no child of the blueprint what would be said of a credential."""
        codes = frozenset(error.error_codes)
        if not codes & _NO_CHILD and _UNKNOWN not in codes:
            return error
        where = f"at the tenant {self.authority.tenant}"
        what = (
            f"there is no agent {self.client_id} {where}: check agent_id, and that the agent "
            "identity was made there"
            if _UNKNOWN in codes
            else f"the agent {self.client_id} is no child of the blueprint "
            f"{self._blueprint.client_id} {where}: check agent_id, and the agent's "
            "agentIdentityBlueprintId"
        )
        told = ConfigurationError(f"{what}: {error}")
        told.__dict__.update(error.__dict__)
        return told
