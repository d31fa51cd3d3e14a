"""Who has signed in, as other services than the emulator say it, well or badly."""

from __future__ import annotations

import base64
import json
import time
import warnings
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

import pytest
from reporting import Broken, told_at_every_line, told_of
from sign_ins import CALLBACK, ORDERS

from tokenmgr import ConsentRequiredError, InteractionRequiredError, TokenRequestError
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.entra.id_token import Expected, check_id_token
from tokenmgr.entra.wire.documented import documented_issuer, documented_metadata
from tokenmgr.identity.authority import Authority

TENANT = "11111111-2222-3333-4444-555555555555"
NAME = "bob@contoso.com"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"


def part(said: object) -> str:
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def jwt_of(claims: object) -> str:
    return f"{part({'alg': 'RS256'})}.{part(claims)}.{part(b'signature')}"


@pytest.fixture
def sign_in(rough, registry, kept):
    """Signs bob in at a server that answers as a test says; gives what came of it."""

    def run(claims=None, *, max_age=None, authority=None, own=(ORDERS,), proxies=None, **answer):
        tokens = registry(authority=authority or rough.authority, proxies=proxies)
        flow = tokens.begin_auth_code(*own, redirect_uri=CALLBACK, max_age=max_age)
        sent = dict(parse_qsl(urlsplit(flow.auth_uri).query))
        whole = {
            "iss": rough.metadata["issuer"],
            "aud": sent["client_id"],
            "exp": time.time() + 300,
            "nonce": sent["nonce"],
            "sub": "the-sub",
            "preferred_username": NAME,
        }
        said = {} if claims is None else {"id_token": jwt_of(whole | claims)}
        said |= {"refresh_token": "a-refresh-token"} | answer
        rough.on_post = lambda handler: handler.token(**said)
        return tokens.complete_auth_code(flow, {"code": "the-code", "state": sent["state"]})

    return run


def test_a_user_of_any_provider_is_known_by_their_id_token(sign_in, rough):
    got = sign_in({"given": ["x"]}, scope="other scopes", client_info=None)
    assert got.account.home_account_id == "the-sub.127.0.0.1"
    assert got.account.username == NAME
    assert got.account.claims.cell_contents["given"] == ["x"]
    assert got.token.secret == "a-token"
    assert got.refresh_token.cell_contents == "a-refresh-token"
    assert NAME not in repr(got)
    assert "refresh" not in repr(got).replace("refresh_token=", "")


def test_a_user_is_known_by_client_info_first_then_by_oid_and_tid(sign_in):
    claims = {"oid": "the-oid", "tid": TENANT}
    info = part({"uid": "the-uid", "utid": "the-utid"})
    assert sign_in(claims, client_info=info).account.home_account_id == "the-uid.the-utid"
    assert sign_in(claims).account.home_account_id == f"the-oid.{TENANT}"


@pytest.mark.parametrize("kind", ["oidc", "adfs"])
def test_a_user_of_another_provider_does_not_choose_whose_session_theirs_is(sign_in, rough, kind):
    authority = Authority.oidc(rough.authority) if kind == "oidc" else Authority.adfs(rough.url)
    claims = {"oid": "the-oid", "tid": TENANT, "sub": "mallory"}
    got = sign_in(claims, authority=authority)
    assert got.account.home_account_id == "mallory.127.0.0.1"


@pytest.mark.parametrize(
    "info",
    [
        *("", "no base64!", part(b"no json"), part([]), part({"uid": "u"}), part(b"[" * 3_000)),
        *(part({"uid": 5, "utid": None}), part({"uid": "a b", "utid": "é"}), 5, ["x"], {}),
        part({"uid": "u" * 4_000, "utid": "t"}),
    ],
    ids=lambda info: str(info)[:20],
)
def test_client_info_that_is_broken_loses_no_good_token(sign_in, info):
    got = sign_in({}, client_info=info)
    assert (got.account.home_account_id, got.token.secret) == ("the-sub.127.0.0.1", "a-token")


def test_without_an_id_token_a_user_is_nobody_that_was_known(sign_in, rough):
    elsewhere = Authority.oidc(rough.authority)
    one, two = (sign_in(authority=elsewhere) for _ in range(2))
    assert one.account.home_account_id
    assert one.account.home_account_id != two.account.home_account_id
    assert (one.account.username, one.account.claims.cell_contents) == ("", {})
    with pytest.raises(TokenRequestError, match="leave max_age= out"):
        sign_in(max_age=10, authority=elsewhere)


