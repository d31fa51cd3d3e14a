"""Caches that come in and go out: what MSAL wrote, what MSAL reads, and what is nobody else's."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import msal
import pytest
from forking import in_child
from hypothesis import given
from hypothesis import strategies as st
from support import SCOPE, FakeClock

from tokenmgr import (
    AccessToken,
    Authority,
    AuthorityError,
    ClientAssertion,
    ClientSecret,
    ConfigurationError,
    ServiceUnavailableError,
    TokenKey,
)
from tokenmgr._runtime.clock import SYSTEM_CLOCK
from tokenmgr.entra import unified_schema
from tokenmgr.entra.client import Client
from tokenmgr.entra.grants.client_credentials import ClientCredentialsSource
from tokenmgr.entra.unified_cache import UnifiedCache
from tokenmgr.entra.wire.connection import Connection
from tokenmgr.token import Record

VAULT = "https://vault.azure.net/.default"
GUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
APP = "11111111-2222-3333-4444-555555555555"
TENANT_URL = f"https://login.microsoftonline.com/{GUID}"
SECTIONS = ("AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata")
#: In every secret of a text that a test imports.
MARK = "kept-Between~us"
NOW = 1_800_000_000


@pytest.fixture
def client_of():
    """Makes clients of the emulator's app, or of the rough server's."""
    with ExitStack() as stack:

        def make(server, authority=None, proxies=None, **settings):
            connection = Connection(verify=server.ca_file, proxies=proxies, timeout=5.0)
            stack.callback(connection.close)
            defaults = {
                "client_id": getattr(server, "client_id", APP),
                "credential": ClientSecret(getattr(server, "client_secret", "a-secret")),
            }
            authority = authority or server.authority
            authority = Authority.parse(authority() if callable(authority) else authority)
            return Client(authority, connection=connection, **(defaults | settings))

        yield make


def offline(authority=TENANT_URL, clock=None, **settings):
    """A cache whose authority nobody may ask."""
    client = Client(
        Authority.parse(authority),
        **({"client_id": APP, "credential": ClientSecret("a-secret")} | settings),
    )
    client.token_endpoint = None  # who calls it fails
    return UnifiedCache(client, clock or FakeClock(NOW))


def cache_of(client, clock=SYSTEM_CLOCK):
    return UnifiedCache(client, clock)


def msal_app(entra, authority, cache):
    authority = Authority.parse(authority)
    name = "oidc_authority" if authority.kind == "oidc" else "authority"
    return msal.ConfidentialClientApplication(
        entra.client_id,
        client_credential=entra.client_secret,
        verify=entra.ca_file,
        instance_discovery=False,
        token_cache=cache,
        **{name: authority.url},
    )


def fetched_by_msal(entra, authority, scope=SCOPE):
    """A token that MSAL has fetched, and the text of its cache."""
    cache = msal.SerializableTokenCache()
    answer = msal_app(entra, authority, cache).acquire_token_for_client([scope])
    return answer["access_token"], cache.serialize()


def found_by_msal(entra, authority, text, scope=SCOPE):
    """What MSAL makes of a cache's text: where the token came from, the token, the text again."""
    cache = msal.SerializableTokenCache()
    cache.deserialize(text)
    answer = msal_app(entra, authority, cache).acquire_token_for_client([scope])
    return answer["token_source"], answer["access_token"], cache.serialize()


def held_by(client, *scopes):
    """A token that the app has in hand, as a manager would have it."""
    source = ClientCredentialsSource(client, scopes or (SCOPE,))
    return source.key, Record(source.fetch_token(), time.time())


def event(secret=f"{MARK}.token", *, expires_in=3600, **changes):
    """What MSAL is told when a token arrives."""
    return {
        "client_id": APP,
        "scope": [SCOPE],
        "token_endpoint": f"{TENANT_URL}/oauth2/v2.0/token",
        "environment": "login.microsoftonline.com",
        "response": {"access_token": secret, "expires_in": expires_in},
    } | changes


def written_by_msal(*events, now=NOW):
    cache = msal.SerializableTokenCache()
    for each in events:
        cache.add(each, now=now)
    return cache.serialize()


