"""Sessions in a store: sealed, each its own, the newest, and erased; whatever the store does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_sessions import SessionApp, Worker, user_of
from fake_users import assertion
from fleet_worker import Watched
from hypothesis import given
from hypothesis import strategies as st
from redis_servers import BINARIES, store_url
from support import KEY, STORE_KEY, FakeClock, HandRefresher, RecordingStore, in_threads
from waiting import until

from tokenmgr import InteractionRequiredError, StoreError, ThrottledError
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr._session import Account, SessionRecord
from tokenmgr._sharing.record import AnotherOwnersError
from tokenmgr._sharing.seal import SealingKey
from tokenmgr._sharing.session_record import (
    newest_of,
    session_from_bytes,
    session_to_bytes,
    with_held,
)
from tokenmgr.events import RecordRefused
from tokenmgr.stores import SqliteStore, open_store

ANN, BOB = (assertion(name, oid=f"{name}'s object") for name in ("ann", "bob"))
WRITE = "https://graph.microsoft.com/Mail.Send"
OLD, NEW = "the key of old, 0123456789-0123456789", "the new key, 9876543210-9876543210"
RECORD = SessionRecord(
    refresh_token=Hidden("the refresh token"),
    user="u",
    authority="https://login.example.com/tenant",
    epoch="e",
    serial=3,
    begun_at=1_800_000_000.0,
    ends_at=1_801_209_600.0,
    assertions=("a", "b"),
    held=((("s", "t"), ""), (("s",), "{}")),
    account=Account("uid.utid", "ann@contoso.com", Hidden({"sub": "s", "roles": ["r"]})),
)


@pytest.fixture(params=["sqlite", *BINARIES])
def url(request, tmp_path: Path) -> Iterator[str]:
    with store_url(request.param, tmp_path) as url:
        yield url


def records(store: RecordingStore) -> dict[str, bytes]:
    """What lies in it, without leases and verdicts."""
    found = {name: store.get(name) for name in store.names if not name.endswith(":lease")}
    return {name: value for name, value in found.items() if value is not None}


def session_record(store: RecordingStore, begin: object) -> tuple[str, bytes]:
    """The record that beginning a session puts first, which is the session's."""
    before = records(store)
    begin()
    (name, *_) = [name for name in store._records if name in records(store).keys() - before.keys()]
    return name, records(store)[name]


def refusals(events: list) -> list[str]:
    return [event.reason for event in events if isinstance(event, RecordRefused)]


# One at a time, the newest, written first


def test_workers_redeem_each_refresh_token_once_whichever_store_they_share(
    app: SessionApp, url: str, monkeypatch
):
    monkeypatch.setattr("tokenmgr.stores.sqlite.database._PATIENCE", 20.0)
    with ExitStack() as stack:
        stores = [stack.enter_context(contextlib.closing(open_store(url))) for _ in range(4)]
        workers = [Worker(app, store) for store in stores]
        workers[0].begin(ANN, "job").get_access_token()
        scopes = [f"api://orders/{number}" for number in range(3)]
        calls = iter([(worker, scope) for worker in workers for scope in scopes] * 2)

        def work() -> list[str]:
            worker, scope = next(calls)
            return [worker.manager("job", scope).refresh_access_token() for _ in range(2)]

        outcomes = in_threads(24, work)
        assert all(isinstance(each, list) for each in outcomes), outcomes
        assert app.over == set()
        assert len(app.shown) == len(set(app.shown)) >= 6
        newest = max(app.given, key=lambda token: int(token.rpartition("-")[2]))
        found = workers[0].shared("job").look()
        assert found is not None
        assert found.refresh_token.cell_contents == newest


def test_the_next_refresh_token_is_written_before_anybody_has_the_token_or_the_lease(app, store):
    worker = Worker(app, store)
    manager = worker.begin(ANN, "job")
    seen = []

    def before(operation: str) -> None:
        if operation in ("put", "delete") and app.given:
            leases = [
                value
                for name, (value, _) in store._records.items()
                if name.endswith(":lease") and len(value) == 16
            ]
            seen.append((operation, len(leases), manager._cell.has_token))

    store.before = before
    manager.get_access_token()
    assert seen == [("put", 1, False), ("put", 1, False), ("delete", 1, False)]
    seen.clear()
    app.clock.advance(3600)
    manager.get_access_token()
    assert seen == [("put", 1, False), ("put", 1, False), ("delete", 1, False)]


