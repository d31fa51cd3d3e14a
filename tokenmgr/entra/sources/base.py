"""A credential that is itself a source of tokens, and what a registry makes of it.

Other credentials prove who an app is, and the app asks its authority. Behind these there is an
identity already: whoever has it gives tokens for a scope, and no client id, secret or authority is
anybody's to name.
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod

from ..._runtime.secrecy import Unpicklable, is_unicode
from ..._runtime.values import Value
from ...errors import ConfigurationError, ServiceUnavailableError, TokenManagerError
from ...identity.authority import Authority
from ...token import AccessToken, TokenKey
from ..client import Client
from ..grants.client_credentials import ClientCredentialsSource
from ..particulars import Extra

__all__ = [
    "Asked",
    "GivenSource",
    "SourceCredential",
    "checked_text",
    "source_of",
    "this_user_here",
]

#: Characters of an id, or a name.
_LONGEST = 1_024


class Asked(Value):
    """What a source is asked for."""

    scopes: tuple[str, ...]
    #: The claims that a resource asked for, as JSON; None when there are none.
    claims: str | None
    #: Whether the program answers claims challenges.
    cae: bool
    #: The tenant, where the program has named one.
    tenant: str | None
    #: Seconds that it may take.
    seconds: float
    #: The time, in seconds since 1970.
    now: float


class SourceCredential(Unpicklable, ABC):
    """A credential that is itself a source of tokens."""

    #: What its way to tokens is called in their keys.
    grant: str = ""
    #: Who it is, in the keys of tokens: two of one name share them.
    name: str = ""
    #: What stands for the authority, which is its own business.
    authority: Authority
    #: Whether it gives tokens of other tenants too.
    has_tenants: bool = False

    def check(self, asked: tuple[str, ...]) -> None:
        """Refuses scopes that it can never give.

        Args:
            asked: The scopes.

        Raises:
            InvalidScopeError: They are none of its.
        """

    @abstractmethod
    def fetch(self, asked: Asked) -> AccessToken:
        """Asks for a token, past every cache that can be passed.

        Args:
            asked: What for.

        Raises:
            TokenManagerError: There is none to be had.
        """

    def hold(self, owner: object) -> None:
        """Notes who uses it, such as a registry."""

    def let_go(self, owner: object) -> None:
        """Notes that somebody uses it no more; again, or without :meth:`hold`, it is nothing."""


class GivenSource:
    """A source of tokens for one scope, which a credential gives; see :class:`.token.TokenSource`.

    Args:
        client: The app that a registry has made of the credential.
        credential: The credential.
        scopes: What the tokens are for.
        cae: Whether the program answers claims challenges; as the client has it when left out.
        adds: Whether the request is to say something besides.

    Raises:
        InvalidScopeError: The scopes are none of its.
        ConfigurationError: ``adds``, for which there is no place.
    """

    def __init__(
        self,
        client: Client,
        credential: SourceCredential,
        scopes: tuple[str, ...],
        *,
        cae: bool | None = None,
        adds: bool = False,
    ) -> None:
        if adds:
            raise ConfigurationError(
                f"{credential!r} sends its requests by itself, and there is no place in them for "
                "forwarded_client_claims=, extra= and fmi_path=: leave them out"
            )
        credential.check(scopes)
        self._client = client
        self._credential = credential
        self._scopes = scopes
        self.key: TokenKey = client.key(credential.grant, scopes, cae=cae)

    def is_gone(self, error: TokenManagerError, failed_at: float) -> bool:
        """Whether what a failure came from has changed since; see the client."""
        # What is wrong with a credential nobody knows but whoever asks it again.
        unavailable = isinstance(error, ServiceUnavailableError)
        return unavailable and self._client.is_gone(error, failed_at)

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        """Fetches a token; see :class:`~tokenmgr.TokenSource`."""
        context = self._client.context
        asked = Asked(
            scopes=self._scopes,
            claims=claims,
            cae=self.key.cae,
            tenant=self._client.authority.tenant,
            seconds=context.fetch_timeout,
            now=context.clock.wall(),
        )
        with self._client.watching(self.key):
            return self._credential.fetch(asked)


def checked_text(kind: str, text: object) -> str:
    """Gives an id or a name that a program has given.

    Args:
        kind: What the argument is called.
        text: What it says.

    Raises:
        ConfigurationError: It is no text, or a long one.
    """
    plain = isinstance(text, str) and is_unicode(text) and text.isprintable()
    if not plain or not isinstance(text, str) or not 0 < len(text.strip()) <= _LONGEST:
        raise ConfigurationError(
            f"{kind}= is a text of 1 to {_LONGEST} printable characters: correct it"
        )
    return text.strip()


def this_user_here() -> str:
    """Names the machine and its user: others need not have the same identity."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return f"{user}@{socket.gethostname()}"


def source_of(
    client: Client,
    scopes: tuple[str, ...],
    *,
    cae: bool | None,
    forwarded_claims: str | None,
    extra: Extra | None,
    fmi_path: str | None = None,
) -> ClientCredentialsSource | GivenSource:
    """Makes the source of an app's own tokens: of its grant, or what its credential gives.

    Args:
        client: The app, at its authority.
        scopes: What the tokens are for.
        cae: As for :class:`ClientCredentialsSource`, and so are all that follow.
        forwarded_claims: As there.
        extra: As there.
        fmi_path: As there.

    Raises:
        TokenManagerError: As there.
    """
    credential = client.given_by
    if isinstance(credential, SourceCredential):
        own = client.particulars
        adds = (forwarded_claims, extra, fmi_path, own.forwarded_claims, own.extra)
        return GivenSource(client, credential, scopes, cae=cae, adds=any(adds))
    return ClientCredentialsSource(
        client,
        scopes,
        cae=cae,
        forwarded_claims=forwarded_claims,
        extra=extra,
        fmi_path=fmi_path,
    )
