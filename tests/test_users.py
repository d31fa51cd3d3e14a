"""The managers of users: found by what a call brings, bounded, each alone, asked for no longer."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading

import pytest
from fake_users import READ, TENANT, World, assertion
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from reporting import told_at_every_line, told_of
from support import FakeClock, HandRefresher, collect, in_threads, settle
from waiting import until

from tokenmgr import (
    Authority,
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidScopeError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRegistry,
    TokenRequestError,
)
from tokenmgr.events import Event, RequestFailed, TokenRequested

WRITE = "https://graph.microsoft.com/Mail.Send"
ANN, BOB, KIM = (assertion(f"{name}@contoso.com") for name in ("ann", "bob", "kim"))
REFUSED = InteractionRequiredError("no", error="invalid_grant", error_codes=(50173,))


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


def registry(authority: object = None) -> TokenRegistry:
    return TokenRegistry(
        client_id="11111111-2222-3333-4444-555555555555",
        credential="secret",
        authority=authority or Authority.entra(TENANT),  # type: ignore[arg-type]
    )


def living(minutes: float = 60.0) -> str:
    """An assertion for the machine's own clock."""
    import time

    return assertion("ann@contoso.com", exp=time.time() + 60 * minutes)


# Who is who.


def test_the_same_assertion_and_scopes_find_the_same_manager_however_they_are_given():
    ann = living()
    with registry() as tokens:
        managers = {
            tokens.on_behalf_of(ann, READ, WRITE),
            tokens.on_behalf_of(f"Bearer {ann}", WRITE, READ),
            tokens.on_behalf_of(f"bearer {ann}", f"{WRITE} {READ}"),
            tokens.on_behalf_of(ann, [WRITE, READ]),
            tokens.on_behalf_of(ann, {WRITE}, READ, READ),
        }
        (manager,) = managers
        assert manager.scopes == (WRITE, READ)
        assert manager.key.grant == "on_behalf_of"
        assert tokens.on_behalf_of(ann, READ) is not manager


def test_a_hit_is_one_request_for_any_number_of_calls(world):
    assert len({world.get(ANN) for _ in range(10)}) == 1
    assert world.manager(ANN) is world.manager(ANN)
    assert world.app.asked == [(ANN, (READ,), None)]


def test_one_bit_of_difference_anywhere_is_another_user(world):
    changed = [ANN, f"{ANN}=", ANN[:-1] + "V", ANN.replace("c2ln", "C2ln")]
    managers = [world.manager(text) for text in changed]
    secrets = {manager.get_access_token() for manager in managers}
    assert len(secrets) == len({manager.key for manager in managers}) == len(changed)
    assert [text for text, *_ in world.app.asked] == changed


def test_kind_client_scopes_and_claims_make_other_keys(clock):
    url = "https://login.example.com/realm"
    kinds = [Authority.oidc(url), Authority.parse("https://login.example.com/adfs")]
    worlds = [World(clock, authority=each) for each in kinds]
    worlds.append(World(clock, authority=Authority.oidc("https://login.example.com/adfs")))
    worlds[2].app.client_id = "another"
    managers = [each.manager(ANN) for each in worlds] + [worlds[0].manager(ANN, WRITE)]
    keys = {manager.key for manager in managers}
    assert len(keys) == 4
    managers[0].refresh_access_token(claims='{"access_token": {}}')
    assert len(keys | {managers[0]._cell.key}) == 5
    same = World(clock, authority=Authority.adfs("https://login.example.com/adfs"))
    other = World(clock, authority=Authority.oidc("https://login.example.com/adfs"))
    assert same.manager(ANN).key != other.manager(ANN).key