@pytest.mark.parametrize("text", [None, ""])
@pytest.mark.parametrize("kind", ["entra", "b2c", "ciam"])
def test_microsofts_authorities_say_who_has_signed_in_or_nobody_has(
    sign_in, rough, proxy, kept, kind, text
):
    proxy.leads_to = rough.server_address
    authority = {
        "entra": Authority.parse(rough.authority),
        "b2c": Authority.b2c("contoso", "b2c_1_signin"),
        "ciam": Authority.ciam("contoso"),
    }[kind]
    assert authority.kind == kind
    if kind != "entra":
        rough.stand_in_for(authority)
    way = {"proxies": {"https": proxy.url}, "authority": authority}
    with pytest.raises(TokenRequestError, match=r"no id token.*begin another") as caught:
        sign_in(id_token=text, **way)
    assert told_of(caught.value, ("a-refresh-token", "the-code")) == []
    assert kept.signed_in == []
    assert sign_in({}, **way).account.username == NAME


def test_a_service_may_give_no_refresh_token(sign_in):
    assert sign_in({}, refresh_token=None).refresh_token.cell_contents == ""


@pytest.mark.parametrize("own", [("openid",), ("openid", "profile", "offline_access")])
def test_a_user_may_just_sign_in(sign_in, own):
    assert sign_in({}, own=own).token.scopes == ()


@pytest.mark.parametrize(
    ("claims", "kind", "match"),
    [
        ({"iss": "https://evil.example"}, TokenRequestError, "another issuer"),
        ({"iss": None}, TokenRequestError, "another issuer"),
        ({"iss": ["x"]}, TokenRequestError, "another issuer"),
        ({"aud": "another-app"}, TokenRequestError, "another app"),
        ({"aud": None}, TokenRequestError, "another app"),
        ({"aud": {}}, TokenRequestError, "another app"),
        ({"exp": 1}, TokenRequestError, "clock"),
        ({"exp": None}, TokenRequestError, "expired"),
        ({"exp": "soon"}, TokenRequestError, "expired"),
        ({"exp": True}, TokenRequestError, "expired"),
        ({"nonce": "another"}, InteractionRequiredError, "nonce"),
        ({"nonce": None}, InteractionRequiredError, "nonce"),
        ({"nonce": ["x"]}, InteractionRequiredError, "nonce"),
        ({"nonce": "é"}, InteractionRequiredError, "nonce"),
    ],
)
def test_an_id_token_that_is_another_ones_signs_nobody_in(sign_in, kept, claims, kind, match):
    with pytest.raises(kind, match=match) as caught:
        sign_in(claims)
    assert type(caught.value) is kind
    assert told_of(caught.value, (NAME, "the-sub", "a-refresh-token", "the-code")) == []
    assert kept.signed_in == []


@pytest.mark.parametrize(
    "text",
    [
        *("opaque", "a.b", "a.b.c", "...", jwt_of([]), jwt_of(b"{"), "é.é.é", "a b.c.d"),
        *(5, ["x"], {"a": 1}, jwt_of({"x": "y" * 33_000}), jwt_of(b"[" * 9_000)),
        jwt_of(b'{"x": NaN}'),
        jwt_of(rb'{"x": "\ud800"}'),
        jwt_of(b'{"x": ' + b"[" * 40 + b"]" * 40 + b"}"),
        jwt_of(b'{"x":' * 300 + b"5" + b"}" * 300),
    ],
    ids=lambda text: str(text)[:12],
)
def test_an_id_token_that_cannot_be_read_signs_nobody_in(sign_in, kept, text):
    with pytest.raises(TokenRequestError, match="id token"):
        sign_in(id_token=text)
    assert kept.signed_in == []


@pytest.mark.parametrize("text", [None, ""])
def test_an_id_token_that_is_not_there_is_none(sign_in, rough, text):
    elsewhere = Authority.oidc(rough.authority)
    assert sign_in(id_token=text, authority=elsewhere).account.username == ""


def test_what_claims_have_in_one_another_is_shown(sign_in):
    nested = {"a": [{"b": [[]]}, "[" * 50, {}]}
    for _ in range(10):
        nested = {"c": [nested]}
    assert sign_in({"x": nested}).account.claims.cell_contents["x"] == nested


def test_a_nonce_that_nothing_repeats_is_another_ones(rough, registry, kept):
    rough.on_post = lambda handler: handler.token(refresh_token="a-refresh-token")
    tokens = registry()
    with pytest.raises(InteractionRequiredError, match="no id token") as caught:
        tokens.redeem_auth_code("the-code", ORDERS, redirect_uri=CALLBACK, nonce="its nonce")
    assert told_of(caught.value, ("the-code", "a-refresh-token")) == []
    assert kept.signed_in == []
    assert tokens.redeem_auth_code("the-code", ORDERS, redirect_uri=CALLBACK)