def encoded(fields):
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def sign_in(name="ann", client_id=APP, **changes):
    """What MSAL is told when a user has signed in."""
    claims = {
        "iss": f"{TENANT_URL}/v2.0",
        "aud": client_id,
        "iat": NOW,
        "exp": 2 * NOW,
        "sub": f"sub-{name}",
        "oid": name,
        "tid": GUID,
        "preferred_username": f"{name}@c.com",
    }
    response = {
        "access_token": f"{MARK}.token-of-{name}",
        "refresh_token": f"{MARK}.refresh-of-{name}",
        "id_token": f"{encoded({'alg': 'none'})}.{encoded(claims)}.",
        "client_info": encoded({"uid": name, "utid": GUID}),
        "expires_in": 3600,
    }
    return event(
        scope=["User.Read", "openid", "profile", "offline_access"],
        client_id=client_id,
        grant_type="authorization_code",
        response=response | changes,
    )


def token_key(scope=SCOPE, **changes):
    key = TokenKey(authority=TENANT_URL, client_id=APP, grant="client_credentials", scopes=(scope,))
    return replace(key, **changes)


def record(**changes):
    """A token of our own."""
    ours = AccessToken(f"{MARK}.ours", NOW + 3600.0, scopes=(SCOPE,))
    return Record(replace(ours, **changes), float(NOW))


def entries(text, section="AccessToken"):
    return list(json.loads(text).get(section, {}).values())


def changed(text, **changes):
    """The text with fields of its access tokens changed."""
    cache = json.loads(text)
    for entry in cache["AccessToken"].values():
        entry.update(changes)
    return json.dumps(cache)


# MSAL's cache comes in, and ours goes out, each to the other


@pytest.mark.parametrize("kind", ["authority", "ciam_authority", "adfs_authority"])
def test_what_msal_has_fetched_is_taken(entra, client_of, kind):
    authority = getattr(entra, kind)()
    secret, text = fetched_by_msal(entra, authority)
    cache = cache_of(client_of(entra, authority))

    cache.load(text)
    (record,) = cache.take_tokens()

    taken = record.token
    assert (taken.secret, taken.scopes, taken.token_type) == (secret, (SCOPE,), "Bearer")
    assert taken.expires_at == pytest.approx(time.time() + 3600, abs=30)
    assert taken.refresh_at is None
    assert record.obtained_at == pytest.approx(time.time(), abs=30)
    assert entra.count() == 1


def test_the_time_of_renewal_comes_in_and_goes_out(entra, client_of):
    entra.refresh_in = 1800
    _, text = fetched_by_msal(entra, entra.authority())
    client = client_of(entra)
    cache = cache_of(client)

    cache.load(text)
    (record,) = cache.take_tokens()

    taken = record.token
    assert taken.refresh_at == pytest.approx(time.time() + 1800, abs=30)
    (entry,) = entries(cache.dump([(ClientCredentialsSource(client, (SCOPE,)).key, record)]))
    assert entry == entries(text)[0]
    assert float(entry["refresh_on"]) == taken.refresh_at
    assert float(entry["expires_on"]) == taken.expires_at


@pytest.mark.parametrize("kind", ["entra", "guid", "b2c", "ciam", "adfs", "oidc"])
def test_msal_takes_what_is_exported(entra, client_of, kind):
    authority = {
        "entra": entra.authority(),
        "guid": entra.authority(GUID),
        "b2c": entra.b2c_authority(),
        "ciam": entra.ciam_authority(),
        "adfs": entra.adfs_authority(),
        "oidc": Authority.oidc(entra.oidc_authority("main")),
    }[kind]
    client = client_of(entra, authority)
    key, ours = held_by(client)

    text = cache_of(client).dump([(key, ours)])

    assert found_by_msal(entra, client.authority, text)[:2] == ("cache", ours.token.secret)
    assert entra.count() == 1


def test_the_entry_is_the_one_that_msal_writes(entra, client_of):
    _, text = fetched_by_msal(entra, entra.authority())
    client = client_of(entra)
    exported = cache_of(client).dump([held_by(client)])

    def but_for_the_token(text):
        return {
            section: {
                key: {
                    name: value
                    for name, value in entry.items()
                    if name not in ("secret", "refresh_on") and not name.endswith(("_on", "_at"))
                }
                for key, entry in found.items()
            }
            for section, found in json.loads(text).items()
        }

    assert but_for_the_token(exported) == but_for_the_token(text)


