"""Users who have signed in: kept, found again by whichever worker, carried on, and signed out."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import threading
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from fake_sessions import SessionApp, Worker, user_of
from fake_users import READ, assertion
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from support import HandRefresher, RecordingStore, in_threads, settle

from tokenmgr import (
    Authority,
    ConfigurationError,
    InteractionRequiredError,
    ServiceUnavailableError,
    SessionNotFoundError,
    StoreError,
    TokenRegistry,
)
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr._session import Account, SignedIn
from tokenmgr._sharing.guarded import StoreAwayError
from tokenmgr._sharing.session_names import SessionNames
from tokenmgr._sharing.user_index import UserIndex

WRITE = "https://graph.microsoft.com/Mail.Send"
TENANT = "0f0f0f0f-1111-2222-3333-444444444444"


@pytest.fixture(params=["alone", "shared"])
def worker(request, app: SessionApp, store: RecordingStore) -> Worker:
    return Worker(app, store if request.param == "shared" else None)


def gone(call) -> SessionNotFoundError:
    with pytest.raises(SessionNotFoundError, match="sign in again") as caught:
        call()
    assert (caught.value.error, caught.value.retryable) == (None, False)
    return caught.value


# Kept, and found again


def test_who_has_signed_in_has_the_token_in_hand_and_others_by_the_refresh_token(worker, app):
    ann = worker.sign_in("ann", READ)
    assert user_of(ann.manager(READ).get_access_token()) == "ann"
    assert app.shown == []
    assert user_of(ann.manager(WRITE).get_access_token()) == "ann"
    assert len(app.shown) == 1
    assert ann.manager(READ) is worker.user("ann").manager(READ)


def test_it_says_who_that_is(worker):
    ann = worker.sign_in("ann", name="Ann", roles=["admin"])
    for each in (ann, worker.user("ann"), *worker.sessions.users(Hidden(None))):
        assert (each.home_account_id, each.username) == ("ann.home", "ann@contoso.com")
        assert (each.claims["name"], each.claims["roles"]) == ("Ann", ["admin"])
    ann.claims["roles"].append("owner")  # it is a copy
    assert ann.claims["roles"] == ["admin"]


def test_it_is_renewed_for_as_long_as_it_is_used_each_time_with_the_newest(worker, app, clock):
    manager = worker.sign_in("ann").manager(READ)
    tokens = {manager.get_access_token()}
    for _ in range(5):
        clock.advance(3600)
        tokens.add(manager.get_access_token())
        assert worker.user("ann").manager(READ).get_access_token() in tokens
    assert len(tokens) == 6
    assert len(set(app.shown)) == len(app.shown) == 5


def test_who_signs_in_again_goes_on_with_that(worker, app, clock):
    held = worker.sign_in("ann").manager(READ)
    first = held.get_access_token()
    worker.sign_in("ann", name="Ann, again")
    assert worker.user("ann").claims["name"] == "Ann, again"
    second = held.get_access_token()
    assert (user_of(second), second != first) == ("ann", True)
    app.over.add(app.given["refresh-2"][1])  # that of the first sign-in
    clock.advance(3600)
    assert user_of(held.get_access_token()) == "ann"


def test_users_and_names_of_the_program_never_meet(worker):
    worker.sign_in("ann")
    for name in ("ann.home", "ann", "ann@contoso.com", worker.user("ann")._name.cell_contents):
        with pytest.raises(SessionNotFoundError, match="on_behalf_of"):
            worker.get(name)
    worker.begin(assertion("bob", oid="bob's"), "bob.home").get_access_token()
    gone(lambda: worker.user("bob"))
    assert worker.users() == ["ann@contoso.com"]


def test_each_user_is_alone(worker, app, clock):
    ann, bob = (worker.sign_in(name).manager(READ) for name in ("ann", "bob"))
    app.errors["ann"] = ServiceUnavailableError("down")
    clock.advance(3600)
    assert user_of(bob.get_access_token()) == "bob"
    with pytest.raises(ServiceUnavailableError):
        ann.get_access_token()
    worker.user("ann").end()
    gone(ann.get_access_token)
    assert user_of(bob.get_access_token()) == "bob"
    assert worker.user("bob").username == "bob@contoso.com"


def test_many_threads_never_get_each_others(app, store):
    workers = [Worker(app, store) for _ in range(3)]
    names = [f"user{number}" for number in range(8)]
    for number, name in enumerate(names):
        workers[number % 3].sign_in(name)
    calls = iter([(worker, name) for _ in range(2) for name in names for worker in workers])

    def work() -> None:
        worker, name = next(calls)
        user = worker.user(name)
        for scope in (READ, WRITE):
            assert user_of(user.manager(scope).get_access_token()) == name
        assert user.username == f"{name}@contoso.com"

    assert in_threads(48, work) == [None] * 48
    assert len(app.shown) == len(set(app.shown))
    assert app.over == set()


def test_another_worker_finds_them_and_their_tokens(app, store):
    token = Worker(app, store).sign_in("ann").manager(READ).get_access_token()
    other = Worker(app, store)
    assert other.users() == other.users("ANN@contoso.com") == ["ann@contoso.com"]
    assert other.users("bob@contoso.com") == []
    assert other.user("ann").manager(READ).get_access_token() == token
    assert app.shown == []


def test_the_claims_are_read_from_the_store_once(app, store):
    Worker(app, store).sign_in("ann")
    other = Worker(app, store)
    ann = other.user("ann")
    store.asked.clear()
    assert (ann.username, ann.home_account_id) == ("ann@contoso.com", "ann.home")
    assert len(ann.claims) == 1
    assert store.asked == []


def test_a_session_of_a_name_says_whose_it_is_now(app, store, clock):
    one, other = Worker(app, store), Worker(app, store)
    one.begin(assertion("ann", oid="ann's"), "job").get_access_token()
    session = one.session("job")
    assert (session.username, session.home_account_id) == ("ann", f"ann's.{TENANT}")
    assert session.claims["oid"] == "ann's"
    other.begin(assertion("bob", oid="bob's"), "job").get_access_token()
    assert one.session("job").username == "bob"
    assert one.session("job").home_account_id == f"bob's.{TENANT}"


def test_of_a_session_that_is_not_there_nothing_is_said(worker):
    session = worker.session("job")
    for say in (lambda: session.claims, lambda: session.username, lambda: session.home_account_id):
        with pytest.raises(SessionNotFoundError, match="no such session"):
            say()


def test_an_older_record_without_an_account_still_opens(app, store, monkeypatch):
    from tokenmgr._sharing import session_place as sharing

    def without_account(record, owner):
        content = json.loads(to_bytes(record, owner).cell_contents)
        del content["account"]
        return Hidden(json.dumps(content).encode())

    to_bytes = sharing.session_to_bytes
    monkeypatch.setattr(sharing, "session_to_bytes", without_account)
    Worker(app, store).begin(assertion("ann"), "job").get_access_token()
    other = Worker(app, store)
    assert user_of(other.get("job")) == "ann"
    session = other.session("job")
    assert (session.username, session.home_account_id, session.claims) == ("", "", {})


def test_an_account_is_bounded_and_what_is_longest_goes(app, store):
    worker = Worker(app, store)
    groups = [f"{number:036}" for number in range(300)]  # 12,000 characters
    assert len(worker.sign_in("ann", groups=groups).claims["groups"]) == 300
    worker.sign_in("ann", groups=groups * 2, name="Ann", login_hint="hint")
    other = Worker(app, store).user("ann")
    assert set(other.claims) == {"preferred_username", "name", "login_hint"}
    long = Account("a.b", "x" * 5_000, Hidden({"name": "x" * 20_000})).bounded()
    assert (long.home_account_id, long.username, long.claims.cell_contents) == ("a.b", "", {})


def test_a_sign_in_that_says_nobody_is_refused(worker, app):
    for home in ("", "x" * 3_000, "\ud800"):
        signed_in = app.sign_in("ann", READ)
        nobody = signed_in._replace(account=Account(home, "ann", Hidden({})))
        with pytest.raises(ConfigurationError, match="home_account_id"):
            worker.sessions.sign_in(nobody, (READ,))
    assert worker.users() == []


# Without a refresh token


def test_without_a_refresh_token_it_lasts_as_long_as_its_token(worker, app, clock):
    signed_in = app.sign_in("ann", READ)._replace(refresh_token=Hidden(""))
    ann = worker.sessions.sign_in(signed_in, (READ,))
    manager = ann.manager(READ)
    for _ in range(11):
        assert manager.get_access_token() == signed_in.token.secret
        clock.advance(300)
    with pytest.raises(InteractionRequiredError, match=r"no refresh token.*sign in again"):
        ann.manager(WRITE).get_access_token()
    assert manager.get_access_token() == signed_in.token.secret
    clock.advance(300)
    gone(manager.get_access_token)
    gone(lambda: worker.user("ann"))
    assert worker.users() == []
    assert app.shown == []


def test_without_a_refresh_token_nobody_tries_to_renew(app, clock):
    refresher = HandRefresher(clock)
    worker = Worker(app, refresher=refresher)
    signed_in = app.sign_in("ann", READ)._replace(refresh_token=Hidden(""))
    manager = worker.sessions.sign_in(signed_in, (READ,)).manager(READ)
    for _ in range(11):
        assert manager.get_access_token() == signed_in.token.secret
        refresher.run_due()
        settle(manager)
        clock.advance(300)
    assert (manager.status().last_error, app.shown) == (None, [])


# The end


@pytest.mark.parametrize("way", ["end", "sign_out", "aend", "asign_out"])
def test_who_signs_out_is_gone_everywhere_and_nothing_is_left(app, store, way):
    one, other = Worker(app, store), Worker(app, store)
    held = one.sign_in("ann").manager(READ)
    held.get_access_token()
    bob = one.sign_in("bob").manager(READ)
    ann = other.user("ann")
    ann.manager(WRITE).get_access_token()
    done = getattr(ann, way)()
    if way.startswith("a"):
        asyncio.run(done)
    for worker in (one, other):
        gone(lambda worker=worker: worker.user("ann"))
        assert worker.users() == ["bob@contoso.com"]
    gone(one.sessions.manager(ann._name, (READ,)).get_access_token)
    gone(ann.manager(READ).get_access_token)
    gone(lambda: ann.username)
    assert user_of(bob.get_access_token()) == "bob"
    left = [name for name in store.names if not name.endswith(":users")]
    assert len(left) == 2, "the other user's session and token"
    ann.sign_out()  # once more: it does nothing


def test_a_refused_refresh_token_is_the_end_and_says_so_by_its_class(worker, app, clock):
    manager = worker.sign_in("ann").manager(READ)
    manager.get_access_token()
    app.over.update(sign_in for _, sign_in in app.given.values())
    clock.advance(3600)
    with pytest.raises(
        InteractionRequiredError, match=r"refused.*have the user sign in again"
    ) as e:
        manager.get_access_token()
    assert not isinstance(e.value, SessionNotFoundError)
    assert e.value.error == "invalid_grant"
    with pytest.raises(InteractionRequiredError, match="is refused"):
        worker.user("ann")
    assert worker.users() == []
    worker.sign_in("ann")
    assert user_of(manager.get_access_token()) == "ann"
    assert worker.users() == ["ann@contoso.com"]


def test_unused_it_ends(app, store, clock):
    worker = Worker(app, store, ttl=7200.0)
    worker.sign_in("ann")
    worker.sign_in("bob")
    clock.advance(4000)
    worker.user("bob").manager(READ).get_access_token()
    clock.advance(4000)
    gone(lambda: worker.user("ann"))
    assert worker.users() == ["bob@contoso.com"]


@pytest.mark.parametrize(
    ("authority", "address"),
    [
        (Authority.entra(TENANT), f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/logout"),
        (
            Authority.b2c("contoso", "B2C_1_signin"),
            "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_signin/oauth2/v2.0/logout",
        ),
        (
            Authority.ciam("contoso"),
            "https://contoso.ciamlogin.com/contoso.onmicrosoft.com/oauth2/v2.0/logout",
        ),
    ],
)
def test_the_logout_address_is_the_documented_one(clock, authority, address):
    app = SessionApp(clock, authority)
    worker = Worker(app)
    ann = worker.sign_in("ann", login_hint="O.hint&more")
    given = urlsplit(ann.sign_out("https://app.example.com/bye?a=b c"))
    assert given._replace(query="").geturl() == address
    assert parse_qs(given.query) == {
        "client_id": [app.client_id],
        "post_logout_redirect_uri": ["https://app.example.com/bye?a=b c"],
        "logout_hint": ["O.hint&more"],
    }
    assert parse_qs(urlsplit(worker.sign_in("ann").sign_out()).query) == {
        "client_id": [app.client_id]
    }


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("https://idp.example.com/realms/a/logout", "https://idp.example.com/realms/a/logout?"),
        ("https://IDP.example.com/logout?x=1", "https://IDP.example.com/logout?x=1&"),
        ("", ""),
        ("http://idp.example.com/logout", ""),
        ("https://idp.example.com.evil.example/logout", ""),
        ("https://idp.example.com@evil.example/logout", ""),
        ("https://idp.example.com\\@evil.example/logout", ""),
        ("https://evil.example/logout", ""),
        ("https://idp.example.com/logout#", ""),
        ("https://idp.example.com/log out", ""),
        ("javascript:alert(1)", ""),
    ],
)
def test_the_logout_address_of_others_is_their_metadatas_at_their_host(clock, named, expected):
    app = SessionApp(clock, Authority.oidc("https://idp.example.com/realms/a"))
    app.end_session_endpoint = lambda: named
    given = Worker(app).sign_in("ann").sign_out()
    assert given == (expected and f"{expected}client_id={app.client_id}")


def test_who_signs_out_is_gone_although_there_is_no_address(clock):
    app = SessionApp(clock, Authority.adfs("https://adfs.example.com"))

    def down() -> str:
        raise ServiceUnavailableError("down")

    app.end_session_endpoint = down
    worker = Worker(app)
    with pytest.raises(ServiceUnavailableError):
        worker.sign_in("ann").sign_out()
    gone(lambda: worker.user("ann"))
    with pytest.raises(ConfigurationError, match="post_logout_redirect_uri"):
        worker.sign_in("ann").sign_out("\ud800")
    gone(lambda: worker.user("ann"))


# The index


def test_the_index_has_those_who_signed_in_last_first(worker):
    for name in ("ann", "bob", "kim", "ann"):
        worker.sign_in(name)
    assert worker.users() == [f"{name}@contoso.com" for name in ("ann", "kim", "bob")]


def test_a_lost_index_loses_no_session(app, store):
    worker = Worker(app, store)
    worker.sign_in("ann")
    (index,) = [name for name in store.names if name.endswith(":users")]
    store.delete(index, store.get(index))
    other = Worker(app, store)
    assert other.users() == []
    ann = other.user("ann")
    assert user_of(ann.manager(READ).get_access_token()) == "ann"
    # Whoever knows them lists them still, and puts them back for the others.
    assert other.users() == ["ann@contoso.com"]
    assert Worker(app, store).users() == ["ann@contoso.com"]


def user_in(names: SessionNames, home: Hidden) -> str:
    return str(names.user(names.of_account(home)))


def test_the_index_keeps_the_last_thousand_within_what_a_store_takes(app, store):
    worker = Worker(app, store)
    index, names = worker.sessions._index(), worker.sessions._names
    for first in range(0, 1_200, 100):
        homes = [Hidden(f"{each}") for each in range(first, first + 100)]
        index.change(come={user_in(names, home): names.username(home) for home in homes})
    assert len(index.read()) == 1_000
    kept = [user_in(names, Hidden(f"{each}")) for each in range(200, 1_200)]
    assert list(index.read()) == kept
    (place,) = store.names
    assert len(store.get(place)) <= 65_536


def test_threads_and_workers_who_sign_in_at_once_are_all_in_the_index(app, store):
    workers = [Worker(app, store) for _ in range(4)]
    numbers = iter(range(40))
    lock = threading.Lock()

    def work() -> None:
        with lock:
            number = next(numbers)
        workers[number % 4].sign_in(f"user{number}")

    in_threads(40, work)
    expected = {f"user{number}@contoso.com" for number in range(40)}
    assert set(Worker(app, store).users()) == expected


def test_those_who_are_gone_are_taken_out(app, store, clock):
    worker = Worker(app, store, ttl=7200.0)
    worker.sign_in("ann")
    clock.advance(8000)
    worker.sign_in("bob")
    assert len(worker.sessions._index().read()) == 2
    assert worker.users() == ["bob@contoso.com"]
    assert len(worker.sessions._index().read()) == 1


def test_an_index_of_another_app_or_authority_is_none_of_this_ones(app, store, clock):
    Worker(app, store).sign_in("ann")
    other = SessionApp(clock, Authority.entra("contoso.onmicrosoft.com"))
    assert Worker(other, store).users() == []
    another = SessionApp(clock)
    another.client_id = "another"
    assert Worker(another, store).users() == []
    gone(lambda: Worker(another, store).user("ann"))


# What it needs, and what it is given


def test_without_the_store_nothing_is_said_and_nobody_is_kept(app, store, clock):
    worker = Worker(app, store)
    ann = worker.sign_in("ann")
    store.error = OSError("gone")
    assert ann.username == "ann@contoso.com"  # it is known
    for call in (lambda: worker.user("ann"), worker.users, lambda: worker.sign_in("bob")):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.retryable
    assert app.shown == []


def test_without_a_store_the_memory_of_users_is_bounded_and_the_index_stays(app):
    worker = Worker(app, most=5, inline=True)
    for number in range(200):
        worker.sign_in(f"user{number}").manager(READ).get_access_token()
    assert len(worker.sessions._sealed.store._store._records) <= 12
    assert worker.users()[0] == "user199@contoso.com"
    gone(lambda: worker.user("user0"))


@needs_fork
@unwarned_forks
def test_a_child_has_no_part_in_the_users_of_its_parents_memory(app):
    worker = Worker(app)
    worker.sign_in("ann")
    assert in_child(worker.users) == []
    assert worker.users() == ["ann@contoso.com"]


def registry(**settings) -> TokenRegistry:
    whole = {"client_id": "c", "credential": "s", "authority": Authority.entra(TENANT)}
    return TokenRegistry(**(whole | settings))


def test_a_registry_finds_its_users(clock):
    with registry(clock=clock) as tokens:
        assert tokens.users() == []
        gone(lambda: tokens.user("ann.home"))
        app = SessionApp(clock)
        tokens._own.begin_sessions().sign_in(app.sign_in("ann", READ), (READ,), tokens)
        assert tokens.user("ann.home").username == "ann@contoso.com"
        assert [each.username for each in tokens.users("ann@contoso.com")] == ["ann@contoso.com"]
        assert tokens.tenant("fabrikam.com").users() == []
        for name in (5, b"ann", "\ud800"):
            with pytest.raises(ConfigurationError, match="username="):
                tokens.users(name)
        with pytest.raises(SessionNotFoundError, match="nobody is signed in"):
            tokens.user("")
        for home in (5, None, "x" * 3_000):
            with pytest.raises(ConfigurationError, match="home_account_id="):
                tokens.user(home)
        held = tokens.user("ann.home")
    for call in (
        tokens.users,
        lambda: tokens.user("ann.home"),
        lambda: held.username,
        held.sign_out,
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            call()


def test_users_of_b2c_sign_in_although_it_has_no_on_behalf_of(clock):
    authority = Authority.b2c("contoso", "b2c_1_signin")
    with registry(authority=authority, clock=clock) as tokens:
        app = SessionApp(clock, authority)
        tokens._own.begin_sessions().sign_in(app.sign_in("ann", READ), (READ,))
        assert tokens.user("ann.home").username == "ann@contoso.com"


def test_a_closed_registry_does_not_say_that_nobody_is_signed_in(clock):
    tokens = registry(clock=clock)
    assert tokens.users() == []
    tokens.close()
    with pytest.raises(ConfigurationError, match="closed"):
        tokens.users()


def test_a_store_needs_an_explicit_key_for_users_too(store):
    with registry(store=store) as tokens:
        for call in (
            tokens.users,
            lambda: tokens.user("ann.home"),
            # before the user is sent anywhere, and not when they are back
            lambda: tokens.begin_auth_code(READ, redirect_uri="http://localhost/signed-in"),
        ):
            with pytest.raises(ConfigurationError, match="encryption_key="):
                call()


def test_nothing_of_it_is_shown(worker, app):
    signed_in = app.sign_in("ann", READ, login_hint="the hint")
    ann = worker.sessions.sign_in(signed_in, (READ,))
    shown = repr([signed_in, signed_in.account, ann, vars(ann), worker.sessions])
    shown += repr([vars(ann.manager(READ)), worker.shared("x"), vars(ann._seen), ann._seen.known])
    for secret in ("ann@", "ann.home", "the hint", "refresh-", signed_in.token.secret):
        assert secret not in shown
    for each in (ann, signed_in, signed_in.account):
        with pytest.raises(TypeError, match="does not pickle"):
            each.__reduce__()
    assert isinstance(signed_in, SignedIn)


@pytest.mark.parametrize("by", ["users", "another's sign-in"])
def test_whom_the_index_could_not_be_told_of_it_is_told_of_later(app, store, monkeypatch, by):
    def away(index, leases):
        raise StoreAwayError

    worker, other = Worker(app, store), Worker(app, store)
    with monkeypatch.context() as patched:
        patched.setattr(UserIndex, "_take", away)
        worker.sign_in("ann")
        worker.sign_in("kim").end()
        gc.collect()  # nobody has them in hand
        assert other.users() == []
        assert worker.users() == ["ann@contoso.com"]
    if by == "users":
        assert worker.users() == ["ann@contoso.com"]
        assert other.users() == ["ann@contoso.com"]
    else:
        worker.sign_in("bob")
        assert other.users() == ["bob@contoso.com", "ann@contoso.com"]
    assert worker.sessions._unlisted == {}


def test_those_whom_the_index_could_not_be_told_of_are_bounded(app, store, monkeypatch):
    monkeypatch.setattr("tokenmgr._sessions._MOST_UNLISTED", 2)
    monkeypatch.setattr(UserIndex, "change", lambda index, **_: False)
    worker = Worker(app, store)
    for number in range(5):
        worker.sign_in(f"user{number}")
    assert len(worker.sessions._unlisted) == 2


@pytest.mark.parametrize(
    ("holders", "waits"),
    [
        (lambda number: b"one", 4.0),  # who has died, where the store does not end the lease
        (lambda number: b"%d" % (number // 100), 30.0),  # it passes from one to another
    ],
)
def test_for_its_turn_with_the_index_a_worker_waits_while_others_have_theirs(
    app, store, monkeypatch, holders, waits
):
    now, looks = [0.0], itertools.count()

    def refused(leases):
        leases[0].holder = holders(next(looks))
        return False

    def sleep(seconds):
        now[0] += seconds

    time = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr("tokenmgr._sharing.user_index.take_all", refused)
    monkeypatch.setattr("tokenmgr._sharing.user_index.time", time)
    worker = Worker(app, store)
    worker.sign_in("ann")
    assert now[0] == pytest.approx(waits, abs=0.1)
    assert worker.users() == ["ann@contoso.com"]
