"""What azure-identity's and azure-core's failures mean: our own errors, with no secrets in them.

Both are known by the names of their classes, so that neither has to be installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..._runtime.secrecy import Hidden
from ...errors import (
    InteractionRequiredError,
    InvalidCredentialError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
)
from ..answers import Answer, error_from_answer

__all__ = ["error_of"]

#: The HTTP statuses of a service in trouble begin here.
_IN_TROUBLE = 500
#: What is named as a secret, with what follows, and what is as long as a token. A command's output
#: is among these words, and anybody's code may put into them what it was given.
_NAMED = re.compile(
    r"""((?:secret|password|passwd|pwd|token|assertion|key)["']?\s*[=:]\s*["']?)[^\s"'&,;]+""",
    re.IGNORECASE,
)
_LONG = re.compile(r"[\w.~+=-]{100,}")
#: What cannot be reached, in azure-core's words, in aiohttp's and in Python's.
_UNREACHABLE = ("ServiceRequestError", "ServiceResponseError", "ClientConnectionError")


def error_of(failure: Exception, shown: str, claims: str | None) -> TokenManagerError:
    """Gives the typed error of what a credential has raised. It is not chained: it holds requests.

    Args:
        failure: What was raised.
        shown: What the credential is called.
        claims: The claims that it was asked for.
    """
    if isinstance(failure, TokenManagerError):
        return failure
    kinds = {kind.__name__ for kind in type(failure).__mro__}
    status = getattr(failure, "status_code", None)
    status = status if isinstance(status, int) else None
    said = Answer({"error_description": _words_of(failure).cell_contents})
    if not kinds.isdisjoint(_UNREACHABLE) or isinstance(failure, (TimeoutError, OSError)):
        return ServiceUnavailableError(
            f"{shown} gave no answer ({type(failure).__name__}): it is asked again later"
        )
    if "ClientAuthenticationError" not in kinds and "HttpResponseError" not in kinds:
        return TokenRequestError(
            f"{shown} failed with {type(failure).__name__}: see what that means there",
            retryable=True,
        )
    if status == 429 or (status or 0) >= _IN_TROUBLE:
        kind = ThrottledError if status == 429 else ServiceUnavailableError
        after = _retry_after(failure)
        return error_from_answer(said, kind=kind, retry_after=after, status=status, host=shown)
    if "CredentialUnavailableError" in kinds:
        return _unavailable(failure, said, shown, claims)
    return error_from_answer(said, kind=InvalidCredentialError, status=status, host=shown)


def _words_of(failure: Exception) -> Hidden:
    words = Hidden(str(getattr(failure, "message", "") or failure))
    words = Hidden(_NAMED.sub(r"\1[…]", words.cell_contents))
    return Hidden(_LONG.sub("[…]", words.cell_contents))


def _unavailable(
    failure: Exception, said: Answer, shown: str, claims: str | None
) -> TokenManagerError:
    """It has not even asked: nobody has signed in, or somebody has to anew."""
    demanded = getattr(failure, "claims", None) or claims
    named = error_from_answer(said, host=shown)
    if named.error_codes:
        return error_from_answer(said, kind=InvalidCredentialError, host=shown)
    words = str(named).partition(" What to do:")[0]
    if isinstance(demanded, str) or "AuthenticationRequiredError" in _names_of(failure):
        return InteractionRequiredError(
            f"{words} What to do: sign in again, with this error's claims.",
            claims=demanded if isinstance(demanded, str) else None,
        )
    return InvalidCredentialError(
        f"{words} What to do: sign in (az login), or give this machine an identity."
    )


def _names_of(failure: Exception) -> Iterator[str]:
    return (kind.__name__ for kind in type(failure).__mro__)


def _retry_after(failure: Any) -> float | None:
    headers = getattr(getattr(failure, "response", None), "headers", None) or {}
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except (AttributeError, TypeError, ValueError):
        return None
