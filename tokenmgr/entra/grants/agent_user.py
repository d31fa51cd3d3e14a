"""The grant of agents' users: an agent acts as a user account of its own (``user_fic``)."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

from ..._runtime.secrecy import Hidden
from ...errors import ConfigurationError, TokenManagerError
from ...identity.addresses import is_guid
from ...identity.proofs import Proof
from ...token import AccessToken, TokenKey
from ..agent_client import AgentClient, ExchangeToken
from .base import ClientSource
from .on_behalf_of import check_scopes

if TYPE_CHECKING:
    import msal

__all__ = ["AgentUser", "AgentUserSource"]

#: The longest user principal name: 64 characters, "@", and 48 of a domain in Entra, with room.
_LONGEST_NAME = 256
#: The AADSTS numbers of an assertion that is not accepted: T2, where it is not the user.
_REFUSED = frozenset({50013, 500131, 500133, 700024, 700027})


class AgentUser:
    """Whom an agent acts as: a user account, by exactly one of its names.

    Args:
        username: Its user principal name, or None.
        user_id: Its object id, or None.

    Raises:
        ConfigurationError: Both or none are given, or it is no such name.
    """

    def __init__(self, username: Hidden, user_id: Hidden) -> None:
        self._name = Hidden((username.cell_contents, user_id.cell_contents))
        if (username.cell_contents is None) == (user_id.cell_contents is None):
            raise ConfigurationError("an agent's user is named by username= or by user_id=: by one")
        if username.cell_contents is None:
            if not isinstance(user_id.cell_contents, str) or not is_guid(
                user_id.cell_contents.strip().lower()
            ):
                raise ConfigurationError(
                    "user_id= is the object id of the agent's user, a GUID; username= takes its "
                    "user principal name"
                )
            self._name = Hidden((None, user_id.cell_contents.strip().lower()))
        else:
            if not _is_name(username):
                raise ConfigurationError(
                    "username= is the user principal name of the agent's user, such as "
                    "agent@contoso.com; user_id= takes its object id"
                )
            self._name = Hidden((username.cell_contents.strip().lower(), None))

    @property
    def names(self) -> Hidden:
        """Its user principal name and its object id, of which one is None."""
        return self._name

    def digest(self, agent_id: str) -> str:
        """Tells it from all other users of an agent, and no log who it is."""
        key = f"tokenmgr agent user, 1\n{agent_id}".encode()
        made = hmac.new(key, repr(self._name.cell_contents).encode(), hashlib.sha256)
        return urlsafe_b64encode(made.digest()).decode().rstrip("=")


class AgentUserSource(ClientSource):
    """A source of the tokens of one agent's user, for some scopes.

    See "Agent OAuth flows: agent's user account" on Microsoft Learn.

    Args:
        client: The agent, at its tenant.
        user: Whom it acts as.
        scopes: What the tokens are for.
        exchange: The agent's own token that is exchanged for the user's (T2).

    Raises:
        InvalidScopeError: A scope is none that may be asked for.
    """

    __slots__ = ("_exchange_token", "_user")

    def __init__(
        self,
        client: AgentClient,
        user: AgentUser,
        scopes: tuple[str, ...],
        exchange: ExchangeToken,
    ) -> None:
        check_scopes(scopes)
        self._client = client
        self._user = user
        self._exchange_token = exchange
        self.key: TokenKey = client.key("user_fic", scopes, user.digest(client.client_id))

    @property
    def longest_wait(self) -> float:
        """Seconds that a fetch may wait for the tokens that it takes, perhaps twice each."""
        return super().longest_wait + 2 * self._exchange_token.longest_wait

    def fetch_token(self, *, claims: str | None = None, proof: Proof | None = None) -> AccessToken:
        """Fetches a token, and once more where T2 was refused.

        Args:
            claims: As for :class:`~tokenmgr.TokenSource`; T2 is asked for with them too.
            proof: What :meth:`read_proof` has just given; it is read when it is left out.

        Raises:
            TokenManagerError: There is none to be had.
        """
        refused: TokenManagerError | None = None
        shown: AccessToken | None = None
        for _ in range(2):
            before, shown = shown, self._exchange_token.get(claims or "")
            if before == shown:
                break  # as for T1
            try:
                return self._ask(shown, claims, proof)
            except TokenManagerError as exc:
                refused = exc
            if not _REFUSED.intersection(refused.error_codes):
                break
            self._exchange_token.drop(shown)
        assert refused is not None  # noqa: S101 - or a token was returned
        raise refused

    def _ask(self, shown: AccessToken, claims: str | None, proof: Proof | None) -> AccessToken:
        def grant(application: msal.ConfidentialClientApplication) -> dict[str, Any]:
            answer: dict[str, Any]
            answer = application.acquire_token_by_user_federated_identity_credential(
                list(self.key.scopes),
                shown.secret,
                *self._user.names.cell_contents,
                claims_challenge=claims,
            )
            return answer

        return self._client.ask(grant, self.key._replace(claims=claims or ""), proof)


def _is_name(username: Hidden) -> bool:
    """Whether it can be a user principal name. It goes into a header, too."""
    if not isinstance(username.cell_contents, str):
        return False
    name = Hidden(username.cell_contents.strip())
    whole = name.cell_contents.isascii() and name.cell_contents.isprintable()
    user, at, domain = map(Hidden, name.cell_contents.partition("@"))
    parts = bool(user.cell_contents and at.cell_contents and domain.cell_contents)
    plain = not {" ", ",", ";"}.intersection(name.cell_contents)
    return whole and parts and plain and len(name.cell_contents) <= _LONGEST_NAME
