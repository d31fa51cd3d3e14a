"""Work for a user that outlives the call: what a worker's sessions do, bounded, each alone."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress

import pytest
from fake_sessions import SessionApp, Worker, user_of
from fake_users import READ, assertion
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from support import FakeClock, HandRefresher, RecordingStore, collect, in_threads, settle
from waiting import until

from tokenmgr import (
    Authority,
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidScopeError,
    RefreshPolicy,
    ServiceUnavailableError,
    StoreError,
    ThrottledError,
    TokenManagerError,
    TokenRegistry,
)

WRITE = "https://graph.microsoft.com/Mail.Send"
TENANT = "0f0f0f0f-1111-2222-3333-444444444444"
ANN, BOB, KIM = (assertion(name, oid=f"{name}'s object") for name in ("ann", "bob", "kim"))
#: Ann's, when she has signed in once more.
ANN_AGAIN = assertion("ann", oid="ann's object", exp=1_800_005_000)


@pytest.fixture
def worker(app: SessionApp) -> Worker:
    return Worker(app)


def ended(whose, name: str = "", says: str = "no such session") -> InteractionRequiredError:
    """A manager, or a worker's session of a name, has nothing more to give."""
    manager = whose.manager(name) if name else whose
    with pytest.raises(InteractionRequiredError, match=says) as caught:
        manager.get_access_token()
    assert not caught.value.retryable
    return caught.value


def registry(**settings) -> TokenRegistry:
    whole = {"client_id": "c", "credential": "s", "authority": Authority.entra(TENANT)}
    return TokenRegistry(**(whole | settings))


# Begun, found again, carried on


def test_a_session_is_found_by_its_name_with_the_token_it_was_begun_with(worker):
    token = worker.begin(ANN, "job").get_access_token()
    assert worker.get("job") == token
    assert worker.manager("job") is worker.manager("job")
    assert worker.begin(ANN, "job") is worker.begin(ANN, "job")
    assert worker.begin(ANN, "job").get_access_token() == token
    assert len(worker.app.asked) == 1
    assert worker.app.shown == []


def test_scopes_that_it_was_not_begun_with_come_by_its_refresh_token(worker):
    first = worker.begin(ANN, "job").get_access_token()
    second = worker.get("job", WRITE, READ)
    assert (user_of(second), second != first) == ("ann", True)
    assert worker.manager("job", [READ, WRITE]) is worker.manager("job", WRITE, READ)
    assert worker.begin(ANN, "job", WRITE).get_access_token()
    assert len(worker.app.asked) == 1
    assert len(worker.app.shown) == 2


def test_it_goes_on_when_its_assertion_has_ended_each_time_with_the_newest(clock, app, worker):
    held = worker.begin(ANN, "job")
    tokens = [held.get_access_token()]
    for _ in range(5):
        clock.advance(3600)
        tokens.append(held.get_access_token())
        assert worker.get("job") == tokens[-1]
    assert len(set(tokens)) == 6
    assert {user_of(token) for token in tokens} == {"ann"}
    assert len(app.asked) == 1
    assert len(set(app.shown)) == len(app.shown) == 5
    with pytest.raises(InteractionRequiredError, match="expired: answer the caller"):
        worker.begin(ANN, "job")


def test_it_is_renewed_in_the_background_for_as_long_as_it_is_used(clock, app):
    refresher = HandRefresher(clock)
    worker = Worker(app, refresher=refresher)
    manager = worker.begin(ANN, "job")
    manager.get_access_token()
    for _ in range(100):
        clock.advance(300)
        refresher.run_due()
        settle(manager)
        assert manager._cell.has_token
        manager.get_access_token()
    assert 9 <= len(app.shown) <= 12
    for _ in range(40):
        clock.advance(300)
        refresher.run_due()
        settle(manager)
    assert len(app.shown) <= 13


