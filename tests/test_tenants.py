"""One app at many tenants: each alone, with all that they can have in common, and bounded."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import time
import weakref
from pathlib import Path

import jwt
import pytest
from fake_users import READ, assertion
from fork_marks import needs_fork, unwarned_forks
from forking import held, in_child
from sqlite_files import open_files
from support import SCOPE, STORE_KEY, FakeClock, in_threads
from waiting import until

from tokenmgr import (
    Authority,
    AuthorityError,
    ConfigurationError,
    InteractionRequiredError,
    RefreshPolicy,
    ServiceUnavailableError,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.emulator import EntraEmulator
from tokenmgr.emulator.authorities import tenant_guid
from tokenmgr.events import BreakerOpened, TokenRenewed

FABRIKAM, TAILSPIN = "fabrikam.onmicrosoft.com", "tailspin.onmicrosoft.com"
ORDERS = "api://orders/.default"
GUID = "0f0f0f0f-AAAA-2222-3333-444444444444"


def registry(authority: Authority | str | None = None, **more: object) -> TokenRegistry:
    settings: dict[str, object] = {
        "client_id": "11111111-2222-3333-4444-555555555555",
        "credential": "hunter2",
        "authority": authority or Authority.entra("contoso.onmicrosoft.com"),
    }
    return TokenRegistry(**(settings | more))


def living() -> str:
    """An assertion for the machine's own clock."""
    return assertion("ann@contoso.com", exp=time.time() + 3600)


def begin(entra: EntraEmulator, tokens: TokenRegistry, name: str, session: str = "job") -> str:
    """Begins a session at a tenant; gives its first token."""
    ann = entra.sign_in(f"ann@{name}", tenant=name)
    return tokens.tenant(name).on_behalf_of(ann, READ, session=session).get_access_token()


def store_of(folder: Path) -> dict[str, str]:
    return {"store": f"sqlite:///{folder}/tokens.db", "encryption_key": STORE_KEY}


def tid(token: str) -> object:
    return jwt.decode(token, options={"verify_signature": False})["tid"]


def at(tokens: TokenRegistry) -> str:
    return tokens.manager(SCOPE).key.authority


# The same app, elsewhere.