@pytest.mark.parametrize("said", [True, None, False, "true", 1])
def test_whoever_always_says_whose_answer_it_is_is_held_to_that(rough, registry, kept, said):
    rough.metadata["authorization_response_iss_parameter_supported"] = said
    rough.on_post = lambda handler: handler.token()
    tokens = registry(authority=Authority.oidc(rough.authority))
    for _ in range(2):  # once the metadata is known, too
        for answer in ({"code": "the-code"}, {"error": "access_denied"}):
            flow = tokens.begin_auth_code(ORDERS, redirect_uri=CALLBACK)
            sent = dict(parse_qsl(urlsplit(flow.auth_uri).query))
            answer["state"] = sent["state"]
            if said is not True:
                with suppress(ConsentRequiredError):
                    tokens.complete_auth_code(flow, answer)
                continue
            with pytest.raises(InteractionRequiredError, match="does not say whose") as caught:
                tokens.complete_auth_code(flow, answer)
            assert told_of(caught.value, ("the-code",)) == []
        assert (rough.posts, len(kept.signed_in)) == ((0, 0) if said is True else (1, 1))
        flow = tokens.begin_auth_code(ORDERS, redirect_uri=CALLBACK)
        state = dict(parse_qsl(urlsplit(flow.auth_uri).query))["state"]
        named = {"code": "the-code", "state": state, "iss": rough.metadata["issuer"]}
        assert tokens.complete_auth_code(flow, named)
        rough.received.clear()
        kept.signed_in.clear()


# And who it is later


MINE = {"sub": "the-sub", "oid": "the-oid", "tid": TENANT}


@pytest.fixture
def later(rough, registry):
    """Signs bob in, and has his refresh token be answered with another id token."""
    tokens = registry()
    whole = {"iss": rough.metadata["issuer"], "aud": CLIENT_ID, "exp": time.time() + 300} | MINE
    shown = []

    def answer(handler, **said):
        shown.append(handler.form.get("refresh_token"))
        handler.token(**said)

    def begin():
        said = {"refresh_token": "the-first", "id_token": jwt_of(whole)}
        rough.on_post = lambda handler: answer(handler, **said)
        return tokens.redeem_auth_code("the-code", ORDERS, redirect_uri=CALLBACK)

    def go_on(session, scope="api://mail/read", **changes):
        kept = {name: value for name, value in (whole | changes).items() if value is not None}
        said = {"refresh_token": "the-second", "id_token": changes.get("text", jwt_of(kept))}
        rough.on_post = lambda handler: answer(handler, **said)
        return session.manager(scope).get_access_token()

    return begin, go_on, shown, tokens


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        *(({name: "another"}, InteractionRequiredError) for name in ("sub", "oid", "tid")),
        ({"sub": None}, InteractionRequiredError),
        *(({"iss": issuer}, TokenRequestError) for issuer in ("https://evil.example", None)),
        ({"aud": "another-app"}, TokenRequestError),
        *(({"text": text}, TokenRequestError) for text in ("a.b.c", "opaque", 5)),
    ],
    ids=str,
)
def test_nothing_is_kept_of_an_answer_that_is_another_users(later, changes, kind):
    begin, go_on, shown, _ = later
    session = begin()
    with pytest.raises(kind) as caught:
        go_on(session, **changes)
    assert type(caught.value) is kind
    assert told_of(caught.value, ("the-sub", "the-oid", "the-second", "the-first")) == []
    source = session.manager("api://mail/read")._cell.source
    assert not source.is_gone(caught.value, 0.0), "it would be asked again at once"
    assert session.claims["sub"] == "the-sub"
    assert go_on(session, "api://other/read") == "a-token"
    assert shown == [None, "the-first", "the-first"]
    if kind is InteractionRequiredError:
        begin()
        assert source.is_gone(caught.value, 0.0)


@pytest.mark.parametrize(
    "changes",
    [{}, {"exp": 1}, {"oid": None}, {"nonce": "x"}, {"text": None}, {"text": ""}],
    ids=str,
)
def test_the_same_user_goes_on_whatever_else_the_id_token_says(later, changes):
    begin, go_on, shown, _ = later
    session = begin()
    assert go_on(session, **changes) == "a-token"
    assert go_on(session, "api://other/read") == "a-token"
    assert shown == [None, "the-first", "the-second"]


def test_who_signs_in_again_is_asked_for_at_once(later):
    begin, go_on, _, _ = later
    with pytest.raises(InteractionRequiredError, match="sign in again"):
        go_on(begin(), sub="another")
    assert go_on(begin()) == "a-token"


