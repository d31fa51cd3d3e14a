"""The refresh token grant, for sessions: a user stays signed in, and work for one goes on.

A session begins by a sign-in, or by the on-behalf-of grant. Its refresh token carries it on (RFC
6749, section 6): it is of the user and the app, and of no resource, and so all scopes of a session
have it in common.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..._runtime.secrecy import Hidden
from ..._session import KnownSession, SessionRecord, Turn
from ...errors import (
    ConsentRequiredError,
    InteractionRequiredError,
    SessionNotFoundError,
    StoreError,
    TokenManagerError,
)
from ...identity.authority import Authority
from ...identity.proofs import Proof
from ...token import AccessToken, TokenKey
from ..client import Client
from ..id_token import Expected, check_same_user
from .base import ClientSource
from .beginnings import Beginning, ask_for_user
from .on_behalf_of import check_scopes

if TYPE_CHECKING:
    import msal

__all__ = ["SessionSource", "not_found"]


class SessionSource(ClientSource):
    """A source of the tokens of one session, for some scopes.

    See "Refresh tokens in the Microsoft identity platform" on Microsoft Learn.

    Args:
        client: The app, as the registry has it.
        key: What makes the tokens different from all others.
        share: Makes what finds them in the store, of a key and of this source.
        session: The session, as this process knows it.
        beginning: What begins the session; None where it is to be there already.

    Raises:
        InvalidScopeError: A scope is none that may be asked for.
    """

    def __init__(
        self,
        client: Client,
        key: TokenKey,
        share: Callable[[TokenKey, SessionSource], Any],
        session: KnownSession,
        beginning: Beginning | None = None,
    ) -> None:
        check_scopes(key.scopes)
        self.key = key
        self._client = client
        self._share = share
        self._session = session
        self._beginning = beginning
        #: Who was asked last.
        self._asked: Client = client if beginning is None else beginning.client
        #: What the beginning is called in the session's record; empty without one.
        self.begins: str = "" if beginning is None else beginning.called
        #: Whose tokens these are; None until that is known.
        self._user: str | None = None if beginning is None else beginning.user
        #: Whether the service has said that the beginning is its user's.
        self._verified = False
        #: Whether the session is begun where it is not there: somebody has just asked for that.
        self._may_begin = beginning is not None
        #: Which session failed last.
        self._failed: str | None = None
        #: Set where the program has ended the session.
        self.is_ended: bool = False

    def look_again(self) -> None:
        """Has whoever comes next be told whose session it is now: it was looked for anew."""
        self._may_begin = self._beginning is not None
        if self._beginning is None:
            self._user = None

    def share(self, key: TokenKey) -> Any:
        """Makes what finds its tokens in the store."""
        return self._share(key, self)

    def is_gone(self, error: TokenManagerError, failed_at: float) -> bool:
        """Whether what a failure came from has changed since."""
        if isinstance(error, (InteractionRequiredError, ConsentRequiredError)):
            # What no service has been asked for is soon said again.
            unasked = error.error is None and error.status is None
            return unasked or _epoch(self._session.known) != self._failed
        return isinstance(error, StoreError) or self._asked.is_gone(error, failed_at)

    def closed_error(self) -> TokenManagerError | None:
        """Says why there is nothing more, where the program has ended the session."""
        return not_found(self._session) if self.is_ended else None

    def admits(self, session: SessionRecord | None) -> bool:
        """Whether a session is the one whose tokens these are."""
        if session is None or not self._is_at_home(session):
            return False
        if self.begins in session.assertions:  # it is shown bit by bit, and was verified
            return True
        known = self._verified or self._beginning is None
        return known and self._user in (None, session.user)

    def check(self, session: SessionRecord | None) -> None:
        """Refuses a session that is not admitted, unless another one can be begun.

        Raises:
            InteractionRequiredError: It is not there any more, or another user's.
        """
        if self.admits(session):
            return
        if self._may_begin and self._beginning is not None:
            self._beginning.check_time()
            return
        if session is None or not self._is_at_home(session):
            raise not_found(self._session)
        raise InteractionRequiredError(
            "another user has begun this session since: look it up again, or give each user's work "
            "a session of its own"
        )

    def took(self, session: SessionRecord | None) -> None:
        """Notes whose token has been found, or fetched."""
        if session is not None:
            self._user, self._verified, self._may_begin = session.user, True, False

    def fetch_token(
        self, *, claims: str | None = None, proof: Proof | None = None, turn: Turn | None = None
    ) -> AccessToken:
        """Fetches a token, once what carries the session on is kept.

        Args:
            claims: As for :class:`~tokenmgr.TokenSource`.
            proof: What :meth:`read_proof` has just given; it is read when it is left out.
            turn: The right to do so, and the session as it stands; never left out.

        Raises:
            InteractionRequiredError: The session has ended, or the user has to sign in.
            ConsentRequiredError: Nobody has consented, or the user's tenant does not have the app.
            TokenManagerError: There is none to be had.
        """
        assert turn is not None, "it is shared as a session is"  # noqa: S101
        before = turn.before
        self._failed = _epoch(before)
        self.check(before)
        if before is not None and self.admits(before):
            try:
                return self._carry_on(before, claims, proof, turn)
            except InteractionRequiredError as exc:
                if not _is_end(exc):
                    raise
                because = partial(_ended_by, str(exc), exc.__dict__, self._session.advice)
                turn.end(because)
                if not self._may_begin:
                    raise because() from None
        return self._begin(claims, proof, turn)

    def _begin(self, claims: str | None, proof: Proof | None, turn: Turn) -> AccessToken:
        beginning = self._beginning
        assert beginning is not None, "else it may not begin one"  # noqa: S101
        self._asked = beginning.client
        signed_in = beginning.ask(self.key, claims, proof)
        ends_at = turn.begin(signed_in, called=beginning.called, user=beginning.user)
        token = _until(signed_in.token, ends_at)
        # Without a refresh token there is no other one: nobody is to try.
        renewable = bool(signed_in.refresh_token.cell_contents)
        return token if renewable else token._replace(refresh_at=token.expires_at)

    def _carry_on(
        self, before: SessionRecord, claims: str | None, proof: Proof | None, turn: Turn
    ) -> AccessToken:
        if not before.refresh_token.cell_contents:
            raise SessionNotFoundError(
                "the sign-in has brought no refresh token, and so there is no token but its first "
                f"one: allow the app offline_access at this authority, and {self._session.advice}"
            )
        if self._asked.authority.url != before.authority:
            self._asked = self._at(before.authority)

        def redeem(application: msal.ConfidentialClientApplication) -> dict[str, Any]:
            return cast(
                "dict[str, Any]",
                application.acquire_token_by_refresh_token(
                    before.refresh_token.cell_contents,
                    list(self.key.scopes),
                    data={"claims": claims} if claims else {},
                ),
            )

        wanders = self._asked.authority != self._client.authority
        token, answer, issuer = ask_for_user(self._asked, redeem, self.key, proof, wanders=wanders)
        if before.account is not None and answer.id_token.cell_contents:
            expected = Expected(issuer, self._asked.client_id)
            check_same_user(answer.id_token, before.account.claims, expected)
        # A service may leave the old one in its place (RFC 6749, section 6).
        given = Hidden(answer.refresh_token)
        kept = given if given.cell_contents else before.refresh_token
        return _until(token, turn.carry_on(kept))

    def _is_at_home(self, session: SessionRecord) -> bool:
        """Whether a session is at this app's authority, or at one that this stands for."""
        own = self._client.authority
        if session.authority == own.url:
            return True
        return own.is_multi_tenant_alias and session.authority.startswith(f"https://{own.host}/")

    def _at(self, url: str) -> Client:
        own = self._client.authority
        return self._client if url == own.url else self._client.at(Authority.parse(url))


def _epoch(session: SessionRecord | None) -> str | None:
    return None if session is None else session.epoch


def _until(token: AccessToken, ends_at: float) -> AccessToken:
    """Has a token end with its session, where that is sooner."""
    if token.expires_at <= ends_at:
        return token
    return token._replace(expires_at=ends_at, refresh_at=None)


def _is_end(error: InteractionRequiredError) -> bool:
    """Whether it is the refresh token that is refused, and not a scope for want of more proof."""
    return error.error == "invalid_grant" and error.claims is None


def _ended_by(text: str, facts: dict[str, Any], advice: str) -> InteractionRequiredError:
    told = InteractionRequiredError(
        f"the session has ended, as its refresh token is refused: {text} Then {advice}"
    )
    told.__dict__.update(facts)
    return told


def not_found(session: KnownSession) -> TokenManagerError:
    """Says that there is no such session, and why it has ended where that was here.

    Args:
        session: The session, as this process knows it.
    """
    if session.because is not None:
        return session.because()
    return SessionNotFoundError(
        "there is no such session (any more): it was ended, went unused for session_ttl=, or was "
        f"begun where this process finds nothing of it; {session.advice}"
    )
