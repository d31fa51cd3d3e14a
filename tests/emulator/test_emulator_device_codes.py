"""Devices: they ask until their user has signed in somewhere else, and not too often."""

from __future__ import annotations

import pytest
from emulator_clients import ORDERS, claims_of, refused

ANN = "ann@contoso.com"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
def begin(emulator, http, native):
    """Asks for a code; a field that is None is left out."""

    def ask(authority=None, **fields):
        form = {"client_id": native, "scope": f"{ORDERS} openid profile offline_access"} | fields
        url = f"{authority or emulator.authority()}/oauth2/v2.0/devicecode"
        return http.post(url, data=form)

    return ask


@pytest.fixture
def poll(ask, native):
    """Asks for a token."""

    def ask_with(device_code, **fields):
        fields = {"grant_type": GRANT, "client_id": native, "client_secret": None} | fields
        return ask(device_code=device_code, scope=None, **fields)

    return ask_with


def test_a_device_gets_a_code_and_what_to_tell_its_user(emulator, begin):
    answer = begin()

    body = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (body["expires_in"], body["interval"]) == (900, 5)
    assert body["verification_uri"].startswith(emulator.url)
    assert body["user_code"] in body["message"]
    assert body["verification_uri"] in body["message"]
    assert len(body["user_code"]) == 9
    assert "verification_uri_complete" not in body


def test_a_device_that_cannot_be_known_gets_none(begin, emulator):
    refused(begin(client_id=None), 900144, "invalid_request")
    refused(begin(client_id="somebody"), 700016, "unauthorized_client")
    refused(begin(scope=None), 900144, "invalid_request")
    refused(begin(authority=emulator.authority("nonexistent.com")), 90002, "invalid_tenant")
    assert begin(authority=emulator.b2c_authority()).status_code == 404


def test_its_user_signs_in_on_the_page(emulator, browser, begin, poll):
    device = begin().json()
    refused(poll(device["device_code"]), 70016, "authorization_pending")
    browser.open(device["verification_uri"])

    page = browser.press(user_code="WRONG")
    assert (page.title, "didn't work" in page.alert) == ("Enter code", True)
    page = browser.press(user_code=device["user_code"].lower())
    assert page.title == "Sign in"
    assert browser.sign_in(emulator, ANN).title == "Continue on your device"
    refused(poll(device["device_code"]), 70016, "slow_down")
    assert browser.press("continue").title == "You have signed in"

    answer = poll(device["device_code"]).json()
    assert claims_of(answer["access_token"])["aud"] == "api://orders"
    assert claims_of(answer["id_token"])["preferred_username"] == ANN
    assert "refresh_token" in answer


def test_its_user_is_asked_for_all_that_a_browsers_is(emulator, browser, begin, poll):
    emulator.require_mfa(ANN)
    emulator.withdraw_consent(ANN)
    device = begin().json()
    browser.open(device["verification_uri"])
    browser.press(user_code=device["user_code"])

    assert browser.sign_in(emulator, ANN).title == "Verify your identity"
    assert browser.press(mfa_code=emulator.mfa_code(ANN)).title == "Permissions requested"
    assert browser.press("accept").title == "Continue on your device"
    browser.press("continue")

    assert poll(device["device_code"]).status_code == 200


def test_its_user_may_decline(browser, begin, poll):
    device = begin().json()
    browser.open(device["verification_uri"])
    browser.press(user_code=device["user_code"])

    assert browser.press("cancel").title == "You declined"

    refused(poll(device["device_code"]), 70018, "authorization_declined")


def test_a_code_is_taken_once_by_its_user_and_once_by_its_device(emulator, begin, poll):
    device = begin().json()
    emulator.enter_device_code(device["user_code"], ANN)

    with pytest.raises(LookupError):
        emulator.enter_device_code(device["user_code"], ANN)
    assert poll(device["device_code"]).status_code == 200
    refused(poll(device["device_code"]), 70000, "invalid_grant")


def test_without_a_browser_a_user_does_the_same(emulator, begin, poll):
    device = begin().json()
    with pytest.raises(KeyError):
        emulator.enter_device_code(device["user_code"], "nobody@contoso.com")
    emulator.require_mfa(ANN)
    with pytest.raises(PermissionError, match="authenticator"):
        emulator.enter_device_code(device["user_code"], ANN)
    emulator.enter_device_code(device["user_code"], ANN, mfa=True)
    assert poll(device["device_code"]).status_code == 200

    device = begin().json()
    emulator.enter_device_code(device["user_code"], ANN, accept=False)
    refused(poll(device["device_code"]), 70018, "authorization_declined")


def test_a_code_ends(emulator, begin, poll):
    device = begin().json()
    emulator.expire_codes()

    refused(poll(device["device_code"]), 70020, "expired_token")
    with pytest.raises(LookupError):
        emulator.enter_device_code(device["user_code"], ANN)
    emulator.device_code_lifetime = 0
    refused(poll(begin().json()["device_code"]), 70020, "expired_token")
    assert emulator.device_code_lifetime == 0


def test_whoever_asks_too_often_is_told_so_and_gets_the_token_all_the_same(emulator, begin, poll):
    device = begin().json()
    polls = [poll(device["device_code"]).json()["error"] for _ in range(3)]
    assert polls == ["authorization_pending", "slow_down", "slow_down"]
    emulator.enter_device_code(device["user_code"], ANN)
    assert poll(device["device_code"]).status_code == 200


def test_the_interval_may_be_another(emulator, begin, poll):
    emulator.device_code_interval = 0
    device = begin().json()

    assert (device["interval"], emulator.device_code_interval) == (0, 0)
    for _ in range(2):
        refused(poll(device["device_code"]), 70016, "authorization_pending")


def test_an_unknown_code_is_refused_as_by_the_service_and_not_as_by_its_documentation(poll):
    refused(poll("garbage"), 7000014, "invalid_grant")
    refused(poll(None), 900144, "invalid_request")


def test_a_code_is_for_its_app_alone(emulator, begin, poll):
    other = emulator.add_client(public=True)

    refused(poll(begin().json()["device_code"], client_id=other), 700007, "invalid_grant")


def test_who_asks_has_to_be_a_public_client_or_show_its_secret(emulator, begin, poll, native):
    web = emulator.client_id
    device = begin(client_id=web).json()
    emulator.enter_device_code(device["user_code"], ANN)
    asked = {"client_id": web}

    refused(poll(device["device_code"], **asked), 7000218, "invalid_client", 401)
    secret = emulator.client_secret
    assert poll(device["device_code"], client_secret=secret, **asked).status_code == 200
    refused(poll("x", client_id=native, client_secret="x"), 700025, "invalid_client", 401)


def test_a_challenge_of_the_device_counts(emulator, begin):
    device = begin(claims='{"access_token": {"acrs": {"value": "c1"}}}').json()

    with pytest.raises(PermissionError, match="authenticator"):
        emulator.enter_device_code(device["user_code"], ANN)


def test_the_log_and_failures_know_them(emulator, begin, poll):
    device = begin().json()
    emulator.enter_device_code(device["user_code"], ANN)
    emulator.fail_next(path="devicecode", status=503)
    assert begin().status_code == 503
    emulator.fail_next(username=ANN)
    assert poll(device["device_code"]).status_code == 500

    assert [each.kind for each in emulator.requests] == ["devicecode", "devicecode", "token"]
    assert emulator.count(username=ANN) == 1
    assert device["device_code"] not in repr(emulator.requests)