def test_while_its_token_is_valid_no_failure_reaches_who_looks_it_up(app, clock):
    refresher, tries = HandRefresher(clock), []
    worker = Worker(app, refresher=refresher, policy=RefreshPolicy(jitter=0.0))
    token = worker.begin(ANN, "job").get_access_token()
    manager = worker.manager("job")
    assert manager.get_access_token() == token
    app.errors[""] = ServiceUnavailableError("down")
    app.during = lambda: tries.append(clock.elapsed())
    clock.advance(3000)
    for _ in range(20):  # aging, refused, and backing off
        refresher.run_due()
        settle(manager)
        assert worker.get("job") == token
        assert worker.begin(ANN, "job").get_access_token() == token
        clock.advance(1)
    assert 1 <= len(tries) <= 20
    app.errors.clear()
    clock.advance(120)
    refresher.run_due()
    settle(manager)
    assert user_of(worker.get("job")) == "ann"
    # Its two managers renew in turn, and one may look while the other one writes.
    until(lambda: worker.get("job") != token, "a new token")


@pytest.mark.parametrize("shared", [False, True])
def test_who_looks_it_up_in_the_middle_of_a_renewal_has_the_valid_token(app, clock, shared):
    refresher = HandRefresher(clock)
    store = RecordingStore(clock) if shared else None
    worker = Worker(app, store, refresher=refresher)
    token, manager = worker.begin(ANN, "job").get_access_token(), worker.manager("job")
    assert manager.get_access_token() == token
    app.errors[""] = ServiceUnavailableError("down")
    clock.advance(3000)
    app.gate.clear()
    while app.entered.acquire(blocking=False):
        pass
    refresher.run_due()
    assert app.entered.acquire(timeout=10)
    # Whoever looks it up waits for what the store says, and for no renewal, which hangs.
    found = worker.manager("job")
    found.prefetch()
    assert found.get_access_token() == token
    assert worker.begin(ANN, "job").get_access_token() == token
    app.gate.set()
    assert found.get_access_token() == token


def test_without_a_store_to_look_into_nobody_who_looks_it_up_waits(worker):
    worker.begin(ANN, "job").get_access_token()
    waits = worker.manager("job").status().waits
    for _ in range(3):
        worker.get("job")
        assert worker.manager("job").status().state == "fresh"
    assert worker.manager("job").status().waits <= waits + 1  # for the scope's first token


def test_a_failure_gives_nobody_a_token_of_who_had_the_name_before(app, clock):
    worker = Worker(app, RecordingStore(clock))
    other = Worker(app, worker.sealed.store._store)
    worker.begin(ANN, "job").get_access_token()
    held = worker.begin(ANN, "job")
    other.begin(BOB, "job").get_access_token()
    app.errors[""] = ServiceUnavailableError("down")
    clock.advance(3000)
    with pytest.raises(TokenManagerError):
        held.get_access_token()
    assert user_of(worker.get("job")) == "bob"


def test_claims_go_with_a_refresh_token_too(worker, app, monkeypatch):
    given = []
    redeem = app.acquire_token_by_refresh_token
    monkeypatch.setattr(
        app,
        "acquire_token_by_refresh_token",
        lambda *args, data: (given.append(data), redeem(*args, data=data))[1],
    )
    manager = worker.begin(ANN, "job")
    plain = manager.get_access_token()
    assert manager.refresh_access_token(claims='{"access_token": {}}') != plain
    assert given == [{"claims": '{"access_token": {}}'}]
    # And calls after the challenge carry it, also when it is looked up anew.
    token = manager.refresh_access_token()
    assert worker.begin(ANN, "job").get_access_token() == token
    assert given == [{"claims": '{"access_token": {}}'}] * 2


def test_a_service_may_leave_the_old_refresh_token_in_its_place(worker, app, clock):
    worker.begin(ANN, "job").get_access_token()
    app.rotates = False
    for _ in range(3):
        clock.advance(3600)
        assert user_of(worker.get("job")) == "ann"
    assert len(set(app.shown)) == 1


