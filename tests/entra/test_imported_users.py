"""Users whom MSAL has signed in come in, and serve as sessions; they and our own go out to MSAL."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msal
import pytest
from emulator_clients import claims_of
from sign_ins import CALLBACK
from support import SCOPE, FakeClock, RecordingStore

from tokenmgr import Authority, InteractionRequiredError, SessionNotFoundError, TokenRegistry
from tokenmgr.emulator import EntraEmulator
from tokenmgr.stores import MemoryStore

ANN, BOB = "ann@contoso.com", "bob@contoso.com"
READ = "https://graph.microsoft.com/User.Read"
ORDERS = "api://orders/read"
KEY = "what the records of the tests are sealed with"
REFRESH = "refresh_token"


class Msal:
    """A program that has signed users in by MSAL, and kept its cache."""

    def __init__(self, entra: EntraEmulator, authority: str = "", **named: str) -> None:
        self.entra = entra
        self.cache = msal.SerializableTokenCache()
        named = named or {"authority": authority or entra.authority()}
        self.app = msal.ConfidentialClientApplication(
            entra.client_id,
            client_credential=entra.client_secret,
            verify=entra.ca_file,
            instance_discovery=False,
            token_cache=self.cache,
            **named,
        )

    def sign_in(self, name: str) -> str:
        """Signs a user in; gives their id."""
        self.entra.add_user(name)
        self.entra.add_redirect_uri(CALLBACK)
        flow = self.app.initiate_auth_code_flow(
            [READ], redirect_uri=CALLBACK, response_mode="form_post"
        )
        back = self.entra.authorize(flow["auth_uri"], name)
        answer = self.app.acquire_token_by_auth_code_flow(flow, dict(back))
        assert "refresh_token" in answer, answer
        return next(
            str(account["home_account_id"])
            for account in self.app.get_accounts()
            if account["username"] == name
        )


def registries(entra: EntraEmulator) -> Iterator[Callable[..., TokenRegistry]]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(entra.registry(**settings))


make = pytest.fixture(registries, name="make")


def whose(token: str) -> str:
    """The user of an access token."""
    return str(claims_of(token)["oid"])


def shown(entra: EntraEmulator) -> list[str]:
    return [each.form[REFRESH] for each in entra.requests if each.grant_type == REFRESH]


def refresh_tokens(text: str) -> dict[str, str]:
    entries = json.loads(text).get("RefreshToken", {}).values()
    return {each["home_account_id"]: each["secret"] for each in entries}


def test_they_are_found_and_their_refresh_tokens_are_redeemed_when_there_is_need(entra, make):
    program = Msal(entra)
    homes = {name: program.sign_in(name) for name in (ANN, BOB)}
    tokens = make()
    tokens.import_cache(program.cache.serialize())
    asked = entra.count()
    assert {each.username for each in tokens.users()} == {ANN, BOB}
    ann = tokens.user(homes[ANN])
    assert (ann.username, ann.home_account_id) == (ANN, homes[ANN])
    assert ann.claims["oid"] == entra.add_user(ANN)
    assert entra.count() == asked
    for scope in (READ, ORDERS):
        assert whose(ann.manager(scope).get_access_token()) == entra.add_user(ANN)
    assert whose(tokens.user(homes[BOB]).manager(READ).get_access_token()) == entra.add_user(BOB)
    assert entra.count() == asked + 3
    assert len(set(shown(entra))) == 3


def test_all_workers_that_import_it_go_on_with_one_session(entra, make, clock):
    clock = FakeClock(time.time())
    program, store = Msal(entra), MemoryStore()
    home = program.sign_in(ANN)
    workers = [make(store=store, encryption_key=KEY, clock=clock) for _ in range(3)]
    for tokens in workers:
        tokens.import_cache(program.cache.serialize())
        assert whose(tokens.user(home).manager(READ).get_access_token()) == entra.add_user(ANN)
        clock.advance(3600)
    late = make(store=store, encryption_key=KEY, clock=clock)
    late.import_cache(program.cache.serialize())  # with what was redeemed long ago
    assert late.user(home).manager(READ).get_access_token()
    assert len(shown(entra)) == len(set(shown(entra))) == 4


def test_an_export_has_their_refresh_tokens_as_they_are_now(entra, make):
    program = Msal(entra)
    ann, bob = program.sign_in(ANN), program.sign_in(BOB)
    tokens = make()
    tokens.import_cache(program.cache.serialize())
    before = refresh_tokens(tokens.export_cache())
    assert before == refresh_tokens(program.cache.serialize())
    tokens.user(ann).manager(READ).get_access_token()
    after = refresh_tokens(tokens.export_cache())
    assert (after[ann] != before[ann], after[bob] == before[bob]) == (True, True)

    again = Msal(entra)
    again.cache.deserialize(tokens.export_cache())
    (account,) = again.app.get_accounts(ANN)
    answer = again.app.acquire_token_silent([ORDERS], account)
    assert whose(answer["access_token"]) == entra.add_user(ANN)


def test_who_signs_out_is_in_no_export_and_comes_back_with_no_other_import(entra, make):
    program, other = Msal(entra), Msal(entra)
    ann, bob = program.sign_in(ANN), program.sign_in(BOB)
    kim = other.sign_in("kim@contoso.com")
    tokens = make()
    tokens.import_cache(program.cache.serialize())
    tokens.user(ann).sign_out()
    tokens.import_cache(other.cache.serialize())
    assert {each.home_account_id for each in tokens.users()} == {bob, kim}
    left = tokens.export_cache()
    assert set(refresh_tokens(left)) == {bob, kim}
    assert ann not in left
    tokens.import_cache(program.cache.serialize())  # which the program asks for
    assert tokens.user(ann).username == ANN


def test_where_none_may_be_kept_they_stay_for_the_next_export(entra, make):
    program = Msal(entra)
    program.sign_in(ANN)
    tokens = make(store=MemoryStore())  # whose key is derived from the credential
    tokens.import_cache(program.cache.serialize())
    assert refresh_tokens(tokens.export_cache()) == refresh_tokens(program.cache.serialize())


def test_where_the_store_is_away_they_stay_for_the_next_export(entra, make, clock):
    class Away(MemoryStore):
        def get(self, key: str) -> bytes | None:
            raise OSError("away")

    program = Msal(entra)
    program.sign_in(ANN)
    tokens = make(store=Away(), encryption_key=KEY)
    tokens.import_cache(program.cache.serialize())
    assert refresh_tokens(tokens.export_cache()) == refresh_tokens(program.cache.serialize())


def test_who_is_elsewhere_at_home_is_not_taken(entra, make):
    entra.add_user(BOB, tenant="fabrikam.com")
    program = Msal(entra)
    home = program.sign_in(ANN)
    for settings in (
        {"authority": entra.authority("fabrikam.com")},
        {"authority": entra.b2c_authority()},
        {"authority": Authority.oidc(entra.oidc_authority())},
        {"authority": "https://login.microsoftonline.com/contoso.onmicrosoft.com"},
        {"client_id": "22222222-3333-4444-5555-666666666666"},
    ):
        tokens = make(**settings)
        tokens.import_cache(program.cache.serialize())
        assert tokens.users() == []
        with pytest.raises(SessionNotFoundError):
            tokens.user(home)
        assert refresh_tokens(tokens.export_cache()) == refresh_tokens(program.cache.serialize())


def test_an_authority_of_many_tenants_takes_all(entra, make):
    program = Msal(entra, entra.authority("common"))
    home = program.sign_in(ANN)
    tokens = make(authority=entra.authority("common"))
    tokens.import_cache(program.cache.serialize())
    assert whose(tokens.user(home).manager(READ).get_access_token()) == entra.add_user(ANN)


def changed(text: str, section: str, **changes: object) -> str:
    cache = json.loads(text)
    for entry in cache[section].values():
        entry.update(changes)
    return json.dumps(cache)


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("RefreshToken", {"secret": ""}),
        ("RefreshToken", {"secret": ["x"]}),
        ("RefreshToken", {"secret": "two words"}),
        ("RefreshToken", {"secret": "x" * 20_000}),
        ("RefreshToken", {"home_account_id": None}),
        ("RefreshToken", {"home_account_id": ["x"]}),
        ("RefreshToken", {"home_account_id": "x" * 5_000}),
        ("RefreshToken", {"client_id": "another"}),
        ("RefreshToken", {"environment": "login.example.com"}),
        ("RefreshToken", {"environment": 5}),
    ],
)
def test_what_is_no_refresh_token_of_a_user_of_this_app_is_left_alone(
    entra, make, section, changes
):
    program = Msal(entra)
    program.sign_in(ANN)
    text = changed(program.cache.serialize(), section, **changes)
    tokens = make()
    tokens.import_cache(text)
    assert tokens.users() == []
    assert json.loads(tokens.export_cache()) == json.loads(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "opaque"},
        {"secret": 5},
        {"secret": "a.!.c"},
        {"secret": "a.W10.c"},
    ],
)
def test_an_id_token_that_cannot_be_read_says_nothing(entra, make, changes):
    program = Msal(entra)
    home = program.sign_in(ANN)
    tokens = make()
    tokens.import_cache(changed(program.cache.serialize(), "IdToken", **changes))
    assert (tokens.user(home).username, tokens.user(home).claims) == (ANN, {})


def test_of_two_refresh_tokens_the_newer_one_is_taken(entra, make):
    program = Msal(entra)
    home = program.sign_in(ANN)
    cache = json.loads(program.cache.serialize())
    ((key, entry),) = cache["RefreshToken"].items()
    entry["last_modification_time"] = "1700000000"
    for number, time_ in enumerate((None, "1600000000", ["x"], 5)):
        cache["RefreshToken"][f"{key}{number}"] = {
            **entry,
            "secret": f"another-{number}",
            "last_modification_time": time_,
        }
    tokens = make()
    tokens.import_cache(json.dumps(cache))
    assert tokens.user(home).manager(READ).get_access_token()


def test_what_the_service_refuses_is_told_as_such(entra, make):
    program = Msal(entra)
    home = program.sign_in(ANN)
    tokens = make()
    tokens.import_cache(program.cache.serialize())
    entra.revoke(ANN)
    with pytest.raises(InteractionRequiredError, match="have the user sign in") as caught:
        tokens.user(home).manager(READ).get_access_token()
    assert caught.value.error == "invalid_grant"
    assert refresh_tokens(tokens.export_cache()) == {}


# Those who have signed in here

API = "https://contoso.onmicrosoft.com/api/read"
AUTHORITIES: dict[str, Callable[[EntraEmulator], str]] = {
    "entra": EntraEmulator.authority,
    "common": lambda entra: entra.authority("common"),
    "ciam": EntraEmulator.ciam_authority,
    "b2c": EntraEmulator.b2c_authority,
    "adfs": EntraEmulator.adfs_authority,
    "oidc": EntraEmulator.oidc_authority,
}
TENANTS = {"adfs": "adfs", "oidc": "default"}


def sign_in_here(tokens: TokenRegistry, entra: EntraEmulator, name: str, scope: str = READ) -> str:
    entra.add_redirect_uri(CALLBACK)
    flow = tokens.begin_auth_code(scope, redirect_uri=CALLBACK)
    return tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, name)).home_account_id


@pytest.mark.parametrize("kind", AUTHORITIES)
def test_msal_finds_who_has_signed_in_here(entra, make, kind, caplog):
    caplog.set_level(logging.DEBUG, logger="msal")
    for name in (ANN, BOB):
        entra.add_user(name, **({"tenant": TENANTS[kind]} if kind in TENANTS else {}))
    authority = AUTHORITIES[kind](entra)
    tokens = make(authority=Authority.oidc(authority) if kind == "oidc" else authority)
    scope = API if kind == "b2c" else READ
    homes = {name: sign_in_here(tokens, entra, name, scope) for name in (ANN, BOB)}

    text = tokens.export_cache()

    assert ANN not in caplog.text
    program = Msal(entra, **{"oidc_authority" if kind == "oidc" else "authority": authority})
    program.cache.deserialize(text)
    accounts = program.app.get_accounts()
    assert len(accounts) == 2
    for name in (ANN, BOB):
        # B2C and other providers give no user name in the claims that have one elsewhere.
        named = {each.username for each in tokens.users()} == {ANN, BOB}
        (account,) = (
            program.app.get_accounts(name)
            if named
            else [each for each in accounts if homes[name].startswith(each["home_account_id"])]
        )
        asked = entra.count(REFRESH)
        answer = program.app.acquire_token_silent([scope], account)
        assert answer["access_token"], answer
        assert entra.count(REFRESH) == asked + 1
        if named:
            whose_claims = claims_of(answer["access_token"])
            assert whose_claims.get("upn", whose_claims.get("preferred_username")) == name
    # And so does another registry; of a generic provider an id token has to tell who is its.
    if kind not in ("oidc", "adfs"):
        other = make(authority=authority)
        other.import_cache(program.cache.serialize())
        assert {each.home_account_id for each in other.users()} == set(homes.values())


def test_an_export_has_who_has_signed_in_at_any_worker_and_nobody_who_is_gone(entra, make):
    for name in (ANN, BOB):
        entra.add_user(name)
    store = MemoryStore()
    one, two = (make(store=store, encryption_key=KEY) for _ in range(2))
    ann, bob = (sign_in_here(one, entra, name) for name in (ANN, BOB))
    assert set(refresh_tokens(two.export_cache())) == {ann, bob}
    before = refresh_tokens(two.export_cache())[ann]
    one.user(ann).manager(ORDERS).get_access_token()
    assert refresh_tokens(two.export_cache())[ann] != before
    one.user(bob).sign_out()
    text = two.export_cache()
    assert set(refresh_tokens(text)) == {ann}
    assert {each["home_account_id"] for each in json.loads(text)["Account"].values()} == {ann}
    one.on_behalf_of(entra.sign_in(BOB), READ, session="job").get_access_token()
    assert set(refresh_tokens(one.export_cache())) == {ann}, "work that has a name is no sign-in"


def test_while_the_store_is_away_an_export_has_whom_this_process_knows(entra, make):
    entra.add_user(ANN)
    store = RecordingStore(FakeClock(time.time()))
    tokens = make(store=store, encryption_key=KEY)
    home = sign_in_here(tokens, entra, ANN)
    ann = tokens.user(home)
    store.error = OSError("away")
    assert set(refresh_tokens(tokens.export_cache())) == {home}
    assert ann.username == ANN


def test_who_was_imported_and_signs_in_anew_is_in_an_export_once(entra, make):
    program = Msal(entra)
    home = program.sign_in(ANN)
    tokens = make()
    tokens.import_cache(program.cache.serialize())
    before = refresh_tokens(tokens.export_cache())[home]
    assert sign_in_here(tokens, entra, ANN) == home
    text = tokens.export_cache()
    assert len(json.loads(text)["RefreshToken"]) == 1
    assert refresh_tokens(text)[home] != before
    tokens.user(home).sign_out()
    assert refresh_tokens(tokens.export_cache()) == {}
    sign_in_here(tokens, entra, ANN)
    assert set(refresh_tokens(tokens.export_cache())) == {home}


def test_where_nobody_can_stay_signed_in_an_export_is_of_the_apps_tokens_alone(entra, make):
    tokens = make(store=MemoryStore())  # whose key is derived from the credential
    tokens.get_access_token(SCOPE)
    assert refresh_tokens(tokens.export_cache()) == {}
