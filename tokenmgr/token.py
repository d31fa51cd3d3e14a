"""What is kept, what it is kept under, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from ._runtime.secrecy import Unpicklable
from ._runtime.values import Value
from .errors import ConfigurationError, InvalidScopeError

__all__ = [
    "RESERVED_SCOPES",
    "AccessToken",
    "Record",
    "Scopes",
    "TokenKey",
    "TokenSource",
    "normalize_scopes",
]

#: What MSAL asks for by itself where a user signs in, and refuses to be told (OpenID Connect Core,
#: section 11).
RESERVED_SCOPES = frozenset({"openid", "profile", "offline_access"})

#: Scopes as a program gives them, one argument for each or several in one.
Scopes = tuple[str | Iterable[str], ...]

#: Characters of one scope, and of all that are given at once. What is longer is none of a program's
#: own, and is neither kept nor sent.
_LONGEST_SCOPE, _LONGEST_SCOPES = 2_048, 16_384


class AccessToken(Value, Unpicklable):
    """An access token and its times. It never changes, and its repr hides the secret."""

    _hidden = frozenset({"secret"})

    #: The token itself, as it goes behind ``Bearer``.
    secret: str
    #: When it expires, in seconds since 1970 (the wall clock of the machine that fetched it).
    expires_at: float
    #: When the service would like it renewed, on the same clock; None when it did not say.
    refresh_at: float | None = None
    #: The scopes it was asked for, sorted.
    scopes: tuple[str, ...] = ()
    #: How it is presented (RFC 6749, section 7.1).
    token_type: str = "Bearer"  # noqa: S105 - a name, no password
    #: The id of the key that it is bound to, such as a certificate's thumbprint (RFC 8705, section
    #: 3); empty where whoever bears it may use it.
    binding_key_id: str = ""

    @property
    def authorization(self) -> str:
        """The value of an ``Authorization`` header (RFC 6750, section 2.1)."""
        return f"{self.token_type} {self.secret}"


class Record(NamedTuple):
    """A token, and what the next worker has to know of it."""

    token: AccessToken
    #: When it was fetched, in seconds since 1970, by the clock of whoever fetched it.
    obtained_at: float


class TokenKey(Value):
    """All that makes two tokens different. Equal keys may share a token, and no others."""

    _hidden = frozenset({"forwarded_claims", "extra"})

    #: The authority's URL, with the B2C policy, which MSAL's own cache key leaves out.
    authority: str
    #: The app's client id.
    client_id: str
    #: The grant, such as ``client_credentials``.
    grant: str
    #: The scopes, as :func:`normalize_scopes` gives them.
    scopes: tuple[str, ...]
    #: For whom: the user, agent or session; empty for the app itself.
    subject: str = ""
    #: The claims that the token was asked for with; empty when none.
    claims: str = ""
    #: Whether the client answers claims challenges, and so gets long-lived tokens.
    cae: bool = False
    #: The claims that the program asks for with each token, as JSON; empty when none.
    forwarded_claims: str = ""
    #: Parameters that the token request has besides, sorted; empty when none.
    extra: tuple[tuple[str, str], ...] = ()
    #: How the token is to be presented.
    token_type: str = "Bearer"  # noqa: S105 - a name, no password
    #: The id of the key that it is to be bound to; empty for a bearer token.
    binding_key_id: str = ""


class TokenSource(Protocol):
    """Anything that fetches a token: every grant is one, and so is a test's fake.

    A manager calls it from whichever thread, one call at a time for the same claims; sources
    that serve several managers are called by several threads at once. It ends by itself: a source
    that waits on the network has a deadline of its own.
    """

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        """Fetches a new token, past every cache.

        Args:
            claims: The claims that a resource asked for in a challenge, as JSON text.

        Raises:
            TokenManagerError: There is no token to be had; ``retryable`` says whether it may
                be asked again with nothing changed.
        """
        ...


def normalize_scopes(scopes: str | Iterable[str | Iterable[str]]) -> tuple[str, ...]:
    """Brings scopes to the one form that keys are made of: sorted, each once.

    Args:
        scopes: Scopes, each a string, or a list of them; a string with spaces holds several
            (RFC 6749, section 3.3).

    Raises:
        ConfigurationError: There is none, or one is not a string.
        InvalidScopeError: One is longer than 2,048 characters, or all are than 16,384.
    """
    given: list[object] = []
    for each in (scopes,) if isinstance(scopes, str) else tuple(scopes or ()):
        whole = isinstance(each, str) or not isinstance(each, Iterable)
        given.extend((each,) if whole else each)
    texts = [scope for scope in given if isinstance(scope, str)]
    if len(texts) != len(given):
        raise ConfigurationError(
            "a scope is a string: pass scopes as separate strings, such as "
            "'https://graph.microsoft.com/.default'"
        )
    if sum(map(len, texts)) > _LONGEST_SCOPES:
        raise InvalidScopeError(
            f"the scopes have more than {_LONGEST_SCOPES} characters: see where they come from"
        )
    found = tuple(sorted({part for scope in texts for part in scope.split()}))
    if max(map(len, found), default=0) > _LONGEST_SCOPE:
        raise InvalidScopeError(
            f"a scope has more than {_LONGEST_SCOPE} characters: see where it comes from"
        )
    if not found:
        raise ConfigurationError(
            "no scope was given: name what the token is for, such as "
            "'https://graph.microsoft.com/.default'"
        )
    return found