def test_without_a_refresh_token_there_is_no_session_and_it_says_what_to_do(worker, app):
    app.rotates = False
    app.given["x"] = "", ANN  # one was given before, and no other
    with pytest.raises(ConfigurationError, match=r"offline_access.*or leave session= out"):
        worker.begin(ANN, "job").get_access_token()
    ended(worker, "job")


def test_many_who_begin_it_at_once_are_one_request_and_many_scopes_take_turns(app, clock):
    store = RecordingStore(clock)
    workers = [Worker(app, store) for _ in range(3)]
    calls = iter([*workers] * 4)
    tokens = in_threads(12, lambda: next(calls).begin(ANN, "job").get_access_token())
    assert len(set(tokens)) == 1, tokens
    assert len(app.asked) == 1
    scopes = iter([f"api://orders/{number}" for number in range(4)] * 3)
    calls = iter([*workers] * 4)
    tokens = in_threads(12, lambda: next(calls).get("job", next(scopes)))
    assert len(set(tokens)) == 4, tokens
    assert len(app.shown) == len(set(app.shown)) == 4
    assert app.over == set()


# Who it belongs to


def test_who_signs_in_again_has_the_session_carry_on_with_that(worker, app, clock):
    held = worker.begin(ANN, "job")
    held.get_access_token()
    looked_up = worker.manager("job")
    looked_up.get_access_token()
    token = worker.begin(ANN_AGAIN, "job").get_access_token()
    assert len(app.asked) == 2
    assert worker.get("job") == looked_up.get_access_token() == token
    assert held.get_access_token() == token
    clock.advance(3600)
    looked_up.get_access_token()
    assert app.given[app.shown[-1]] == ("ann", ANN_AGAIN)


def test_who_signs_in_again_is_not_kept_waiting_by_what_failed_before(worker, app, clock):
    worker.begin(ANN, "job").get_access_token()
    held = worker.manager("job")
    clock.advance(3600)
    app.over.add(ANN)
    error = ended(held, says="has ended, as its refresh token is refused: no.*and begin it with")
    assert error.error_codes == (70000,)
    token = worker.begin(ANN_AGAIN, "job").get_access_token()
    assert held.get_access_token() == worker.get("job") == token


def test_one_users_two_assertions_do_not_take_it_from_each_other(app, clock):
    store = RecordingStore(clock)
    for _ in range(4):
        for text in (ANN, ANN_AGAIN):
            assert user_of(Worker(app, store).begin(text, "job").get_access_token()) == "ann"
    assert [text for text, *_ in app.asked] == [ANN, ANN_AGAIN]
    assert app.shown == []


def test_another_user_takes_the_name_and_is_never_given_the_former_ones_token(app, clock):
    store = RecordingStore(clock)
    one, other = Worker(app, store), Worker(app, store)
    anns = one.begin(ANN, "job")
    ann = anns.get_access_token()
    job = other.manager("job")
    assert job.get_access_token() == ann

    bobs = one.begin(BOB, "job")
    assert user_of(bobs.get_access_token()) == "bob"

    # Whoever looks it up is given Bob's, also where Ann's is in hand still.
    assert user_of(other.get("job")) == user_of(one.get("job")) == "bob"
    # And whoever does not look it up anew works for Ann, or not at all.
    ended(anns, says="another user has begun this session")
    assert len(app.asked) == 2
    # Who has Ann's assertion still begins it anew for her.
    assert user_of(one.begin(ANN, "job").get_access_token()) == "ann"
    ended(bobs, says="another user has begun this session")
    assert user_of(other.get("job")) == "ann"


def test_a_manager_that_is_held_never_changes_over_to_another_user(app, clock):
    store = RecordingStore(clock)
    one, other = Worker(app, store), Worker(app, store)
    one.begin(ANN, "job").get_access_token()
    held = other.manager("job")
    held.get_access_token()
    one.begin(BOB, "job").get_access_token()
    for _ in range(80):
        clock.advance(60)
        other.context.refresher.run_due()
        settle(held)
        told = outcome(held)
        if told != "ann":
            break
    assert "another user has begun this session" in told