def test_nothing_of_an_assertion_or_a_name_is_in_what_is_shown(world):
    world.get(ANN)
    world.app.errors[BOB] = ThrottledError("slow down", retry_after=100.0)
    manager = world.manager(BOB)
    with pytest.raises(ThrottledError):
        manager.get_access_token()
    shown = repr(
        [world.users, vars(world.users), manager, manager.key, manager.status(), vars(manager)]
    )
    assert not any(part in shown for text in (ANN, BOB) for part in text.split(".")[1:2])
    assert "contoso" not in shown
    with pytest.raises(TypeError, match="does not pickle"):
        world.users.__reduce__()


# What is refused before anything is asked.


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ((living(-1), READ), InteractionRequiredError, "expired: answer the caller with 401"),
        (("opaque", READ), InteractionRequiredError, "no JWT"),
        (("A" * 16_385, READ), InteractionRequiredError, "larger than 16 KiB"),
        ((None, READ), ConfigurationError, "a string"),
        ((living(),), ConfigurationError, "no scope"),
        ((living(), READ, "openid"), InvalidScopeError, "leave them out"),
        ((living(), "a\ud800"), InvalidScopeError, "UTF-8"),
        ((living(), "x" * 2_049), InvalidScopeError, "more than 2048 characters"),
        ((living(), "x " * 50_000), InvalidScopeError, "more than 16384 characters"),
    ],
    ids=range(9),
)
def test_what_cannot_be_right_is_refused_at_once(given, kind, says):
    with registry() as tokens:
        for _ in range(2):
            with pytest.raises(kind, match=says) as caught:
                tokens.on_behalf_of(*given)
            assert len(str(caught.value)) < 300
        assert told_of(caught.value, ("ann@contoso.com", given[0] or "nothing")) == []


def test_b2c_is_told_at_once_and_what_to_do_instead():
    says = r"no on-behalf-of grant: call .* manager\(\)"
    with (
        registry(Authority.b2c("contoso", "b2c_1_signin")) as tokens,
        pytest.raises(ConfigurationError, match=says),
    ):
        tokens.on_behalf_of("opaque", READ)


def test_a_closed_registry_says_so():
    ann = living()
    tokens = registry()
    manager = tokens.on_behalf_of(ann, READ)
    tokens.close()
    never_asked = registry()
    never_asked.close()
    for call in (
        lambda: tokens.on_behalf_of(ann, READ),
        lambda: never_asked.on_behalf_of(ann, READ),
        manager.get_access_token,
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            call()


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "many", None])
def test_a_bound_is_a_number(most):
    with pytest.raises(ConfigurationError, match="max_users="):
        TokenRegistry(
            client_id="a", credential="b", authority=Authority.entra(TENANT), max_users=most
        )


# Tenants.


def test_at_common_each_user_is_exchanged_at_their_own_tenant(clock):
    world = World(clock, authority=Authority.entra("common", cloud="login.example.com"))
    tenants = [f"{number:08d}-1111-2222-3333-444444444444" for number in range(3)]
    texts = [assertion("ann", tid=tid) for tid in (*tenants, tenants[0])]
    managers = [world.manager(text, scope) for text in texts for scope in (READ, WRITE)]
    for manager in managers:
        manager.get_access_token()
    assert world.app.asked == []
    assert {url.rpartition("/")[2]: len(app.asked) for url, app in world.app.others.items()} == {
        tid: 2 + 2 * (tid == tenants[0]) - 2 * (tid == tenants[0]) for tid in tenants
    }


def test_at_common_an_assertion_without_a_tenant_says_what_to_set(clock):
    world = World(clock, authority=Authority.entra("common"))
    with pytest.raises(InteractionRequiredError, match="set the tenant in the authority"):
        world.manager(assertion("ann", tid=None))


@pytest.mark.parametrize("alias", ["organizations", "consumers"])
def test_personal_accounts_are_told_from_those_of_work(clock, alias):
    world = World(clock, authority=Authority.entra(alias))
    personal = assertion("kim", tid="9188040d-6c67-4c5b-b112-36a304b66dad")
    takes, not_ = (ANN, personal) if alias == "organizations" else (personal, ANN)
    assert world.get(takes)
    with pytest.raises(InteractionRequiredError, match=f"{alias}.*another account"):
        world.manager(not_)


