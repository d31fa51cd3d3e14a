"""Who is signed in, in which browser: what Entra keeps in a cookie, for single sign-on."""

from __future__ import annotations

import secrets
import threading

from .users import Session, User

__all__ = ["Account", "Browsers"]

#: A user, and their sign-in, in one browser.
Account = tuple[User, Session]


class Browsers:
    """The accounts of each browser, by its cookie. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _accounts
        self._accounts: dict[str, dict[str, Account]] = {}

    def accounts(self, cookie: str) -> tuple[Account, ...]:
        """Who is signed in, and still may be; those of the last sign-in first."""
        with self._lock:
            kept = tuple(self._accounts.get(cookie, {}).values())
        return tuple(
            (user, session)
            for user, session in reversed(kept)
            if user.session(session.session_id) is not None and not user.disabled
        )

    def sign_in(self, cookie: str, account: Account) -> str:
        """Keep an account in a browser; returns its cookie, a new one for one without."""
        user, _ = account
        with self._lock:
            known = cookie if cookie in self._accounts else secrets.token_urlsafe(32)
            accounts = self._accounts.setdefault(known, {})
            accounts.pop(user.username, None)
            accounts[user.username] = account
        return known

    def sign_out(self, cookie: str, username: str | None = None) -> None:
        """Forget an account of a browser, or all of them."""
        with self._lock:
            if username is None:
                self._accounts.pop(cookie, None)
            else:
                self._accounts.get(cookie, {}).pop(username, None)
