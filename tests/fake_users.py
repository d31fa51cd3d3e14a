"""Users without a service: assertions that nobody has signed, and an app that gives for them."""

from __future__ import annotations

import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from support import FakeClock, make_context, make_sealed

from tokenmgr import AccessToken, Authority, RefreshPolicy
from tokenmgr._context import Context
from tokenmgr._engine.flight import again
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr._runtime.workers import Workers
from tokenmgr.entra.client import Client
from tokenmgr.entra.particulars import Particulars
from tokenmgr.identity.proofs import Proof, SecretText
from tokenmgr.manager import AccessTokenManager
from tokenmgr.stores import TokenStore
from tokenmgr.token import TokenKey
from tokenmgr.users import Users

TENANT = "0f0f0f0f-1111-2222-3333-444444444444"
READ = "https://graph.microsoft.com/User.Read"


def assertion(user: str, *, exp: object = 1_800_003_600, tid: object = TENANT, **more: Any) -> str:
    """What a user's call brings; a claim that is None is left out."""
    claims = {"preferred_username": user, "exp": exp, "tid": tid} | more
    told = json.dumps({name: value for name, value in claims.items() if value is not None})
    return f"{_part(json.dumps({'alg': 'RS256'}))}.{_part(told)}.c2lnbmF0dXJl"


def _part(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


class FakeApp:
    """An app at its authority, of whose tokens each says whose it is, and for what."""

    #: As the app that it stands for.
    key, _subject = Client.key, Client._subject

    def __init__(self, clock: FakeClock, authority: Authority | None = None) -> None:
        self.clock = clock
        self.authority = authority or Authority.entra(TENANT)
        self.client_id = "11111111-2222-3333-4444-555555555555"
        self.cae = False
        self.particulars = Particulars()
        self.lifetime = 3600.0
        self.refresh_in: float | None = None
        #: What was asked for, by the user's assertion.
        self.asked: list[tuple[str, tuple[str, ...], str | None]] = []
        #: By assertion, what is raised; under "" for everybody.
        self.errors: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        #: What happens while it is asked.
        self.during: Callable[[], object] = lambda: None
        self.others: dict[str, FakeApp] = {}

    def at(self, authority: Authority) -> FakeApp:
        """The same app elsewhere."""
        return self.others.setdefault(authority.url, FakeApp(self.clock, authority))

    def wall(self) -> float:
        return self.clock.wall()

    def read_proof(self) -> Proof:
        return SecretText(text="the app's secret")

    def is_gone(self, error: Exception, failed_at: float) -> bool:
        return False

    def ask(self, grant: Any, key: TokenKey, proof: Proof | None = None) -> AccessToken:
        return grant(self)

    def acquire_token_on_behalf_of(
        self, text: str, scopes: list[str], claims_challenge: str | None
    ) -> AccessToken:
        self.asked.append((text, tuple(scopes), claims_challenge))
        number, asked_at = len(self.asked), self.clock.wall()
        self.entered.release()
        assert self.gate.wait(30), "nobody opened the gate"
        self.during()
        error = self.errors.get(text) or self.errors.get("")
        if error is not None:
            raise again(error)  # a new one, as in life
        due = None if self.refresh_in is None else asked_at + self.refresh_in
        secret = f"{hash((text, tuple(scopes), claims_challenge))}-{number}"
        return AccessToken(secret, asked_at + self.lifetime, due, tuple(scopes))


class NoWorkers(Workers):
    """No thread runs here: whoever asks fetches by himself, which is quicker."""

    def __init__(self) -> None:
        super().__init__(1, name="none")

    def do(self, work: Callable[[], object]) -> None:
        raise RuntimeError("no thread runs here")


class World:
    """The users of one worker."""

    def __init__(
        self,
        clock: FakeClock,
        *,
        most: int = 100,
        authority: Authority | None = None,
        store: TokenStore | None = None,
        app: FakeApp | None = None,
        inline: bool = False,
        **context: Any,
    ) -> None:
        self.clock = clock
        self.app = app or FakeApp(clock, authority)
        if inline:
            context["workers"] = NoWorkers()
        policy = context.pop("policy", RefreshPolicy(backoff_base=0.0))
        self.context: Context = make_context(clock, policy, **context)
        sealed = None if store is None else make_sealed(store, self.context)
        self.users = Users(most, self.app, self.context, sealed)  # type: ignore[arg-type]

    def manager(self, text: str, *scopes: str) -> AccessTokenManager:
        return self.users.manager(Hidden(text), scopes or (READ,))

    def get(self, text: str, *scopes: str) -> str:
        return self.manager(text, *scopes).get_access_token()

    @property
    def kept(self) -> set[str]:
        """The assertions of those who are kept."""
        return {text for text, *_ in self.users._all.served.cell_contents}

    @property
    def failed(self) -> set[str]:
        return {text for text, *_ in self.users._all.failed.cell_contents}