def test_each_tenant_has_its_token_for_one_request(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        for _ in range(3):
            for name in (FABRIKAM, TAILSPIN):
                assert tid(tokens.tenant(name).get_access_token(SCOPE)) == tenant_guid(name)
            assert tid(tokens.get_access_token(SCOPE)) == tenant_guid("contoso.onmicrosoft.com")
        assert entra.count() == 3


async def test_a_tenant_has_all_that_a_registry_has(entra: EntraEmulator) -> None:
    ann = entra.sign_in("ann@fabrikam.onmicrosoft.com", tenant=FABRIKAM)
    async with entra.registry() as tokens:
        fabrikam = tokens.tenant(FABRIKAM)
        assert type(fabrikam) is TokenRegistry
        token = await fabrikam.aget_access_token(SCOPE)
        assert fabrikam.manager(SCOPE).get_access_token() == token
        user = fabrikam.on_behalf_of(ann, READ)
        assert tid(await user.aget_access_token()) == tenant_guid(FABRIKAM)
        fabrikam.manager(ORDERS)
        await fabrikam.aprefetch()
        assert [status.state for status in fabrikam.status()] == ["fresh", "fresh"]
        assert {status.key.authority for status in fabrikam.status()} == {at(fabrikam)}
        assert tokens.status() == []
    assert entra.count() == 3


def test_the_same_tenant_is_the_same_registry_however_it_is_spelled() -> None:
    with registry() as tokens:
        fabrikam, guid = tokens.tenant(FABRIKAM), tokens.tenant(GUID)
        assert tokens.tenant(FABRIKAM.upper()) is fabrikam is tokens.tenant(FABRIKAM)
        assert tokens.tenant(GUID.lower()) is guid is not fabrikam
        assert tokens.tenant("Contoso.OnMicrosoft.com") is tokens
        assert fabrikam.tenant("contoso.onmicrosoft.com") is tokens
        assert fabrikam.tenant(GUID) is guid
        assert guid.tenant(FABRIKAM) is fabrikam
        assert at(fabrikam) == f"https://login.microsoftonline.com/{FABRIKAM}"


@pytest.mark.parametrize(
    "authority",
    [
        Authority.entra("contoso.com", cloud="usgovernment"),
        Authority.entra("common", cloud="https://entra"),
        "https://[::1]:8443/contoso.com",
    ],
)
def test_a_tenant_is_of_the_same_cloud(authority: Authority | str) -> None:
    with registry(authority) as tokens:
        host = Authority.parse(authority).host
        assert at(tokens.tenant(FABRIKAM)) == f"https://{host}/{FABRIKAM}"


def test_many_threads_find_one_registry_and_fetch_once(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        names = [f"tenant-{number}.onmicrosoft.com" for number in range(5)]

        def work() -> list[tuple[int, str]]:
            found = [tokens.tenant(name) for name in names]
            return [(id(each), each.get_access_token(SCOPE)) for each in found]

        outcomes = in_threads(20, work)
        assert all(outcome == outcomes[0] for outcome in outcomes)
        assert len({secret for _, secret in outcomes[0]}) == 5
    assert entra.count() == 5


def test_all_tenants_have_one_way_one_hook_and_one_set_of_threads(entra: EntraEmulator) -> None:
    events: list[object] = []
    with entra.registry(on_event=events.append) as tokens:
        fabrikam = tokens.tenant(FABRIKAM)
        assert fabrikam._own.app is tokens._own.app
        for each in (tokens, fabrikam):
            each.get_access_token(SCOPE)
        until(lambda: len([e for e in events if isinstance(e, TokenRenewed)]) == 2)
        found = {event.key.authority for event in events}
        assert found == {entra.authority(), entra.authority(FABRIKAM)}


def test_nothing_of_the_app_is_shown() -> None:
    with registry() as tokens:
        fabrikam = tokens.tenant(FABRIKAM)
        fabrikam.manager(SCOPE)
        shown = repr([fabrikam, vars(fabrikam), vars(fabrikam._own), vars(fabrikam._own.app)])
        assert FABRIKAM in repr(fabrikam)
        assert "hunter2" not in shown
        for what in (fabrikam, fabrikam._own, fabrikam._own.app):
            with pytest.raises(TypeError, match="does not pickle"):
                pickle.dumps(what)


# What cannot be.


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty: set it"),
        ("fabrikam", "a GUID such as .*, a domain name such as"),
        ("0f0f0f0f-2222-3333-444444444444", "a tenant is a GUID"),
        ("https://login.microsoftonline.com/fabrikam.com", "a tenant is a GUID"),
        ("hunter2/../fabrikam.com", "a tenant is a GUID"),
        (" fabrikam.com", "remove it"),
        ("fabri\u212aam.com", "xn-- form"),
        (None, "give a str"),
        (["fabrikam.com"], "give a str"),
        (b"fabrikam.com", "give a str"),
    ],
)
def test_what_is_no_tenant_is_refused_and_not_repeated(name: str, says: str) -> None:
    with registry() as tokens:
        for each in (tokens, tokens.tenant(FABRIKAM)):
            with pytest.raises(AuthorityError, match=says) as caught:
                each.tenant(name)
            assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "authority",
    [
        Authority.b2c("contoso", "b2c_1_signin"),
        Authority.ciam("contoso"),
        Authority.adfs("https://adfs.contoso.com"),
        Authority.oidc("https://idp.contoso.com/realms/main"),
    ],
    ids=lambda authority: authority.kind,
)
def test_an_authority_of_another_kind_has_no_other_tenant(authority: Authority) -> None:
    with registry(authority) as tokens:
        for name in (FABRIKAM, authority.tenant, None):
            says = f"kind '{authority.kind}' has no other tenants: make a TokenRegistry"
            with pytest.raises(ConfigurationError, match=says):
                tokens.tenant(name)