def test_a_worker_whose_lease_has_ended_keeps_the_newer_one_that_another_has_put(app, store):
    one, other = Worker(app, store), Worker(app, store)
    one.begin(ANN, "job").get_access_token()
    app.clock.advance(3600)
    app.rotates = False  # which lets the same one be shown twice
    manager = one.manager("job")
    newest = []

    def during() -> None:
        app.during = lambda: None
        app.clock.advance(60)  # the machine slept, and the lease is over
        app.rotates = True
        other.get("job")
        newest.extend(app.given)
        app.rotates = False

    app.during = during
    assert user_of(manager.get_access_token()) == "ann"
    session = one.shared("job")
    assert session.known.refresh_token.cell_contents == newest[-1]
    assert Worker(app, store).shared("job").look() == session.known


# Whose it is


def test_what_one_session_has_is_nothing_to_another(app, store):
    worker = Worker(app, store)
    ann_at, anns = session_record(store, lambda: worker.begin(ANN, "ann's").get_access_token())
    bob_at, bobs = session_record(store, lambda: worker.begin(BOB, "bob's").get_access_token())
    store.put(ann_at, bobs, 1e6)
    store.put(bob_at, anns, 1e6)
    events = []
    cold = Worker(app, store, on_event=events.append)
    for name in ("ann's", "bob's"):
        with pytest.raises(InteractionRequiredError, match="no such session"):
            cold.get(name)
    until(lambda: len(refusals(events)) >= 2)
    assert "another name" in refusals(events)[0]
    assert app.shown == []


def test_tokens_of_two_sessions_that_are_swapped_are_nobodys(app, store):
    worker = Worker(app, store)
    before = set()
    places = {}
    for text, name in ((ANN, "ann's"), (BOB, "bob's")):
        worker.begin(text, name).get_access_token()
        places[name] = [each for each in records(store) if each not in before][-1]
        before |= set(records(store))
    anns, bobs = (store.get(place) for place in places.values())
    store.put(places["ann's"], bobs, 1e6)
    store.put(places["bob's"], anns, 1e6)
    events = []
    cold = Worker(app, store, on_event=events.append)
    assert user_of(cold.get("ann's")) == "ann"
    assert user_of(cold.get("bob's")) == "bob"
    until(lambda: len(refusals(events)) >= 2)
    assert len(app.shown) == len(set(app.shown)) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"owner": "another's"}, "another key's"),
        ({"owner": None}, "another key's"),
        ({"refresh_token": None}, "not what this version writes"),
        ({"account": "ann"}, "not what this version writes"),
        ({"account": ["ann", 5, {}]}, "not what this version writes"),
        ({"account": ["ann", "ann", []]}, "not what this version writes"),
        ({"serial": "1"}, "not what this version writes"),
        ({"held": [[1]]}, "not what this version writes"),
    ],
)
def test_what_a_record_says_inside_of_its_seal_is_checked(app, store, changes, reason):
    worker = Worker(app, store)
    name, value = session_record(store, lambda: worker.begin(ANN, "job").get_access_token())
    seal = SealingKey(STORE_KEY.encode())
    said = json.loads(seal.open(value, name)) | changes
    store.put(name, seal.seal(json.dumps(said).encode(), name), 1e6)
    events = []
    with pytest.raises(InteractionRequiredError, match="no such session"):
        Worker(app, store, on_event=events.append).get("job")
    until(lambda: refusals(events) == [reason])


def test_a_record_is_of_one_session_one_app_and_one_authority(app, store, clock):
    worker = Worker(app, store)
    name, value = session_record(store, lambda: worker.begin(ANN, "job").get_access_token())
    owner = json.loads(SealingKey(STORE_KEY.encode()).open(value, name))["owner"]
    assert json.loads(owner)[:4] == ["session", "entra", app.authority.url, app.client_id]
    another = SessionApp(clock)
    another.client_id = "another"
    with pytest.raises(InteractionRequiredError, match="no such session"):
        Worker(another, store).get("job")
    with pytest.raises(InteractionRequiredError, match="no such session"):
        Worker(app, store).get("job 2")


