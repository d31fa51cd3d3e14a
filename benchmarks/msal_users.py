"""MSAL's on-behalf-of, in front of a service that answers within the process, at once."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from typing import Any

import msal

from .made_users import READ, TENANT, assertions

__all__ = ["MsalUsers"]

#: Characters of the refresh token and the ID token that come with each token, as MSAL asks for
#: them: what the local Entra's have, and less than Entra's.
_BESIDE = 700


class MsalUsers:
    """One of MSAL's apps, and the users who come to it.

    Args:
        token_length: Characters of each access token.
    """

    def __init__(self, *, token_length: int) -> None:
        self._service = _Service(token_length)
        self._app = msal.ConfidentialClientApplication(
            "66666666-7777-8888-9999-000000000000",
            client_credential="a",
            authority=f"https://login.microsoftonline.com/{TENANT}",
            instance_discovery=False,
            http_client=self._service,
        )
        self.length = token_length

    def come(self, count: int) -> None:
        """Lets so many new users come, each once."""
        for text in assertions(count, length=self.length):
            self.call(text)

    def call(self, text: str) -> None:
        """Makes the call that MSAL has for a user's token; each is another user's to it."""
        if "access_token" not in self._app.acquire_token_on_behalf_of(text, [READ]):
            raise RuntimeError("MSAL got no token")


class _Service:
    """What MSAL sends its requests through: all are answered, nobody is asked."""

    def __init__(self, token_length: int) -> None:
        self._length = token_length
        self._number = 0

    def get(self, url: str, **_: Any) -> _Response:  # noqa: ARG002 - MSAL gives one
        """The metadata."""
        at = f"https://login.microsoftonline.com/{TENANT}"
        return _Response(
            {
                "issuer": f"{at}/v2.0",
                "authorization_endpoint": f"{at}/oauth2/v2.0/authorize",
                "token_endpoint": f"{at}/oauth2/v2.0/token",
            }
        )

    def post(self, url: str, **_: Any) -> _Response:  # noqa: ARG002 - MSAL gives one
        """A token of a user who has not come before."""
        self._number += 1
        uid = f"00000000-0000-0000-0000-{self._number:012}"
        claims = {"oid": uid, "tid": TENANT, "sub": uid, "iss": "a", "aud": "a", "exp": 4e9}
        info = _part({"uid": uid, "utid": TENANT})
        return _Response(
            {
                "token_type": "Bearer",
                "expires_in": 3600,
                "scope": READ,
                "access_token": secrets.token_hex(self._length)[: self._length],
                "refresh_token": secrets.token_hex(_BESIDE // 2),
                "id_token": f"{_part({'alg': 'RS256'})}.{_part(claims)}.{'s' * 342}",
                "client_info": info,
            }
        )

    def close(self) -> None:
        """Closes nothing."""


class _Response:
    """An answer, in the shape that MSAL takes."""

    status_code = 200

    def __init__(self, said: dict[str, Any]) -> None:
        self.text = json.dumps(said)
        self.headers: dict[str, str] = {}

    def raise_for_status(self) -> None:
        """Raises nothing: it is 200."""


def _part(said: dict[str, object]) -> str:
    return urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
