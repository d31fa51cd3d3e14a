"""Users who have signed in, in a store that lies: no record of one opens as another's."""

from __future__ import annotations

import json

import pytest
from fake_sessions import SessionApp, Worker, user_of
from fake_users import READ
from support import STORE_KEY, RecordingStore, in_threads
from waiting import until

from tokenmgr import InteractionRequiredError, SessionNotFoundError
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr._sharing import user_index
from tokenmgr._sharing.seal import SealingKey
from tokenmgr.events import RecordRefused

OLD, NEW = "the key of old, 0123456789-0123456789", "the new key, 9876543210-9876543210"


def records(store: RecordingStore) -> dict[str, bytes]:
    """What lies in it, without leases, verdicts and the index."""
    apart = (":lease", ":users")
    return {name: store.get(name) or b"" for name in store.names if not name.endswith(apart)}


def signed_in(store: RecordingStore, worker: Worker, user: str) -> tuple[str, bytes]:
    """The record of a user who signs in just now."""
    before = records(store)
    worker.sign_in(user)
    name = next(name for name in store._records if name in records(store).keys() - before.keys())
    return name, records(store)[name]


def index_of(store: RecordingStore) -> str:
    (name,) = [name for name in store.names if name.endswith(":users")]
    return name


def refusals(events: list) -> list[str]:
    return [event.reason for event in events if isinstance(event, RecordRefused)]


def gone(call) -> None:
    with pytest.raises(SessionNotFoundError):
        call()


# A session's record


def test_one_users_record_in_anothers_place_is_nobodys(app, store):
    worker = Worker(app, store)
    ann_at, anns = signed_in(store, worker, "ann")
    bob_at, bobs = signed_in(store, worker, "bob")
    store.put(ann_at, bobs, 1e6)
    store.put(bob_at, anns, 1e6)
    events = []
    cold = Worker(app, store, on_event=events.append)
    for name in ("ann", "bob"):
        gone(lambda name=name: cold.user(name))
    assert cold.users() == []
    until(lambda: len(refusals(events)) >= 2)
    assert "another name" in refusals(events)[0]
    assert app.shown == []


def test_a_stolen_record_does_not_open_elsewhere(app, store, clock):
    place, stolen = signed_in(store, Worker(app, store), "ann")
    another = SessionApp(clock)
    another.client_id = "another"
    for thief, keys in ((another, (STORE_KEY,)), (app, (NEW,))):
        elsewhere = RecordingStore(clock)
        worker = Worker(thief, elsewhere, keys=keys)
        own, _ = signed_in(elsewhere, worker, "ann")
        for name in (own, place):
            elsewhere.put(name, stolen, 1e6)
        cold = Worker(thief, elsewhere, keys=keys)
        gone(lambda cold=cold: cold.user("ann"))
    assert app.shown == another.shown == []


def test_a_record_that_is_put_back_after_the_end_serves_nobody_who_knows(app, store):
    worker = Worker(app, store)
    place, old = signed_in(store, worker, "ann")
    held = worker.user("ann")
    manager = held.manager(READ)
    manager.get_access_token()
    app.clock.advance(3600)
    manager.get_access_token()
    store.put(place, old, 1e6)
    app.clock.advance(3600)
    assert user_of(manager.get_access_token()) == "ann"
    assert app.over == set()
    # Who knows nothing shows the old refresh token, and is told what that is worth.
    store.put(place, old, 1e6)
    with pytest.raises(InteractionRequiredError, match="refused"):
        Worker(app, store).user("ann").manager("api://orders/read").get_access_token()


def test_who_signs_in_again_leaves_nothing_of_before(app, store):
    worker = Worker(app, store)
    worker.sign_in("ann").manager("api://orders/read").get_access_token()
    before = set(records(store).values())
    worker.sign_in("ann")
    assert not before & set(records(store).values())
    assert len(records(store)) == 2


def test_keys_are_rotated_and_users_stay_signed_in(app, store):
    Worker(app, store, keys=(OLD,)).sign_in("ann")
    both = Worker(app, store, keys=(NEW, OLD))
    assert both.users() == ["ann@contoso.com"]
    both.sign_in("bob")
    app.clock.advance(3600)
    assert user_of(both.user("ann").manager(READ).get_access_token()) == "ann"
    assert Worker(app, store, keys=(NEW,)).users() == ["bob@contoso.com", "ann@contoso.com"]
    assert len([name for name in store.names if name.endswith(":users")]) == 1


# The index


def sealed(store: RecordingStore, **changes: object) -> bytes:
    """The index with something else in it, under its own seal."""
    seal, name = SealingKey(STORE_KEY.encode()), index_of(store)
    said = json.loads(seal.open(store.get(name) or b"", name)) | changes
    return seal.seal(json.dumps(said).encode(), name)