def test_a_session_of_another_authority_is_none_of_this_ones(app, store):
    worker = Worker(app, store)
    name, value = session_record(store, lambda: worker.begin(ANN, "job").get_access_token())
    seal = SealingKey(STORE_KEY.encode())
    said = json.loads(seal.open(value, name)) | {"authority": "https://evil.example.com/tenant"}
    store.put(name, seal.seal(json.dumps(said).encode(), name), 1e6)
    with pytest.raises(InteractionRequiredError, match="no such session"):
        Worker(app, store).get("job")
    assert app.shown == []


# What is put back


def test_a_warm_worker_keeps_the_newer_refresh_token_where_the_store_rolls_back(app, store):
    events = []
    warm = Worker(app, store, on_event=events.append)
    name, old = session_record(store, lambda: warm.begin(ANN, "job").get_access_token())
    manager = warm.manager("job")
    app.clock.advance(3600)
    token = manager.get_access_token()
    store.put(name, old, 1e6)
    assert warm.get("job") == token
    until(lambda: "older than the one that is known" in refusals(events))
    app.clock.advance(3600)
    assert user_of(manager.get_access_token()) == "ann"
    assert app.over == set()
    # Its next one is in the store, for whoever knows nothing.
    app.clock.advance(3600)
    assert user_of(Worker(app, store).get("job")) == "ann"
    assert len(app.shown) == len(set(app.shown)) == 3


def test_a_worker_that_knows_nothing_is_told_that_what_was_put_back_is_of_no_use(app, store):
    worker = Worker(app, store)
    name, old = session_record(store, lambda: worker.begin(ANN, "job").get_access_token())
    app.clock.advance(3600)
    worker.get("job")
    store.put(name, old, 1e6)
    with pytest.raises(InteractionRequiredError, match="has ended, as its refresh token is"):
        Worker(app, store).manager("job").refresh_access_token()
    assert name not in records(store)


def test_a_former_users_record_that_is_put_back_is_not_taken_by_who_knows_the_next(app, store):
    worker = Worker(app, store)
    name, anns = session_record(store, lambda: worker.begin(ANN, "job").get_access_token())
    app.clock.advance(120)
    worker.begin(BOB, "job").get_access_token()
    manager = worker.manager("job")
    assert user_of(manager.get_access_token()) == "bob"
    store.put(name, anns, 1e6)
    assert user_of(worker.get("job")) == "bob"
    app.clock.advance(3600)
    assert user_of(worker.get("job")) == "bob"


def test_who_begins_it_anew_by_a_clock_that_is_behind_counts_all_the_same(store, clock):
    app = SessionApp(clock)
    warm = Worker(app, store)
    warm.begin(ANN, "job").get_access_token()
    warm.get("job")
    behind = FakeClock(clock.wall() - 9)
    slow = SessionApp(behind)
    slow.given, slow.shown = app.given, app.shown
    other = Worker(slow, store)
    other.session("job").end()
    other.begin(BOB, "job").get_access_token()
    assert user_of(warm.get("job")) == "bob"


# Erased


def test_an_ended_session_is_in_no_page_and_no_log(app: SessionApp, tmp_path: Path):
    url = f"sqlite:///{tmp_path}/tokens.db"
    written: list[bytes] = []
    with ExitStack() as stack:
        stores = [stack.enter_context(contextlib.closing(Watched(url))) for _ in range(2)]

        def note(key: str, value: bytes, ttl: float, put=stores[0].put) -> None:
            written.append(value)
            put(key, value, ttl)

        stores[0].put = note  # type: ignore[method-assign]
        one, other = (Worker(app, each) for each in stores)
        other.begin(BOB, "another").get_access_token()
        one.begin(ANN, "job").get_access_token()
        for _ in range(5):
            one.manager("job").refresh_access_token()
            one.manager("job", WRITE).refresh_access_token(claims='{"access_token": {}}')
        assert user_of(other.get("job")) == "ann"
        files = [tmp_path / f"tokens.db{suffix}" for suffix in ("", "-wal", "-shm")]
        assert is_left(written[-1], files)

        one.session("job").end()

        assert all(file.exists() for file in files)
        assert len(written) > 10
        assert [value for value in written if is_left(value, files)] == []
        assert user_of(other.get("another")) == "bob"
    with contextlib.closing(SqliteStore(tmp_path / "tokens.db")) as store:
        names = store._run("SELECT key FROM records").rows
    assert len(names) == 2, "the other session's alone"


def is_left(value: bytes, files: list[Path]) -> list[str]:
    """The files in which any part of it is."""
    parts = [value[at : at + 16] for at in range(16, len(value) - 16, 16)]
    return [file.name for file in files for part in parts if part in file.read_bytes()]


