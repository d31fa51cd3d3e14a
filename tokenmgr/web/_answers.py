"""What a web API answers to whom it has no answer for. No framework, no I/O.

RFC 6750, section 3, has the challenges of refused bearers, "Claims challenges, claims requests and
client capabilities" on Microsoft Learn those that ask for claims, and RFC 9110, section 10.2.3,
``Retry-After``. Of what another service said nothing is passed on but the claims, which are for the
caller: its words are for the log.
"""

from __future__ import annotations

import math
import re
from base64 import urlsafe_b64encode
from typing import NamedTuple

from .._runtime.secrecy import is_unicode
from ..errors import (
    BearerRefusedError,
    ConsentRequiredError,
    InteractionRequiredError,
    StoreError,
    ThrottledError,
    TokenManagerError,
)

__all__ = ["Answer", "answer_to"]

#: What RFC 6750, section 3, keeps out of its parameters.
_UNQUOTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
#: Seconds after which to come back, where the service that throttles has not said, and at most.
_SOON, _LATE = 1, 86_400


class Answer(NamedTuple):
    """An answer of 401, 403 or 503."""

    status: int
    #: ``WWW-Authenticate`` or ``Retry-After``, where there is one. Safe to send as they are.
    headers: list[tuple[str, str]]
    #: What is sent as JSON: ``error`` and ``error_description``, as OAuth 2.0 names them.
    body: dict[str, str]


def answer_to(error: BaseException) -> Answer | None:
    """Says how a caller is told of an error; None where that is the framework's own 500.

    A bearer that is not accepted is 401 or 403, as the error says. A user who has to sign in again
    is 401, with the claims to sign in with; consent that is missing, 403. What may be over soon, as
    throttling, an outage and a deadline, is 503. All else is the program's own trouble.

    Args:
        error: What was raised in the course of a request.
    """
    if isinstance(error, BearerRefusedError):
        return _of_bearer(error)
    if isinstance(error, InteractionRequiredError):
        return _of_interaction(error.claims)
    if isinstance(error, ConsentRequiredError):
        told = (
            "nobody has consented to what this API asks for on behalf of the user: have the user "
            "or an administrator consent to its permissions"
        )
        return Answer(403, [], _body("consent_required", told))
    if isinstance(error, TokenManagerError) and (error.retryable or isinstance(error, StoreError)):
        return _of_trouble(error)
    return None


def _of_bearer(error: BearerRefusedError) -> Answer:
    told = _quotable(str(error))
    if error.error is None:
        # A scheme has to have a parameter, and who has sent nothing is told no error.
        return Answer(error.status, [_challenge(realm="")], _body("invalid_request", told))
    parameters = {"error": error.error, "error_description": told}
    if error.scopes:
        parameters["scope"] = " ".join(error.scopes)
    return Answer(error.status, [_challenge(**parameters)], _body(error.error, told))


def _of_interaction(claims: str | None) -> Answer:
    told = "the user has to sign in again"
    # Claims that no UTF-8 can say, nobody could sign in with.
    if claims is None or not is_unicode(claims):
        parameters = {"error": "invalid_token", "error_description": told}
    else:
        encoded = urlsafe_b64encode(claims.encode()).decode()
        parameters = {"error": "insufficient_claims", "claims": encoded}
    return Answer(401, [_challenge(**parameters)], _body(parameters["error"], told))


def _of_trouble(error: TokenManagerError) -> Answer:
    wait = error.retry_after
    if wait is None or math.isnan(wait):
        wait = _SOON if isinstance(error, ThrottledError) else None
    seconds = None if wait is None else math.ceil(min(max(wait, _SOON), _LATE))
    headers = [] if seconds is None else [("Retry-After", str(seconds))]
    told = "what this API depends on cannot be had just now: try again later"
    return Answer(503, headers, _body("temporarily_unavailable", told))


def _challenge(**parameters: str) -> tuple[str, str]:
    told = ", ".join(f'{name}="{_quotable(value)}"' for name, value in parameters.items())
    return "WWW-Authenticate", f"Bearer {told}"


def _quotable(text: str) -> str:
    return _UNQUOTABLE.sub("'", text)


def _body(error: str, told: str) -> dict[str, str]:
    return {"error": error, "error_description": told}