def test_a_file_of_msal_extensions_comes_in_and_goes_out(entra, client_of, tmp_path):
    extensions = pytest.importorskip("msal_extensions")
    persistence = extensions.FilePersistence(str(tmp_path / "cache.bin"))
    cache = extensions.PersistedTokenCache(persistence)
    secret = msal_app(entra, entra.authority(), cache).acquire_token_for_client([SCOPE])
    client = client_of(entra)
    ours = cache_of(client)

    ours.load(persistence.load())
    (taken,) = ours.take_tokens()

    assert taken.token.secret == secret["access_token"]
    persistence.save(ours.dump([(ClientCredentialsSource(client, (SCOPE,)).key, taken)]))
    again = msal_app(entra, entra.authority(), extensions.PersistedTokenCache(persistence))
    assert again.acquire_token_for_client([SCOPE])["token_source"] == "cache"
    assert entra.count() == 1


def test_the_sections_are_msals():
    kinds = msal.TokenCache.CredentialType
    names = {
        *(kinds.ACCESS_TOKEN, kinds.REFRESH_TOKEN, kinds.ID_TOKEN),
        *(kinds.ACCOUNT, kinds.APP_METADATA),
    }

    assert set(SECTIONS) == names == set(unified_schema._SECTIONS)


# Accounts and refresh tokens


def test_accounts_and_refresh_tokens_come_in_and_go_out_as_they_are():
    text = written_by_msal(sign_in("ann", foci="1"), sign_in("bob"), event())
    cache = json.loads(text)
    for section in cache.values():
        for entry in section.values():
            entry["another_field"] = {"kept": ["as", "it", "is"]}
    cache["AnotherSection"] = [1, {"kept": None}]

    ours = offline()
    ours.load(json.dumps(cache))

    assert json.loads(ours.dump([])) == cache


def test_msal_finds_the_accounts_and_refresh_tokens_of_an_export(entra):
    signed_in = sign_in(client_id=entra.client_id) | {
        "environment": "127.0.0.1",
        "token_endpoint": f"{entra.authority(GUID)}/oauth2/v2.0/token",
    }
    ours = offline(entra.authority(GUID), SYSTEM_CLOCK, client_id=entra.client_id)
    ours.load(written_by_msal(signed_in, now=None))

    cache = msal.SerializableTokenCache()
    cache.deserialize(ours.dump([]))
    app = msal_app(entra, entra.authority(GUID), cache)

    (account,) = app.get_accounts("ann@c.com")
    assert account["home_account_id"] == f"ann.{GUID}"
    found = app.acquire_token_silent(["User.Read"], account)
    assert found["access_token"] == f"{MARK}.token-of-ann"
    owner = {"home_account_id": account["home_account_id"]}
    (refresh,) = cache.search(cache.CredentialType.REFRESH_TOKEN, query=owner)
    assert refresh["secret"] == f"{MARK}.refresh-of-ann"
    assert entra.count() == 0


def test_an_access_token_is_dropped_when_it_expires_and_nothing_else_is():
    clock = FakeClock(NOW)
    cache = offline(clock=clock)
    cache.load(written_by_msal(sign_in("ann", expires_in=60), sign_in("bob")))
    clock.advance(60)

    text = cache.dump([])

    assert [entry["secret"] for entry in entries(text)] == [f"{MARK}.token-of-bob"]
    assert len(entries(text, "RefreshToken")) == len(entries(text, "Account")) == 2


@pytest.mark.parametrize("end", [None, "", "soon", "-1", "1e9", 1e300, "9" * 400, [], True])
def test_an_access_token_without_an_end_is_dropped_since_msal_stumbles_over_it(end):
    cache = offline()
    cache.load(changed(written_by_msal(event(), sign_in()), expires_on=end))

    assert cache.take_tokens() == []
    text = cache.dump([])
    assert entries(text) == []
    assert len(entries(text, "RefreshToken")) == 1


def test_what_has_expired_leaves_the_memory():
    clock = FakeClock(NOW)
    cache = offline(clock=clock)
    for number in range(10):
        user = sign_in(f"user{number}", expires_in=60)
        cache.load(written_by_msal(user, now=int(clock.wall())))
        clock.advance(60)

    assert len(cache._imported["AccessToken"]) == 1
    assert len(cache._imported["RefreshToken"]) == 10


def test_of_two_imports_the_later_wins_entry_by_entry():
    cache = offline()
    cache.load(written_by_msal(sign_in("ann"), sign_in("bob")))
    cache.load(written_by_msal(sign_in("bob", refresh_token=f"{MARK}.newer"), sign_in("cyd")))

    found = {entry["secret"] for entry in entries(cache.dump([]), "RefreshToken")}

    assert found == {f"{MARK}.refresh-of-ann", f"{MARK}.newer", f"{MARK}.refresh-of-cyd"}


