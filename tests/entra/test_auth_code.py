"""Users sign in with a browser: the authorization code grant, and all that may come back of it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import time
from contextlib import suppress
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from multidict import MultiDict
from reporting import told_of
from sign_ins import ANN, CALLBACK, ORDERS
from starlette.datastructures import QueryParams
from support import FakeClock, RecordingStore, in_threads
from waiting import until

from tokenmgr import (
    ClientAssertion,
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    SessionNotFoundError,
    StoreError,
    TokenManagerError,
    TokenRequestError,
)
from tokenmgr.emulator import EntraEmulator

KEY = "0123456789-the-key-of-all-sign-ins"


def begin(tokens, *scopes, **asked):
    return tokens.begin_auth_code(*(scopes or (ORDERS,)), redirect_uri=CALLBACK, **asked)


def query_of(uri: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(uri).query))


def refused(tokens, flow, answer, kind=InteractionRequiredError, match="begin another", **more):
    with pytest.raises(kind, match=match) as caught:
        tokens.complete_auth_code(flow, answer, **more)
    assert type(caught.value) is kind
    assert told_of(caught.value, (answer.get("code") or "no code",)) == []
    return caught.value


AUTHORITIES = {
    "entra": EntraEmulator.authority,
    "common": lambda entra: entra.authority("common"),
    "ciam": EntraEmulator.ciam_authority,
}


@pytest.mark.parametrize("kind", AUTHORITIES)
def test_a_user_signs_in(entra, web, kept, kind):
    authority = AUTHORITIES[kind](entra)
    tokens = web(authority=authority)
    flow = begin(tokens, max_age=100, browser="session 1")

    got = tokens.complete_auth_code(
        flow.text, entra.authorize(flow.auth_uri, ANN), browser="session 1"
    )

    claims = got.account.claims.cell_contents
    assert (got.account.username, claims["preferred_username"]) == (ANN, ANN)
    assert got.account.home_account_id == f"{claims['oid']}.{claims['tid']}"
    assert got.token.scopes == (ORDERS,)
    assert got.refresh_token.cell_contents
    assert got.authority == authority
    assert kept.scopes == [(ORDERS,)]


def test_a_user_signs_in_by_a_user_flow(entra, web, kept):
    api = "https://contoso.onmicrosoft.com/api/read"
    tokens = web(authority=entra.b2c_authority())
    flow = begin(tokens, api)

    got = tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))

    assert got.account.claims.cell_contents["tfp"].lower() == "b2c_1_signin"
    assert "-b2c_1_signin." in got.account.home_account_id
    # Where B2C gives an access token for an API alone.
    flow = begin(tokens, "openid")
    got = tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))
    assert got.token.scopes == (entra.client_id,)


def test_a_user_signs_in_at_another_provider_which_sends_no_client_info(entra, web, kept):
    entra.add_user("zoe@provider.example", tenant="default")
    tokens = web(authority=entra.oidc_authority())
    flow = begin(tokens, "orders:read")

    got = tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, "zoe@provider.example"))

    claims = got.account.claims.cell_contents
    assert got.account.home_account_id
    assert claims["sub"] in got.account.home_account_id or claims.get("oid")


def test_a_user_signs_in_at_ad_fs_and_stays_signed_in_by_one_refresh_token(entra, web):
    name = "zoe@corp.contoso.com"
    entra.add_user(name, tenant="adfs")
    clock = FakeClock(wall=time.time())
    tokens = web(authority=entra.adfs_authority(), clock=clock)
    flow = begin(tokens, max_age=100)

    zoe = tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, name))

    assert (zoe.username, zoe.claims["unique_name"]) == (name, "CORP\\zoe")
    assert zoe.home_account_id == f"{zoe.claims['sub']}.127.0.0.1"
    clock.advance(3_600)
    stock = tokens.user(zoe.home_account_id).manager("api://stock/count")
    for each in (zoe.manager(ORDERS), stock):
        assert each.get_access_token()
    shown = [each.form["refresh_token"] for each in entra.requests if "refresh_token" in each.form]
    assert (len(shown), len(set(shown))) == (2, 1)
    assert zoe.sign_out().startswith(f"{entra.adfs_authority()}/oauth2/logout?")


def test_a_public_client_signs_in_too(entra, public, kept):
    tokens = public()
    flow = tokens.begin_auth_code(ORDERS, redirect_uri="http://localhost:1234")
    assert tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN)).token.secret


def test_the_page_is_asked_for_what_was_given_and_for_pkce(web, kept):
    asked = {
        "prompt": "login",
        "login_hint": ANN,
        "domain_hint": "contoso.com",
        "response_mode": "form_post",
    }
    claims = '{"id_token": {"acrs": {"essential": true, "value": "c1"}}}'
    flow = begin(web(cae=True), ORDERS, max_age=7, claims=claims, **asked)
    sent = query_of(flow.auth_uri)
    assert sent.items() >= asked.items()
    assert (sent["max_age"], sent["code_challenge_method"]) == ("7", "S256")
    sent_claims = json.loads(sent["claims"])
    assert sent_claims["id_token"] == json.loads(claims)["id_token"]
    assert sent_claims["access_token"]["xms_cc"]["values"] == ["CP1"]
    assert sent["redirect_uri"] == CALLBACK


@pytest.mark.parametrize("given", [("openid",), ("offline_access", ORDERS), ([ORDERS, "profile"],)])
def test_reserved_scopes_may_be_given(entra, web, kept, given):
    tokens = web()
    flow = begin(tokens, *given)
    assert {"openid", "profile", "offline_access"} <= {*query_of(flow.auth_uri)["scope"].split()}

    got = tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))

    assert got.token.scopes in ((), (ORDERS,))
    assert kept.scopes[0] == got.token.scopes


# What frameworks make of the parameters


@pytest.mark.parametrize(
    "kind", [dict, lambda a: {k: [v] for k, v in a.items()}, MultiDict, QueryParams]
)
def test_the_answer_may_be_what_frameworks_have(entra, web, kept, kind):
    tokens = web()
    flow = begin(tokens)
    assert tokens.complete_auth_code(flow, kind(entra.authorize(flow.auth_uri, ANN)))


@pytest.mark.parametrize("kind", [MultiDict, QueryParams, "lists"])
def test_a_parameter_that_comes_twice_counts_for_nothing(entra, web, kept, kind):
    tokens = web()
    flow = begin(tokens)
    answer = [*entra.authorize(flow.auth_uri, ANN).items(), ("code", "another")]
    query = {name: [v for n, v in answer if n == name] for name, _ in answer}
    query = query if kind == "lists" else kind(answer)
    with pytest.raises(TokenRequestError, match="comes twice"):
        tokens.complete_auth_code(flow, query)


@pytest.mark.parametrize(
    "odd", [{"code": "x" * 16_385}, {"code": 5}, {"state": b"x"}, {"code": {}}]
)
def test_a_parameter_that_is_none_counts_for_nothing(entra, web, kept, odd):
    tokens = web()
    flow = begin(tokens)
    with pytest.raises(TokenManagerError):
        tokens.complete_auth_code(flow, dict(entra.authorize(flow.auth_uri, ANN)) | odd)
    assert kept.signed_in == []


@pytest.mark.parametrize("query", [None, "code=1", 5, ["code"]])
def test_the_answer_is_a_mapping(web, kept, query):
    tokens = web()
    with pytest.raises(ConfigurationError, match="mapping"):
        tokens.complete_auth_code(begin(tokens), query)


def test_client_info_of_the_redirect_is_nobodys_business(entra, web, kept):
    tokens = web()
    flow = begin(tokens)
    answer = dict(entra.authorize(flow.auth_uri, ANN)) | {"client_info": "no base64!"}
    assert tokens.complete_auth_code(flow, answer).account.username == ANN


# Answers that are not the one


def test_an_answer_to_another_sign_in_is_refused_and_the_own_one_still_counts(entra, web, kept):
    tokens = web()
    mine, other = begin(tokens), begin(tokens)
    answer = dict(entra.authorize(mine.auth_uri, ANN))

    for state in (query_of(other.auth_uri)["state"], "\ud800", "é", answer["state"][:-1]):
        refused(tokens, mine, answer | {"state": state}, match="its state or issuer is another one")
    for nothing in ({}, {"code": answer["code"]}, answer | {"state": ""}):
        refused(tokens, mine, nothing, match="of the form where response_mode= is form_post")

    assert kept.signed_in == []
    assert tokens.complete_auth_code(mine, answer).account.username == ANN


@pytest.mark.parametrize("tenant", [None, "common"])
def test_an_answer_of_another_issuer_is_refused_and_nobody_is_sent_its_code(
    entra, web, kept, tenant
):
    tokens = web(authority=entra.authority(*([tenant] if tenant else [])))
    issuers = []
    tokens._own.client.prepare(lambda _: None, hear=lambda issuer, _: issuers.append(issuer))
    for issuer in ("https://honest.example", f"{issuers[0]}/x", issuers[0].upper()):
        flow = begin(tokens)
        answer = entra.authorize(flow.auth_uri, ANN)
        refused(tokens, flow, answer | {"iss": issuer}, match="issuer")
        refused(tokens, flow, answer, match="completed before")
    assert entra.count() == 0

    flow = begin(tokens)
    answer = entra.authorize(flow.auth_uri, ANN)
    own_issuer = issuers[0].replace("{tenantid}", "11111111-2222-3333-4444-555555555555")
    assert tokens.complete_auth_code(flow, answer | {"iss": own_issuer}).account.username == ANN


def test_a_code_of_another_sign_in_is_refused_by_the_service(entra, web, kept):
    tokens = web()
    mine, other = begin(tokens), begin(tokens)
    stolen = dict(entra.authorize(other.auth_uri, ANN)) | {
        "state": query_of(mine.auth_uri)["state"]
    }
    error = refused(tokens, mine, stolen)
    assert error.error_codes == (501481,)
    assert kept.signed_in == []


def test_a_sign_in_is_its_browsers_alone(entra, web, kept):
    tokens = web()
    flow = begin(tokens, browser="one")
    answer = entra.authorize(flow.auth_uri, ANN)
    for other in ("two", "", "one "):
        refused(tokens, flow.text, answer, match="another browser", browser=other)
    with pytest.raises(ConfigurationError, match="browser="):
        tokens.complete_auth_code(flow, answer, browser=5)
    assert tokens.complete_auth_code(flow, answer, browser="one")


def test_a_sign_in_is_its_apps_and_its_authoritys_alone(entra, web, kept):
    mine = web(encryption_key=KEY)
    flow = begin(mine)
    answer = entra.authorize(flow.auth_uri, ANN)
    other_app = entra.add_client(secret="s" * 20)
    for settings in (
        {"client_id": other_app},
        {"authority": entra.authority("common")},
        {"encryption_key": KEY + "!"},
    ):
        refused(web(**({"encryption_key": KEY} | settings)), flow, answer, match="another")
    assert web(encryption_key=[KEY + "!", KEY]).complete_auth_code(flow, answer)


@pytest.mark.parametrize(
    "text",
    ["x", "é", "a" * 200_000, 5, base64.b64encode(b"x" * 99)],
    ids=lambda text: repr(text)[:9],
)
def test_a_text_that_is_none_is_refused(web, kept, text):
    refused(web(), text, {"code": "a-code", "state": "a-state"}, match="or is none")


@pytest.mark.parametrize("text", ["", None])
def test_a_web_session_without_a_text_is_told_what_that_may_come_of(web, kept, text):
    refused(web(), text, {"code": "a-code", "state": "a-state"}, match="SameSite=Lax")


def test_a_text_that_was_changed_is_refused(entra, web, kept):
    tokens = web()
    flow = begin(tokens)
    for at in range(0, len(flow.text), 7):
        changed = flow.text[:at] + ("A" if flow.text[at] != "A" else "B") + flow.text[at + 1 :]
        refused(tokens, changed, entra.authorize(flow.auth_uri, ANN), match="or is none")


def test_a_sign_in_ends_after_ten_minutes(entra, web, kept):
    clock = FakeClock(wall=1_900_000_000.0)
    tokens = web(clock=clock)
    flow = begin(tokens)
    answer = entra.authorize(flow.auth_uri, ANN)
    clock.advance(600.0)
    refused(tokens, flow, answer, match="took too long")
    assert entra.count() == 0


def test_a_sign_in_is_completed_once(entra, web, kept):
    tokens = web()
    flow = begin(tokens)
    answer = entra.authorize(flow.auth_uri, ANN)
    tokens.complete_auth_code(flow, answer)
    refused(tokens, flow, answer, match="completed before")
    assert (len(kept.signed_in), entra.count()) == (1, 1)


def test_a_sign_in_is_completed_by_one_thread(entra, web, kept):
    tokens = web()
    flow = begin(tokens)
    answer = entra.authorize(flow.auth_uri, ANN)
    outcomes = in_threads(8, lambda: tokens.complete_auth_code(flow, answer))
    assert sum(isinstance(each, InteractionRequiredError) for each in outcomes) == 7
    assert (len(kept.signed_in), entra.count()) == (1, 1)


def test_a_sign_in_is_completed_by_one_worker(entra, web, kept, tmp_path):
    settings = {"store": f"sqlite:///{tmp_path}/tokens.db", "encryption_key": KEY}
    one, two = web(**settings), web(**settings)
    flow = begin(one)
    answer = entra.authorize(flow.auth_uri, ANN)
    two.complete_auth_code(flow, answer)
    refused(one, flow, answer, match="completed before")
    assert entra.count() == 1


def test_a_store_that_is_away_keeps_nobody_from_signing_in(entra, web, kept):
    store = RecordingStore(FakeClock())
    tokens = web(store=store, encryption_key=KEY)
    flow = begin(tokens)
    answer = entra.authorize(flow.auth_uri, ANN)
    store.error = OSError("away")
    tokens.complete_auth_code(flow, answer)
    refused(tokens, flow, answer, match="completed before")


def test_what_the_store_cannot_keep_is_kept_by_completing_it_again(entra, web):
    clock = FakeClock(wall=time.time())
    store = RecordingStore(clock)
    settings = {"store": store, "encryption_key": KEY, "clock": clock}
    tokens = web(**settings)
    flow = begin(tokens, browser="one")
    answer = entra.authorize(flow.auth_uri, ANN)
    store.error = OSError("away")
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            tokens.complete_auth_code(flow, answer, browser="one")
        assert told_of(caught.value, (answer["code"], ANN)) == []
    refused(tokens, flow, answer, match="another browser", browser="two")
    store.error = None
    clock.advance(60.0)  # by then it is asked again
    found = []

    def came():
        with suppress(StoreError):
            found.append(tokens.complete_auth_code(flow, answer, browser="one"))
        return found

    until(came)
    assert (found[0].username, entra.count()) == (ANN, 1)
    assert web(**settings).user(found[0].home_account_id).username == ANN
    refused(tokens, flow, answer, match="completed before", browser="one")


def test_what_is_held_for_a_store_that_is_away_is_bounded(entra, web, monkeypatch):
    monkeypatch.setattr("tokenmgr._sharing.sealed_flows._MOST_HELD", 3)
    clock = FakeClock(wall=time.time())
    store = RecordingStore(clock)
    store.error = OSError("away")
    tokens = web(store=store, encryption_key=KEY, clock=clock)

    def sign_in():
        flow = begin(tokens)
        with pytest.raises(StoreError):
            tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))

    for _ in range(5):
        sign_in()
    held = tokens._own.app._flows._held.cell_contents
    assert len(held) == 3
    clock.advance(601.0)
    sign_in()
    assert len(held) == 1


def test_a_worker_without_a_store_completes_what_another_with_the_same_secret_began(
    entra, web, kept
):
    flow = begin(web())
    assert web().complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))


def test_what_changes_too_often_seals_for_this_process_alone(entra, web, kept):
    one, two = (web(credential=ClientAssertion(lambda: "a.b.c")) for _ in range(2))
    flow = begin(one)
    refused(two, flow, {"code": "a-code", "state": "a-state"}, match="another key")
    refused(one, flow, {"code": "a-code", "state": "a-state"}, match="state")


def test_those_that_were_used_are_bounded(entra, web, kept, monkeypatch):
    monkeypatch.setattr("tokenmgr._sharing.sealed_flows._MOST_USED", 3)
    tokens = web()
    for _ in range(10):
        flow = begin(tokens)
        answer = {"state": query_of(flow.auth_uri)["state"], "error": "access_denied"}
        refused(tokens, flow, answer, ConsentRequiredError, match="said no")
        refused(tokens, flow, answer, match="completed before")
    assert len(tokens._own.app._flows._used.cell_contents) == 3


# What the service says


def test_a_user_who_says_no_is_told_apart(entra, web, kept):
    tokens = web()
    flow = begin(tokens)
    answer = entra.authorize(flow.auth_uri, ANN, accept=False)
    error = refused(tokens, flow, answer, ConsentRequiredError, match="said no")
    assert (error.error, error.error_codes) == ("access_denied", (65004,))
    assert entra.count() == 0
    refused(tokens, flow, answer, match="completed before")
    assert kept.signed_in == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("login_required", InteractionRequiredError),
        ("interaction_required", InteractionRequiredError),
        ("consent_required", ConsentRequiredError),
        ("server_error", TokenManagerError),
        ("<script>", TokenRequestError),
        ("x" * 10_000, TokenRequestError),
    ],
)
def test_an_error_of_the_page_is_a_typed_one(web, kept, error, kind):
    tokens = web()
    flow = begin(tokens)
    answer = {
        "state": query_of(flow.auth_uri)["state"],
        "error": error,
        "error_description": f"for {ANN} \r\n eyJhbGciOiJ9.secret {'x' * 900}",
    }
    with pytest.raises(kind) as caught:
        tokens.complete_auth_code(flow, answer)
    shown = str(caught.value)
    assert ANN not in shown
    assert "secret" not in shown
    assert "\n" not in shown
    assert len(shown) < 800


def test_a_redirect_without_a_code_or_an_error_is_refused(web, kept):
    tokens = web()
    flow = begin(tokens)
    answer = {"state": query_of(flow.auth_uri)["state"], "code": ""}
    refused(tokens, flow, answer, TokenRequestError, match="neither a code nor an error")


def test_a_code_that_has_ended_is_told(entra, web, kept):
    tokens = web()
    flow = begin(tokens)
    answer = entra.authorize(flow.auth_uri, ANN)
    entra.expire_codes()
    refused(tokens, flow, answer, match="sign")
    assert kept.signed_in == []


def test_a_closed_registry_signs_nobody_in(entra, web, kept):
    tokens = web()
    flow = begin(tokens)
    answer = entra.authorize(flow.auth_uri, ANN)
    tokens.close()
    for call in (lambda: begin(tokens), lambda: tokens.complete_auth_code(flow, answer)):
        with pytest.raises(ConfigurationError, match="closed"):
            call()


@pytest.mark.parametrize(
    "asked",
    [
        *({"redirect_uri": uri} for uri in ("", None, 5, "no uri", "https://x/\n", "h://" * 900)),
        *({"prompt": prompt} for prompt in ("loud", 5)),
        *({"response_mode": mode} for mode in ("fragment", 5)),
        *({"max_age": age} for age in (-1, 1.5, True, "5", 10**400)),
        *({"claims": claims} for claims in ("{", "[]", 5, "[" * 100_000, "{}" + " " * 20_000)),
        *({name: "x" * 3_000} for name in ("login_hint", "domain_hint")),
        {"login_hint": "\ud800"},
        {"browser": None},
        {"browser": "x" * 5_000},
    ],
    ids=lambda asked: str(asked)[:40],
)
def test_a_sign_in_that_cannot_be_right_is_not_begun(web, asked):
    with pytest.raises(ConfigurationError):
        web().begin_auth_code(ORDERS, **({"redirect_uri": CALLBACK} | asked))


def test_nothing_of_a_flow_is_shown(web, kept):
    flow = begin(web(), browser="the-browser")
    assert query_of(flow.auth_uri)["state"] not in repr(flow)
    content = base64.urlsafe_b64decode(flow.text + "==")
    assert b"verifier" not in content
    assert b"localhost" not in content
    with pytest.raises(TypeError):
        __import__("pickle").dumps(flow)


async def test_a_coroutine_completes_it_and_the_loop_turns(entra, web, kept):
    tokens = web()
    flow = begin(tokens)
    turns = asyncio.ensure_future(asyncio.sleep(0))
    got = await tokens.acomplete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))
    assert got.account.username == ANN
    assert turns.done()


async def test_a_coroutine_begins_it_and_the_loop_turns(rough, registry):
    turned = threading.Event()

    def answer(handler):
        assert turned.wait(30), "the loop does not turn"
        handler.answer(200, json.dumps(rough.metadata))

    rough.on_get = answer
    asyncio.get_running_loop().call_later(0.0, turned.set)
    flow = await registry().abegin_auth_code(ORDERS, redirect_uri=CALLBACK, login_hint=ANN)
    assert query_of(flow.auth_uri)["login_hint"] == ANN


async def test_coroutines_find_who_has_signed_in_and_the_loop_turns(entra, web):
    store, threads = RecordingStore(FakeClock(wall=time.time())), set()
    settings = {"store": store, "encryption_key": KEY}
    one, two = web(**settings), web(**settings)
    flow = begin(one)
    ann = await one.acomplete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))
    store.before = lambda operation: threads.add(threading.get_ident())
    found = await two.auser(ann.home_account_id)
    assert (found.username, [each.username for each in await two.ausers(ANN)]) == (ANN, [ANN])
    assert await two.ausers("bob@contoso.com") == []
    with pytest.raises(SessionNotFoundError):
        await two.auser("nobody")
    assert threads
    assert threading.get_ident() not in threads


def test_nothing_of_it_is_logged(entra, web, kept, caplog):
    caplog.set_level(logging.DEBUG)
    tokens = web()
    flow = begin(tokens, login_hint=ANN, browser="the-browser")
    answer = entra.authorize(flow.auth_uri, ANN)
    got = tokens.complete_auth_code(flow, answer, browser="the-browser")
    sent = query_of(flow.auth_uri)
    said = (*answer.values(), sent["nonce"], ANN, "the-browser", flow.text)
    said += (got.token.secret, got.refresh_token.cell_contents)
    assert [each for each in said if each in caplog.text] == []


# A redirect of the program's own


def test_a_program_runs_its_own_redirect(entra, web, kept, recwarn):
    tokens = web()
    uri = tokens.authorization_request_url(
        ORDERS,
        redirect_uri=CALLBACK,
        state="its state",
        nonce="its nonce",
        prompt="login",
        max_age=60,
    )
    sent = query_of(uri)
    assert (sent["state"], sent["nonce"]) == ("its state", "its nonce")
    assert (sent["prompt"], sent["max_age"]) == ("login", "60")
    assert "code_challenge" not in sent
    answer = entra.authorize(uri, ANN)
    assert answer["state"] == "its state"

    got = tokens.redeem_auth_code(answer["code"], ORDERS, redirect_uri=CALLBACK, nonce="its nonce")

    assert got.account.username == ANN
    assert kept.scopes == [(ORDERS,)]
    assert [str(each.message) for each in recwarn] == []


def test_a_code_is_redeemed_once_and_for_its_nonce_alone(entra, web, kept):
    tokens = web()
    uri = tokens.authorization_request_url(ORDERS, redirect_uri=CALLBACK, nonce="one")
    assert "state" not in query_of(uri)
    code = entra.authorize(uri, ANN)["code"]
    with pytest.raises(InteractionRequiredError, match="nonce") as caught:
        tokens.redeem_auth_code(code, ORDERS, redirect_uri=CALLBACK, nonce="another")
    assert told_of(caught.value, (code,)) == []
    with pytest.raises(InteractionRequiredError) as caught:
        tokens.redeem_auth_code(code, ORDERS, redirect_uri=CALLBACK, nonce="one")
    assert told_of(caught.value, (code,)) == []
    assert kept.signed_in == []


@pytest.mark.parametrize("code", ["", None, 5, "x" * 20_000, "\ud800"])
def test_a_code_that_is_none_is_not_sent(entra, web, kept, code):
    with pytest.raises(TokenRequestError, match="the code is none"):
        web().redeem_auth_code(code, ORDERS, redirect_uri=CALLBACK)
    assert entra.count() == 0


def test_the_parameters_of_a_form_may_be_parsed_as_the_standard_library_does(entra, web, kept):
    tokens = web()
    flow = begin(tokens, response_mode="form_post")
    answer = entra.authorize(flow.auth_uri, ANN)
    form = "&".join(f"{name}={value}" for name, value in answer.items())
    assert tokens.complete_auth_code(flow, parse_qs(form)).account.username == ANN
