"""What the ``BearerAuth`` of every HTTP client is made of: where a token goes, and what next.

Nothing here sends. A client's module asks :meth:`Bearer._may_go` before it puts the token on a
request, shows the answer to :meth:`Bearer._judge`, and gets the token to repeat the request with
from :meth:`Bearer._renewed`. No lock is held from one step to the next.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Protocol

from tokenmgr.errors import (
    ConfigurationError,
    HostNotAllowedError,
    InsufficientScopeError,
    InteractionRequiredError,
    TokenManagerError,
)

from .challenges import Answer, read
from .hosts import HostBinding

if TYPE_CHECKING:
    from tokenmgr.token import AccessToken

__all__ = ["REFUSALS", "Bearer", "refuse_proxy"]

#: The statuses of answers that may say something of the token.
REFUSALS = frozenset({401, 403})

#: A renewal on its way: it gives the claims that it wants a token of, None for any; is sent that
#: token; and returns the one to repeat the request with.
_Renewal = Generator["str | None", "AccessToken", "AccessToken | None"]


class _Manager(Protocol):
    """What is asked of an :class:`~tokenmgr.AccessTokenManager`, or of what follows the caller."""

    @property
    def scopes(self) -> tuple[str, ...]: ...

    def get_token(self, *, claims: str | None = None) -> AccessToken: ...

    async def aget_token(self, *, claims: str | None = None) -> AccessToken: ...

    def invalidate(self, token: AccessToken) -> None: ...


class Bearer:
    """What every client's ``BearerAuth`` has in common.

    Threads and event loops may share one: it keeps nothing of a request.

    Where the API answers 401, that very token is dropped and the request is repeated once with a
    new one; where it challenges for claims, with a token of these claims, which stays. A second
    refusal is returned as it is. The first one is returned as it is

    * where the body cannot be sent again: a generator, or a file that does not seek;
    * where no new token is to be had: the caller learns what the API said of its request, and the
      next request raises what the token service says;
    * where the new token is the refused one, or the challenge cannot be read.

    A redirect to another host carries no token, not even to a host that it is bound to. Plain http
    to this machine, as in development, must not go through a proxy, which could read the token.

    Args:
        manager: Whose token it is. A :class:`~tokenmgr.web.current.CallersManager` has that of
            whoever calls a web API just then.
        hosts: Where the token may go: a host or several, such as ``"api.contoso.com"``,
            ``"*.blob.core.windows.net"`` or ``"localhost:8443"``; see
            :class:`~tokenmgr.http.hosts.HostBinding`. Left out, the hosts that the manager's
            scopes name.
        replace_header: Whether the token takes the place of an ``Authorization`` header that a
            request has already. Left out, such a request is left alone.
        raise_for_scope: Whether a 403 that names missing scopes (``insufficient_scope``) is raised
            as an :class:`~tokenmgr.InsufficientScopeError`; with False it is returned as it is.

    Raises:
        ConfigurationError: It was given no manager; a host cannot be right, or none is given and
            no scope names one.
    """

    def __init__(
        self,
        manager: _Manager,
        *,
        hosts: str | Iterable[str] | None = None,
        replace_header: bool = False,
        raise_for_scope: bool = True,
    ) -> None:
        if not hasattr(manager, "scopes"):
            name = type(self).__name__
            raise ConfigurationError(
                f"{name} takes a manager, and no {type(manager).__name__}: pass that of one "
                f"scope, as in {name}(registry.manager(scope))"
            )
        self._manager = manager
        self._hosts = HostBinding.of(manager.scopes, hosts=hosts)
        self._replaces = replace_header
        self._raises = raise_for_scope

    def __repr__(self) -> str:
        # With its module, as the classes have one name, and each client refuses the others'.
        name = f"{type(self).__module__}.{type(self).__name__}"
        return f"<{name} of {' '.join(self._manager.scopes)} for {self._hosts}>"

    # Before the request

    def _token(self) -> AccessToken:
        return _checked(self._manager.get_token())

    async def _atoken(self, claims: str | None = None) -> AccessToken:
        return _checked(await self._manager.aget_token(claims=claims))

    # After the answer

    def _judge(self, status: int, challenges: Iterable[str], url: str) -> Answer | None:
        """Says what to do about an answer to a request that carried the token.

        Args:
            status: Its HTTP status, one of :data:`REFUSALS`.
            challenges: The values of its ``WWW-Authenticate`` headers.
            url: Who has answered: a stranger's challenges are nobody's business.

        Returns:
            What it means for the token; None where it is to be returned as it is.

        Raises:
            InsufficientScopeError: Scopes are missing, and that is to be raised.
        """
        if not self._hosts.allows(url):
            return None
        answer = read(status, challenges)
        if answer.missing is not None and self._raises:
            raise InsufficientScopeError(
                _told(answer.missing, self._manager.scopes),
                scopes=answer.missing,
                error="insufficient_scope",
                status=status,
            )
        return answer if answer.renew else None

    def _renewed(
        self, refused: AccessToken, answer: Answer, *, repeatable: bool
    ) -> AccessToken | None:
        """Gets the token to repeat a request with; None where the answer is to be returned.

        Args:
            refused: The token that it carried.
            answer: What the answer means.
            repeatable: Whether the body can be sent again. Where not, the next request profits.

        Raises:
            InteractionRequiredError: A person has to bring the claims that were asked for.
        """
        renewal = self._renewal(refused, answer.claims, repeatable=repeatable)
        try:
            wanted = next(renewal)
            while True:
                wanted = renewal.send(_checked(self._manager.get_token(claims=wanted)))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except TokenManagerError as error:
            _raise_if_only_a_person_can_help(error, answer)
            return None

    async def _arenewed(
        self, refused: AccessToken, answer: Answer, *, repeatable: bool
    ) -> AccessToken | None:
        """Does as :meth:`_renewed`, and never blocks the event loop."""
        renewal = self._renewal(refused, answer.claims, repeatable=repeatable)
        try:
            wanted = next(renewal)
            while True:
                wanted = renewal.send(_checked(await self._manager.aget_token(claims=wanted)))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except TokenManagerError as error:
            _raise_if_only_a_person_can_help(error, answer)
            return None

    def _renewal(self, refused: AccessToken, claims: str | None, *, repeatable: bool) -> _Renewal:
        if claims is None:
            self._manager.invalidate(refused)
            if not repeatable:
                return None
        token = yield claims
        if claims is not None and token.secret == refused.secret:
            # It has the claims, and was refused all the same: its session was revoked, say.
            self._manager.invalidate(refused)
            token = yield claims
        return token if repeatable and token.secret != refused.secret else None


def _raise_if_only_a_person_can_help(error: TokenManagerError, answer: Answer) -> None:
    # Else the answer is returned, which says what the API wants.
    if answer.claims is not None and isinstance(error, InteractionRequiredError):
        raise error


def _checked(token: AccessToken) -> AccessToken:
    if token.token_type.lower() != "bearer":
        raise ConfigurationError(
            f"BearerAuth sends bearer tokens, and this one is of type {token.token_type!r}, which "
            "needs a proof beside it: have its source fetch a bearer token"
        )
    return token


def _told(missing: tuple[str, ...], scopes: tuple[str, ...]) -> str:
    wanted = " ".join(missing) or "scopes that it does not name"
    return (
        f"the API wants {wanted}, and the token of {' '.join(scopes)} does not have them: have an "
        "administrator grant them to the app, or ask for a token of these scopes"
    )


def refuse_proxy(host: str | None, how: str) -> HostNotAllowedError:
    """Makes the error of a request without TLS that a proxy would read.

    Args:
        host: Where it goes.
        how: What to do about it.
    """
    return HostNotAllowedError(
        f"a request to {host} without https would take the token through a proxy in the clear: "
        f"use https, or no proxy for it ({how})"
    )