@pytest.mark.parametrize(
    ("codes", "kind"), [((700016,), ConsentRequiredError), ((90002,), InteractionRequiredError)]
)
def test_what_is_wrong_with_a_users_tenant_is_no_trouble_of_the_apps(clock, codes, kind):
    error = ConfigurationError("no such app", error="unauthorized_client", error_codes=codes)
    for alias, raised in ((TENANT, ConfigurationError), ("common", kind)):
        world = World(clock, authority=Authority.entra(alias))
        manager = world.manager(ANN)
        for app in (world.app, *world.app.others.values()):
            app.errors[ANN] = error
        with pytest.raises(raised, match="no such app") as caught:
            manager.get_access_token()
        assert type(caught.value) is raised
        assert caught.value.error_codes == codes


# The assertion's end.


def test_a_token_serves_no_longer_than_its_assertion(clock):
    refresher = HandRefresher(clock)
    world = World(clock, refresher=refresher)
    world.app.lifetime = 86_400.0
    world.app.refresh_in = 43_200.0
    manager = world.manager(ANN)
    token = manager.get_token()
    assert token.expires_at == 1_800_003_600.0
    for _ in range(358):
        clock.advance(10)
        refresher.run_due()
        settle(manager)
        assert manager.get_access_token() == token.secret
    assert len(world.app.asked) == 1, "renewed, to end at the same time"


@pytest.mark.parametrize("error", [None, ServiceUnavailableError("down"), ThrottledError("no")])
def test_an_assertion_that_ends_while_it_is_exchanged_is_told_as_ended(world, error):
    world.app.during = lambda: world.clock.advance(3600)
    if error is not None:
        world.app.errors[ANN] = error
    manager = world.manager(ANN)
    with pytest.raises(InteractionRequiredError, match="expired: answer the caller with 401") as e:
        manager.get_access_token()
    assert e.value.__context__ is None
    assert not e.value.retryable


def test_what_is_due_after_the_end_is_not_renewed(clock):
    refresher, events = HandRefresher(clock), []
    world = World(clock, refresher=refresher, on_event=events.append)
    world.app.lifetime = 3000.0
    manager = world.manager(ANN)
    manager.get_access_token()
    until(lambda: len(events) == 2)
    clock.advance(3600)  # the machine slept
    refresher.run_due()
    settle(manager)
    world.context.settle(10)
    assert len(world.app.asked) == 1
    assert len(events) == 2


def test_after_its_end_a_manager_that_is_held_asks_for_nothing_and_says_what_to_do(clock, caplog):
    caplog.set_level(logging.DEBUG, "tokenmgr")
    refresher, events = HandRefresher(clock), []
    world = World(clock, refresher=refresher, on_event=events.append)
    world.app.lifetime = 86_400.0
    manager = world.manager(ANN)
    manager.get_access_token()
    until(lambda: len(events) == 2)
    clock.advance(3600)
    refresher.run_due()
    for call in (
        manager.get_access_token,
        manager.get_access_token,
        manager.refresh_access_token,
        lambda: manager.refresh_access_token(claims="c"),
        manager.prefetch,
        lambda: asyncio.run(manager.aget_access_token()),
        lambda: world.manager(ANN),
    ):
        with pytest.raises(InteractionRequiredError, match="expired: answer the caller with 401"):
            call()
    assert len(world.app.asked) == 1
    assert len(events) == len(caplog.records) == 2