def test_who_takes_a_name_over_leaves_nothing_of_the_former_one(app, store):
    worker = Worker(app, store)
    worker.begin(ANN, "job").get_access_token()
    worker.get("job", WRITE)
    anns = set(records(store).values())
    worker.begin(BOB, "job").get_access_token()
    assert not anns & set(records(store).values())
    assert len(records(store)) == 2


def test_who_looks_in_the_middle_of_a_take_over_has_no_token_put_where_it_is_not(app, store):
    worker = Worker(app, store)
    worker.begin(ANN, "job").get_access_token()
    shared, looked = worker.shared("job"), []

    def before(operation: str) -> None:
        if operation == "put" and not looked:
            looked.append(operation)
            shared.look()  # which still finds ann's, in another thread of this worker

    store.before = before
    bobs = worker.begin(BOB, "job").get_access_token()
    assert looked
    assert len(records(store)) == 2
    assert Worker(app, store).get("job") == bobs
    assert len(app.asked) == 2


def test_a_refused_session_leaves_nothing(app, store):
    worker = Worker(app, store)
    worker.begin(ANN, "job").get_access_token()
    worker.get("job", WRITE)
    app.over.add(ANN)
    with pytest.raises(InteractionRequiredError):
        worker.get("job", "api://orders/read")
    assert records(store) == {}


# Keys


def test_rotating_keys_leaves_sessions_going_and_seals_them_anew(app, store):
    clock = app.clock
    Worker(app, store, keys=[OLD]).begin(ANN, "job").get_access_token()
    (first,) = [name for name in list(store._records) if not name.endswith(":lease")][:1]
    for keys in ([OLD, NEW], [NEW, OLD], [OLD, NEW], [NEW, OLD], [NEW]):
        clock.advance(3600)
        assert user_of(Worker(app, store, keys=keys).get("job")) == "ann"
        assert len(records(store)) == 2
    assert first not in records(store)
    assert len(app.shown) == len(set(app.shown)) == 5
    with pytest.raises(InteractionRequiredError, match="no such session"):
        Worker(app, store, keys=[OLD]).get("job")


def test_workers_in_the_middle_of_a_rotation_redeem_each_refresh_token_once(app, store):
    workers = [Worker(app, store, keys=keys) for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW])]
    for pair in (workers[:2], workers[1:3], workers[2:]):
        begun = pair[0].begin(ANN, "job")
        begun.refresh_access_token()  # and so it is sealed with a key that both have
        managers = [each.manager("job") for each in pair * 6]
        outcomes = in_threads(12, lambda left=managers: left.pop().refresh_access_token())
        assert {user_of(str(each)) for each in outcomes} == {"ann"}, outcomes
        assert len(app.shown) == len(set(app.shown))
        assert app.over == set()


# The record


def test_a_record_is_read_as_it_was_written_and_shows_nothing():
    written = session_to_bytes(RECORD, "owner")
    read = session_from_bytes(written.cell_contents, "owner")
    assert vars(read) == vars(RECORD)
    assert "refresh token" not in repr(RECORD) + repr(written)
    with pytest.raises(AnotherOwnersError):
        session_from_bytes(written.cell_contents, "another")
    with pytest.raises(TypeError, match="does not pickle"):
        RECORD.__reduce__()


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)
    | st.dictionaries(
        st.sampled_from([*vars(RECORD), "owner"]),
        st.none() | st.text() | st.integers() | st.lists(st.text()) | st.lists(st.lists(st.text())),
    )
)
def test_junk_is_told_as_such(said):
    with pytest.raises((ValueError, TypeError)):
        session_from_bytes(json.dumps(said).encode(), "owner")


def test_the_newer_of_two_is_by_how_often_it_was_redeemed_and_else_by_when_it_began():
    later = RECORD._replace(serial=4)
    assert newest_of(RECORD, later) is newest_of(later, RECORD) is later
    assert newest_of(None, RECORD) is RECORD
    again = RECORD._replace(epoch="f", serial=0, begun_at=RECORD.begun_at + 61)
    assert newest_of(RECORD, again) is newest_of(again, RECORD) is again
    at_once = again._replace(begun_at=RECORD.begun_at + 59)
    assert newest_of(at_once, RECORD) is RECORD
    assert newest_of(RECORD, at_once) is at_once


