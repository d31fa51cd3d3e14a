"""Users' tokens in a store: found by the next worker, each user's own, whatever the store does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from emulator_clients import claims_of
from fake_users import READ, FakeApp, World, assertion
from redis_servers import BINARIES, running_server
from support import FakeClock, HandRefresher, RecordingStore, collect, in_threads
from waiting import until

from tokenmgr import InteractionRequiredError, ThrottledError, TokenManagerError
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import Event, RecordRefused, TokenAdopted

ANN, BOB = (assertion(f"{name}@contoso.com") for name in ("ann", "bob"))


class Fleet:
    """Workers of one app over one store."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.store = RecordingStore(clock)
        self.app = FakeApp(clock)
        self.events: list[Event] = []

    def worker(self) -> World:
        return World(
            self.clock,
            app=self.app,
            store=self.store,
            on_event=self.events.append,
            refresher=HandRefresher(self.clock),
        )

    def record(self) -> tuple[str, bytes]:
        """The one record that was put last, and its name."""
        name, (value, _) = list(self.store._records.items())[-1]
        return name, value

    @property
    def refused(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, RecordRefused)]


@pytest.fixture
def fleet(clock: FakeClock) -> Fleet:
    return Fleet(clock)


@pytest.fixture(scope="module", params=["sqlite", *BINARIES])
def url(request, tmp_path_factory) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite:///{tmp_path_factory.mktemp('users')}/tokens.db"
        else:
            yield stack.enter_context(running_server(BINARIES[request.param])).url


def test_the_worker_that_the_next_call_lands_on_finds_the_token(entra: EntraEmulator, url: str):
    names = [f"user{number}@contoso.com" for number in range(12)]
    assertions = [entra.sign_in(name) for name in names]
    with ExitStack() as stack:
        workers = [stack.enter_context(entra.registry(store=url)) for _ in range(3)]
        calls = iter(assertions * 3)

        def work() -> list[tuple[str, str]]:
            assertion_ = next(calls)
            return [
                (assertion_, worker.on_behalf_of(assertion_, READ).get_access_token())
                for worker in workers
            ]

        outcomes = in_threads(36, work)
    tokens: dict[str, set[str]] = {}
    for outcome in outcomes:
        assert isinstance(outcome, list), outcome
        for assertion_, token in outcome:
            assert claims_of(token)["oid"] == claims_of(assertion_)["oid"]
            tokens.setdefault(assertion_, set()).add(token)
    assert [len(each) for each in tokens.values()] == [1] * 12
    assert entra.count() == 12
    with entra.registry(store=url) as later:
        assert later.on_behalf_of(assertions[0], READ).get_access_token() in tokens[assertions[0]]
    assert entra.count() == 12


def test_nothing_of_a_user_is_in_the_file(entra: EntraEmulator, tmp_path: Path):
    ann = entra.sign_in("ann@contoso.com")
    with entra.registry(store=f"sqlite:///{tmp_path}/tokens.db") as tokens:
        manager = tokens.on_behalf_of(ann, READ)
        secrets = (ann, *ann.split("."), manager.get_access_token(), "ann@", manager.key.subject)
        for file in tmp_path.iterdir():
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in secrets)


def test_a_record_of_one_user_in_anothers_place_is_a_miss_and_an_event(fleet):
    one = fleet.worker()
    ann, bob = one.get(ANN), one.get(BOB)
    (ann_at, anns), (bob_at, bobs) = ((k, v) for k, (v, _) in fleet.store._records.items())
    fleet.store.put(ann_at, bobs, 1e6)
    fleet.store.put(bob_at, anns, 1e6)

    other = fleet.worker()
    got = other.get(ANN), other.get(BOB)

    assert not {ann, bob} & set(got)
    assert len(fleet.app.asked) == 4
    until(lambda: len(fleet.refused) >= 2)
    # And who has them in hand already keeps them.
    assert (one.get(ANN), one.get(BOB)) == (ann, bob)


def test_a_record_that_is_put_back_takes_no_newer_tokens_place(fleet):
    one, other = fleet.worker(), fleet.worker()
    one.get(ANN)
    name, old = fleet.record()
    fleet.clock.advance(10)
    new = one.manager(ANN).refresh_access_token()
    fleet.store.put(name, old, 1e6)
    fleet.clock.advance(100)
    one.context.refresher.run_due()
    assert one.get(ANN) == new
    # Whoever has none takes it, as it is valid, and this user's.
    assert other.get(ANN) != new
    assert len(fleet.app.asked) == 2


def test_a_record_serves_no_longer_than_the_assertion_in_any_worker(fleet):
    fleet.app.lifetime = 86_400.0
    short = assertion("ann@contoso.com", exp=fleet.clock.wall() + 600)
    token = fleet.worker().get(short)
    name, value = fleet.record()
    fleet.store.put(name, value, 1e9)
    other = fleet.worker()
    manager = other.manager(short)
    assert manager.get_access_token() == token
    assert manager.get_token().expires_at == fleet.clock.wall() + 600
    fleet.clock.advance(600)
    for call in (manager.get_access_token, lambda: other.manager(short)):
        with pytest.raises(InteractionRequiredError, match="expired"):
            call()
    assert len(fleet.app.asked) == 1


def test_after_the_assertions_end_the_store_is_not_even_looked_into(fleet):
    worker = fleet.worker()
    worker.get(ANN)
    manager = worker.manager(ANN)
    fleet.clock.advance(3600)
    fleet.store.asked.clear()
    worker.context.refresher.run_due()
    with pytest.raises(InteractionRequiredError):
        manager.get_access_token()
    assert fleet.store.asked == []


def test_what_is_left_of_one_users_failure_is_no_other_users(fleet):
    fleet.app.errors[ANN] = ThrottledError("slow down", retry_after=3600.0)
    with pytest.raises(ThrottledError):
        fleet.worker().get(ANN)
    name, verdict = fleet.record()
    other = fleet.worker()
    assert other.get(BOB)
    with pytest.raises(ThrottledError):
        other.get(ANN)
    assert [text for text, *_ in fleet.app.asked] == [ANN, BOB]
    # Also where somebody moves it.
    bob_at, _ = fleet.record()
    fleet.store.put(f"{bob_at}{name[len(bob_at) :]}", verdict, 1e6)
    fleet.clock.advance(1)
    assert fleet.worker().get(BOB)


def test_bogus_assertions_leave_nothing_in_the_store_for_long(fleet):
    fleet.app.errors[""] = InteractionRequiredError("no", error_codes=(50013,))
    worker = fleet.worker()
    for number in range(300):
        with pytest.raises(TokenManagerError):
            worker.get(f"{ANN}{number}")
    fleet.clock.advance(10)
    assert fleet.store.names == []


def test_without_the_store_every_user_is_served_all_the_same(fleet):
    fleet.store.error = OSError("gone")
    worker = fleet.worker()
    assert worker.get(ANN) != worker.get(BOB)
    assert worker.get(ANN) == worker.get(ANN)
    assert len(fleet.app.asked) == 2


def test_who_has_made_room_finds_the_token_in_the_store(clock):
    fleet = Fleet(clock)
    world = World(clock, most=1, app=fleet.app, store=fleet.store, on_event=fleet.events.append)
    token = world.get(ANN)
    world.get(BOB)
    collect(world.context)
    assert world.kept == {BOB}
    assert world.get(ANN) == token
    assert len(fleet.app.asked) == 2
    until(lambda: any(isinstance(event, TokenAdopted) for event in fleet.events))