def test_a_token_is_renewed_while_its_assertion_lives_if_it_is_used_and_not_after(clock):
    refresher = HandRefresher(clock)
    world = World(clock, refresher=refresher)
    world.app.lifetime = 900.0
    used, unused = world.manager(ANN), world.manager(BOB)
    unused.get_access_token()
    for _ in range(500):
        if clock.wall() < 1_800_003_600.0 - 10:
            used.get_access_token()
        clock.advance(10)
        refresher.run_due()
        settle(used)
        settle(unused)
    texts = [text for text, *_ in world.app.asked]
    # At first for its own sake, once more since it was asked for in its first life.
    assert 1 <= texts.count(BOB) <= 2
    assert 5 <= texts.count(ANN) <= 8
    assert world.app.asked[-1][0] == ANN


def test_a_clock_that_was_set_ahead_takes_no_valid_token_away(clock):
    world = World(clock)
    world.app.lifetime = 1800.0
    manager = world.manager(ANN)
    token = manager.get_access_token()
    clock.step_wall(3600)
    for _ in range(178):
        clock.advance(10)
        assert manager.get_access_token() == token
    clock.advance(20)
    with pytest.raises(InteractionRequiredError):
        manager.get_access_token()


# The bound.


def test_the_bound_holds_and_the_least_recently_used_goes_first(clock):
    world = World(clock, most=3)
    texts = [assertion(f"user {number}") for number in range(5)]
    for text in texts[:3]:
        world.get(text)
    world.get(texts[0])
    world.get(texts[3])
    assert world.kept == {texts[0], texts[2], texts[3]}
    world.get(texts[4])
    assert world.kept == {texts[0], texts[3], texts[4]}
    for text in (texts[0], texts[3], texts[4]):
        world.get(text)
    assert len(world.app.asked) == 5
    world.get(texts[1])
    assert len(world.app.asked) == 6


def test_those_whose_assertion_has_ended_go_first(clock):
    world = World(clock, most=3)
    short = assertion("short", exp=1_800_000_100)
    world.get(BOB)
    world.get(KIM)
    world.get(short)
    clock.advance(100)
    world.get(ANN)
    assert world.kept == {ANN, BOB, KIM}


@pytest.mark.uncovered
def test_ten_thousand_users_fit_into_a_thousand(clock):
    world = World(clock, most=1_000, inline=True)
    for number in range(10_000):
        world.get(assertion(f"user {number}"))
    gc.collect()
    assert len(world.kept) == len(world.users._alive.cell_contents) == 1_000
    assert len(world.app.asked) == 10_000


def test_a_manager_that_is_held_goes_on_after_it_has_left(clock):
    refresher = HandRefresher(clock)
    world = World(clock, most=2, refresher=refresher)
    world.app.lifetime = 600.0
    held = world.manager(ANN)
    token = held.get_access_token()
    for text in (BOB, KIM):
        world.get(text)
    assert world.kept == {BOB, KIM}
    assert held.get_access_token() == token
    assert world.manager(ANN) is held
    assert world.kept == {KIM, ANN}, "and whoever is asked for is in use again"
    clock.advance(500)
    refresher.run_due()
    settle(held)
    assert held.get_access_token() != token
    assert [text for text, *_ in world.app.asked].count(ANN) == 2


def test_nobody_is_kept_before_a_token_has_come(world):
    manager = world.manager(ANN)
    assert world.kept == set()
    assert world.manager(ANN) is manager
    manager.get_access_token()
    assert world.kept == {ANN}


def test_whose_caller_has_gone_is_kept_all_the_same(world):
    world.app.gate.clear()
    with pytest.raises(TokenManagerError):
        world.manager(ANN).get_access_token(timeout=0)
    assert world.app.entered.acquire(timeout=30)
    second = world.manager(ANN)  # whoever else comes waits for the same fetch
    world.app.gate.set()
    second.get_access_token()
    assert len(world.app.asked) == 1
    assert world.kept == {ANN}


