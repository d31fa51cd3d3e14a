"""Every error that tokenmgr raises, in one tree.

::

    TokenManagerError
    ├── ConfigurationError            what the program, or the app registration, has set is wrong
    ├── AuthorityError                the authority's address, or its metadata, cannot be used
    ├── TokenRequestError             the service was asked and gave no token
    │   ├── InvalidCredentialError    it does not believe the app's secret, certificate or assertion
    │   ├── InvalidScopeError         it does not know the scope or the resource
    │   ├── InteractionRequiredError  a person has to sign in (``claims`` says how)
    │   │   └── SessionNotFoundError  nothing is kept of the session that was asked for
    │   ├── ConsentRequiredError      a person or an administrator has to consent
    │   ├── ThrottledError            it was asked too often (``retry_after``)
    │   └── ServiceUnavailableError   it cannot be reached, or fails (``retry_after``)
    ├── TokenTimeoutError             the caller's own deadline passed first
    ├── StoreError                    the shared cache cannot be used
    ├── HostNotAllowedError           a token was about to leave for a host that it is not bound to
    ├── InsufficientScopeError        an API wants ``scopes`` that the token does not have
    ├── BearerRefusedError            a caller of this API has sent no bearer that is accepted
    └── SidecarError                  the Microsoft Entra SDK for AgentID gave no answer of use
        └── OverrideIgnoredError      it has, or would have, done another thing than was asked

What the SDK for AgentID says is told by its cause: a caller's token that it refuses is a
BearerRefusedError, a token that Entra has not given it is a TokenRequestError as with any other,
and what is wrong with the call itself is a ConfigurationError. SidecarError is what is left: it is
not there, fails, answers with what is no answer, or the API that it has called does.

A message says what happened and what to do next. It never holds a secret: no token, client
secret, assertion or key, and so it may be logged.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AuthorityError",
    "BearerRefusedError",
    "ConfigurationError",
    "ConsentRequiredError",
    "HostNotAllowedError",
    "InsufficientScopeError",
    "InteractionRequiredError",
    "InvalidCredentialError",
    "InvalidScopeError",
    "OverrideIgnoredError",
    "ServiceUnavailableError",
    "SessionNotFoundError",
    "SidecarError",
    "StoreError",
    "ThrottledError",
    "TokenManagerError",
    "TokenRequestError",
    "TokenTimeoutError",
]


class TokenManagerError(Exception):
    """The root of the tree: ``except TokenManagerError`` catches all that tokenmgr raises.

    Args:
        message: What happened, and what to do next.
        retryable: Whether the same call may succeed later with nothing changed. Left out, the
            class decides.
        error: The OAuth 2.0 error code that the service sent (RFC 6749, section 5.2).
        error_codes: The numbers of the service's AADSTS codes.
        correlation_id: What Microsoft support asks for, to find the request in its logs.
        trace_id: The same, for the service's side of it.
        claims: What a sign-in has to satisfy (see :class:`InteractionRequiredError`).
        retry_after: Seconds to wait before asking again (see :class:`ThrottledError`).
        status: The HTTP status of the answer, where there was one.
    """

    #: Whether the same call may succeed later, with nothing changed.
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        error: str | None = None,
        error_codes: tuple[int, ...] = (),
        correlation_id: str | None = None,
        trace_id: str | None = None,
        claims: str | None = None,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable
        #: The OAuth 2.0 error code, such as ``invalid_client``; None when the service sent none.
        self.error = error
        #: The numbers of the AADSTS codes, such as ``(7000215,)``.
        self.error_codes = error_codes
        #: The service's id of the request, where it sent one.
        self.correlation_id = correlation_id
        #: The service's id of its trace, where it sent one.
        self.trace_id = trace_id
        #: The claims that a sign-in has to satisfy, as JSON text, where the service asked for some.
        self.claims = claims
        #: Seconds to wait before asking again, where the service said so.
        self.retry_after = retry_after
        #: The HTTP status of the answer; None where there was none.
        self.status = status


class ConfigurationError(TokenManagerError):
    """A setting is missing, contradicts another, or does not fit the app's registration."""


class AuthorityError(TokenManagerError):
    """The authority's address is not one, or the metadata behind it cannot be used."""


class TokenRequestError(TokenManagerError):
    """The service was asked for a token and gave none."""


class InvalidCredentialError(TokenRequestError):
    """The service does not believe the credential: the secret, certificate or assertion."""


class InvalidScopeError(TokenRequestError):
    """The service does not know the scope, or its resource is not in the tenant."""


class InteractionRequiredError(TokenRequestError):
    """A person has to sign in, again or with more proof.

    ``claims`` is what the service asks the sign-in to satisfy: JSON text to send along with it
    (OpenID Connect Core, section 5.5), or None when it asked for nothing more.
    """


class SessionNotFoundError(InteractionRequiredError):
    """Nothing is kept of this session or user (any more): no service was asked.

    What a service refuses is an :class:`InteractionRequiredError`, whose ``error`` it names.
    """


class ConsentRequiredError(TokenRequestError):
    """Nobody has consented to what the app asks for."""


class ThrottledError(TokenRequestError):
    """The service was asked too often (HTTP 429).

    ``retry_after`` is the seconds to wait, as the service asked (RFC 9110, section 10.2.3).
    """

    retryable = True


class ServiceUnavailableError(TokenRequestError):
    """The service cannot be reached, is failing, or answers with what is no answer.

    ``retry_after`` is the seconds to wait, where the service asked for it.
    """

    retryable = True


class TokenTimeoutError(TokenManagerError):
    """The caller's own deadline passed before there was a token. The fetch itself goes on."""

    retryable = True


class StoreError(TokenManagerError):
    """The shared cache cannot be used as it is configured."""


class HostNotAllowedError(TokenManagerError):
    """A token was about to be sent to a host that it is not bound to, or without TLS."""


class InsufficientScopeError(TokenManagerError):
    """An API answered 403, as the token lacks scopes (RFC 6750, section 3.1).

    Args:
        message: As for :class:`TokenManagerError`, and so is what follows ``scopes``.
        scopes: What the API wants, as its answer says; empty where it does not.
    """

    def __init__(self, message: str, *, scopes: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(message, **more)
        #: The scopes that the API wants.
        self.scopes = scopes


class BearerRefusedError(TokenManagerError):
    """A caller of this API has sent no bearer that is accepted (RFC 6750, section 3.1).

    The message says why, and what the caller does next. It holds nothing of the token, and may be
    shown to the caller, as ``error_description``.

    Args:
        message: As for :class:`TokenManagerError`.
        status: The HTTP status to answer with: 401, or 403 for a caller who is known, and may not.
        error: ``invalid_token`` or ``insufficient_scope``; None where no bearer was sent at all.
        scopes: The scopes that were needed, where they are missing.
        **more: As for :class:`TokenManagerError`.
    """

    status: int

    def __init__(
        self,
        message: str,
        *,
        status: int = 401,
        error: str | None = "invalid_token",
        scopes: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        super().__init__(message, error=error, status=status, **more)
        #: The scopes of which the caller needs one.
        self.scopes = scopes


class SidecarError(TokenManagerError):
    """The Microsoft Entra SDK for AgentID, or the API that it has called, gave no answer of use.

    ``status`` is the HTTP status, where there was one.
    """


class OverrideIgnoredError(SidecarError):
    """The SDK for AgentID ignores what was asked for: the token is another agent's or user's.

    It does so without a word, with HTTP 200, wherever its operator has not opened a route to
    overrides. What it has given is not used.
    """