def outcome(manager) -> str:
    """Whose token it gives, or what it says."""
    try:
        return user_of(manager.get_access_token())
    except InteractionRequiredError as error:
        return str(error)


def test_an_assertion_that_names_a_user_is_not_believed_before_the_service_has_been_asked(
    worker, app
):
    ann = worker.begin(ANN, "job").get_access_token()
    forged = f"{ANN[:-2]}AA"
    app.errors[forged] = InteractionRequiredError(
        "forged", error="invalid_grant", error_codes=(50013,)
    )
    with pytest.raises(InteractionRequiredError, match="forged"):
        worker.begin(forged, "job").get_access_token()
    assert worker.get("job") == ann


def test_without_an_object_id_the_issuers_subject_is_the_user(worker, app):
    def of(subject: str | None, exp: int) -> str:
        return assertion(f"{subject}", tid=None, iss="https://idp", sub=subject, exp=exp)

    one, same, another = (
        of(*who) for who in (("1", 1_800_003_600), ("1", 1_800_003_601), ("2", 1_800_003_602))
    )
    held = worker.begin(one, "job")
    held.get_access_token()
    worker.begin(same, "job").get_access_token()
    assert held.get_access_token()
    worker.begin(another, "job").get_access_token()
    ended(held, says="another user")
    nobody = worker.begin(of(None, 1_800_003_603), "nobody's")
    nobody.get_access_token()
    worker.begin(of(None, 1_800_003_604), "nobody's").get_access_token()
    ended(nobody, says="another user")


# Its end


def test_an_ended_session_is_gone_for_whoever_holds_or_looks_it_up(app, clock):
    store = RecordingStore(clock)
    one, other = Worker(app, store), Worker(app, store)
    held = [one.begin(ANN, "job"), one.manager("job"), one.manager("job", WRITE)]
    for manager in held:
        manager.get_access_token()
    elsewhere = other.manager("job")
    elsewhere.get_access_token()
    one.begin(ANN, "another").get_access_token()

    one.session("job").end()

    for manager in held:
        ended(manager)
    ended(one, "job")
    ended(other, "job")
    ended(elsewhere)
    assert one.get("another")
    one.session("job").end()
    one.session("never begun").end()
    assert worker_can_begin_again(one)


def worker_can_begin_again(worker: Worker) -> bool:
    token = worker.begin(ANN, "job").get_access_token()
    return worker.get("job") == token


def test_it_is_ended_from_an_event_loop_too(worker):
    worker.begin(ANN, "job").get_access_token()
    asyncio.run(worker.session("job").aend())
    ended(worker, "job")


def test_it_ends_by_itself_when_nobody_has_used_it(app, clock):
    store = RecordingStore(clock)
    worker = Worker(app, store, ttl=7200)
    worker.begin(ANN, "job").get_access_token()
    worker.begin(ANN, "used").get_access_token()
    for _ in range(6):
        clock.advance(3600)
        assert user_of(worker.get("used")) == "ann"
    ended(worker, "job")
    ended(Worker(app, store), "job")
    clock.advance(7200)
    ended(worker, "used")
    assert store.names == []


def test_no_token_serves_longer_than_its_session(app, clock):
    app.lifetime = 86_400.0
    refresher = HandRefresher(clock)
    worker = Worker(app, ttl=1000, refresher=refresher)
    manager = worker.begin(ANN, "job")
    assert manager.get_token().expires_at == clock.wall() + 1000
    for _ in range(40):
        clock.advance(100)
        refresher.run_due()
        settle(manager)
        manager.get_access_token()
    assert len(app.shown) == 5
    clock.advance(1000)
    ended(manager)


@pytest.mark.parametrize("ttl", [0, -1, True, "long", float("inf"), float("nan"), None])
def test_a_ttl_is_a_number_of_seconds(ttl):
    with pytest.raises(ConfigurationError, match="session_ttl="):
        registry(session_ttl=ttl)


