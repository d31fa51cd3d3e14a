"""What an app says of itself and adds to its token requests: what is sent, and what is another."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import jwt
import msal
import pytest
from entra_calls import VAULT, fetch
from reporting import told_of
from sign_ins import ANN, CALLBACK, ORDERS
from support import EXACT, SCOPE, STORE_KEY

from tokenmgr import (
    Certificate,
    ClientAssertion,
    ConfigurationError,
    InteractionRequiredError,
    TokenRegistry,
)
from tokenmgr.emulator import client_certificate
from tokenmgr.entra.wire.additions import merged
from tokenmgr.stores import MemoryStore

READ = "https://graph.microsoft.com/User.Read"
IP = {"access_token": {"client_ip": {"value": "203.0.113.7"}}}


def last_form(entra):
    return next(each.form for each in reversed(entra.requests) if each.kind == "token")


def sent_claims(entra):
    return json.loads(last_form(entra)["claims"])


# Parameters of the program's own


def test_what_is_added_is_in_the_body_of_each_request(entra):
    with entra.registry(policy=EXACT, extra={"orders_tier": "gold", "a": ""}) as tokens:
        fetch(tokens)
        own = dict(last_form(entra))
        tokens.on_behalf_of(entra.sign_in(ANN), READ).get_access_token()
        users = dict(last_form(entra))

    assert (own["orders_tier"], own["grant_type"]) == ("gold", "client_credentials")
    assert users["orders_tier"] == "gold"
    assert users["requested_token_use"] == "on_behalf_of"


def test_a_session_sends_it_as_it_begins_and_as_it_goes_on(entra):
    with entra.registry(extra={"orders_tier": "gold"}) as tokens:
        tokens.on_behalf_of(entra.sign_in(ANN), READ, session="job").get_access_token()
        began = dict(last_form(entra))
        tokens.session("job").manager(READ).refresh_access_token()

    went_on = last_form(entra)
    assert (began["orders_tier"], went_on["orders_tier"]) == ("gold", "gold")
    assert went_on["grant_type"] == "refresh_token"


ADDED = {"extra": {"orders_tier": "gold"}, "forwarded_client_claims": IP}


def check_all(entra, grant_type):
    form = last_form(entra)
    assert (form["grant_type"], form["orders_tier"]) == (grant_type, "gold")
    assert json.loads(form["claims"]) == IP


def test_whoever_signs_in_by_a_browser_sends_it_and_so_does_their_session(entra, web):
    tokens = web(exclude_scopes=["profile"], **ADDED)
    flow = tokens.begin_auth_code(ORDERS, redirect_uri=CALLBACK)
    session = tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))
    check_all(entra, "authorization_code")
    session.manager(ORDERS).refresh_access_token()
    check_all(entra, "refresh_token")

    assert "profile" not in last_form(entra)["scope"].split()
    asked = dict(parse_qsl(urlsplit(flow.auth_uri).query))
    assert set(asked["scope"].split()) == {"openid", "offline_access", ORDERS}
    assert "orders_tier" not in asked, "what is added is of the token request alone"


def test_a_device_sends_it_as_it_polls(entra, public):
    flow = public(**ADDED).begin_device_code(ORDERS)
    entra.enter_device_code(flow.user_code, ANN)
    flow.wait(30)

    check_all(entra, "urn:ietf:params:oauth:grant-type:device_code")


@pytest.mark.filterwarnings("ignore")
def test_a_password_goes_with_it(entra, public):
    tokens = public(**ADDED)
    tokens.sign_in_with_password(ANN, entra.password(ANN), ORDERS)
    check_all(entra, "password")


def test_what_a_user_got_is_found_again_only_as_it_was_asked_for(entra, web):
    store = {"store": MemoryStore(), "encryption_key": STORE_KEY}
    tokens = web(**store, **ADDED)
    flow = tokens.begin_auth_code(ORDERS, redirect_uri=CALLBACK)
    session = tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))
    token = session.manager(ORDERS).get_access_token()
    user = session.home_account_id

    assert web(**store, **ADDED).user(user).manager(ORDERS).get_access_token() == token
    assert web(**store).user(user).manager(ORDERS).get_access_token() != token


def test_tokens_that_are_asked_for_otherwise_are_others(entra):
    with entra.registry(policy=EXACT, extra={"tier": "gold"}) as tokens:
        plain, same = tokens.manager(SCOPE), tokens.manager(SCOPE, extra={"tier": "gold"})
        more = tokens.manager(SCOPE, extra={"region": "eu"})
        other = tokens.manager(SCOPE, extra={"tier": "silver"})

        assert same is plain
        assert more is tokens.manager(SCOPE, extra={"region": "eu"})
        assert len({each.get_access_token() for each in (plain, more, other)}) == 3
        assert dict(more.key.extra) == {"tier": "gold", "region": "eu"}
        assert other.key.extra == (("tier", "silver"),)
        other.refresh_access_token()
        assert last_form(entra)["tier"] == "silver"
        other.refresh_access_token(claims='{"access_token":{"nbf":{"essential":true}}}')
        assert last_form(entra)["tier"] == "silver"
    assert replace(plain.key, extra=()) != plain.key


@pytest.mark.parametrize("settings", [{"extra": {"tier": "gold"}}, {"forwarded_client_claims": IP}])
def test_no_worker_finds_anothers_token_in_the_store(entra, settings):
    store, ann = MemoryStore(), entra.sign_in(ANN)
    common = {"store": store, "encryption_key": STORE_KEY}
    with entra.registry(**common) as one, entra.registry(**common, **settings) as other:
        own = [each.get_access_token(SCOPE) for each in (one, other)]
        users = [each.on_behalf_of(ann, READ).get_access_token() for each in (one, other)]
        in_session = [
            each.on_behalf_of(ann, READ, session="job").get_access_token() for each in (one, other)
        ]
        with entra.registry(**common, **settings) as third:
            assert third.get_access_token(SCOPE) == own[1]
    assert len({*own, *users, *in_session}) == 6


@pytest.mark.parametrize("settings", [{"extra": {"tier": "gold"}}, {"forwarded_client_claims": IP}])
def test_what_msal_kept_was_asked_for_without_it_and_so_is_what_msal_finds(entra, settings):
    with entra.registry() as plain:
        token, cache = plain.get_access_token(SCOPE), plain.export_cache()
    with entra.registry(**settings) as tokens:
        tokens.import_cache(cache)

        assert tokens.get_access_token(SCOPE) != token
        assert tokens.manager(SCOPE, extra={}) is tokens.manager(SCOPE)
        found = msal.SerializableTokenCache()
        found.deserialize(tokens.export_cache())
        kept = list(found.search(msal.TokenCache.CredentialType.ACCESS_TOKEN))
        assert [each["secret"] for each in kept] == [token]


BY_ITSELF = [
    *("grant_type", "scope", "claims", "assertion", "requested_token_use", "refresh_token"),
    *("client_id", "client_secret", "client_assertion", "client_assertion_type"),
    *("code", "code_verifier", "redirect_uri", "device_code", "username", "password"),
    *("Scope", "CLIENT_ID"),
]


@pytest.mark.parametrize("name", BY_ITSELF)
def test_what_oauth_itself_sends_is_not_added(entra, name):
    for make in (
        lambda: entra.registry(extra={name: "x"}),
        lambda: entra.registry().manager(SCOPE, extra={name: "x"}),
    ):
        with pytest.raises(ConfigurationError, match=f"extra= has '{name}'"):
            make()


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("tier=gold", "a dict of texts"),
        ([("tier", "gold")], "a dict of texts"),
        ({"tier": 7}, "value of 'tier'"),
        ({"tier": None}, "value of 'tier'"),
        ({"tier": "\ud800"}, "value of 'tier'"),
        ({"tier": "x" * 4_097}, "value of 'tier'"),
        ({7: "x"}, "name in extra="),
        ({"": "x"}, "name in extra="),
        ({"a b": "x"}, "name in extra="),
        ({"a&b": "x"}, "name in extra="),
        ({"x" * 65: "x"}, "name in extra="),
        ({f"p{number}": "" for number in range(33)}, "more than 32"),
    ],
)
def test_what_cannot_be_added_is_refused(entra, extra, says):
    with pytest.raises(ConfigurationError, match=says):
        entra.registry(extra=extra)
    with entra.registry() as tokens, pytest.raises(ConfigurationError, match=says):
        tokens.manager(SCOPE, extra=extra)


# Claims that are asked for


def test_claims_are_asked_for_with_each_token_beside_those_of_challenges(entra):
    challenge = '{"access_token":{"nbf":{"essential":true,"value":"1"}}}'
    with entra.registry(policy=EXACT, cae=True, forwarded_client_claims=IP) as tokens:
        fetch(tokens)
        assert sent_claims(entra)["access_token"].keys() == {"xms_cc", "client_ip"}
        tokens.manager(SCOPE).refresh_access_token(claims=challenge)
        assert sent_claims(entra)["access_token"].keys() == {"xms_cc", "client_ip", "nbf"}
        tokens.on_behalf_of(entra.sign_in(ANN), READ).get_access_token()
        assert sent_claims(entra)["access_token"].keys() == {"xms_cc", "client_ip"}


def test_they_are_what_msal_sends(entra, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", entra.ca_file)
    said = json.dumps(IP)
    application = msal.ConfidentialClientApplication(
        entra.client_id,
        client_credential=entra.client_secret,
        authority=entra.authority(),
        client_capabilities=["CP1"],
        instance_discovery=False,
        verify=entra.ca_file,
    )
    if "forwarded_client_claims" not in _parameters(application.acquire_token_for_client):
        pytest.skip("this version of MSAL has no such parameter")
    application.acquire_token_for_client([SCOPE], forwarded_client_claims=said)
    theirs = dict(last_form(entra))
    with entra.registry(cae=True) as tokens:
        tokens.manager(SCOPE, forwarded_client_claims=said).get_access_token()

    ours = dict(last_form(entra))
    assert json.loads(ours.pop("claims")) == json.loads(theirs.pop("claims"))
    assert ours == theirs


def _parameters(method):
    import inspect

    return inspect.signature(method).parameters


def test_each_manager_may_have_its_own(entra):
    other = {"access_token": {"client_ip": {"value": "203.0.113.8"}}}
    with entra.registry(policy=EXACT, forwarded_client_claims=json.dumps(IP, indent=2)) as tokens:
        plain, same = tokens.manager(SCOPE), tokens.manager(SCOPE, forwarded_client_claims=IP)
        assert same is plain
        assert tokens.manager(SCOPE, forwarded_client_claims=other) is not plain
        tokens.manager(SCOPE, forwarded_client_claims=other).get_access_token()
        assert sent_claims(entra) == other
        tokens.manager(SCOPE, forwarded_client_claims={}).get_access_token()
        assert "claims" not in last_form(entra)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (None, "", ""),
        (None, '{"a": 1}', '{"a": 1}'),
        ('{"a": 1}', "", '{"a": 1}'),
        ('{"a": 1}', '{"a": 2, "b": 3}', '{"a": 2, "b": 3}'),
        ('{"a": {"b": 1}}', '{"a": {"c": 2}}', '{"a": {"b": 1, "c": 2}}'),
        ('{"a": {"b": {"c": 1}}}', '{"a": {"b": null}}', '{"a": {"b": null}}'),
        ('{"a": 1}', '{"a": {"b": 2}}', '{"a": {"b": 2}}'),
    ],
)
def test_claims_are_merged_member_by_member(one, other, both):
    assert merged(one, other) == both


@pytest.mark.parametrize(
    "claims",
    ["", "no JSON", "[]", "null", 7, ["a"], {"a": {1, 2}}, {"a": float("nan")}, {"a": "x" * 8_200}],
)
def test_what_are_no_claims_is_refused_and_not_shown(entra, claims):
    for make in (
        lambda: entra.registry(forwarded_client_claims=claims),
        lambda: entra.registry().manager(SCOPE, forwarded_client_claims=claims),
    ):
        with pytest.raises(ConfigurationError, match="forwarded_client_claims= is no JSON"):
            make()


# Claims that are signed


@pytest.fixture(scope="module")
def certificate():
    return client_certificate("any")


def test_claims_are_signed_into_the_assertion_of_a_certificate(entra, certificate):
    entra.add_certificate(certificate.certificate_pem)
    claims = {"client_ip": "203.0.113.7", "roles": ["a"]}
    with entra.registry(credential=Certificate(certificate.pem), client_claims=claims) as tokens:
        claims["client_ip"] = "changed since"
        fetch(tokens)

    said = jwt.decode(last_form(entra)["client_assertion"], options={"verify_signature": False})
    assert (said["client_ip"], said["roles"]) == ("203.0.113.7", ["a"])
    assert said["iss"] == said["sub"] == entra.client_id


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ('{"client_ip": "203.0.113.7"}', "a dict of claims"),
        ({"exp": 1}, "'exp', which is another"),
        ({"jti": "always"}, "'jti', which is another"),
        ({"a": object()}, "client_claims= is no JSON"),
        ({"a": "x" * 8_200}, "client_claims= is no JSON"),
    ],
)
def test_what_cannot_be_signed_is_refused(entra, certificate, claims, says):
    with pytest.raises(ConfigurationError, match=says):
        entra.registry(credential=Certificate(certificate.pem), client_claims=claims)


@pytest.mark.parametrize("credential", ["a secret", ClientAssertion(lambda: "a.b.c")], ids=str)
def test_only_a_certificates_key_signs_them(entra, credential):
    with pytest.raises(ConfigurationError, match="signed with a certificate's key"):
        entra.registry(credential=credential, client_claims={"client_ip": "203.0.113.7"})


# What the app is called


def test_telemetry_is_told_what_the_app_is_called(entra):
    with entra.registry(app_name="orders", app_version=" 4.2 (blue) ") as tokens:
        fetch(tokens)

    headers = {name.lower(): value for name, value in entra.requests[-1].headers.items()}
    assert (headers["x-app-name"], headers["x-app-ver"]) == ("orders", "4.2 (blue)")


@pytest.mark.parametrize("name", ["app_name", "app_version"])
@pytest.mark.parametrize("value", ["", " ", "a\r\nX-Admin: true", "café", "x" * 65, 7, b"orders"])
def test_what_fits_no_header_is_refused(entra, name, value):
    with pytest.raises(ConfigurationError, match=f"{name}= goes into a header"):
        entra.registry(**{name: value})


# Scopes that are not asked for


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        (None, {"openid", "profile", "offline_access"}),
        (["offline_access"], {"openid", "profile"}),
        (("profile", "offline_access"), {"openid"}),
    ],
)
def test_what_is_left_out_is_not_asked_for(entra, excluded, left):
    with entra.registry(exclude_scopes=excluded) as tokens:
        tokens.on_behalf_of(entra.sign_in(ANN), READ).get_access_token()

    assert set(last_form(entra)["scope"].split()) == left | {READ}


def test_without_a_refresh_token_no_session_begins(entra):
    with entra.registry(exclude_scopes=["offline_access"]) as tokens:
        work = tokens.on_behalf_of(entra.sign_in(ANN), READ, session="job")
        with pytest.raises(ConfigurationError, match="offline_access"):
            work.get_access_token()
        with pytest.raises(InteractionRequiredError):
            tokens.session("job").manager(READ).get_access_token()


@pytest.mark.parametrize("scopes", ["offline_access", ["openid"], [7], ["User.Read"], 7, [[]]])
def test_what_cannot_be_left_out_is_refused(entra, scopes):
    with pytest.raises(ConfigurationError, match="exclude_scopes= is a list"):
        entra.registry(exclude_scopes=scopes)


# All of them


def test_a_registry_of_the_environment_and_one_of_another_tenant_have_them_too(entra, monkeypatch):
    for name, value in entra.environment().items():
        monkeypatch.setenv(name, value)
    settings = {"extra": {"tier": "gold"}, "app_name": "orders", "forwarded_client_claims": IP}
    with TokenRegistry.from_env(**settings) as tokens:
        for each in (tokens, tokens.tenant("fabrikam.com")):
            fetch(each, VAULT)
            assert last_form(entra)["tier"] == "gold"
            assert sent_claims(entra) == IP
            assert entra.requests[-1].headers["x-app-name"] == "orders"


def test_what_is_added_is_shown_by_no_traceback_log_or_event(entra, caplog):
    hidden, events = "7b1b7b1b-in-the-body", []
    entra.fail_next(1, status=400, error="invalid_request")
    with (
        caplog.at_level(logging.DEBUG),
        entra.registry(
            policy=EXACT,
            extra={"tier": hidden},
            forwarded_client_claims={"access_token": {"ip": {"value": hidden}}},
            on_event=events.append,
        ) as tokens,
        pytest.raises(Exception) as caught,  # noqa: PT011 - whatever it is
    ):
        fetch(tokens)

    assert told_of(caught.value, [hidden]) == []
    assert hidden not in caplog.text + repr(events) + repr(tokens.status())
