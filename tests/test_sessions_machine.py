"""Any sequence of what programs, users and stores do to sessions: to each caller their own."""

from __future__ import annotations

import pytest
from fake_sessions import SessionApp, Worker, user_of
from fake_users import assertion
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support import FakeClock, RecordingStore

from tokenmgr import InteractionRequiredError, TokenManagerError

USERS, NAMES = st.sampled_from(["ann", "bob"]), st.sampled_from(["one", "two"])
WORKERS, SCOPES = st.integers(0, 1), st.sampled_from(["api://orders/read", "api://stock/read"])


class SessionMachine(RuleBasedStateMachine):
    """Two workers, two users, two names; the store may bring back what it had."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.app = SessionApp(self.clock)
        self.store = RecordingStore(self.clock)
        self.workers = [Worker(self.app, self.store, inline=True) for _ in range(2)]
        #: By name, whose the session is; nobody's where it may have ended.
        self.owners: dict[str, str | None] = {}
        self.snapshot: dict[str, tuple[bytes, float]] = {}
        self.rolled_back = False

    @rule(worker=WORKERS, user=USERS, name=NAMES, scope=SCOPES, sign_in=st.integers(0, 2))
    def begin(self, worker: int, user: str, name: str, scope: str, sign_in: int) -> None:
        exp = self.clock.wall() + 3600 + sign_in
        text = assertion(user, oid=user, exp=exp)
        assert user_of(self.workers[worker].begin(text, name, scope).get_access_token()) == user
        self.owners[name] = user

    @rule(worker=WORKERS, name=NAMES, scope=SCOPES, anew=st.booleans())
    def use(self, worker: int, name: str, scope: str, anew: bool) -> None:
        manager = self.workers[worker].manager(name, scope)
        try:
            token = manager.refresh_access_token() if anew else manager.get_access_token()
        except InteractionRequiredError:
            assert self.owners.get(name) is None or self.rolled_back
            self.owners[name] = None
        else:
            owner = self.owners.get(name)
            # Of what the store brings back nobody knows who has never seen the next one.
            assert owner == user_of(token) or self.rolled_back

    @rule(worker=WORKERS, name=NAMES)
    def end(self, worker: int, name: str) -> None:
        self.workers[worker].session(name).end()
        self.owners[name] = None

    @rule(seconds=st.sampled_from([1, 60, 3600, 7200]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def keep_a_copy(self) -> None:
        self.snapshot = dict(self.store._records)

    @rule()
    def roll_back(self) -> None:
        for name, (value, _) in self.snapshot.items():
            self.store.put(name, value, 1e6)
        self.rolled_back = self.rolled_back or bool(self.snapshot)

    @rule(number=WORKERS)
    def start_anew(self, number: int) -> None:
        self.workers[number] = Worker(self.app, self.store, inline=True)

    @invariant()
    def each_refresh_token_is_redeemed_once(self) -> None:
        assert self.rolled_back or len(self.app.shown) == len(set(self.app.shown))

    def teardown(self) -> None:
        for worker in self.workers:
            worker.sessions.close()


@pytest.mark.timeout(300)
class TestSessions(SessionMachine.TestCase):
    settings = settings(
        max_examples=settings.default.max_examples, stateful_step_count=30, deadline=None
    )


def test_a_machine_that_finds_nothing_wrong_has_seen_sessions_go_on():
    machine = SessionMachine()
    machine.begin(0, "ann", "one", "api://orders/read", 0)
    machine.wait(7200)
    machine.use(1, "one", "api://orders/read", anew=False)
    assert len(machine.app.shown) == 1
    with pytest.raises(TokenManagerError):
        machine.workers[0].get("two")
    machine.teardown()