def test_a_refused_refresh_token_is_the_end_and_says_what_to_do(app, clock):
    store = RecordingStore(clock)
    worker = Worker(app, store)
    worker.begin(ANN, "job").get_access_token()
    clock.advance(3600)
    app.over.add(ANN)
    error = ended(worker, "job", says="session has ended.*and begin it with on_behalf_of")
    assert (error.error, error.error_codes) == ("invalid_grant", (70000,))
    assert [name for name in store.names if not name.endswith(":lease")] == []
    shown = len(app.shown)
    clock.advance(10)
    # Whoever looks it up in this process is told why, and in another one that there is none.
    ended(worker, "job", says="session has ended")
    ended(Worker(app, store), "job")
    assert len(app.shown) == shown


def test_who_shows_an_assertion_that_is_good_begins_it_anew_though_its_refresh_token_is_not(
    worker, app, clock
):
    clock.advance(-3000)
    worker.begin(ANN, "job").get_access_token()
    clock.advance(3600)
    app.over.add(ANN)
    token = worker.begin(ANN, "job").get_access_token()
    assert (user_of(token), len(app.asked), len(app.shown)) == ("ann", 2, 1)
    assert worker.get("job") == token


def test_what_a_scope_asks_for_more_is_not_the_end_of_the_others(worker, app, clock):
    worker.begin(ANN, "job").get_access_token()
    more = InteractionRequiredError("more", error="invalid_grant", claims='{"access_token": {}}')
    app.errors["ann"] = more
    mail = worker.manager("job", WRITE)
    with pytest.raises(InteractionRequiredError, match="more") as caught:
        mail.get_access_token()
    assert caught.value.claims == more.claims
    del app.errors["ann"]
    assert user_of(worker.get("job", "api://orders/read")) == "ann"
    # With the sign-in that was asked for it goes on at once, whatever has failed before.
    worker.begin(ANN_AGAIN, "job").get_access_token()
    assert user_of(mail.get_access_token()) == "ann"


@pytest.mark.parametrize(
    "error",
    [
        ThrottledError("slow down", retry_after=600.0),
        ServiceUnavailableError("down", status=503),
        ConsentRequiredError("no", error="invalid_grant", error_codes=(65001,)),
        InvalidScopeError("no", error="invalid_scope"),
    ],
)
def test_each_scope_is_alone_in_its_failures(app, clock, error):
    worker = Worker(app, RecordingStore(clock))
    worker.begin(ANN, "job").get_access_token()
    app.errors[""] = error
    mail = worker.manager("job", WRITE)
    with pytest.raises(type(error)):
        mail.get_access_token()
    app.errors.clear()
    assert user_of(worker.get("job", "api://orders/read")) == "ann"
    with pytest.raises(type(error)):
        mail.get_access_token()
    assert len(app.shown) == 1


# Bounds


def test_managers_of_sessions_are_bounded_and_the_least_recently_used_go(app, clock):
    store = RecordingStore(clock)
    worker = Worker(app, store, most=3)
    for number in range(3):
        worker.begin(ANN, f"job {number}").get_access_token()
    worker.begin(ANN, "job 0").get_access_token()
    worker.begin(ANN, "job 3").get_access_token()
    assert {name for name, _ in worker.kept} == {"job 0", "job 2", "job 3"}
    collect(worker.context)
    assert len(worker.sessions._alive.cell_contents) == 3
    # Who has made room is found again, in the store.
    assert user_of(worker.get("job 1")) == "ann"
    assert len(app.asked) == 4


def test_bogus_assertions_push_nobody_out_and_leave_nothing(app, clock):
    worker = Worker(app, most=2, inline=True)
    worker.begin(ANN, "job").get_access_token()
    app.errors[""] = InteractionRequiredError("bogus", error="invalid_grant", error_codes=(50013,))
    for number in range(600):
        with pytest.raises(InteractionRequiredError):
            worker.begin(f"{BOB}{number}", f"job {number}").get_access_token()
        with pytest.raises(InteractionRequiredError):
            worker.get(f"none {number}")
    app.errors.clear()
    assert worker.kept == [("job", ANN)]
    gc.collect()
    assert len(worker.sessions._alive.cell_contents) <= 1 + 256
    assert len(worker.sessions._sessions.cell_contents) <= 1 + 256
    assert user_of(worker.get("job")) == "ann"


