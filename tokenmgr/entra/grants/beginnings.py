"""What a session begins by: the assertion of a user's call, or a sign-in that has just been."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..._runtime.secrecy import Hidden, Unpicklable
from ..._session import Account, SignedIn
from ...errors import ConfigurationError, TokenManagerError
from ...identity.assertions import UserAssertion
from ...identity.proofs import Proof
from ...token import AccessToken, TokenKey
from ..accounts import account_of
from ..answers import Answer
from ..client import Client, Grant
from ..id_token import Expected, check_id_token
from .on_behalf_of import home_of, of_caller

if TYPE_CHECKING:
    import msal

__all__ = ["Beginning", "ByAssertion", "BySignIn", "ask_for_user"]

#: Bytes of what nobody guesses.
_SIGN_IN_BYTES = 16


class Beginning(Protocol):
    """What a session begins by."""

    #: What it is called in the session's record.
    called: str
    #: Whose session that makes it, as a digest. It is true once the session has begun.
    user: str
    #: Who is asked.
    client: Client

    def check_time(self) -> None:
        """Refuses to begin a session once it is too late.

        Raises:
            InteractionRequiredError: It is.
        """
        ...

    def ask(self, key: TokenKey, claims: str | None, proof: Proof | None) -> SignedIn:
        """Gives the session's first token, and what carries it on.

        Args:
            key: What the token is for.
            claims: As for :class:`~tokenmgr.TokenSource`.
            proof: What the credential has just said; it is read when it is left out.

        Raises:
            TokenManagerError: There is none to be had.
        """
        ...


class ByAssertion(Unpicklable):
    """A beginning by the on-behalf-of grant, for work that outlives the call.

    Args:
        assertion: The token that the user's call has brought.
        client: This API's app, as the registry has it.

    Raises:
        InteractionRequiredError: It is none that could be exchanged.
    """

    def __init__(self, assertion: UserAssertion, client: Client) -> None:
        self._assertion = assertion
        self._wall = client.wall
        self.check_time()
        whose = client.authority.kind, client.client_id
        self.called: str = assertion.digest(*whose)
        self.user: str = assertion.user(*whose)
        self.client: Client = home_of(assertion, client)
        self._wanders = self.client is not client

    def check_time(self) -> None:
        """Refuses an assertion that has expired."""
        self._assertion.check_time(self._wall())

    def ask(self, key: TokenKey, claims: str | None, proof: Proof | None) -> SignedIn:
        """Exchanges the assertion."""
        self.check_time()

        def exchange(application: msal.ConfidentialClientApplication) -> dict[str, Any]:
            return cast(
                "dict[str, Any]",
                application.acquire_token_on_behalf_of(
                    self._assertion.text(), list(key.scopes), claims_challenge=claims
                ),
            )

        token, answer, issuer = ask_for_user(
            self.client, exchange, key, proof, wanders=self._wanders
        )
        refresh_token = Hidden(answer.refresh_token)
        if not refresh_token.cell_contents:
            raise ConfigurationError(
                "the service gave no refresh token, without which no work outlives the call: allow "
                "the app offline_access at this authority, or leave session= out"
            )
        account = self._account(answer, issuer)
        return SignedIn(token, refresh_token, account, self.client.authority.url)

    def _account(self, answer: Answer, issuer: str) -> Account:
        """Gives whose token it is: as the service says it, or else the assertion, now verified."""
        claims, client_id = self._assertion.claims(), self.client.client_id
        with suppress(TokenManagerError):
            if answer.id_token.cell_contents:
                expected = Expected(issuer, client_id)
                claims = check_id_token(answer.id_token, expected, self._wall())
        in_directory = self.client.authority.tenant is not None
        return account_of(claims, answer.home_account_id, in_directory=in_directory)


class BySignIn(Unpicklable):
    """A beginning by a sign-in, of which all is in hand.

    Args:
        signed_in: What has come of it.
        user: Whose it is, as a digest.
        client: The app, as the registry has it.
    """

    def __init__(self, signed_in: SignedIn, user: str, client: Client) -> None:
        self.called: str = secrets.token_urlsafe(_SIGN_IN_BYTES)
        self.user = user
        self.client = client
        self._signed_in = signed_in

    def check_time(self) -> None:
        """Does nothing: it has just been."""

    def ask(self, key: TokenKey, claims: str | None, proof: Proof | None) -> SignedIn:  # noqa: ARG002 - it has been asked
        """Gives what has come of it."""
        return self._signed_in


def ask_for_user(
    client: Client,
    grant: Grant,
    key: TokenKey,
    proof: Proof | None,
    *,
    wanders: bool,
) -> tuple[AccessToken, Answer, str]:
    """Asks for a user's token; gives it, all that the service said, and the tokens' issuer.

    Args:
        client: Who is asked.
        grant: The call of MSAL that asks.
        key: What it asks for.
        proof: What the credential has just said; it is read when it is left out.
        wanders: Whether it is the user who has named the tenant, and not the program.

    Raises:
        TokenManagerError: There is none to be had.
    """
    said: list[tuple[Answer, str]] = []
    try:
        token = client.ask(grant, key, proof, hear_all=lambda *given: said.append(given))
    except TokenManagerError as exc:
        told = of_caller(exc, wanders=wanders)
        if told is None:
            raise
        raise told from None
    return (token, *said[0])