@pytest.mark.parametrize("alias", ["common", "organizations"])
def test_what_stands_for_many_tenants_serves_users_alone(entra: EntraEmulator, alias: str) -> None:
    ann = entra.sign_in("ann@fabrikam.onmicrosoft.com", tenant=FABRIKAM)
    with entra.registry() as tokens:
        many = tokens.tenant(alias)
        with pytest.raises(ConfigurationError, match="set the tenant's id or domain name"):
            many.manager(SCOPE)
        assert tid(many.on_behalf_of(ann, READ).get_access_token()) == tenant_guid(FABRIKAM)


def test_an_app_that_begins_at_common_has_a_tenant_s_tokens_by_its_name(
    entra: EntraEmulator,
) -> None:
    with entra.registry(authority=entra.authority("common")) as tokens:
        assert tid(tokens.tenant(FABRIKAM).get_access_token(SCOPE)) == tenant_guid(FABRIKAM)


# Each alone.


def test_a_breaker_that_is_open_for_one_tenant_stops_no_other(entra: EntraEmulator) -> None:
    clock, events = FakeClock(), []
    policy = RefreshPolicy(jitter=0.0, backoff_base=0.0)
    with entra.registry(clock=clock, policy=policy, timeout=5.0, on_event=events.append) as tokens:
        fabrikam = tokens.tenant(FABRIKAM)
        entra.fail_next(1000, status=503, retry_after=30)
        for number in range(3):
            with pytest.raises(ServiceUnavailableError):
                fabrikam.get_access_token(f"api://{number}/.default")
        entra.recover()
        before = entra.count()
        with pytest.raises(ServiceUnavailableError, match=f"{FABRIKAM} has .* left alone"):
            fabrikam.get_access_token(SCOPE)
        assert entra.count() == before
        for each in (tokens, tokens.tenant(TAILSPIN)):
            assert each.get_access_token(SCOPE)
        until(lambda: any(isinstance(event, BreakerOpened) for event in events))
    opened = [event.authority for event in events if isinstance(event, BreakerOpened)]
    assert opened == [entra.authority(FABRIKAM)]


def test_users_who_come_by_way_of_common_have_their_tenant_s_breaker() -> None:
    with registry(Authority.entra("common")) as tokens:
        there = tokens.tenant(GUID)
        user = tokens.on_behalf_of(living(), READ)
        assert user.key.authority.endswith("/0f0f0f0f-1111-2222-3333-444444444444")
        other = tokens.tenant("0f0f0f0f-1111-2222-3333-444444444444")
        assert user._cell.source._client is other._own.client is not there._own.client


def test_one_assertion_at_two_tenants_has_two_managers() -> None:
    ann = living()
    with registry() as tokens:
        managers = [each.on_behalf_of(ann, READ) for each in (tokens, tokens.tenant(FABRIKAM))]
        assert managers[0] is not managers[1]
        assert managers[0].key != managers[1].key
        assert tokens.tenant(FABRIKAM).on_behalf_of(ann, READ) is managers[1]


def test_tenants_that_share_a_file_never_get_each_other_s_token(
    entra: EntraEmulator, tmp_path
) -> None:
    url, names = f"sqlite:///{tmp_path}/tokens.db", [FABRIKAM, TAILSPIN, "contoso.onmicrosoft.com"]
    workers = [entra.registry(store=url) for _ in range(3)]

    def work() -> list[object]:
        return [
            tid(each.tenant(name).get_access_token(SCOPE)) for each in workers for name in names
        ]

    assert in_threads(4, work) == [[tenant_guid(name) for name in names] * 3] * 4
    assert entra.count() == 3
    assert open_files(tmp_path / "tokens.db") == 1
    for each in workers:
        each.close()
    assert open_files(tmp_path / "tokens.db") == 0