def test_an_assertion_may_call_the_same_user_otherwise(later, rough, entra):
    _, go_on, shown, tokens = later
    rough.on_post = lambda handler: handler.token(refresh_token="the-first")
    assertion = entra.sign_in("ann@contoso.com")
    tokens.on_behalf_of(assertion, ORDERS, session="job").get_access_token()
    session = tokens.session("job")
    own = {name: session.claims[name] for name in ("oid", "tid")}
    with pytest.raises(InteractionRequiredError, match="another user's"):
        go_on(session, **own | {"oid": "another"})
    assert go_on(session, "api://other/read", **own) == "a-token"
    assert go_on(session, "api://third/read", text="opaque") == "a-token"
    assert shown == ["the-first", "the-first", "the-second"]


def check(now=1_000.0, *, nonce="", max_age=None, issuer="https://idp.example/x", **claims):
    said = {"iss": issuer, "aud": "app", "exp": 1_000.0, "sub": "s"} | claims
    expected = Expected(claims.pop("expects", issuer), "app", nonce, max_age)
    said.pop("expects", None)
    return check_id_token(Hidden(jwt_of(said)), expected, now).cell_contents


def test_several_audiences_need_the_one_that_asked():
    assert check(aud=["app"])
    assert check(aud=["app", "other"], azp="app")
    for claims in ({"aud": ["other"]}, {"aud": ["app", "other"], "azp": "other"}, {"aud": []}):
        with pytest.raises(TokenRequestError, match="another app"):
            check(**claims)


def test_clocks_may_differ_by_a_minute():
    assert check(now=1_060.0)
    with pytest.raises(TokenRequestError, match="clock"):
        check(now=1_060.1)
    assert check(max_age=100, auth_time=840)
    with pytest.raises(InteractionRequiredError, match="prompt='login'"):
        check(max_age=100, auth_time=839)
    for auth_time in (None, "840", True, []):
        with pytest.raises(TokenRequestError, match="does not say when"):
            check(max_age=100, auth_time=auth_time)


def test_an_issuer_of_all_tenants_is_that_of_the_users_own():
    template = "https://login.example/{tenantid}/v2.0"
    own = f"https://login.example/{TENANT}/v2.0"
    assert check(issuer=own, expects=template, tid=TENANT)
    for tid in (None, 5, "", "other", "../x", template):
        with pytest.raises(TokenRequestError, match="another issuer"):
            check(issuer=own, expects=template, tid=tid)
    with pytest.raises(TokenRequestError, match="another issuer"):
        check(issuer="", expects="")


@pytest.mark.parametrize(
    ("tenant", "issuer"),
    [
        ("contoso.com", "https://login.microsoftonline.com/{tenantid}/v2.0"),
        ("common", "https://login.microsoftonline.com/{tenantid}/v2.0"),
        (TENANT, f"https://login.microsoftonline.com/{TENANT}/v2.0"),
    ],
)
def test_the_issuer_of_a_documented_tenant_is_known_without_asking(tenant, issuer):
    authority = Authority.entra(tenant)
    metadata = documented_metadata(authority)
    assert documented_issuer(authority, metadata) == issuer


@pytest.mark.traces
def test_nothing_is_told_wherever_a_sign_in_breaks(sign_in, registry):
    tokens = registry(credential=None)

    def work():
        sign_in({"oid": "the-oid"}, max_age=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokens.sign_in_with_password(NAME, "the-password", ORDERS)
        tokens.redeem_refresh_token("the-refresh-token", ORDERS)
        tokens.redeem_auth_code("the-code", ORDERS, redirect_uri=CALLBACK)
        tokens.begin_auth_code(ORDERS, redirect_uri=CALLBACK, login_hint=NAME)
        tokens.authorization_request_url(ORDERS, redirect_uri=CALLBACK, login_hint=NAME)

    secrets = ("the-code", "the-password", "the-refresh-token", "a-refresh-token", "the-oid", NAME)
    within = (
        *("_sign", "_sharing/sealed_flows", "entra/id_token", "entra/grants", "entra/answers"),
        "entra/accounts",
    )
    assert told_at_every_line(work, secrets, within=within, one_in=12) == []


@pytest.mark.traces
def test_nothing_is_told_wherever_a_later_answer_or_an_export_breaks(later):
    begin, go_on, _, tokens = later

    def work():
        session = begin()
        with suppress(InteractionRequiredError):
            go_on(session, sub="another")
        go_on(session, "api://other/read")
        tokens.export_cache()

    def no_thread(work):
        raise RuntimeError("no thread runs here")

    # The caller does it all, and an error's frames are his.
    tokens._own.app.context.workers.do = no_thread
    secrets = ("the-first", "the-second", "the-oid", "the-sub")
    within = ("entra/id_token", "entra/grants/refresh_token", "entra/unified_users", "_sessions")
    assert told_at_every_line(work, secrets, (Broken,), within=within, one_in=2) == []
