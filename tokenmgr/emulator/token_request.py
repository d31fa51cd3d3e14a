"""A token request as the authorization server and its grants see it."""

from __future__ import annotations

from collections.abc import Mapping

from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload

from .authorities import Authority

__all__ = ["TokenRequest"]


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
