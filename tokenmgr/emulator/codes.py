"""The codes that are out: those of authorization, and those of devices. Each is good once."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin
from authlib.oauth2.rfc8628 import DeviceCredentialMixin

from .authorities import Authority
from .refresh_tokens import Family
from .users import Session, User

__all__ = ["AuthorizationCode", "AuthorizationCodes", "DeviceCode", "DeviceCodes"]

#: Bytes of randomness; with it the text is about as long as one of Entra's.
_SIZE = 512
#: What user codes are made of. Nothing that a person could take for something else.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ2345679"
_LENGTH = 9
#: Seconds that a device which asks too often has to wait longer (RFC 8628, section 3.5).
_SLOW_DOWN = 5.0


def _code() -> str:
    return "1." + secrets.token_urlsafe(_SIZE)


class _Code(Protocol):
    """What both kinds have, and become."""

    text: str
    redeemed: bool
    ended: bool


_C = TypeVar("_C", bound=_Code)


class _Codes(Generic[_C]):
    """Every code of one kind, whatever became of it. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _codes, and what becomes of each
        self._codes: dict[str, _C] = {}

    def keep(self, code: _C) -> None:
        """Give out a code."""
        with self._lock:
            self._codes[code.text] = code

    def find(self, text: str) -> _C | None:
        """The code with this text, whatever became of it; None when there never was one."""
        with self._lock:
            return self._codes.get(text)

    def redeem(self, code: _C) -> bool:
        """Use a code up. False when it was used before."""
        with self._lock:
            first, code.redeemed = not code.redeemed, True
            return first

    def end_all(self) -> None:
        """Let every code that is out be too old."""
        with self._lock:
            for code in self._codes.values():
                code.ended = True


@dataclass
class AuthorizationCode(AuthorizationCodeMixin):
    """One authorization code (RFC 6749, section 4.1.2).

    Attributes:
        user: Who signed in.
        session: How.
        client_id: The app that it was given to.
        public: Whether that is a public client, as its redirect URI has it.
        authority: Where they signed in; for ``common`` the user's own tenant.
        scope: What was asked for, and consented to.
        redirect_uri: Where it was sent; None when the request did not name one.
        nonce: What the ID token is to repeat.
        max_age: Whether the request had one, so that the ID token says when the user signed in.
        code_challenge: PKCE's (RFC 7636), None without.
        code_challenge_method: How it was made.
        lifetime: Seconds that it lives.
        family: The refresh tokens that it gives.
        redeemed: Whether it was used.
        ended: Whether it expired before its time, as a test wants it.
    """

    user: User
    session: Session
    client_id: str
    public: bool
    authority: Authority
    scope: str
    lifetime: float
    redirect_uri: str | None = None
    nonce: str | None = field(default=None, repr=False)
    max_age: bool = False
    code_challenge: str | None = field(default=None, repr=False)
    code_challenge_method: str | None = None
    issued_at: float = field(default_factory=time.time)
    text: str = field(default_factory=_code, repr=False)
    family: Family = field(default_factory=Family)
    redeemed: bool = False
    ended: bool = False

    def get_redirect_uri(self) -> str:
        """Where it was sent, as Authlib asks; empty when the request did not name a place."""
        return self.redirect_uri or ""

    def get_scope(self) -> str:
        """What was asked for, as Authlib asks."""
        return self.scope

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.ended or time.time() >= self.issued_at + self.lifetime


class AuthorizationCodes(_Codes[AuthorizationCode]):
    """Every authorization code that was ever given out. Safe to use from any thread."""

    def redeem(self, code: AuthorizationCode) -> bool:
        """Use a code up. False when it was used before, which ends what it has given too."""
        first = super().redeem(code)
        if not first:
            code.family.revoked = True
        return first


@dataclass
class DeviceCode(DeviceCredentialMixin):
    """One device that waits for its user (RFC 8628).

    Attributes:
        client_id: The app on the device.
        authority: Where it asked.
        scope: What it asked for.
        claims: The ``claims`` that it asked with.
        lifetime: Seconds that the user has.
        interval: Seconds that the device has to wait between its requests.
        text: What the device is known by.
        user_code: What the user types.
        asked_at: When the device asked last, on the monotonic clock; None when it never did.
        user: Who accepted or declined; None before.
        session: How they signed in; None when they declined.
        redeemed: Whether the device has had its answer.
        ended: Whether it expired before its time, as a test wants it.
    """

    client_id: str
    authority: Authority
    scope: str
    lifetime: float
    interval: float
    claims: str | None = None
    text: str = field(default_factory=_code, repr=False)
    user_code: str = field(
        default_factory=lambda: "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    )
    issued_at: float = field(default_factory=time.time)
    asked_at: float | None = None
    user: User | None = None
    session: Session | None = None
    declined: bool = False
    redeemed: bool = False
    ended: bool = False

    def get_client_id(self) -> str:
        """The app, as Authlib asks."""
        return self.client_id

    def get_scope(self) -> str:
        """What it asked for, as Authlib asks."""
        return self.scope

    def get_user_code(self) -> str:
        """What the user types, as Authlib asks."""
        return self.user_code

    def is_expired(self) -> bool:
        """Whether the user took too long, as Authlib asks."""
        return self.ended or time.time() >= self.issued_at + self.lifetime

    @property
    def decided(self) -> bool:
        """Whether the user has said yes or no."""
        return self.declined or self.session is not None

    def asks_too_often(self) -> bool:
        """Whether the device asks sooner than it may, which makes it wait longer from now on."""
        now, before = time.monotonic(), self.asked_at
        self.asked_at = now
        if before is None or now - before >= self.interval:
            return False
        self.interval += _SLOW_DOWN
        return True


class DeviceCodes(_Codes[DeviceCode]):
    """Every device that ever asked. Safe to use from any thread."""

    def of_user_code(self, user_code: str) -> DeviceCode | None:
        """The device that waits for this code; None when none does (any more)."""
        wanted = user_code.strip().upper().replace("-", "")
        with self._lock:
            waiting = [
                code
                for code in self._codes.values()
                if code.user_code == wanted and not code.decided and not code.is_expired()
            ]
        return waiting[0] if waiting else None