@pytest.mark.uncovered
def test_thirty_thousand_bogus_assertions_push_nobody_out_and_leave_nothing(clock):
    world = World(clock, most=10, inline=True)
    live = [assertion(f"user {number}") for number in range(10)]
    for text in live:
        world.get(text)
    world.app.errors[""] = REFUSED
    clock.advance(1)
    gc.collect()
    before = len(gc.get_objects())
    refused = []

    def bogus() -> None:  # most of them of no use from the start
        for number in range(30_000):
            text = f"{ANN}{number}" if number % 5 == 0 else f"{ANN}.{number}"
            try:
                world.get(text)
            except TokenManagerError as exc:
                refused.append(type(exc))

    in_threads(1, bogus, timeout=100)
    assert len(refused) == 30_000
    assert len(world.app.asked) - 10 == 6_000
    refused.clear()
    world.app.asked.clear()
    world.context.refresher.run_due()
    gc.collect()
    grown = len(gc.get_objects()) - before
    assert world.kept == set(live)
    assert len(world.failed) <= 256
    assert len(world.users._alive.cell_contents) <= 10 + 256
    assert grown < 100 * 256, f"{grown} objects stay"
    world.app.errors.clear()
    for text in live:
        world.get(text)
    assert world.app.asked == []


def test_scopes_are_spelled_in_any_number_of_ways_and_few_are_remembered(world):
    world.get(ANN)
    for number in range(3_000):
        assert world.manager(ANN, READ, " " * (number + 1)) is world.manager(ANN)
    assert len(world.users._all.spellings) <= 1_000


# Each alone.


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnavailableError("down", status=503, retry_after=3600.0),
        ThrottledError("slow down", retry_after=3600.0, status=429),
        REFUSED,
        ValueError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_users_trouble_is_no_other_users(clock, error):
    world = World(clock, policy=RefreshPolicy())
    world.app.errors[ANN] = error
    managers = [world.manager(ANN, scope) for scope in (READ, WRITE)]
    for manager in managers:
        with pytest.raises(TokenManagerError):
            manager.get_access_token()
    for text in (BOB, KIM):
        assert world.get(text)
    assert world.manager(BOB).status().last_error is None


def test_one_who_waits_for_ever_keeps_nobody_waiting(world):
    world.app.gate.clear()
    waiting = threading.Thread(target=world.get, args=(ANN,))
    waiting.start()
    assert world.app.entered.acquire(timeout=30)
    world.app.gate.set()
    world.get(BOB)
    waiting.join(30)


def test_a_claims_challenge_of_one_user_is_no_other_users(world):
    ann, bob = world.manager(ANN), world.manager(BOB)
    bobs = bob.get_access_token()
    anns = ann.refresh_access_token(claims="c")
    assert world.get(ANN) == anns
    assert world.get(BOB) == bobs
    assert [asked[2] for asked in world.app.asked] == [None, "c"]
    assert world.manager(ANN) is ann


def test_a_failure_stands_for_that_user_though_nobody_holds_the_manager(clock):
    world = World(clock, policy=RefreshPolicy(jitter=0.0))
    world.app.errors[ANN] = ThrottledError("slow down", retry_after=100.0)
    for _ in range(5):
        with pytest.raises(ThrottledError) as caught:
            world.get(ANN)
    assert caught.value.retry_after == 100.0
    assert len(world.app.asked) == 1
    assert world.kept == set()
    clock.advance(101)
    world.app.errors.clear()
    assert world.get(ANN)
    assert (world.kept, world.failed) == ({ANN}, set())


def test_what_has_failed_is_forgotten_when_its_time_is_over(clock):
    world = World(clock)
    world.app.errors[""] = ThrottledError("slow down", retry_after=100.0)
    for number in range(400):
        with pytest.raises(ThrottledError):
            world.get(assertion(f"user {number}"))
    collect(world.context)
    assert len(world.failed) == len(world.users._alive.cell_contents) == 256
    clock.advance(200)
    with pytest.raises(ThrottledError):
        world.get(ANN)
    collect(world.context)
    assert len(world.users._alive.cell_contents) == 1