def test_what_goes_round_twice_is_the_same(entra, client_of):
    clock = FakeClock(time.time() + 60)  # a token that came later would be one of a clock ahead
    client = client_of(entra)
    first, second = cache_of(client, clock), cache_of(client, clock)
    first.load(written_by_msal(sign_in("ann"), now=int(clock.wall())))
    once = first.dump([held_by(client), held_by(client, VAULT)])

    second.load(once)
    held = [(ClientCredentialsSource(client, t.token.scopes).key, t) for t in second.take_tokens()]
    twice = second.dump(held)

    assert len(held) == 2
    assert json.loads(twice) == json.loads(once)


def test_what_was_imported_is_let_go():
    cache = offline()
    cache.load(written_by_msal(sign_in(), event()))

    cache.clear()

    assert cache.take_tokens() == []
    assert cache.dump([]) == "{}"


# The tenant


def by_guid(rough):
    """The rough server as Entra is: whatever the tenant was named, its GUID is in the answer."""
    rough.metadata["token_endpoint"] = f"{rough.url}/{GUID}/oauth2/v2.0/token"
    return written_by_msal(event(environment="127.0.0.1"))


def test_a_tenant_named_by_its_domain_is_known_by_its_guid(rough, client_of):
    cache = cache_of(client_of(rough), FakeClock(NOW))
    cache.load(by_guid(rough))

    assert [taken.token.secret for taken in cache.take_tokens()] == [f"{MARK}.token"]
    assert [request.method for request in rough.received] == ["GET"]


def test_what_is_exported_is_found_under_the_guid(rough, client_of):
    by_guid(rough)
    client = client_of(rough)
    key, ours = held_by(client)

    (entry,) = entries(cache_of(client).dump([(key, ours)]))

    assert (entry["realm"], entry["environment"]) == (GUID, "127.0.0.1")


def test_a_clouds_tenant_is_exported_under_its_guid_though_no_fetch_asks_for_it(
    rough, proxy, client_of
):
    proxy.leads_to = rough.server_address
    cloud = "https://login.microsoftonline.com"
    rough.stand_in_for(Authority.parse(f"{cloud}/{GUID}"))
    client = client_of(rough, f"{cloud}/contoso.com", proxies={"https": proxy.url})
    key, ours = held_by(client)
    fetched = [request.method for request in rough.received]

    (entry,) = entries(cache_of(client).dump([(key, ours)]))

    assert fetched == ["POST"]
    assert [request.method for request in rough.received] == ["POST", "GET"]
    assert (entry["realm"], entry["environment"]) == (GUID, "login.microsoftonline.com")


def test_another_tenant_is_not_taken_for_it(rough, client_of):
    cache = cache_of(client_of(rough), FakeClock(NOW))
    text = by_guid(rough)
    rough.metadata["token_endpoint"] = f"{rough.url}/{GUID[::-1]}/oauth2/v2.0/token"
    cache.load(text)

    assert cache.take_tokens() == []
    assert entries(cache.dump([])) == entries(text)


def test_the_authority_is_not_asked_without_need(rough, client_of):
    by_name, by_id = client_of(rough), client_of(rough, f"{rough.url}/{GUID}")
    for client, text in [
        (by_id, by_guid(rough)),
        (by_name, written_by_msal(event(client_id=GUID, environment="127.0.0.1"), sign_in())),
        (by_name, written_by_msal(event(environment="login.microsoftonline.com"))),
        (by_name, "{}"),
    ]:
        cache = cache_of(client, FakeClock(NOW))
        cache.load(text)
        cache.take_tokens()
        cache.dump([])

    assert rough.received == []


def test_while_the_authority_is_down_the_rest_comes_in_and_the_tokens_wait(rough, client_of):
    cache = cache_of(client_of(rough), FakeClock(NOW))
    text = json.loads(by_guid(rough))
    users = json.loads(written_by_msal(sign_in()))
    text |= {name: users[name] for name in ("RefreshToken", "Account", "IdToken")}
    rough.on_get = lambda handler: handler.answer(503, "{}")
    cache.load(json.dumps(text))

    assert cache.take_tokens() == []
    assert json.loads(cache.dump([])) == text

    rough.on_get = None
    assert len(cache.take_tokens()) == 1


