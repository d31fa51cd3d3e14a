"""What sessions are called: in a store, in events, and in the index of users.

There are two kinds, which never meet: those that the program gives a name, and those of users who
have signed in, which are called after their accounts. Inside of the seal both are digests; whoever
has one of these finds the session, and learns nobody's name from it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64encode

from .._runtime.secrecy import Hidden, Unpicklable, is_unicode
from .._session import is_name
from ..entra.client import Client
from ..errors import ConfigurationError
from ..token import TokenKey

__all__ = ["SessionNames"]

#: The longest name that a program may give, in characters.
_LONGEST_NAME = 1_024
#: Enough never to be the same by chance or on purpose; for what people are called, by chance.
_USER_BYTES, _USERNAME_BYTES = 24, 9


class SessionNames(Unpicklable):
    """What the sessions of an app at an authority are called.

    A name is what describes the session in its record, hidden.

    Args:
        client: The app, at its authority.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._whose = client.authority.kind, client.authority.url, client.client_id
        #: What events call a session by, and nobody can guess it from.
        self._secret = secrets.token_bytes(32)

    @property
    def of_index(self) -> Hidden:
        """What the index of users is called."""
        return Hidden(json.dumps(["users", *self._whose]))

    def given(self, name: Hidden) -> Hidden:
        """Gives the name of a session that the program has called so.

        Raises:
            ConfigurationError: It is none.
        """
        if not isinstance(name.cell_contents, str) or not name.cell_contents:
            raise ConfigurationError(
                "session= is a text that the program makes up, one for each piece of work: its "
                "job's number, or secrets.token_urlsafe()"
            )
        if len(name.cell_contents) > _LONGEST_NAME or not is_unicode(name.cell_contents):
            raise ConfigurationError(
                f"session= is longer than {_LONGEST_NAME} characters, or has some that UTF-8 "
                "cannot say: make up another name"
            )
        digest = self._digest("tokenmgr session, 1", name).hex()
        return Hidden(json.dumps(["session", *self._whose, digest]))

    def of_account(self, home_account_id: Hidden) -> Hidden:
        """Gives the name of the session of a user who has signed in.

        Raises:
            ConfigurationError: No account is called so.
        """
        if not is_name(home_account_id.cell_contents) or not home_account_id.cell_contents:
            raise ConfigurationError(
                "home_account_id= is the text that UserSession.home_account_id gives, such as "
                "'uid.utid'"
            )
        digest = self._digest("tokenmgr user, 2", home_account_id)
        return self.of_user(_text(digest[:_USER_BYTES]))

    def of_user(self, user: str) -> Hidden:
        """Gives the name of the session of a user, of what the index has of it."""
        return Hidden(json.dumps(["user", *self._whose, user]))

    def user(self, name: Hidden) -> str | None:
        """Gives what the index has of a session; None for one that the program has named."""
        kind, *_, digest = json.loads(name.cell_contents)
        return digest if kind == "user" else None

    def username(self, username: Hidden) -> str:
        """Gives what the index has of what a person is called, in upper or lower case."""
        folded = Hidden(username.cell_contents.casefold())
        return _text(self._digest("tokenmgr username, 1", folded)[:_USERNAME_BYTES])

    def key(self, name: Hidden, scopes: tuple[str, ...]) -> TokenKey:
        """Gives the key of a session's token."""
        # Names are short, and could be guessed from a digest that anybody can make.
        made = hmac.new(self._secret, name.cell_contents.encode(), hashlib.sha256).digest()
        return self._client.key("refresh_token", scopes, _text(made))

    def _digest(self, what: str, text: Hidden) -> bytes:
        key = json.dumps([what, *self._whose]).encode()
        return hmac.new(key, text.cell_contents.encode(), hashlib.sha256).digest()


def _text(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode().rstrip("=")