def test_so_many_tokens_are_remembered_the_last_ones():
    held = ()
    for number in range(100):
        held = with_held(held, KEY._replace(scopes=(f"scope-{number}",)))
    assert held[-1] == (("scope-99",), "")
    assert len(held) == 64
    long = KEY._replace(scopes=("x" * 2000,) * 8, claims="c" * 20_000)
    assert with_held(held, long) == ((long.scopes, long.claims),)
    assert with_held(held, KEY._replace(scopes=("scope-50",)))[-1] == (("scope-50",), "")


def test_a_worker_that_is_idle_notices_the_end_that_another_has_made(app, store):
    refresher = HandRefresher(app.clock)
    one, other = Worker(app, store, refresher=refresher), Worker(app, store)
    one.begin(ANN, "job").get_access_token()
    held = one.manager("job")
    held.get_access_token()
    other.session("job").end()
    assert held.get_access_token()
    app.clock.advance(75)

    def told() -> bool:
        app.clock.advance(0.25)
        refresher.run_due()
        try:
            held.get_access_token()
        except InteractionRequiredError as error:
            return "no such session" in str(error)
        return False

    until(told)
    assert app.clock.elapsed() < 1_000 + 120


# What workers leave for each other


def test_a_token_that_a_resource_refused_is_nobodys_any_more(app, store):
    one, other = Worker(app, store), Worker(app, store)
    one.begin(ANN, "job").get_access_token()
    managers = [each.manager("job") for each in (one, other)]
    (refused,) = {manager.get_access_token() for manager in managers}
    for manager in managers:
        manager.invalidate(refused)
    until(lambda: len(records(store)) == 1)
    (token,) = {manager.get_access_token() for manager in managers}
    assert token != refused
    assert len(app.shown) == 1
    # Nor where the store brings it back.
    assert Worker(app, store).get("job") == token


def test_what_the_service_refuses_a_scope_is_told_to_all_workers_that_ask_for_it(app, store):
    Worker(app, store).begin(ANN, "job").get_access_token()
    app.errors["ann"] = ThrottledError("slow down", retry_after=600.0)
    for _ in range(3):
        with pytest.raises(ThrottledError):
            Worker(app, store).get("job", WRITE)
    app.errors.clear()
    entered = 0
    while app.entered.acquire(blocking=False):
        entered += 1
    assert entered == 2, "the beginning, and one that was refused"
    assert user_of(Worker(app, store).get("job", "api://orders/read")) == "ann"
    # It is believed for as long as it says, and no longer, whatever the store does.
    (name, verdict), *_ = [
        (name, value) for name, (value, _) in store._records.items() if name.endswith(":lease")
    ]
    app.clock.advance(700)
    store.put(name, verdict, 1e6)
    assert user_of(Worker(app, store).get("job", WRITE)) == "ann"


def test_junk_in_a_leases_place_is_taken_away(app, store):
    Worker(app, store).begin(ANN, "job").get_access_token()
    name = next(iter(records(store)))
    store.put(f"{name}:lease", b"no lease of anybody's", 1e6)
    assert user_of(Worker(app, store).get("job", WRITE)) == "ann"


def test_a_dead_workers_lease_is_waited_for_and_then_taken(app, clock):
    store = RecordingStore(clock)
    Worker(app, store).begin(ANN, "job").get_access_token()
    name = next(iter(records(store)))
    assert store.lease(f"{name}:lease", b"a dead worker's.", 12.0)
    worker = Worker(app, store)
    manager = worker.manager("job", WRITE)
    store.asked.clear()
    manager.prefetch()
    until(lambda: store.asked.count("get") > 6)
    assert app.shown == []
    clock.advance(13)
    assert user_of(manager.get_access_token()) == "ann"


def test_who_cannot_have_the_lease_redeems_nothing_and_is_told(app, clock):
    store = RecordingStore(clock)
    Worker(app, store).begin(ANN, "job").get_access_token()
    name = next(iter(records(store)))
    store.put(f"{name}:lease", b"whoever it is...", 1e6)
    worker = Worker(app, store)
    manager = worker.manager("job", WRITE)
    store.before = lambda operation: clock.advance(1) if operation == "get" else None
    store.failing, store.error = ("delete",), OSError("read-only")
    with pytest.raises(StoreError, match="another worker redeems it for too long"):
        manager.get_access_token()
    assert app.shown == []