def test_without_a_store_the_memory_of_sessions_is_bounded_and_what_it_loses_is_told(app):
    worker = Worker(app, most=5, inline=True)
    for number in range(200):
        worker.begin(ANN, f"job {number}").get_access_token()
    store = worker.sessions._sealed.store._store
    assert len(store._records) <= 11
    assert user_of(worker.get("job 199")) == "ann"
    ended(worker, "job 0")


# What it needs, and what it is given


def test_a_store_needs_an_explicit_key_and_the_error_says_why():
    store = RecordingStore(FakeClock())
    with registry(store=store) as tokens:
        for call in (
            lambda: tokens.session("job"),
            lambda: tokens.on_behalf_of(assertion("ann", exp=2e10), READ, session="job"),
        ):
            with pytest.raises(
                ConfigurationError, match=r"encryption_key=.*end every session when"
            ):
                call()
        assert tokens.on_behalf_of(assertion("ann", exp=2e10), READ)
    with registry(store=store, encryption_key="0123456789-0123456789-0123456789") as tokens:
        assert tokens.session("job").manager(READ)


def test_b2c_is_told_at_once():
    with (
        registry(authority=Authority.b2c("contoso", "b2c_1_signin")) as tokens,
        pytest.raises(ConfigurationError, match="no on-behalf-of grant"),
    ):
        tokens.session("job")


@pytest.mark.parametrize("name", ["", 4711, None, b"job", "x" * 1025, "\ud800"], ids=repr)
def test_a_name_is_a_text_of_the_programs(name):
    with registry() as tokens:
        with pytest.raises(ConfigurationError, match="session="):
            tokens.session(name)
        if name is not None:
            with pytest.raises(ConfigurationError, match="session="):
                tokens.on_behalf_of(assertion("ann", exp=2e10), READ, session=name)


def test_scopes_are_checked_when_a_manager_is_asked_for(worker):
    for scopes, kind in (((), ConfigurationError), (("openid",), InvalidScopeError)):
        with pytest.raises(kind):
            worker.session("job").manager(*scopes)
        with pytest.raises(kind):
            worker.sessions.manager(worker.session("job")._name, scopes)


