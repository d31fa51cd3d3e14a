"""The users that the emulator knows: where they are, what they consent to, their sessions."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .authorities import tenant_guid

__all__ = ["Session", "User", "UserDirectory"]


@dataclass(frozen=True)
class Session:
    """One sign-in of a user, which every token that comes of it names as its ``sid``.

    Attributes:
        session_id: Its id, a GUID.
        started_at: When the user signed in, in seconds since the epoch.
        mfa: Whether the user did more than type a password.
    """

    session_id: str
    started_at: float
    mfa: bool


def _new_password() -> str:
    return secrets.token_urlsafe(12)


@dataclass
class User:
    """One person, with an object in each tenant that knows them.

    Each attribute is read and written as a whole: setting one from another thread needs no lock.

    Attributes:
        username: How they sign in (UPN).
        home_tenant_id: The GUID of the tenant that their account is of.
        disabled: Whether an administrator blocked them.
        account: ``managed``: the tenant has their password; ``federated``: somebody else has it;
            ``personal``: a Microsoft account, a guest wherever it is.
        password: What they type to sign in.
        mfa_code: What their authenticator shows, always the same.
        mfa_policy: The id of the policy that wants more than a password of them, None without one.
        mfa_error: The OAuth 2.0 error with which it says so.
        withdrawn: The scopes that they do not consent to; ``*`` for all.
        consented: Those of them that they have consented to since, on a page.
        valid_from: Sessions from before are revoked; seconds since the epoch.
        agent_id: The agent identity that acts as them, None for people.
        objects: Their ``oid`` in each tenant that they are member or guest of, by its GUID.
    """

    username: str
    home_tenant_id: str
    account: str = "managed"
    password: str = field(default_factory=_new_password, repr=False)
    mfa_code: str = field(default_factory=lambda: f"{secrets.randbelow(10**6):06}", repr=False)
    disabled: bool = False
    mfa_policy: str | None = None
    mfa_error: str = "interaction_required"
    withdrawn: frozenset[str] = frozenset()
    consented: frozenset[str] = frozenset()
    valid_from: float = 0.0
    agent_id: str | None = None
    objects: dict[str, str] = field(default_factory=dict, repr=False)
    _sessions: dict[str, Session] = field(default_factory=dict, repr=False)

    def object_id(self, tenant_id: str) -> str | None:
        """Their ``oid`` in a tenant, None where they are neither member nor guest."""
        return self.objects.get(tenant_id)

    def session(self, session_id: str) -> Session | None:
        """The session of this id, None when there is none or it was revoked."""
        return self._sessions.get(session_id)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """What they are signed in to, the last one at the end."""
        return tuple(self._sessions.values())

    def begin_session(self, *, mfa: bool) -> Session:
        """Sign them in."""
        session = Session(str(uuid.uuid4()), time.time(), mfa)
        self._sessions[session.session_id] = session
        return session

    def revoke(self) -> None:
        """End all that they signed in to, and so all that was granted because of it."""
        self.valid_from = time.time()
        self._sessions = {}

    def knows(self, password: str) -> bool:
        """Whether this is their password."""
        return secrets.compare_digest(password.encode(), self.password.encode())

    def consents_to(self, resource: str, names: frozenset[str]) -> bool:
        """Whether an app may have these scopes of a resource."""
        withdrawn, consented = self.withdrawn, self.consented
        wanted = {f"{resource}/{name}" for name in names} - consented
        return not wanted or not withdrawn & (wanted | {"*", f"{resource}/.default"})

    def consent(self, resource: str, names: frozenset[str]) -> None:
        """Let an app have these scopes of a resource from now on."""
        self.consented |= {f"{resource}/{name}" for name in names}


class UserDirectory:
    """The users by their names and by their objects. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows, and who is in which tenant
        self._by_name: dict[str, User] = {}
        self._by_object: dict[tuple[str, str], User] = {}

    def find(self, username: str) -> User | None:
        """The user of this name, in any case; None when there is none."""
        with self._lock:
            return self._by_name.get(username.lower())

    def add(self, username: str, tenant: str) -> User:
        """The user of this name, who is in this tenant from now on.

        A new one is at home there; one that is known already is its guest.
        """
        tenant_id = tenant_guid(tenant)
        with self._lock:
            user = self._by_name.get(username.lower())
            if user is None:
                user = self._by_name[username.lower()] = User(username, tenant_id)
            if tenant_id not in user.objects:
                object_id = str(uuid.uuid4())
                user.objects[tenant_id] = object_id
                self._by_object[tenant_id, object_id] = user
            return user

    def remove(self, user: User) -> None:
        """Forget a user, in every tenant and every browser."""
        user.revoke()
        with self._lock:
            self._by_name.pop(user.username.lower(), None)
            for key in user.objects.items():
                self._by_object.pop(key, None)

    def of_object(self, object_id: str) -> User | None:
        """Who has this object, in whichever tenant; None when nobody does."""
        with self._lock:
            found = (user for (_, each), user in self._by_object.items() if each == object_id)
            return next(found, None)

    def of_claims(self, claims: Mapping[str, Any]) -> User | None:
        """Whom the claims of a token are about, None when nobody is known by them."""
        key = (str(claims.get("tid", "")), str(claims.get("oid", "")))
        with self._lock:
            return self._by_object.get(key)
