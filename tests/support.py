"""What tests of the core stand on: a clock moved by hand, and a source that does as it is told."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tokenmgr import AccessToken, AccessTokenManager, ClientSecret, RefreshPolicy, TokenKey
from tokenmgr._context import Context, new_context
from tokenmgr._engine.cell import Cell
from tokenmgr._runtime.refresher import Refresher
from tokenmgr._runtime.workers import Workers
from tokenmgr._sharing.keys import SealingKeys
from tokenmgr._sharing.slot import SealedStore
from tokenmgr.events import Event
from tokenmgr.manager import manager_of
from tokenmgr.stores import MemoryStore, TokenStore

SCOPE = "https://graph.microsoft.com/.default"
KEY = TokenKey(
    authority="https://login.microsoftonline.com/contoso.onmicrosoft.com",
    client_id="11111111-2222-3333-4444-555555555555",
    grant="client_credentials",
    scopes=(SCOPE,),
)

STORE_KEY = "what the records of the tests are sealed with"

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

#: No jitter and no back-off, so that a test says exactly when what is due.
EXACT = RefreshPolicy(jitter=0.0, backoff_base=0.0)


class FakeClock:
    """A clock that a test moves: both hands together, or the wall's alone."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._elapsed = 1_000.0
        self._wall = wall

    def elapsed(self) -> float:
        return self._elapsed

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Time goes by, whether the machine is awake or not."""
        self._elapsed += seconds
        self._wall += seconds

    def step_wall(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self._wall += seconds


class FakeSource:
    """Gives ``token-1``, ``token-2`` and so on; fails, waits or misbehaves when told to."""

    def __init__(self, clock: FakeClock, *, lifetime: float = 3600.0, name: str = "token") -> None:
        self.clock = clock
        self.name = name
        self.lifetime = lifetime
        self.refresh_in: float | None = None
        self.fetches = 0
        self.claims: list[str | None] = []
        self.error: BaseException | None = None
        self.during: Callable[[], None] = lambda: None
        #: Set when a fetch is under way; it goes on when ``gate`` is.
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        with self._lock:
            self.fetches += 1
            number = self.fetches
            self.claims.append(claims)
        asked_at = self.clock.wall()
        self.entered.release()
        assert self.gate.wait(30), "nobody opened the gate"
        self.during()
        if self.error is not None:
            raise self.error
        return AccessToken(
            secret=f"{self.name}-{number}",
            expires_at=asked_at + self.lifetime,
            refresh_at=None if self.refresh_in is None else asked_at + self.refresh_in,
            scopes=(SCOPE,),
        )


class RecordingStore(MemoryStore):
    """A store that notes what it is asked, and fails or answers late when it is told to."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.asked: list[str] = []
        self.error: BaseException | None = None
        self.failing: tuple[str, ...] = ("get", "put", "lease", "delete")
        self.before: Callable[[str], None] = lambda operation: None

    def _note(self, operation: str) -> None:
        self.asked.append(operation)
        self.before(operation)
        if self.error is not None and operation in self.failing:
            raise self.error

    def get(self, key: str) -> bytes | None:
        self._note("get")
        return super().get(key)

    def put(self, key: str, value: bytes, ttl: float) -> None:
        self._note("put")
        super().put(key, value, ttl)

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        self._note("lease")
        return super().lease(key, owner, ttl)

    def delete(self, key: str, value: bytes) -> bool:
        self._note("delete")
        return super().delete(key, value)

    @property
    def names(self) -> list[str]:
        return [key for key in self._records if self.get(key) is not None]


class HandRefresher(Refresher):
    """A refresher without its thread: a test steps it."""

    def _start(self) -> None:
        pass

    def run_due(self) -> None:
        """Starts all renewals that are due."""
        while self.step() == 0.0:
            pass


class HandWorkers(Workers):
    """Workers without threads: a test has their work done, or has none be able to start."""

    def __init__(self) -> None:
        super().__init__(1, name="hand")
        self.given: list[Callable[[], object]] = []
        self.can_start = True

    def do(self, work: Callable[[], object]) -> None:
        if not self.can_start:
            raise RuntimeError("can't start new thread")
        self.given.append(work)

    def run(self) -> None:
        while self.given:
            self.given.pop(0)()


def make_context(
    clock: FakeClock,
    policy: RefreshPolicy = EXACT,
    *,
    refresher: Refresher | None = None,
    workers: Workers | None = None,
    on_event: Callable[[Event], object] | None = None,
    fetch_timeout: float = 10.0,
) -> Context:
    """What managers have in common; without a thread that renews, unless one is given."""
    context = new_context(
        policy=policy, clock=clock, on_event=on_event, fetch_timeout=fetch_timeout
    )
    return replace(
        context,
        refresher=refresher or HandRefresher(clock),
        workers=workers or context.workers,
    )


def collect(context: Context) -> None:
    """Collects what nobody holds any more, once the workers have ended, which may hold it still."""
    context.settle(30)
    gc.collect()


def make_sealed(
    store: TokenStore, context: Context, keys: Sequence[str] = (STORE_KEY,)
) -> SealedStore:
    """One worker's part in a store."""
    sealing = SealingKeys(keys or None, ClientSecret("secret"))
    return SealedStore(store, sealing, namespace="test", context=context)


def make_manager(
    clock: FakeClock,
    source: FakeSource,
    policy: RefreshPolicy = EXACT,
    *,
    refresher: Refresher | None = None,
    workers: Workers | None = None,
    on_event: Callable[[Event], object] | None = None,
    key: TokenKey = KEY,
    store: TokenStore | None = None,
    keys: Sequence[str] = (STORE_KEY,),
) -> AccessTokenManager:
    """A manager; with ``store=``, that of one worker among others."""
    context = make_context(clock, policy, refresher=refresher, workers=workers, on_event=on_event)
    sealed = None if store is None else make_sealed(store, context, keys)
    return manager_of(Cell(source, key, context, sealed))


def settle(manager: AccessTokenManager) -> None:
    """Waits until no fetch of the manager's is under way."""
    for cell in (manager._plain, *manager._by_claims.values()):
        while (flight := cell._flight) is not None:
            assert flight.wait(30), "the fetch does not land"


def in_threads(count: int, work: Callable[[], object], timeout: float = 30.0) -> list[object]:
    """Runs ``work`` in so many threads at once; gives what each returned or raised."""
    outcomes: list[object] = []
    together = threading.Barrier(count)

    def run() -> None:
        together.wait(timeout)
        try:
            outcomes.append(work())
        except Exception as exc:  # noqa: BLE001 - it is the outcome
            outcomes.append(exc)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    assert len(outcomes) == count, "a thread is stuck"
    return outcomes


def unset(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Has variables be unset that this machine may have, in upper and in lower case."""
    for name in names:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def bearer_headers(token: str) -> dict[str, str]:
    """The headers of a request with this token."""
    return {"Authorization": f"Bearer {token}"}