JUNK = {
    "junk": lambda store: b"junk",
    "empty": lambda store: b"",
    "too large": lambda store: b"x" * 70_000,
    "another record": lambda store: next(iter(records(store).values())),
    "another's": lambda store: sealed(store, owner="another's"),
    "no list": lambda store: sealed(store, users={"a": "b"}),
    "no pairs": lambda store: sealed(store, users=[5]),
    "no digests": lambda store: sealed(store, users=[[5, []]]),
    "long digests": lambda store: sealed(store, users=[["x" * 65, "y"]]),
    "nothing": lambda store: sealed(store, users=None),
}


@pytest.mark.parametrize("kind", JUNK)
def test_an_index_that_is_none_loses_nobody_and_is_written_anew(app, store, kind):
    Worker(app, store).sign_in("ann")
    store.put(index_of(store), JUNK[kind](store), 1e6)
    events = []
    worker = Worker(app, store, on_event=events.append)
    assert worker.users() == []
    until(lambda: refusals(events))
    assert user_of(worker.user("ann").manager(READ).get_access_token()) == "ann"
    worker.sign_in("bob")
    assert "bob@contoso.com" in Worker(app, store).users()


def test_an_index_of_before_brings_nobody_back(app, store):
    worker = Worker(app, store)
    worker.sign_in("ann")
    old = store.get(index_of(store))
    worker.user("ann").sign_out()
    worker.sign_in("bob")
    store.put(index_of(store), old, 1e6)
    cold = Worker(app, store)
    assert cold.users() == []
    assert user_of(cold.user("bob").manager(READ).get_access_token()) == "bob"


def test_an_index_that_names_what_is_none_costs_a_look_each_and_gives_nothing(app, store):
    worker = Worker(app, store)
    worker.sign_in("ann")
    (own,) = worker.sessions._index().read().items()
    forged = [["", ""], ["é" * 9, "x"], ["a" * 64, own[1]], [own[0][:-1] + "=", own[1]], [*own]]
    store.put(index_of(store), sealed(store, users=forged * 150), 1e6)
    cold = Worker(app, store)
    assert cold.users("ann@contoso.com") == ["ann@contoso.com"]
    assert list(Worker(app, store).sessions._index().read()) == ["", "é" * 9, own[0]]


@pytest.mark.parametrize("holder", [b"junk", b"0123456789abcdef"])
def test_a_lease_of_the_index_that_nobody_gives_back_keeps_nobody_for_long(
    app, store, holder, monkeypatch
):
    monkeypatch.setattr(user_index, "_LEASE", 0.2)
    worker = Worker(app, store)
    worker.sign_in("ann")
    store.put(f"{index_of(store)}:lease", holder, 1e6)
    worker.sign_in("bob")
    assert worker.users() == ["bob@contoso.com", "ann@contoso.com"]


def test_an_index_that_cannot_be_written_fails_no_sign_in(app, store):
    worker = Worker(app, store)
    put = store.put

    def may_fail(key: str, value: bytes, ttl: float) -> None:
        if key.endswith(":users"):
            raise OSError("full")
        put(key, value, ttl)

    store.put = may_fail  # type: ignore[method-assign]
    ann = worker.sign_in("ann")
    assert ann.username == "ann@contoso.com"


def test_names_in_the_index_tell_nobody_who_that_is(app, store):
    Worker(app, store).sign_in("ann")
    seal, name = SealingKey(STORE_KEY.encode()), index_of(store)
    said = seal.open(store.get(name) or b"", name)
    assert b"ann" not in said
    assert b"contoso" not in said.replace(app.authority.url.encode(), b"")


# At once


def test_two_who_sign_in_as_one_at_once_leave_one_session_that_works(app, store):
    workers = [Worker(app, store) for _ in range(4)]
    calls = iter(workers * 2)
    in_threads(8, lambda: next(calls).sign_in("ann"))
    assert len(records(store)) == 2
    app.clock.advance(3600)
    tokens = {worker.user("ann").manager(READ).get_access_token() for worker in workers}
    assert len(tokens) == 1
    assert len(app.shown) == 1


def test_an_import_keeps_who_is_signed_in_already(app, store):
    worker, other = Worker(app, store), Worker(app, store)
    signed = [app.sign_in(name, READ) for name in ("ann", "bob", "kim")]
    worker.sign_in("bob", name="Bob himself")
    barrier = iter([worker, other] * 4)
    outcomes = in_threads(8, lambda: next(barrier).sessions.adopt(signed))
    assert outcomes == [{"ann.home", "bob.home", "kim.home"}] * 8
    assert set(other.users()) == {f"{name}@contoso.com" for name in ("ann", "bob", "kim")}
    assert other.user("bob").claims["name"] == "Bob himself"
    tokens = {each.user("ann").manager(READ).get_access_token() for each in (worker, other)}
    assert len(tokens) == 1
    assert app.shown == [signed[0].refresh_token.cell_contents]
    refresh_token = other.sessions.refresh_token("ann.home")
    assert refresh_token is not None
    assert refresh_token.cell_contents != app.shown[0]
    other.user("ann").end()
    assert other.sessions.refresh_token("ann.home") is None
    assert isinstance(refresh_token, Hidden)