def test_what_is_exported_while_the_authority_is_down_is_taken_back(rough, client_of):
    rough.on_get = lambda handler: handler.answer(503, "{}")
    client, clock = client_of(rough), FakeClock(NOW)
    key = ClientCredentialsSource(client, (SCOPE,)).key

    text = cache_of(client, clock).dump([(key, record())])
    again = cache_of(client, clock)
    again.load(text)

    assert [taken.token.secret for taken in again.take_tokens()] == [record().token.secret]


@pytest.mark.parametrize(
    ("host", "names"),
    [
        (
            "login.microsoftonline.com",
            ["login.windows.net", "sts.windows.net", "login.microsoft.com", "Login.Windows.NET"],
        ),
        ("login.microsoftonline.us", ["login.usgovcloudapi.net"]),
        ("login.partner.microsoftonline.cn", ["login.chinacloudapi.cn"]),
        ("login.sovcloud-identity.fr", ["login.sovcloud-identity.fr"]),
        ("contoso.ciamlogin.com", ["contoso.ciamlogin.com"]),
    ],
)
def test_the_hosts_of_one_cloud_are_one_environment(host, names):
    for name in [host, *names]:
        cache = offline(f"https://{host}/{GUID}")
        cache.load(written_by_msal(event(environment=name)))

        assert len(cache.take_tokens()) == 1, name


def test_case_makes_no_other_tenant(rough, client_of):
    text = by_guid(rough)
    rough.metadata["token_endpoint"] = f"{rough.url}/{GUID.upper()}/oauth2/v2.0/token"
    for realm in (GUID, GUID.upper()):
        cache = cache_of(client_of(rough), FakeClock(NOW))
        cache.load(changed(text, realm=realm))

        assert len(cache.take_tokens()) == 1


# Never another's


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": GUID},
        {"environment": "login.microsoftonline.us"},
        {"environment": "login.microsoftonline.com.evil.example"},
        {"environment": None},
        {"home_account_id": f"ann.{GUID}"},
        {"home_account_id": {}},
        {"credential_type": "AccessToken_With_AuthScheme"},
        {"token_type": "pop"},
        {"token_type": "ssh-cert"},
        {"token_type": 1},
        {"key_id": "a key"},
        {"kid": "a key"},
        {"ext_cache_key": "a hash"},
        {"requestedClaimsHash": "a hash"},
        {"user_assertion_hash": "a hash"},
        {"userAssertionHash": "a hash"},
        {"yet_to_come": "anything"},
        {"yet_to_come": False},
        {"tokenmgr_authority": "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_signin"},
        {"tokenmgr_authority": ""},
        {"target": ""},
        {"target": None},
        {"target": "User.Read"},
        {"target": f"{SCOPE} {VAULT}"},
        {"target": f"{SCOPE} openid profile"},
        {"cached_at": None},
        {"cached_at": "yesterday"},
        {"secret": ""},
        {"secret": None},
        {"secret": f"{MARK}\r\nX-Injected: yes"},
    ],
    ids=str,
)
def test_a_token_of_another_kind_is_not_taken_and_goes_out_again(changes):
    text, cache = written_by_msal(event()), offline()
    cache.load(text)
    assert len(cache.take_tokens()) == 1, "unchanged it is the app's own"

    cache.load(changed(text, **changes))

    assert cache.take_tokens() == []
    assert entries(cache.dump([])) == entries(changed(text, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"home_account_id": ""},
        {"token_type": None},
        {"token_type": "bearer"},
        {"userAssertionHash": None},
        {"requestedClaims": ""},
        {"ext_expires_on": "1800007200"},
        {"expires_on": NOW + 3600},
    ],
    ids=str,
)
def test_how_other_msals_write_it_makes_no_other_token(changes):
    cache = offline()
    cache.load(changed(written_by_msal(event()), **changes))

    assert len(cache.take_tokens()) == 1


def test_another_tenant_of_the_same_host_is_not_taken(entra, client_of):
    _, text = fetched_by_msal(entra, entra.authority("fabrikam.onmicrosoft.com"))
    cache = cache_of(client_of(entra))
    cache.load(text)

    assert cache.take_tokens() == []


