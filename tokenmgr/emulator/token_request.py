"""What the endpoints are asked, as the authorization server and its grants see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload

from .authorities import Authority
from .errors import EntraError
from .redirects import RESPONSE_MODES

__all__ = ["AuthorizationRequest", "TokenRequest"]


class TokenRequest(OAuth2Request):
    """A token request, with the authority that it was sent to.

    Args:
        authority: Where it was sent.
        headers: Its headers, in any case.
        form: The fields of its body, of which each counts once.
    """

    payload: BasicOAuth2Payload
    headers: Mapping[str, str]

    def __init__(
        self, *, authority: Authority, headers: Mapping[str, str], form: dict[str, str]
    ) -> None:
        super().__init__("POST", authority.token_endpoint, headers=headers)
        self.authority = authority
        self.payload = BasicOAuth2Payload(form)
        self._fields = form

    @property
    def form(self) -> dict[str, str]:
        """The fields of the body."""
        return self._fields


class AuthorizationRequest(TokenRequest):
    """What a browser brings to the authorization endpoint (RFC 6749, section 4.1.1).

    Args:
        authority: Where it was sent.
        fields: The parameters, from the address or the body, in their order.
    """

    def __init__(self, *, authority: Authority, fields: Iterable[tuple[str, str]]) -> None:
        given = list(fields)
        super().__init__(authority=authority, headers={}, form=dict(given))
        names = [name for name, _ in given]
        #: The parameters that are there more than once.
        self.duplicates: list[str] = sorted({name for name in names if names.count(name) > 1})

    @property
    def response_mode(self) -> str:
        """How the answer is to travel; the way for codes where the request has an unknown one."""
        mode = self.form.get("response_mode", "query")
        return mode if mode in RESPONSE_MODES else "query"

    @property
    def max_age(self) -> int | None:
        """Seconds that the sign-in may be old at most (OpenID Connect Core, section 3.1.2.1).

        Raises:
            EntraError: It is no such number.
        """
        text = self.form.get("max_age")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit():
            raise EntraError(90023, parameter="max_age")
        return int(text)