# What is told.


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (REFUSED, "DEBUG"),
        (ConsentRequiredError("no", error_codes=(65001,)), "DEBUG"),
        (TokenRequestError("no", error_codes=(50027,)), "DEBUG"),
        (TokenRequestError("no"), "WARNING"),
        (ThrottledError("no"), "WARNING"),
        (ServiceUnavailableError("no"), "WARNING"),
        (ConfigurationError("no"), "WARNING"),
        (ValueError("a bug"), "WARNING"),
    ],
    ids=str,
)
def test_what_the_service_refuses_a_user_is_no_warning(world, caplog, error, level):
    caplog.set_level(logging.DEBUG, "tokenmgr")
    world.app.errors[ANN] = error
    with pytest.raises(TokenManagerError):
        world.get(ANN)
    until(lambda: any("no new token for" in each.message for each in caplog.records))
    levels = [each.levelname for each in caplog.records if "no new token" in each.message]
    assert levels == [level]


def test_events_tell_users_apart_and_name_none(clock):
    events: list[Event] = []
    world = World(clock, on_event=events.append)
    world.app.errors[BOB] = REFUSED
    world.get(ANN)
    with pytest.raises(InteractionRequiredError):
        world.get(BOB)
    until(lambda: any(isinstance(event, RequestFailed) for event in events))
    subjects = {event.key.subject for event in events if isinstance(event, TokenRequested)}
    assert len(subjects) == 2
    told = repr(events)
    assert not any(part in told for text in (ANN, BOB) for part in text.split("."))


@pytest.mark.traces
@pytest.mark.parametrize("within", ["users.py", "entra/grants", "_engine/cell.py"])
def test_no_frame_tells_of_a_user_wherever_it_breaks(within):
    secrets = (ANN.split(".")[1], "ann@contoso.com")

    def work() -> None:
        world = World(FakeClock(), most=1, inline=True)
        world.get(BOB)
        manager = world.manager(ANN)
        manager.get_access_token()
        world.manager(ANN)
        world.get(BOB)
        world.manager(ANN)
        world.users.close()

    assert told_at_every_line(work, secrets, within=(within,)) == []


# Many at once, and elsewhere.


def test_many_threads_and_loops_of_one_user_cost_one_request(world):
    world.app.gate.clear()

    async def several() -> set[str]:
        calls = [world.manager(ANN).aget_access_token() for _ in range(10)]
        return set(await asyncio.gather(*calls))

    numbers = itertools.count()

    def work() -> object:
        return asyncio.run(several()) if next(numbers) % 2 else {world.get(ANN)}

    opener = threading.Thread(
        target=lambda: (world.app.entered.acquire(timeout=30), world.app.gate.set())
    )
    opener.start()
    outcomes = in_threads(20, work)
    opener.join()
    (secret,) = set().union(*outcomes)
    assert world.get(ANN) == secret
    assert len(world.app.asked) == 1


def test_the_first_calls_of_many_users_are_under_way_together(world):
    world.app.gate.clear()
    texts = [assertion(f"user {number}") for number in range(100)]
    numbers = itertools.count()

    def open_() -> None:
        for _ in texts:
            assert world.app.entered.acquire(timeout=30), "they wait for each other"
        world.app.gate.set()

    opener = threading.Thread(target=open_)
    opener.start()
    outcomes = in_threads(100, lambda: world.get(texts[next(numbers)]))
    opener.join()
    assert len(set(outcomes)) == 100
    assert len(world.app.asked) == 100


@needs_fork
@unwarned_forks
def test_a_child_keeps_the_users_and_goes_its_own_way(clock):
    world = World(clock)
    token = world.get(ANN)

    def child() -> object:
        return world.get(ANN) == token, len(world.app.asked), bool(world.get(BOB)), len(world.kept)

    with world.users._all.lock:
        assert in_child(child) == [True, 1, True, 2]
    assert world.kept == {ANN}