def test_a_user_whom_nobody_told_of_is_not_taken_for_the_app():
    url = "https://adfs.contoso.com/adfs"
    said = event(token_endpoint=f"{url}/oauth2/token", environment="adfs.contoso.com")
    cache = offline(url)

    cache.load(written_by_msal(said | {"scope": ["openid", "api"]}))
    assert cache.take_tokens() == []

    cache.load(changed(written_by_msal(said | {"scope": ["api"]}), target="write api  write"))
    assert [taken.token.scopes for taken in cache.take_tokens()] == [("api", "write")]


def test_an_authority_of_many_tenants_takes_nothing():
    cache = offline("https://login.microsoftonline.com/common")
    endpoint = "https://login.microsoftonline.com/common/oauth2/v2.0/token"
    cache.load(written_by_msal(event(token_endpoint=endpoint)))

    assert cache.take_tokens() == []


def neighbours(entra, kind):
    if kind == "b2c":
        return entra.b2c_authority(policy="B2C_1_one"), entra.b2c_authority(policy="B2C_1_other")
    return tuple(Authority.oidc(entra.oidc_authority(name)) for name in ("one", "other"))


@pytest.mark.parametrize("kind", ["b2c", "oidc"])
def test_msal_does_not_say_of_which_policy_its_token_is_and_so_it_is_not_taken(
    entra, client_of, kind
):
    for authority in neighbours(entra, kind):
        _, text = fetched_by_msal(entra, authority)
        cache = cache_of(client_of(entra, neighbours(entra, kind)[0]))
        cache.load(text)

        assert cache.take_tokens() == []
        assert entries(cache.dump([])) == entries(text)


def test_what_says_its_policy_needs_no_question_for_its_tenant():
    url = "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_signin"
    cache = offline(url)
    cache.load(changed(written_by_msal(event()), tokenmgr_authority=url))

    assert len(cache.take_tokens()) == 1


@pytest.mark.parametrize("kind", ["b2c", "oidc"])
def test_our_export_is_taken_by_its_policy_alone(entra, client_of, kind):
    one, other = (client_of(entra, each) for each in neighbours(entra, kind))
    key, ours = held_by(one)
    exported = cache_of(one).dump([(key, ours)])
    source, _, through_msal = found_by_msal(entra, one.authority, exported)
    assert source == "cache"

    for text in (exported, through_msal):
        caches = cache_of(one), cache_of(other)
        for cache in caches:
            cache.load(text)

        assert [taken.token.secret for taken in caches[0].take_tokens()] == [ours.token.secret]
        assert caches[1].take_tokens() == []


def test_a_token_that_msal_has_renewed_no_longer_says_its_policy(entra, client_of):
    one, other = (client_of(entra, each) for each in neighbours(entra, "b2c"))
    key, ours = held_by(one)
    old = ours._replace(token=replace(ours.token, expires_at=time.time() + 60))
    exported = cache_of(one).dump([(key, old)])

    source, _, text = found_by_msal(entra, other.authority, exported)
    cache = cache_of(one)
    cache.load(text)

    assert source == "identity_provider"
    assert cache.take_tokens() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "ann"},
        {"claims": '{"access_token":{}}'},
        {"cae": True},
        {"grant": "on_behalf_of"},
        {"client_id": GUID},
        {"authority": f"https://login.microsoftonline.com/{APP}"},
    ],
    ids=str,
)
def test_what_msal_would_take_for_another_token_is_not_exported(changes):
    assert offline().dump([(token_key(**changes), record())]) == "{}"


@pytest.mark.parametrize(
    "changes", [{"expires_at": NOW + 0.5}, {"expires_at": NOW - 10.0}, {"token_type": "pop"}]
)
def test_what_is_of_no_use_is_not_exported(rough, client_of, changes):
    client = client_of(rough)
    key = ClientCredentialsSource(client, (SCOPE,)).key

    assert entries(cache_of(client, FakeClock(NOW)).dump([(key, record(**changes))])) == []


# Tokens in hand, and imported ones


def test_a_token_is_taken_once_and_is_not_exported_behind_its_managers_back():
    cache = offline()
    cache.load(written_by_msal(event(), sign_in()))

    assert len(cache.take_tokens()) == 1
    assert cache.take_tokens() == []
    assert [entry["secret"] for entry in entries(cache.dump([]))] == [f"{MARK}.token-of-ann"]


def test_of_tokens_for_the_same_the_longest_lived_is_taken():
    cache = offline()
    cache.load(
        written_by_msal(
            event("short", expires_in=600),
            event("long", expires_in=6000, environment="sts.windows.net"),
            event("middle", expires_in=3600, environment="login.windows.net"),
            event("other", scope=[VAULT]),
        )
    )

    taken = {each.token.scopes[0]: each.token.secret for each in cache.take_tokens()}

    assert taken == {SCOPE: "long", VAULT: "other"}


