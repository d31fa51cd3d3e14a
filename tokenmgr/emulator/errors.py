"""What Microsoft Entra answers when it refuses, in Entra's own words and shape.

The numbers and texts are in :mod:`.refusals` and :mod:`.b2c_refusals`; the JSON around them is
described in
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#error-response-1.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timezone

from authlib.oauth2 import OAuth2Error

from .b2c_refusals import B2C
from .refusals import ENTRA

__all__ = ["B2CError", "EntraError", "error_body"]


class EntraError(OAuth2Error):
    """A refusal with an AADSTS number.

    Args:
        code: The AADSTS number; the catalogue has its OAuth 2.0 error and its text.
        error: The OAuth 2.0 error, where Entra has more than one with this number.
        claims: The JSON text of what a new sign-in has to bring.
        details: What the placeholders of the text stand for. Never a secret.
    """

    def __init__(
        self, code: int, *, error: str | None = None, claims: str | None = None, **details: str
    ) -> None:
        refusal = ENTRA[code]
        self.name: str = error or refusal.error
        status = 401 if self.name == "invalid_client" else 400
        super().__init__(error=self.name, status_code=status)
        self.code = code
        # Not given to the base class: it refuses the quotes that callers may have sent as a
        # scope (RFC 6749, section 5.2), where Entra repeats whatever it was sent.
        self.text: str = refusal.text.format(**details)
        self._details = details
        more = {"suberror": refusal.suberror, "claims": claims}
        self._more = {name: value for name, value in more.items() if value is not None}

    def json(self, *, correlation_id: str | None, base_url: str) -> dict[str, object]:
        """The answer. See :func:`error_body`."""
        body = error_body(
            self.name,
            self.text,
            codes=[self.code],
            correlation_id=correlation_id,
            base_url=base_url,
        )
        return body | self._more

    def as_b2c(self) -> OAuth2Error:
        """The same refusal by a B2C user flow; this one where B2C has no word of its own for it."""
        refusal = B2C.get(self.code)
        if refusal is None:
            return self
        return B2CError(refusal.code, refusal.error, refusal.text.format(**self._details))


class B2CError(OAuth2Error):
    """A refusal of a B2C user flow, which says less than Entra does.

    See https://learn.microsoft.com/azure/active-directory-b2c/error-codes.

    Args:
        code: The AADB2C number.
        error: The OAuth 2.0 error code.
        text: What went wrong, without the number.
    """

    def __init__(self, code: int, error: str, text: str) -> None:
        super().__init__(error=error, status_code=400)
        self._error = error
        self._text = f"AADB2C{code}: {text}"

    def json(self, *, correlation_id: str | None, base_url: str) -> dict[str, object]:  # noqa: ARG002 - Entra's
        """The answer."""
        return {
            "error": self._error,
            "error_description": (
                f"{self._text}\r\nCorrelation ID: {correlation_id or uuid.uuid4()}\r\n"
                f"Timestamp: {_timestamp()}\r\n"
            ),
        }


def _timestamp() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def error_body(
    error: str, text: str, *, codes: Sequence[int], correlation_id: str | None, base_url: str
) -> dict[str, object]:
    """The JSON of a refusal.

    Args:
        error: The OAuth 2.0 error code, such as ``invalid_client``.
        text: What went wrong, without the ``AADSTS`` prefix.
        codes: The AADSTS numbers; the first one leads the description.
        correlation_id: The ``client-request-id`` that the caller sent, which Entra repeats.
        base_url: Where ``error_uri`` points.
    """
    trace_id = str(uuid.uuid4())
    correlation_id = correlation_id or str(uuid.uuid4())
    timestamp = _timestamp()
    prefix = f"AADSTS{codes[0]}: " if codes else ""
    body: dict[str, object] = {
        "error": error,
        "error_description": (
            f"{prefix}{text} Trace ID: {trace_id} Correlation ID: {correlation_id} "
            f"Timestamp: {timestamp}"
        ),
        "error_codes": list(codes),
        "timestamp": timestamp,
        "trace_id": trace_id,
        "correlation_id": correlation_id,
    }
    if codes:
        body["error_uri"] = f"{base_url}/error?code={codes[0]}"
    return body