def test_a_cache_is_the_tenant_s_own(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        for each in (tokens, tokens.tenant(FABRIKAM)):
            each.get_access_token(SCOPE)
        text = tokens.tenant(FABRIKAM).export_cache()
        (entry,) = json.loads(text)["AccessToken"].values()
        assert tid(entry["secret"]) == tenant_guid(FABRIKAM)
    with entra.registry() as tokens:
        for each in (tokens, tokens.tenant(TAILSPIN), tokens.tenant(FABRIKAM)):
            each.import_cache(text)
        before = entra.count()
        assert tokens.tenant(FABRIKAM).get_access_token(SCOPE) == entry["secret"]
        assert entra.count() == before
        assert tid(tokens.get_access_token(SCOPE)) != tid(entry["secret"])
        del each
        gc.collect()
        assert "AccessToken" in json.loads(tokens.tenant(TAILSPIN).export_cache())


# The end.


def test_tenants_are_closed_with_their_parent(entra: EntraEmulator) -> None:
    tokens = entra.registry()
    fabrikam = tokens.tenant(FABRIKAM)
    manager = fabrikam.manager(SCOPE)
    user = fabrikam.on_behalf_of(living(), READ)
    manager.get_access_token()
    tokens.close()
    for call in (
        manager.get_access_token,
        user.get_access_token,
        fabrikam.export_cache,
        lambda: fabrikam.manager(SCOPE),
        lambda: fabrikam.on_behalf_of(living(), READ),
        lambda: fabrikam.tenant(TAILSPIN),
        lambda: tokens.tenant(FABRIKAM),
        lambda: tokens.tenant(TAILSPIN),
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            call()
    fabrikam.close()
    tokens.close()
    assert entra.count() == 1


async def test_a_tenant_that_is_closed_by_itself_takes_nothing_from_others(
    entra: EntraEmulator, tmp_path
) -> None:
    with entra.registry(store=f"sqlite:///{tmp_path}/tokens.db") as tokens:
        others = tokens, tokens.tenant(TAILSPIN)
        kept = {each: await each.aget_access_token(SCOPE) for each in others}
        async with tokens.tenant(FABRIKAM) as fabrikam:
            manager, user = fabrikam.manager(SCOPE), fabrikam.on_behalf_of(living(), READ)
            token = await manager.aget_access_token()
        for call in (
            manager.get_access_token,
            user.get_access_token,
            lambda: fabrikam.manager(SCOPE),
            lambda: fabrikam.on_behalf_of(living(), READ),
            lambda: fabrikam.tenant(TAILSPIN),
        ):
            with pytest.raises(ConfigurationError, match="closed"):
                call()
        assert kept == {each: await each.aget_access_token(SCOPE) for each in kept}
        anew = tokens.tenant(FABRIKAM)
        assert anew is not fabrikam
        fabrikam.close()
        assert tokens.tenant(FABRIKAM) is anew
        assert await anew.aget_access_token(SCOPE) == token, "which is in the store still"
        assert await tokens.aget_access_token(ORDERS)
    assert entra.count() == 4


def test_closing_a_tenant_waits_for_nobody_else_s_fetch(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        with entra.paused():
            tokens.manager(SCOPE).prefetch()
            entra.wait_for_requests(1)
            fabrikam = tokens.tenant(FABRIKAM)
            fabrikam.close()
            assert entra.requests[-1].status is None
        assert tokens.get_access_token(SCOPE)


def test_a_child_registry_serves_although_its_parent_was_dropped(entra: EntraEmulator) -> None:
    fabrikam = entra.registry().tenant(FABRIKAM)
    gc.collect()
    assert fabrikam.get_access_token(SCOPE)
    home = fabrikam.tenant("contoso.onmicrosoft.com")
    assert tid(home.get_access_token(SCOPE)) == tenant_guid("contoso.onmicrosoft.com")
    home.close()
    with pytest.raises(ConfigurationError, match="closed"):
        fabrikam.get_access_token(SCOPE)


# The bounds.


def test_tenants_that_nobody_uses_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmgr._tenants._MOST_IDLE", 10)
    with registry() as tokens:
        held_one = tokens.tenant("held.com")
        used = weakref.ref(tokens.tenant("used.com")._own)
        tokens.tenant("used.com").manager(SCOPE)
        seen = weakref.WeakSet()
        for number in range(500):
            seen.add(tokens.tenant(f"bogus-{number}.com")._own)
        gc.collect()
        assert len(seen) <= 30
        assert len(tokens._own.app.client._everywhere) <= 33
        assert tokens.tenant("held.com") is held_one
        assert tokens.tenant("used.com")._own is used()


def test_managers_of_all_tenants_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmgr._members._MOST", 50)
    monkeypatch.setattr("tokenmgr._tenants._MOST_IDLE", 10)
    with registry() as tokens:
        first = tokens.tenant("first.com").manager(SCOPE)
        seen, tenants = weakref.WeakSet(), weakref.WeakSet()
        for number in range(500):
            tenant = tokens.tenant(f"tenant-{number}.com")
            tenants.add(tenant._own)
            seen.add(tenant.manager(SCOPE))
            seen.add(tenant.manager(f" {SCOPE}"))
        del tenant
        gc.collect()
        assert len(seen) <= 100
        assert len(tenants) <= 220
        assert tokens.tenant("first.com").manager(SCOPE) is first, "as it is held"
        assert len(tokens._own.members._kept.managers) == 50


def test_users_of_all_tenants_have_one_bound(entra: EntraEmulator) -> None:
    names = [FABRIKAM, TAILSPIN, "contoso.onmicrosoft.com"]
    users = [
        (name, entra.sign_in(f"{number}@{name}", tenant=name))
        for name in names
        for number in range(2)
    ]
    with entra.registry(max_users=4) as tokens:
        for name, ann in users:
            tokens.tenant(name).on_behalf_of(ann, READ).get_access_token()
        assert len(tokens._own.app._users._all.served.cell_contents) == 4
        for name, ann in users[2:]:
            tokens.tenant(name).on_behalf_of(ann, READ).get_access_token()
        assert entra.count() == 6
        tokens.tenant(TAILSPIN).close()
        assert len(tokens._own.app._users._all.served.cell_contents) == 2


def test_sessions_of_all_tenants_have_one_bound(entra: EntraEmulator) -> None:
    names = [FABRIKAM, TAILSPIN, "contoso.onmicrosoft.com"]
    with entra.registry(max_users=4) as tokens:
        for name in names:
            for number in range(2):
                begin(entra, tokens, name, f"job {number}")
        kept, store = tokens._own.app._sessions._all, tokens._own.app._sessions._sealed.store._store
        assert len(kept.served.cell_contents) == 4
        assert len(store._records) <= 8, "a token and a refresh token of each"
        with pytest.raises(InteractionRequiredError, match="no such session"):
            tokens.tenant(FABRIKAM).session("job 0").manager(READ).get_access_token()
        for name in names[1:]:
            assert tokens.tenant(name).session("job 1").manager(READ).get_access_token()
        assert entra.count() == 6


@pytest.mark.parametrize("shared", [False, True])
def test_a_session_of_one_tenant_is_not_found_by_its_name_at_another(
    entra: EntraEmulator, tmp_path, shared: bool
) -> None:
    with entra.registry(**store_of(tmp_path) if shared else {}) as tokens:
        fabrikam, tailspin = tokens.tenant(FABRIKAM), tokens.tenant(TAILSPIN)
        token = begin(entra, tokens, FABRIKAM)
        for each in (tokens, tailspin):
            with pytest.raises(InteractionRequiredError, match="no such session"):
                each.session("job").manager(READ).get_access_token()
        other = begin(entra, tokens, TAILSPIN)
        assert (tid(token), tid(other)) == (tenant_guid(FABRIKAM), tenant_guid(TAILSPIN))
        tailspin.session("job").end()
        assert fabrikam.session("job").manager(READ).get_access_token() == token
        with pytest.raises(InteractionRequiredError, match="no such session"):
            tailspin.session("job").manager(READ).get_access_token()
    assert entra.count() == 2


@pytest.mark.parametrize("shared", [False, True])
def test_a_tenant_that_is_closed_by_itself_ends_the_managers_of_its_own_sessions(
    entra: EntraEmulator, tmp_path, shared: bool
) -> None:
    with entra.registry(**store_of(tmp_path) if shared else {}) as tokens:
        names = [FABRIKAM, TAILSPIN, "contoso.onmicrosoft.com"]
        had = {name: begin(entra, tokens, name) for name in names}
        managers = {name: tokens.tenant(name).session("job").manager(READ) for name in names}
        fabrikam, session = tokens.tenant(FABRIKAM), tokens.tenant(FABRIKAM).session("job")
        fabrikam.close()
        gone = (
            managers.pop(FABRIKAM).get_access_token,
            lambda: session.manager(READ),
            session.end,
            lambda: fabrikam.session("job"),
        )
        for call in gone:
            with pytest.raises(ConfigurationError, match="closed"):
                call()
        assert len(tokens._own.app._sessions._all.served.cell_contents) == 2
        assert {name: each.get_access_token() for name, each in managers.items()} == {
            name: had[name] for name in managers
        }
        # It is the managers that have ended, and not the session.
        anew = tokens.tenant(FABRIKAM).session("job").manager(READ)
        assert anew.get_access_token() == had[FABRIKAM]
    assert entra.count() == 3


def test_the_sessions_of_all_tenants_are_closed_with_their_parent(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        for name in (FABRIKAM, TAILSPIN):
            begin(entra, tokens, name)
        sessions = [tokens.tenant(name).session("job") for name in (FABRIKAM, TAILSPIN)]
        managers = [session.manager(READ) for session in sessions]
        kept = tokens._own.app._sessions._all
    assert len(kept.served.cell_contents) == 0
    for call in (
        *(manager.get_access_token for manager in managers),
        *(session.end for session in sessions),
        *(lambda session=session: session.manager(READ) for session in sessions),
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            call()


def test_a_session_that_is_held_keeps_its_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmgr._tenants._MOST_IDLE", 10)
    with registry() as tokens:
        session = tokens.tenant("held.com").session("job")
        for number in range(100):
            tokens.tenant(f"bogus-{number}.com")
        gc.collect()
        assert tokens.tenant("held.com")._own.sessions is session._sessions
    with pytest.raises(ConfigurationError, match="closed"):
        session.manager(READ)


def test_tenants_that_are_not_there_cost_those_that_are_nothing(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        token = tokens.tenant(FABRIKAM).get_access_token(SCOPE)

        def ask(number: int) -> None:
            with pytest.raises(TokenManagerError):
                tokens.tenant(f"nonexistent-{number}.com").get_access_token(SCOPE)

        for number in range(20):
            ask(number)
        assert tokens.tenant(FABRIKAM).get_access_token(SCOPE) == token


# Forks.


@needs_fork
@unwarned_forks
def test_a_child_has_the_tenants_of_its_parent_and_goes_its_own_way(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        token = tokens.tenant(FABRIKAM).get_access_token(SCOPE)

        def work() -> list[bool]:
            fabrikam = tokens.tenant(FABRIKAM)
            served = [fabrikam.get_access_token(SCOPE) == token]
            served.append(tokens.tenant(TAILSPIN).get_access_token(SCOPE) != token)
            tokens.close()
            return served

        for lock in (tokens._own.app.lock, tokens._own.members._kept.lock):
            with held(lock):
                assert in_child(work) == [True, True]
        assert tokens.tenant(FABRIKAM).get_access_token(SCOPE) == token
    assert entra.count() == 3


def test_an_event_loop_s_tasks_fetch_for_many_tenants_at_once(entra: EntraEmulator) -> None:
    async def work() -> list[str]:
        async with entra.registry() as tokens:
            names = [f"tenant-{number}.onmicrosoft.com" for number in range(30)] * 2
            return await asyncio.gather(
                *(tokens.tenant(name).aget_access_token(SCOPE) for name in names)
            )

    assert len(set(asyncio.run(work()))) == 30
    assert entra.count() == 30


def test_a_user_who_is_refused_at_a_tenant_is_told_so(entra: EntraEmulator) -> None:
    with entra.registry() as tokens, pytest.raises(InteractionRequiredError):
        tokens.tenant(FABRIKAM).on_behalf_of("opaque", READ)