def test_no_token_is_newer_than_now():
    cache = offline()
    cache.load(changed(written_by_msal(event()), cached_at=str(NOW + 600)))

    assert [taken.obtained_at for taken in cache.take_tokens()] == [NOW]


def test_an_expired_token_is_not_taken():
    clock = FakeClock(NOW)
    cache = offline(clock=clock)
    cache.load(written_by_msal(event()))
    clock.advance(3600)

    assert cache.take_tokens() == []


def test_the_token_in_hand_replaces_the_imported_one_and_the_apps_metadata_stays(rough, client_of):
    client, clock = client_of(rough), FakeClock(NOW)
    imported = json.loads(by_guid(rough))
    (metadata,) = imported["AppMetadata"].values()
    metadata["family_id"] = "1"
    cache = cache_of(client, clock)
    cache.load(json.dumps(imported))

    text = cache.dump([(ClientCredentialsSource(client, (SCOPE,)).key, record())])

    assert [entry["secret"] for entry in entries(text)] == [record().token.secret]
    assert entries(text, "AppMetadata") == [metadata]


def test_threads_lose_no_import(monkeypatch):
    merged = unified_schema.merged

    def merged_slowly(*sections):
        time.sleep(0.001)
        return merged(*sections)

    monkeypatch.setattr(unified_schema, "merged", merged_slowly)
    cache = offline()
    texts = [
        written_by_msal(sign_in(f"user{n}"), event(scope=[f"{n}/.default"])) for n in range(40)
    ]
    together, taken = threading.Barrier(4), []

    def work(mine):
        together.wait(30)
        for text in mine:
            cache.load(text)
            taken.extend(cache.take_tokens())
            json.loads(cache.dump([]))

    threads = [threading.Thread(target=work, args=(texts[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    text = cache.dump([])
    assert len(entries(text, "RefreshToken")) == len(entries(text)) == 40
    assert sorted(each.token.scopes for each in taken) == sorted(
        (f"{n}/.default",) for n in range(40)
    )


def test_a_child_goes_on_with_what_was_imported():
    cache = offline()
    cache.load(written_by_msal(event()))

    with cache._lock:
        assert in_child(lambda: [taken.token.secret for taken in cache.take_tokens()]) == [
            f"{MARK}.token"
        ]


# What is no cache


def deep(levels):
    return '{"Account": {"a": {"a": ' + "[" * levels + "]" * levels + "}}}"


NO_CACHES = {
    "nothing": "",
    "blank": "  \n",
    "no JSON": f"{MARK} AccessToken",
    "cut off": written_by_msal(event())[:-20],
    "encrypted": f"\x01\x00\x00\x00\xd0\x8c\x9d\xdf{MARK}",
    "a list": f'["{MARK}"]',
    "a text": f'"{MARK}"',
    "a number": "1",
    "null": "null",
    "an answer": json.dumps({"access_token": MARK, "expires_in": 3600}),
    "a section that is a list": json.dumps({"Account": {}, "AccessToken": [MARK]}),
    "a section that is null": json.dumps({"RefreshToken": None, "Account": {"a": {"b": MARK}}}),
    "an entry that is a text": json.dumps({"RefreshToken": {"a": {"secret": MARK}, "b": MARK}}),
    "an entry that is null": json.dumps({"AppMetadata": {MARK: None}}),
    "nested deeply": deep(20),
    "nested endlessly": "[" * 200_000,
    "a number without end": '{"Account": {"a": {"n": ' + "9" * 10_000 + "}}}",
    "bytes": b'{"Account": {}}',
    "None": None,
    "a path": 7,
}


@pytest.mark.parametrize("name", NO_CACHES)
def test_what_is_no_cache_is_refused_whole_and_never_shown(name):
    before = written_by_msal(sign_in())
    cache = offline()
    cache.load(before)

    with pytest.raises(ConfigurationError) as caught:
        cache.load(NO_CACHES[name])

    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert MARK not in f"{error} {error!r}"
    traceback, frames = error.__traceback__.tb_next, 0
    while traceback is not None:
        frames += 1
        for local, value in traceback.tb_frame.f_locals.items():
            assert MARK not in repr(value), local
            assert local != "text"
        traceback = traceback.tb_next
    assert frames >= 1
    assert json.loads(cache.dump([])) == json.loads(before)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("encrypted", "persistence.load()"),
        ("an answer", "SerializableTokenCache.serialize()"),
        ("an entry that is a text", "RefreshToken"),
        ("bytes", "decode"),
    ],
)
def test_a_refusal_says_what_to_do(name, advice):
    with pytest.raises(ConfigurationError) as caught:
        offline().load(NO_CACHES[name])

    assert advice in str(caught.value)


def test_a_text_of_absurd_length_is_refused(monkeypatch):
    text = written_by_msal(event())
    monkeypatch.setattr(unified_schema, "_MOST_CHARACTERS", len(text) - 1)

    with pytest.raises(ConfigurationError, match="too long"):
        offline().load(text)


def test_what_is_nested_as_far_as_it_may_be_goes_out_again():
    cache = offline()
    cache.load(deep(13))

    assert json.loads(cache.dump([])) == json.loads(deep(13))
    with pytest.raises(ConfigurationError, match="nested"):
        cache.load(deep(14))


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_entry = st.dictionaries(st.sampled_from(sorted(entries(written_by_msal(event()))[0])), _anything)
_own = _entry.map(lambda odd: entries(written_by_msal(event()))[0] | odd)
_section = st.dictionaries(st.text(), _entry | _own, max_size=3) | _anything
_caches = st.dictionaries(st.sampled_from(SECTIONS) | st.text(), _section, max_size=4)


@given(st.text() | st.one_of(_anything, _caches).map(json.dumps))
def test_whatever_is_imported_is_kept_or_refused(text):
    cache = offline()
    try:
        cache.load(text)
    except ConfigurationError as error:
        shown = str(error)
        assert cache.dump([]) == "{}"
    else:
        shown = repr(cache)
        for taken in cache.take_tokens():
            assert taken.token.secret.isprintable()
            assert taken.token.scopes == (SCOPE,)
        again = offline()
        again.load(cache.dump([]))
        assert again.dump([]) == cache.dump([])
    assert len(text) < 40 or text not in shown


# Never leaked


def test_it_shows_no_secret_and_does_not_pickle():
    cache = offline()
    cache.load(written_by_msal(event(), sign_in()))

    assert repr(cache) == f"<UnifiedCache of {APP} at {TENANT_URL}>"
    with pytest.raises(TypeError, match="UnifiedCache does not pickle"):
        pickle.dumps(cache)


def test_nothing_secret_is_logged(entra, client_of, caplog):
    caplog.set_level(logging.DEBUG)
    client = client_of(entra)
    key, ours = held_by(client)
    cache = cache_of(client)
    cache.load(written_by_msal(sign_in(), now=None))
    cache.take_tokens()
    text = cache.dump([(key, ours)])

    assert MARK in text
    assert ours.token.secret in text
    assert MARK not in caplog.text
    assert ours.token.secret not in caplog.text


# The token endpoint


def test_the_token_endpoint_is_asked_for_once_and_without_a_credential(entra, client_of):
    def refuse():
        raise AssertionError("nobody needs it for metadata")

    client = client_of(entra, credential=ClientAssertion(refuse))

    assert client.token_endpoint() == f"{entra.authority()}/oauth2/v2.0/token"
    assert client.token_endpoint() == client.token_endpoint()
    assert [request.kind for request in entra.requests] == ["discovery"]


def test_the_metadata_that_a_fetch_has_brought_serves_the_token_endpoint_too(entra, client_of):
    client = client_of(entra, Authority.oidc(entra.oidc_authority("main")))
    held_by(client)

    assert client.token_endpoint() == f"{entra.oidc_authority('main')}/token"
    assert len(entra.requests) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((404, "{}"), AuthorityError),
        ((503, "{}"), ServiceUnavailableError),
        ((200, '{"issuer": "https://a"}'), AuthorityError),
    ],
)
def test_a_token_endpoint_that_cannot_be_had_is_a_typed_error(rough, client_of, answer, kind):
    rough.on_get = lambda handler: handler.answer(*answer)

    with pytest.raises(kind):
        client_of(rough).token_endpoint()


def test_metadata_that_makes_no_sense_is_a_typed_error(rough, client_of):
    rough.metadata["token_endpoint"] = rough.url

    with pytest.raises(AuthorityError, match=r"could not make sense of .* metadata"):
        client_of(rough).token_endpoint()