def test_a_closed_registry_says_so():
    tokens = registry()
    session, manager = tokens.session("job"), tokens.session("job").manager(READ)
    tokens.close()
    for call in (
        lambda: tokens.session("job"),
        lambda: tokens.on_behalf_of(assertion("ann", exp=2e10), READ, session="job"),
        lambda: session.manager(READ),
        session.end,
        manager.get_access_token,
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            call()


def test_a_manager_of_a_session_without_a_store_tells_of_none(worker, app, clock):
    manager = worker.begin(ANN, "job")
    manager.get_access_token()
    assert manager.status().store is None
    assert Worker(app, RecordingStore(clock)).begin(ANN, "job").status().store == "well"


@needs_fork
@unwarned_forks
def test_a_child_has_no_part_in_the_sessions_of_its_parents_memory(worker):
    token = worker.begin(ANN, "job").get_access_token()

    def work() -> str:
        try:
            return worker.get("job")
        except InteractionRequiredError as error:
            return str(error)

    assert "no such session" in in_child(work)
    assert worker.get("job") == token


# The store's troubles


def test_without_the_store_nobody_redeems_and_what_is_in_hand_serves(app, clock):
    store = RecordingStore(clock)
    worker = Worker(app, store)
    manager = worker.begin(ANN, "job")
    token = manager.get_access_token()
    assert worker.get("job") == token
    store.error = OSError("gone")
    assert manager.get_access_token() == worker.get("job") == token
    with pytest.raises(StoreError, match="cannot be used now") as caught:
        worker.get("job", WRITE)
    assert caught.value.retryable
    with pytest.raises(StoreError):
        worker.begin(BOB, "job").get_access_token()
    assert (len(app.asked), app.shown) == (1, [])
    store.error = None
    clock.advance(60)
    with pytest.raises(StoreError):
        worker.get("job", WRITE)  # which has the store probed
    until(lambda: worker.sealed.store.state == "well")
    clock.advance(60)
    assert user_of(worker.get("job", WRITE)) == "ann"


def test_what_cannot_be_written_is_kept_and_written_with_the_next(app, clock, monkeypatch):
    monkeypatch.setattr("tokenmgr._sharing.session._PAUSES", (0.0, 0.0))
    store = RecordingStore(clock)
    worker = Worker(app, store)
    worker.begin(ANN, "job").get_access_token()
    clock.advance(3600)
    store.failing = ("put",)
    store.error = OSError("full")
    token = worker.get("job")
    assert user_of(token) == "ann"
    store.error = None
    clock.advance(3600)
    worker.context.settle(10)
    with suppress(TokenManagerError):  # whoever is first has the store looked after
        worker.get("job")
    until(lambda: worker.sealed.store.state == "well")
    assert user_of(worker.get("job")) == "ann"
    assert app.shown == list(dict.fromkeys(app.shown))
    clock.advance(3600)
    assert user_of(Worker(app, store).get("job")) == "ann"


def test_what_a_store_fails_to_erase_is_told_and_erased_when_it_is_ended_again(app, clock):
    store = RecordingStore(clock)
    worker = Worker(app, store)
    held = worker.begin(ANN, "job")
    held.get_access_token()
    store.error = OSError("gone")
    with pytest.raises(StoreError, match="ended in this process, but may lie in the store") as e:
        worker.session("job").end()
    assert e.value.retryable
    ended(held)
    store.error = None
    clock.advance(60)
    with pytest.raises(StoreError):
        worker.session("job").end()
    until(lambda: worker.sealed.store.state == "well")
    worker.session("job").end()
    assert store.names == []


def test_an_end_in_the_middle_of_a_redemption_stays_the_end(app, clock):
    store = RecordingStore(clock)
    one, other = Worker(app, store), Worker(app, store)
    one.begin(ANN, "job").get_access_token()
    clock.advance(3600)
    manager = one.manager("job")
    app.gate.clear()
    app.entered = threading.Semaphore(0)
    manager.prefetch()
    assert app.entered.acquire(timeout=30)
    store.asked.clear()
    end = threading.Thread(target=other.session("job").end)
    end.start()
    until(lambda: store.asked.count("lease") >= 2)  # it waits for whoever redeems
    app.gate.set()
    ended(manager, says="ended, or begun anew, while")
    end.join(30)
    ended(one, "job")
    ended(Worker(app, store), "job")
    assert store.names == []


def test_what_is_written_as_it_ends_is_erased_once_more(app, clock):
    store = RecordingStore(clock)
    one, other = Worker(app, store), Worker(app, store)
    one.begin(ANN, "job").get_access_token()
    clock.advance(3600)
    ends: list[threading.Thread] = []

    def before(operation: str) -> None:
        if operation == "put" and not ends:
            ends.append(threading.Thread(target=other.session("job").end))
            tries = store.asked.count("lease")
            ends[0].start()
            until(lambda: store.asked.count("lease") >= tries + 2)  # it waits for this worker

    store.before = before
    one.get("job")  # whose answer came before the end
    ends[0].join(30)
    assert store.names == []
    ended(one, "job")


def test_an_end_here_is_no_other_flights_new_beginning(app, clock):
    store = RecordingStore(clock)
    worker = Worker(app, store)
    manager = worker.begin(ANN, "job")
    app.gate.clear()
    manager.prefetch()
    assert app.entered.acquire(timeout=30)
    end = threading.Thread(target=worker.session("job").end)
    end.start()
    until(lambda: store.asked.count("lease") >= 2)
    app.gate.set()
    end.join(30)
    ended(manager)
    ended(worker, "job")
    assert store.names == []
