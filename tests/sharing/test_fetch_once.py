"""Workers over one store: who fetches, who waits, and what they know of each other's tokens."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support import (
    EXACT,
    KEY,
    STORE_KEY,
    FakeClock,
    FakeSource,
    HandRefresher,
    RecordingStore,
    in_threads,
    make_context,
    make_manager,
    settle,
)
from waiting import until

from tokenmgr import (
    AccessToken,
    AccessTokenManager,
    ClientSecret,
    ConfigurationError,
    InvalidCredentialError,
    InvalidScopeError,
    RefreshPolicy,
    ServiceUnavailableError,
    StoreError,
    ThrottledError,
    TokenRequestError,
)
from tokenmgr._engine.cell import Cell
from tokenmgr._sharing.keys import SealingKeys
from tokenmgr._sharing.slot import SealedStore
from tokenmgr.events import (
    Event,
    LeaseOutlived,
    RecordRefused,
    StoreFailed,
    StoreRecovered,
    TokenAdopted,
    TokenRenewed,
)
from tokenmgr.identity.proofs import SecretText
from tokenmgr.manager import manager_of
from tokenmgr.stores import MemoryStore

#: What the service answers, and so every worker may believe.
REFUSAL = InvalidScopeError("no", error="invalid_scope", error_codes=(70011,))
#: What may hold for one worker's credential alone.
WRONG_SECRET = InvalidCredentialError("no", error="invalid_client", error_codes=(7000215,))


class Fleet:
    """Workers over one store, each with a manager and a source of its own."""

    def __init__(self, clock: FakeClock, count: int = 2, policy: RefreshPolicy = EXACT) -> None:
        self.clock = clock
        self.store = RecordingStore(clock)
        self.policy = policy
        self.events: list[Event] = []
        self.sources: list[FakeSource] = []
        self.refreshers: list[HandRefresher] = []
        self.managers = [self.worker() for _ in range(count)]

    def worker(self, keys: Sequence[str] = (STORE_KEY,)) -> AccessTokenManager:
        source = FakeSource(self.clock, name="abcdefgh"[len(self.sources)])
        refresher = HandRefresher(self.clock)
        self.sources.append(source)
        self.refreshers.append(refresher)
        return make_manager(
            self.clock,
            source,
            self.policy,
            refresher=refresher,
            store=self.store,
            keys=keys,
            on_event=self.events.append,
        )

    def probe(self, manager: AccessTokenManager) -> None:
        """Has a worker find that the store, which failed, is well again."""
        self.clock.advance(2)
        manager._cell.look()
        self.told(StoreRecovered)

    @property
    def fetches(self) -> int:
        return sum(source.fetches for source in self.sources)

    def told(self, kind: type[Event], count: int = 1) -> list[Event]:
        """Waits for so many events of a kind."""

        def found() -> list[Event]:
            return [event for event in self.events if type(event) is kind]

        until(lambda: len(found()) >= count, f"{kind.__name__}")
        return found()


@pytest.fixture
def fleet(clock: FakeClock) -> Fleet:
    return Fleet(clock)


# Finding a token.


def test_what_one_worker_fetched_serves_the_others(fleet):
    one, other = fleet.managers
    assert one.get_access_token() == "a-1"
    assert other.get_access_token() == "a-1"
    assert fleet.fetches == 1
    assert other.get_token().expires_at == one.get_token().expires_at
    assert other.status().last_success == one.get_token().expires_at - 3600
    fleet.told(TokenRenewed)
    fleet.told(TokenAdopted)


def test_a_fetch_is_five_small_operations_and_a_find_is_one(fleet):
    one, other = fleet.managers
    one.get_access_token()
    assert fleet.store.asked == ["get", "lease", "get", "put", "delete"]
    fleet.store.asked.clear()
    other.get_access_token()
    assert fleet.store.asked == ["get"]
    fleet.store.asked.clear()
    assert [manager.get_access_token() for manager in fleet.managers * 100] == ["a-1"] * 200
    assert not fleet.store.asked


def test_a_record_ends_with_its_token_and_no_lease_is_left(fleet, clock):
    fleet.managers[0].get_access_token()
    assert len(fleet.store.names) == 1
    clock.advance(3600)
    assert not fleet.store.names


def test_other_keys_other_namespaces_and_other_secrets_share_nothing(fleet, clock):
    fleet.managers[0].get_access_token()
    for field, value in [
        ("authority", f"{KEY.authority}/b2c_1_other"),
        ("client_id", "another"),
        ("grant", "another"),
        ("scopes", ("api://another/.default",)),
        ("subject", "alice"),
        ("claims", "{}"),
        ("cae", True),
    ]:
        source = FakeSource(clock)
        key = dataclasses.replace(KEY, **{field: value})
        make_manager(clock, source, key=key, store=fleet.store).get_access_token()
        assert source.fetches == 1, field
    assert fleet.worker(keys=["another key, long enough for anybody"]).get_access_token() == "c-1"


def test_a_worker_that_comes_late_in_a_token_s_life_renews_it_when_it_is_due(fleet, clock):
    one, other = fleet.managers
    one.get_access_token()
    clock.advance(2879)
    assert other.get_access_token() == "a-1"
    assert other.status().state == "fresh"
    clock.advance(1)
    assert other.status().state == "aging"


def test_an_aging_token_in_the_store_is_taken_at_once_and_renewed_behind_the_call(fleet, clock):
    one, other = fleet.managers
    one.get_access_token()
    clock.advance(3000)
    assert other.get_access_token() == "a-1"
    assert other.get_access_token() == "a-1"
    settle(other)
    assert other.get_access_token() == "b-1"


def test_the_skew_is_that_of_the_whole_life(fleet, clock):
    one, other = fleet.managers
    one.get_access_token()
    clock.advance(3589)
    assert other.get_access_token() == "a-1"
    clock.advance(1)
    assert other.get_access_token() == "b-1"


def test_min_ttl_is_met_by_a_new_token_where_the_store_s_lives_too_short(fleet, clock):
    one, other = fleet.managers
    one.get_access_token()
    clock.advance(2000)
    assert other.get_access_token(min_ttl=3000) == "b-1"
    assert fleet.fetches == 2


# Renewing.


def test_an_aging_token_is_looked_for_in_the_store_before_the_service_is_asked(fleet, clock):
    one, other = fleet.managers
    one.get_access_token()
    other.get_access_token()
    clock.advance(2880)
    one.get_access_token()
    settle(one)
    assert one.get_access_token() == "a-2"
    assert other.get_access_token() == "a-1"
    settle(other)
    assert other.get_access_token() == "a-2"
    assert fleet.fetches == 2


def test_a_refreshed_token_reaches_workers_that_hold_a_fresh_one(fleet, clock):
    one, other = fleet.managers
    one.get_access_token()
    other.get_access_token()
    clock.advance(1)
    assert one.refresh_access_token() == "a-2"
    clock.advance(75)
    other.get_access_token()
    fleet.refreshers[1].run_due()
    until(lambda: other.get_access_token() == "a-2", "the look at the store")
    assert fleet.fetches == 2


def test_who_is_not_asked_does_not_look(fleet, clock):
    _one, other = fleet.managers
    other.get_access_token()
    fleet.refreshers[1].run_due()
    clock.advance(75)
    fleet.refreshers[1].run_due()
    fleet.store.asked.clear()
    for _ in range(10):
        clock.advance(75)
        fleet.refreshers[1].run_due()
    assert not fleet.store.asked
    assert other.get_access_token() == "b-1"


def test_a_token_that_is_only_looked_after_is_let_go(fleet, clock):
    one, _ = fleet.managers
    one.get_access_token()
    clock.advance(75)
    one.get_access_token()
    for _ in range(100):
        clock.advance(75)
        fleet.refreshers[0].run_due()
        settle(one)
    # It was in use during its first life, and so renewed once.
    assert fleet.fetches == 2


def test_an_older_token_never_takes_the_place_of_a_newer_one(fleet, clock):
    one, _other = fleet.managers
    one.get_access_token()
    name = fleet.store.names[0]
    first = fleet.store.get(name)
    clock.advance(10)
    assert one.refresh_access_token() == "a-2"
    fleet.store.put(name, first, 3000.0)
    clock.advance(75)
    one.get_access_token()
    looked = len(fleet.store.asked)
    fleet.refreshers[0].run_due()
    until(lambda: len(fleet.store.asked) > looked)
    assert one.get_access_token() == "a-2"


# Fetching: one for all.


def test_of_many_workers_at_once_one_fetches(clock):
    fleet = Fleet(clock, count=8)
    for source in fleet.sources:
        source.gate.clear()
    threading.Thread(target=lambda: _open_later(fleet), daemon=True).start()
    takers = iter(fleet.managers * 4)
    tokens = in_threads(32, lambda: next(takers).get_access_token())
    assert len(set(tokens)) == 1
    assert fleet.fetches == 1


def _open_later(fleet: Fleet) -> None:
    until(lambda: fleet.fetches, "the fetch")
    for source in fleet.sources:
        source.gate.set()


def test_refreshes_of_all_workers_at_once_are_one(clock):
    fleet = Fleet(clock, count=4)
    for manager in fleet.managers:
        manager.get_access_token()
    for source in fleet.sources:
        source.gate.clear()
    together = threading.Barrier(4)

    def refresh_in_step(manager: AccessTokenManager) -> str:
        together.wait(30)
        return manager.refresh_access_token()

    # All have looked at what there is before the first of them asks.
    looked = threading.Barrier(4)
    local = threading.local()

    def before(operation: str) -> None:
        if operation == "lease" and not getattr(local, "leased", False):
            local.leased = True
            looked.wait(30)

    fleet.store.before = before
    threading.Thread(target=lambda: _open_when(fleet, 2), daemon=True).start()
    takers = iter(fleet.managers)
    tokens = in_threads(4, lambda: refresh_in_step(next(takers)))
    assert len(set(tokens)) == 1
    assert fleet.fetches == 2


def _open_when(fleet: Fleet, fetches: int) -> None:
    until(lambda: fleet.fetches == fetches, "the fetch")
    for source in fleet.sources:
        source.gate.set()


def test_a_refresh_is_not_served_by_what_was_there(fleet):
    one, other = fleet.managers
    one.get_access_token()
    assert other.refresh_access_token() == "b-1"
    assert one.refresh_access_token() == "a-2"


def test_the_answer_to_one_claims_challenge_serves_every_worker_that_meets_it(fleet):
    one, other = fleet.managers
    one.get_access_token()
    other.get_access_token()
    assert one.refresh_access_token(claims='{"nbf": 1}') == "a-2"
    assert other.refresh_access_token(claims='{"nbf": 1}') == "a-2"
    assert other.refresh_access_token(claims='{"nbf": 2}') == "b-1"
    assert fleet.sources[1].claims == ['{"nbf": 2}']


# Failing.


def test_what_the_service_answers_one_worker_is_the_answer_to_all_who_wait(clock):
    fleet = Fleet(clock, count=8)
    for source in fleet.sources:
        source.gate.clear()
        source.error = REFUSAL
    threading.Thread(target=lambda: _open_later(fleet), daemon=True).start()
    takers = iter(fleet.managers)
    errors = in_threads(8, lambda: next(takers).get_access_token())
    assert [type(error) for error in errors] == [InvalidScopeError] * 8
    assert {error.error_codes for error in errors} == {(70011,)}
    assert fleet.fetches == 1


def test_a_service_that_fails_is_not_asked_by_every_worker_that_waits(fleet):
    one, other = fleet.managers
    fleet.sources[0].error = ServiceUnavailableError("failing", status=503)
    with pytest.raises(ServiceUnavailableError):
        one.get_access_token()
    with pytest.raises(ServiceUnavailableError) as caught:
        other.get_access_token()
    assert caught.value.status == 503
    assert fleet.fetches == 1


def test_word_of_a_refusal_stands_for_two_seconds(fleet, clock):
    one, other = fleet.managers
    fleet.sources[0].error = REFUSAL
    with pytest.raises(InvalidScopeError):
        one.get_access_token()
    clock.advance(1.9)
    with pytest.raises(InvalidScopeError):
        other.get_access_token()
    clock.advance(0.1)
    assert other.get_access_token() == "b-1"


def test_a_throttled_fleet_leaves_the_service_alone_for_as_long_as_it_asked(fleet, clock):
    one, other = fleet.managers
    fleet.sources[0].error = ThrottledError("slow down", retry_after=30.0)
    with pytest.raises(ThrottledError):
        one.get_access_token()
    clock.advance(20)
    with pytest.raises(ThrottledError) as caught:
        other.get_access_token()
    assert caught.value.retry_after == 10.0
    clock.advance(10)
    assert other.get_access_token() == "b-1"


def test_a_host_without_a_network_fails_nobody_but_itself(fleet):
    one, other = fleet.managers
    fleet.sources[0].error = ServiceUnavailableError("no route")
    with pytest.raises(ServiceUnavailableError):
        one.get_access_token()
    assert other.get_access_token() == "b-1"
    assert one.get_access_token() == "b-1"


def test_a_worker_with_an_old_secret_does_not_fail_those_with_the_new_one(fleet):
    one, other = fleet.managers
    fleet.sources[0].error = WRONG_SECRET
    with pytest.raises(InvalidCredentialError):
        one.get_access_token()
    assert other.get_access_token() == "b-1"


def test_workers_that_share_by_their_secret_share_what_is_said_of_it(clock):
    fleet = Fleet(clock, count=0)
    one, other = fleet.worker(keys=()), fleet.worker(keys=())
    fleet.sources[0].error = WRONG_SECRET
    for manager in (one, other):
        with pytest.raises(InvalidCredentialError):
            manager.get_access_token()
    assert fleet.fetches == 1


def test_claims_that_are_refused_fail_nobody_s_plain_calls(fleet):
    one, other = fleet.managers
    fleet.sources[0].error = REFUSAL
    with pytest.raises(InvalidScopeError):
        one.refresh_access_token(claims="{}")
    with pytest.raises(InvalidScopeError):
        fleet.worker().refresh_access_token(claims="{}")
    assert other.get_access_token() == "b-1"
    assert fleet.sources[2].fetches == 0


def test_with_a_valid_token_no_answer_to_another_worker_is_a_failure(fleet, clock):
    one, other = fleet.managers
    one.get_access_token()
    other.get_access_token()
    clock.advance(2880)
    fleet.sources[0].error = REFUSAL
    one.get_access_token()
    settle(one)
    assert other.get_access_token() == "a-1"
    settle(other)
    assert other.get_access_token() == "a-1"
    assert fleet.fetches == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupted_worker_gives_its_lease_back_and_says_nothing(fleet):
    one, other = fleet.managers
    fleet.sources[0].error = KeyboardInterrupt()
    with pytest.raises(TokenRequestError, match="interrupted"):
        one.get_access_token()
    assert not fleet.store.names
    assert other.get_access_token() == "b-1"


# A holder that dies.


def dead_holder(fleet: Fleet) -> str:
    """Leaves a lease behind as a worker that is killed does; gives its name."""
    fleet.managers[0].get_access_token()
    (name,) = fleet.store.names
    fleet.store.delete(name, fleet.store.get(name))
    assert fleet.store.lease(f"{name}:lease", b"d" * 16, 12.0)
    return f"{name}:lease"


def test_a_killed_holder_costs_at_most_its_lease(fleet, clock):
    dead_holder(fleet)
    taken: list[object] = []
    waiter = threading.Thread(target=lambda: taken.append(fleet.managers[1].get_access_token()))
    waiter.start()
    asked = len(fleet.store.asked)
    until(lambda: len(fleet.store.asked) > asked + 5, "the waiting")
    assert not taken
    clock.advance(12)
    waiter.join(30)
    assert taken == ["b-1"]


def test_a_lease_that_never_ends_is_waited_for_once(fleet, clock):
    name = dead_holder(fleet)
    fleet.store.put(name, b"d" * 16, 10_000.0)
    waiter = threading.Thread(target=fleet.managers[1].get_access_token)
    waiter.start()
    asked = len(fleet.store.asked)
    until(lambda: len(fleet.store.asked) > asked + 5, "the waiting")
    clock.advance(14)
    waiter.join(30)
    assert fleet.managers[1].get_access_token() == "b-1"
    assert fleet.told(LeaseOutlived)


def test_a_fleet_of_leases_that_change_hands_is_not_waited_for_for_ever(fleet, clock):
    name = dead_holder(fleet)
    holders = iter(range(10_000))

    def change_hands(operation: str) -> None:
        if operation == "lease":
            MemoryStore.put(fleet.store, name, b"%016d" % next(holders), 5.0)

    fleet.store.before = change_hands
    waiter = threading.Thread(target=fleet.managers[1].get_access_token)
    waiter.start()
    for _ in range(6):
        asked = len(fleet.store.asked)
        until(lambda asked=asked: len(fleet.store.asked) > asked + 3 or not waiter.is_alive())
        clock.advance(5)
    waiter.join(30)
    assert fleet.managers[1].get_access_token() == "b-1"


def test_a_lease_that_is_refused_and_held_by_nobody_is_waited_for_in_peace(fleet, clock):
    fleet.store.lease = lambda key, owner, ttl: fleet.store._note("lease") or False
    waiter = threading.Thread(target=fleet.managers[0].get_access_token)
    waiter.start()
    until(lambda: fleet.store.asked.count("lease") > 5, "the waiting")
    clock.advance(30)
    waiter.join(30)
    assert fleet.managers[0].get_access_token() == "a-1"
    assert fleet.store.asked.count("lease") < 1000
    fleet.told(TokenRenewed)
    assert not any(isinstance(event, RecordRefused) for event in fleet.events)


def test_a_closed_registry_waits_for_no_lease(fleet):
    dead_holder(fleet)
    other = fleet.managers[1]
    outcomes: list[object] = []
    waiter = threading.Thread(target=lambda: outcomes.extend(in_threads(1, other.get_access_token)))
    waiter.start()
    asked = len(fleet.store.asked)
    until(lambda: len(fleet.store.asked) > asked + 3, "the waiting")
    other._cell._sealed.closed = True
    waiter.join(30)
    assert [type(outcome) for outcome in outcomes] == [ConfigurationError]


# Invalidating.


def test_a_token_that_was_refused_is_no_longer_in_the_store(fleet):
    one, other = fleet.managers
    one.get_access_token()
    one.invalidate("a-1")
    until(lambda: not fleet.store.names, "the removal")
    assert other.get_access_token() == "b-1"


def test_a_late_refusal_does_not_take_the_new_token_out_of_the_store(fleet):
    one, other = fleet.managers
    one.get_access_token()
    other.get_access_token()
    one.refresh_access_token()
    other.invalidate("a-1")
    assert other.get_access_token() == "a-2"
    assert fleet.fetches == 2


def test_a_refused_token_is_not_taken_again_although_the_store_could_not_drop_it(fleet, clock):
    one, _ = fleet.managers
    one.get_access_token()
    fleet.store.error, fleet.store.failing = OSError(), ("delete",)
    one.invalidate("a-1")
    fleet.told(StoreFailed)
    fleet.store.error = None
    fleet.probe(one)
    assert one.get_access_token() == "a-2"
    assert fleet.worker().get_access_token() == "a-2"


def test_a_refused_token_is_dropped_when_the_store_is_back(fleet, clock):
    one, _ = fleet.managers
    one.get_access_token()
    fleet.store.error = OSError()
    for number in (1, 2):
        one.invalidate(f"a-{number}")
        fleet.told(StoreFailed, number)
        assert one.get_access_token() == f"a-{number + 1}"
        clock.advance(30)
    fleet.store.error = None
    fleet.probe(one)
    one.get_access_token()
    clock.advance(75)
    fleet.refreshers[0].run_due()
    until(lambda: not fleet.store.names, "the removal")


# Trouble with what is in the store.


@pytest.mark.parametrize("spoil", [lambda sealed: sealed[:-1], lambda sealed: b"", lambda _: b"{}"])
def test_a_spoiled_record_is_a_miss_and_an_event(fleet, spoil):
    one, other = fleet.managers
    one.get_access_token()
    (name,) = fleet.store.names
    fleet.store.put(name, spoil(fleet.store.get(name)), 3600.0)
    assert other.get_access_token() == "b-1"
    assert fleet.told(RecordRefused)[0].key == KEY
    assert fleet.worker().get_access_token() == "b-1"


def test_a_token_from_a_clock_far_ahead_is_not_believed(fleet, clock):
    one, other = fleet.managers
    clock.step_wall(7200)
    one.get_access_token()
    clock.step_wall(-7200)
    assert other.get_access_token() == "b-1"


def test_a_clock_that_is_set_back_does_not_lengthen_a_record_s_life(fleet, clock):
    one, other = fleet.managers
    fleet.sources[0].during = lambda: clock.step_wall(-7200)
    one.get_access_token()
    clock.advance(3600)
    assert other.get_access_token() == "b-1"


# Rotating the key.


def test_records_are_found_under_every_key_and_written_under_the_first(clock):
    old, new = "the older key " * 3, "the newer key " * 3
    fleet = Fleet(clock, count=0)
    before = fleet.worker(keys=[old])
    during = fleet.worker(keys=[new, old])
    after = fleet.worker(keys=[new])
    assert before.get_access_token() == "a-1"
    assert during.get_access_token() == "a-1"
    assert during.refresh_access_token() == "b-1"
    assert after.get_access_token() == "b-1"


def test_a_refused_token_is_dropped_under_every_key(clock):
    old, new = "the older key " * 3, "the newer key " * 3
    fleet = Fleet(clock, count=0)
    before, during = fleet.worker(keys=[old]), fleet.worker(keys=[new, old])
    before.get_access_token()
    during.get_access_token()
    during.invalidate("a-1")
    until(lambda: not fleet.store.names, "the removal")


# A store that fails.


@pytest.mark.parametrize("failing", ["get", "put", "lease", "delete"])
@pytest.mark.parametrize("error", [OSError("gone"), StoreError("full"), ValueError(), TypeError()])
def test_a_store_that_fails_anywhere_fails_no_call(fleet, clock, failing, error):
    fleet.store.error, fleet.store.failing = error, (failing,)
    for manager in fleet.managers:
        manager.get_access_token()
        clock.advance(2880)
        manager.get_access_token()
        settle(manager)
        clock.advance(15)  # where a lease cannot be given back, it has to end
        manager.refresh_access_token()
        clock.advance(15)
        manager.invalidate(manager.get_access_token())
        manager.get_access_token()
        assert manager.status().state == "fresh"
    assert fleet.told(StoreFailed)[0].operation == failing


def test_a_record_that_cannot_be_kept_leaves_no_lease_behind(fleet):
    fleet.store.error, fleet.store.failing = OSError("full"), ("put",)
    one, other = fleet.managers
    one.get_access_token()
    until(lambda: not fleet.store.names, "its being given back, behind the call")
    assert other.get_access_token() == "b-1"


def test_where_records_cannot_be_kept_those_who_wait_are_told_to_go_alone(fleet):
    def refuse_records(operation: str) -> None:
        if operation == "put" and fleet.store.asked == ["get", "lease", "get", "put"]:
            raise ValueError("too long for the column")

    fleet.store.before = refuse_records
    one, other = fleet.managers
    one.get_access_token()
    (lease,) = fleet.store.names
    assert lease.endswith(":lease")
    assert other.get_access_token() == "b-1"


def test_databases_may_have_their_own_type_of_bytes(fleet):
    fleet.managers[0].get_access_token()
    get = fleet.store.get
    fleet.store.get = lambda key: (value := get(key)) and memoryview(value)
    assert fleet.managers[1].get_access_token() == "a-1"


def test_a_store_that_comes_back_is_used_again(fleet, clock):
    one, other = fleet.managers
    fleet.store.error = OSError("gone")
    one.get_access_token()
    fleet.store.error = None
    clock.advance(2)
    assert one.refresh_access_token() == "a-2", "and it is probed meanwhile"
    assert fleet.told(StoreRecovered)
    one.refresh_access_token()
    assert other.get_access_token() == "a-3"


def test_a_failing_store_is_asked_once_and_not_by_every_call(clock):
    fleet = Fleet(clock, count=1)
    fleet.store.error = OSError("gone")
    fleet.managers[0].get_access_token()
    fleet.managers[0].refresh_access_token()
    assert fleet.store.asked == ["get"]


@pytest.mark.parametrize("nonsense", ["text", 5, [b"value"]])
def test_a_store_that_answers_nonsense_fails_and_no_call_does(fleet, nonsense):
    fleet.managers[0].get_access_token()
    fleet.store.get = lambda key: nonsense
    assert fleet.managers[1].get_access_token() == "b-1"
    assert "mend the store" in fleet.told(StoreFailed)[0].error


class Proving(FakeSource):
    """A source whose credential is read for each fetch."""

    def __init__(self, clock: FakeClock, credential: ClientSecret, name: str = "token") -> None:
        super().__init__(clock, name=name)
        self.credential = credential
        self.proofs: list[object] = []

    def read_proof(self) -> SecretText:
        return self.credential.read()

    def fetch_token(self, *, claims: str | None = None, proof: object = None) -> AccessToken:
        self.proofs.append(proof)
        return super().fetch_token(claims=claims)


def sharing_by(
    credential: ClientSecret, store: RecordingStore, source: FakeSource, clock: FakeClock
) -> AccessTokenManager:
    context = make_context(clock)
    keys = SealingKeys(None, credential)
    sealed = SealedStore(store, keys, namespace="test", context=context)
    return manager_of(Cell(source, KEY, context, sealed))


def test_a_credential_that_cannot_be_read_leaves_the_store_alone(clock, tmp_path):
    store, secret = RecordingStore(clock), ClientSecret(file=tmp_path / "nothing")
    source = Proving(clock, secret)
    manager = sharing_by(secret, store, source, clock)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        manager.get_access_token()
    assert not store.asked
    assert source.fetches == 0


def test_a_credential_is_read_once_for_a_fetch_and_what_was_read_is_what_is_sent(clock):
    reads = []
    secret = ClientSecret(lambda: reads.append(1) or f"secret {len(reads)}")
    source = Proving(clock, secret)
    manager = sharing_by(secret, RecordingStore(clock), source, clock)
    manager.get_access_token()
    assert (len(reads), [proof.text for proof in source.proofs]) == (1, ["secret 1"])
    manager.refresh_access_token()
    assert (len(reads), source.proofs[1].text) == (2, "secret 2")


def test_the_first_flights_of_a_process_side_by_side_all_share(clock):
    store = RecordingStore(clock)
    for number in range(20):
        secret = ClientSecret(lambda: "secret")
        keys = SealingKeys(None, secret)
        context = make_context(clock)
        sealed = SealedStore(store, keys, namespace=f"round-{number}", context=context)
        managers = [
            manager_of(Cell(Proving(clock, secret), key, context, sealed))
            for key in (replace(KEY, scopes=(f"{each}/.default",)) for each in range(8))
        ]
        cells = iter(managers)
        in_threads(8, lambda cells=cells: next(cells).get_access_token())
        assert len([name for name in store.names if name.startswith(f"round-{number}:")]) == 8
