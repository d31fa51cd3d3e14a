"""The on-behalf-of grant, from a user's call to their token, and whatever Entra refuses."""

from __future__ import annotations

import json
import logging
import time

import jwt
import pytest
from emulator_clients import claims_of
from reporting import told_at_every_line, told_of
from waiting import until

from tokenmgr import (
    Authority,
    ClientAssertion,
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.events import BreakerOpened, Event

ANN, BOB, KIM = (f"{name}@contoso.com" for name in ("ann", "bob", "kim"))
READ = "https://graph.microsoft.com/User.Read"
ORDERS = "api://orders/read"


def at(entra, authority, **settings):
    """A registry of the emulator's app at another of its authorities."""
    return TokenRegistry(
        client_id=entra.client_id,
        credential=entra.client_secret,
        authority=authority,
        verify=entra.ca_file,
        **settings,
    )


def test_a_user_gets_a_token_of_their_own(entra):
    with entra.registry() as tokens:
        got = {
            name: claims_of(tokens.on_behalf_of(entra.sign_in(name), READ).get_access_token())
            for name in (ANN, BOB)
        }
    for name, claims in got.items():
        assert (claims["upn"], claims["oid"]) == (name, entra.add_user(name))
        assert "User.Read" in claims["scp"].split()
        assert claims["aud"] == "https://graph.microsoft.com"


def test_ten_calls_are_one_request_whichever_way_the_assertion_is_sent(entra):
    ann = entra.sign_in(ANN)
    with entra.registry() as tokens:
        got = [
            tokens.on_behalf_of(f"Bearer {ann}" if number % 2 else ann, READ).get_access_token()
            for number in range(10)
        ]
    assert len(set(got)) == 1
    assert entra.count(username=ANN) == entra.count() == 1


def test_a_changed_assertion_is_another_request_and_is_refused(entra):
    ann = entra.sign_in(ANN)
    header, payload, signature = ann.split(".")
    forged = jwt.utils.base64url_encode(json.dumps(claims_of(ann) | {"oid": "x"}).encode()).decode()
    with entra.registry() as tokens:
        tokens.on_behalf_of(ann, READ).get_access_token()
        for changed in (
            f"{header}.{forged}.{signature}",
            f"{header}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        ):
            with pytest.raises(InteractionRequiredError, match="AADSTS50013") as caught:
                tokens.on_behalf_of(changed, READ).get_access_token()
            assert caught.value.error_codes == (50013,)
        tokens.on_behalf_of(ann, READ).get_access_token()
    assert entra.count() == 3


def test_the_token_ends_with_the_assertion(entra):
    entra.token_lifetime = 86_400
    with entra.registry() as tokens:
        token = tokens.on_behalf_of(entra.sign_in(ANN, lifetime=600), READ).get_token()
    assert token.expires_at == pytest.approx(time.time() + 600, abs=5)


def test_what_has_expired_costs_no_request(entra):
    with entra.registry() as tokens, pytest.raises(InteractionRequiredError, match="answer the"):
        tokens.on_behalf_of(entra.sign_in(ANN, lifetime=-1), READ)
    assert entra.count() == 0


# What Entra refuses, told apart.


def refused(entra, assertion, scope=READ, **settings):
    with entra.registry(**settings) as tokens, pytest.raises(TokenManagerError) as caught:
        tokens.on_behalf_of(assertion, scope).get_access_token()
    assert ANN not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("shape", ["interaction_required", "invalid_grant"])
def test_more_than_a_password_is_asked_for_with_claims_to_pass_on(entra, shape):
    ann = entra.sign_in(ANN)
    entra.require_mfa(ANN, error=shape)

    error = refused(entra, ann)

    assert type(error) is InteractionRequiredError
    assert (error.error, error.error_codes) == (shape, (50076,))
    assert not error.retryable
    stronger = entra.sign_in(ANN, claims=error.claims)
    with entra.registry() as tokens:
        assert tokens.on_behalf_of(stronger, READ).get_access_token()


def test_consent_that_is_missing_is_told_of_its_scope_alone(entra):
    ann = entra.sign_in(ANN)
    entra.withdraw_consent(ANN, ORDERS)

    error = refused(entra, ann, ORDERS)

    assert type(error) is ConsentRequiredError
    assert (error.error_codes, error.claims) == ((65001,), None)
    with entra.registry() as tokens:
        assert tokens.on_behalf_of(ann, READ).get_access_token()


def test_a_user_who_is_revoked_disabled_or_gone_is_told(entra):
    codes = {}
    for control in ("revoke", "disable_user", "remove_user"):
        ann = entra.sign_in(ANN)
        getattr(entra, control)(ANN)
        error = refused(entra, ann)
        assert type(error) is InteractionRequiredError
        assert error.claims is None
        codes[control] = error.error_codes
        assert ("sign in again" if control == "revoke" else "administrator") in str(error)
        if control == "disable_user":
            entra.enable_user(ANN)
    assert codes == {"revoke": (50173,), "disable_user": (50057,), "remove_user": (50034,)}


def test_a_token_for_another_app_is_told(entra):
    error = refused(entra, entra.sign_in(ANN, client_id=entra.add_client()))

    assert type(error) is InteractionRequiredError
    assert error.error_codes == (500131,)
    assert "audience is this app" in str(error)


def test_tokens_of_the_wrong_kind_are_told(entra):
    with entra.registry() as tokens:
        own = tokens.get_access_token(f"api://{entra.client_id}/.default")
    error = refused(entra, own)
    assert (type(error), error.error_codes) == (InteractionRequiredError, (7000114,))


@pytest.mark.parametrize("session", [None, "job"])
def test_what_the_service_cannot_read_is_the_callers_trouble(entra, session):
    header, payload, signature = entra.sign_in(ANN).split(".")
    with entra.registry() as tokens:
        manager = tokens.on_behalf_of(f"{header}=.{payload}.{signature}", READ, session=session)
        with pytest.raises(InteractionRequiredError, match="answer the caller with 401") as caught:
            manager.get_access_token()
    assert (caught.value.error_codes, caught.value.error) == ((50027,), "invalid_request")


def test_an_app_whose_own_assertion_is_no_jwt_is_not_taken_for_its_caller(entra):
    with (
        entra.registry(credential=ClientAssertion(lambda: "no JWT")) as tokens,
        pytest.raises(InvalidCredentialError) as caught,
    ):
        tokens.on_behalf_of(entra.sign_in(ANN), READ).get_access_token()
    assert caught.value.error_codes == (50027,)


def test_throttling_and_outages_are_told_and_are_one_users(entra):
    ann, bob = entra.sign_in(ANN), entra.sign_in(BOB)
    with entra.registry() as tokens:
        entra.fail_next(9, status=429, retry_after=3600, username=ANN)
        with pytest.raises(ThrottledError) as throttled:
            tokens.on_behalf_of(ann, READ).get_access_token()
        assert throttled.value.retry_after == pytest.approx(3600, rel=0.2)
        assert tokens.on_behalf_of(bob, READ).get_access_token()
        count = entra.count()
        for _ in range(5):  # and nobody asks for her meanwhile
            with pytest.raises(ThrottledError):
                tokens.on_behalf_of(ann, READ).get_access_token()
        assert entra.count() == count
        assert tokens.on_behalf_of(ann, ORDERS).key != tokens.on_behalf_of(ann, READ).key


def test_out_of_reach_is_told(entra):
    ann = entra.sign_in(ANN)
    entra.fail_next(99, disconnect=True, username=ANN)
    error = refused(entra, ann)
    assert (type(error), error.retryable, error.status) == (ServiceUnavailableError, True, None)


def test_the_apps_own_trouble_is_told(entra):
    ann = entra.sign_in(ANN)
    entra.unknown_resources = {"api://orders"}
    assert type(refused(entra, ann, ORDERS)) is InvalidScopeError
    assert type(refused(entra, ann, f"{READ} {ORDERS}")) is InvalidScopeError
    secret = entra.client_secret
    entra.rotate_secret()
    with (
        TokenRegistry(
            client_id=entra.client_id,
            credential=secret,
            authority=entra.authority(),
            verify=entra.ca_file,
        ) as tokens,
        pytest.raises(InvalidCredentialError),
    ):
        tokens.on_behalf_of(ann, READ).get_access_token()


def test_users_answers_open_no_breaker_and_an_authority_out_of_reach_does(entra):
    events: list[Event] = []
    names = [f"user{number}@contoso.com" for number in range(6)]
    with entra.registry(on_event=events.append) as tokens:
        for name in names[:5]:
            entra.fail_next(9, status=503, username=name)
            with pytest.raises(ServiceUnavailableError):
                tokens.on_behalf_of(entra.sign_in(name), READ).get_access_token()
        assert tokens.on_behalf_of(entra.sign_in(names[5]), READ).get_access_token()
        assert not any(isinstance(event, BreakerOpened) for event in events)
        entra.recover()
        entra.fail_next(99, disconnect=True)
        for name in names[:4]:
            with pytest.raises(ServiceUnavailableError):
                tokens.on_behalf_of(entra.sign_in(name), READ).get_access_token()
        until(lambda: any(isinstance(event, BreakerOpened) for event in events))


# Tenants and other authorities.


@pytest.mark.parametrize("alias", ["common", "organizations"])
def test_an_app_of_many_tenants_exchanges_at_the_users_own(entra, alias):
    entra.add_user(ANN)
    guest = entra.sign_in(ANN, tenant="fabrikam.com")
    zoe = entra.sign_in("zoe@tailwind.com", tenant="tailwind.com")
    with at(entra, entra.authority(alias)) as tokens:
        for assertion in (guest, zoe, entra.sign_in(ANN)):
            claims = claims_of(tokens.on_behalf_of(assertion, READ).get_access_token())
            expected = claims_of(assertion)
            assert (claims["tid"], claims["oid"]) == (expected["tid"], expected["oid"])


def test_a_tenant_that_a_caller_has_made_up_is_the_callers_trouble(entra, caplog):
    caplog.set_level(logging.WARNING, "tokenmgr")
    forged = jwt.encode(
        {"tid": "99999999-9999-9999-9999-999999999999", "exp": time.time() + 600}, "k" * 32
    )
    entra.fail_next(1, status=400, error="invalid_tenant", error_codes=[90002])
    with at(entra, entra.authority("common")) as tokens:
        with pytest.raises(InteractionRequiredError, match="tenant that the user's token names"):
            tokens.on_behalf_of(forged, READ).get_access_token()
        with pytest.raises(TokenManagerError):
            tokens.on_behalf_of(forged, ORDERS).get_access_token()
    assert caplog.records == []


def test_external_id_exchanges(entra):
    assertion = entra.sign_in("kim@tailwind.com", tenant="tailwind.onmicrosoft.com")
    with at(entra, entra.ciam_authority("tailwind")) as tokens:
        claims = claims_of(tokens.on_behalf_of(assertion, ORDERS).get_access_token())
    assert claims["tid"] == claims_of(assertion)["tid"]


@pytest.mark.parametrize("kind", ["adfs", "oidc"])
def test_other_providers_are_asked_and_say_whether_they_have_the_grant(entra, kind):
    authority = {
        "adfs": lambda: Authority.adfs(entra.adfs_authority()),
        "oidc": lambda: Authority.oidc(entra.oidc_authority()),
    }[kind]()
    with at(entra, authority) as tokens, pytest.raises(ConfigurationError) as caught:
        tokens.on_behalf_of(entra.sign_in(ANN), ORDERS).get_access_token()
    assert caught.value.error == "unsupported_grant_type"
    assert "does not offer the grant" in str(caught.value)
    assert entra.count() == 1


def test_another_provider_that_has_the_grant_is_sent_what_microsoft_documents(rough, registry):
    forms = []
    rough.on_post = lambda handler: (forms.append(handler.form), handler.token())
    assertion = jwt.encode({"exp": time.time() + 600}, "k" * 32)

    registry().on_behalf_of(assertion, "read").get_access_token()

    (form,) = forms
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert (form["assertion"], form["requested_token_use"]) == (assertion, "on_behalf_of")
    assert "read" in form["scope"].split()


# Nothing of a user is told.


def test_neither_assertion_nor_name_nor_token_is_in_any_log_event_or_error(entra, caplog):
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    ann = entra.sign_in(ANN)
    with entra.registry(on_event=events.append) as tokens:
        manager = tokens.on_behalf_of(ann, READ)
        token = manager.get_access_token()
        body = {"error": "invalid_grant", "error_description": f"AADSTS50020: '{ANN}' {ann}"}
        entra.fail_next(1, status=400, body=json.dumps(body))
        with pytest.raises(TokenManagerError) as caught:
            manager.refresh_access_token()
        until(lambda: len(events) >= 4)
        logs = [each.getMessage() for each in caplog.records if "authlib" not in each.name]
        said = f"{events} {logs} {caught.value!r} {manager.status()} {manager!r} {tokens!r}"
        said += repr(vars(tokens)) + repr(vars(tokens._own.users))
    assert "AADSTS50020" in said
    for secret in (ann, ann.split(".")[1], ann.split(".")[2], token, ANN, entra.client_secret):
        assert secret not in said
    assert told_of(caught.value, (ann.split(".")[1], ANN, token)) == []


@pytest.mark.traces
def test_no_frame_tells_of_an_assertion_wherever_a_fetch_breaks(entra):
    ann = entra.sign_in(ANN)

    def work():
        with entra.registry() as tokens:
            manager = tokens.on_behalf_of(ann, READ)
            manager._cell.source.fetch_token()

    secrets = (ann.split(".")[1], ann.split(".")[2])
    within = ("registry.py", "users.py", "entra/grants", "entra/client.py")
    assert told_at_every_line(work, secrets, within=within) == []
