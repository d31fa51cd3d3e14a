"""Sessions without a service: an app whose refresh tokens are good once each, and its workers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from emulator_clients import claims_of
from fake_users import READ, FakeApp, NoWorkers
from support import STORE_KEY, FakeClock, HandRefresher, make_context

from tokenmgr import AccessToken, Authority, ClientSecret, InteractionRequiredError, RefreshPolicy
from tokenmgr._engine.flight import again
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr._session import Account, SignedIn
from tokenmgr._sessions import Sessions
from tokenmgr._sharing.keys import SealingKeys
from tokenmgr._sharing.session import SharedSession
from tokenmgr._sharing.slot import SealedStore
from tokenmgr.entra.answers import Answer
from tokenmgr.identity.proofs import Proof
from tokenmgr.manager import AccessTokenManager
from tokenmgr.sessions import UserSession
from tokenmgr.stores import TokenStore
from tokenmgr.token import TokenKey

REFUSED = InteractionRequiredError("no", error="invalid_grant", error_codes=(70000,))


class SessionApp(FakeApp):
    """An app of whose tokens each says whose it is. A refresh token that is shown twice ends all
    that goes back to the same sign-in, as RFC 9700, section 4.14.2, has it."""

    def __init__(self, clock: FakeClock, authority: Authority | None = None) -> None:
        super().__init__(clock, authority)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._heard = threading.local()
        #: By refresh token: whose it is, and the sign-in that it goes back to.
        self.given: dict[str, tuple[str, str]] = {}
        #: Those that were shown, in their order, and the sign-ins that are over.
        self.shown: list[str] = []
        self.over: set[str] = set()
        #: Whether a refresh token comes along.
        self.rotates = True

    def ask(
        self,
        grant: Any,
        key: TokenKey,
        proof: Proof | None = None,
        *,
        hear_all: Callable[[Answer, str], object] | None = None,
    ) -> AccessToken:
        token: AccessToken = grant(self)
        if hear_all is not None:
            hear_all(Answer({"refresh_token": self._heard.refresh_token}), "")
        return token

    def acquire_token_on_behalf_of(
        self, text: str, scopes: list[str], claims_challenge: str | None
    ) -> AccessToken:
        self._may_fail(text)
        self.asked.append((text, tuple(scopes), claims_challenge))
        return self._give(claims_of(text)["preferred_username"], text, scopes)

    def acquire_token_by_refresh_token(
        self, refresh_token: str, scopes: list[str], data: dict[str, str]
    ) -> AccessToken:
        user, sign_in = self.given[refresh_token]
        self._may_fail(user)
        with self._lock:
            if refresh_token in self.shown and self.rotates:
                self.over.add(sign_in)
            self.shown.append(refresh_token)
            if sign_in in self.over:
                raise again(REFUSED)
        return self._give(user, sign_in, scopes)

    def sign_in(self, user: str, *scopes: str, **claims: Any) -> SignedIn:
        """What comes of a user's sign-in, each time a new one."""
        token = self._give(user, f"sign-in {next(self._numbers)}", list(scopes))
        said = {"preferred_username": f"{user}@contoso.com", **claims}
        account = Account(f"{user}.home", f"{user}@contoso.com", Hidden(said))
        refresh_token = Hidden(self._heard.refresh_token)
        return SignedIn(token, refresh_token, account, self.authority.url)

    def _may_fail(self, whose: str) -> None:
        self.entered.release()
        assert self.gate.wait(30), "nobody opened the gate"
        self.during()
        error = self.errors.get(whose) or self.errors.get("")
        if error is not None:
            raise again(error)

    def _give(self, user: str, sign_in: str, scopes: list[str]) -> AccessToken:
        number, asked_at = next(self._numbers), self.clock.wall()
        self._heard.refresh_token = ""
        if self.rotates or sign_in not in {each for _, each in self.given.values()}:
            self._heard.refresh_token = f"refresh-{number}"
            self.given[f"refresh-{number}"] = user, sign_in
        due = None if self.refresh_in is None else asked_at + self.refresh_in
        secret = f"{user}|{' '.join(scopes)}|{number}"
        return AccessToken(secret, asked_at + self.lifetime, due, tuple(scopes))


def user_of(token: str) -> str:
    return token.partition("|")[0]


class Worker:
    """The sessions of one worker."""

    def __init__(
        self,
        app: SessionApp,
        store: TokenStore | None = None,
        *,
        keys: Sequence[str] = (STORE_KEY,),
        most: int = 100,
        ttl: float = 1_209_600.0,
        inline: bool = False,
        **context: Any,
    ) -> None:
        if inline:
            context["workers"] = NoWorkers()
        context.setdefault("refresher", HandRefresher(app.clock))
        policy = context.pop("policy", RefreshPolicy(backoff_base=0.0, jitter=0.0))
        self.app = app
        #: What the sessions were called that were looked for, by what they are called inside.
        self.named: dict[str, str] = {}
        self.context = make_context(app.clock, policy, **context)
        self.sealed: SealedStore | None = None
        if store is not None:
            sealing = SealingKeys(tuple(keys), ClientSecret("secret"))
            self.sealed = SealedStore(store, sealing, namespace="test", context=self.context)
        self.sessions = Sessions(
            most,
            ttl,
            app,  # type: ignore[arg-type]
            self.context,
            self.sealed,
        )

    def begin(self, text: str, session: str, *scopes: str) -> AccessTokenManager:
        self.session(session)
        return self.sessions.begin(Hidden(session), scopes or (READ,), Hidden(text))

    def sign_in(self, user: str, *scopes: str, **claims: Any) -> UserSession:
        asked = scopes or (READ,)
        return self.sessions.sign_in(self.app.sign_in(user, *asked, **claims), asked)

    def user(self, user: str) -> UserSession:
        return self.sessions.user(Hidden(f"{user}.home"))

    def users(self, username: str | None = None) -> list[str]:
        return [each.username for each in self.sessions.users(Hidden(username))]

    def session(self, name: str) -> UserSession:
        session = self.sessions.session(Hidden(name))
        self.named[session._name.cell_contents] = name
        return session

    def shared(self, name: str) -> SharedSession:
        """A session as this worker knows it."""
        return self.sessions._session(self.session(name)._name)

    def manager(self, name: str, *scopes: str) -> AccessTokenManager:
        return self.session(name).manager(*(scopes or (READ,)))

    def get(self, name: str, *scopes: str) -> str:
        return self.manager(name, *scopes).get_access_token()

    @property
    def kept(self) -> list[tuple[str, str]]:
        """The sessions and assertions of the managers that are kept."""
        kept = self.sessions._all.served.cell_contents
        return [(self.named[name], text) for name, text, *_ in kept]
