"""The pages on which users sign in, and what the app hears of it."""

from __future__ import annotations

import json

import pytest
from emulator_clients import CALLBACK, ORDERS

ANN, BOB = "ann@contoso.com", "bob@contoso.com"


def test_a_user_signs_in_and_the_app_gets_a_code(emulator, browser, address):
    page = browser.open(address())
    assert (page.status, page.title) == (200, "Sign in")

    landed = browser.sign_in(emulator, ANN)

    assert landed.uri == CALLBACK
    assert landed.query["state"] == "the state"
    assert set(landed.query) == {"code", "state", "session_state"}
    assert not landed.fragment


def test_what_goes_wrong_with_a_password_is_told_on_the_page(emulator, browser, address):
    browser.open(address())

    page = browser.press(username=ANN, password="wrong")
    assert (page.title, "AADSTS50126" in page.alert) == ("Sign in", True)
    assert (page.fields["username"], page.fields["password"]) == (ANN, "")
    page = browser.press(username="nobody@contoso.com", password="wrong")
    assert "AADSTS50034" in page.alert
    emulator.disable_user(ANN)
    assert "AADSTS50057" in browser.sign_in(emulator, ANN).alert
    emulator.enable_user(ANN)

    assert "code" in browser.sign_in(emulator, ANN).query


def test_who_is_of_another_tenant_stays_on_the_page(emulator, browser, address):
    emulator.add_user("zoe@fabrikam.com", tenant="fabrikam.com")
    browser.open(address())

    assert "AADSTS50020" in browser.sign_in(emulator, "zoe@fabrikam.com").alert

    emulator.add_user("zoe@fabrikam.com")
    assert "code" in browser.sign_in(emulator, "zoe@fabrikam.com").query


def test_a_password_may_be_given_and_changed(emulator, browser, address):
    emulator.add_user(BOB, password="first")
    browser.open(address())
    emulator.change_password(BOB, "second")

    assert "AADSTS50126" in browser.press(username=BOB, password="first").alert
    assert "code" in browser.press(username=BOB, password="second").query


def test_the_second_step_asks_for_the_authenticators_code(emulator, browser, address):
    emulator.require_mfa(ANN)
    browser.open(address())

    assert browser.sign_in(emulator, ANN).title == "Verify your identity"
    assert "AADSTS50074" in browser.press(mfa_code="nothing").alert
    assert "code" in browser.press(mfa_code=emulator.mfa_code(ANN)).query


def test_an_app_that_was_challenged_asks_for_the_second_step(emulator, browser, address):
    wanted = {"access_token": {"acrs": {"essential": True, "value": "c1"}}}
    browser.open(address(claims=json.dumps(wanted)))

    assert browser.sign_in(emulator, ANN).title == "Verify your identity"


def test_consent_is_asked_for_once(emulator, browser, address):
    emulator.withdraw_consent(ANN)
    browser.open(address())

    page = browser.sign_in(emulator, ANN)
    assert page.title == "Permissions requested"
    assert ORDERS in page.text
    assert "code" in browser.press("accept").query

    assert "code" in browser.open(address()).query
    # What was not on that page is asked for on the next one.
    assert browser.open(address(scope="api://stock/count")).title == "Permissions requested"


def test_pressing_the_wrong_button_consents_to_nothing(emulator, browser, address):
    emulator.withdraw_consent(ANN)
    browser.open(address())
    page = browser.sign_in(emulator, ANN)
    page.buttons.append(("action", "next"))

    assert browser.press("next").title == "Permissions requested"


def test_consent_to_several_resources_at_once(emulator, browser, address, redeem):
    emulator.withdraw_consent(ANN)
    browser.open(address(scope=f"{ORDERS} api://stock/count offline_access"))
    page = browser.sign_in(emulator, ANN)
    assert ORDERS in page.text
    assert "api://stock/count" in page.text
    code = browser.press("accept").query["code"]

    assert redeem(code).json()["error_codes"] == [28000]
    assert redeem(code, scope="api://stock/count").status_code == 200


@pytest.mark.parametrize("step", ["Sign in", "Verify your identity", "Permissions requested"])
def test_whoever_cancels_denies_access(emulator, browser, address, step):
    emulator.withdraw_consent(ANN)
    emulator.require_mfa(ANN)
    page = browser.open(address())
    if step != "Sign in":
        page = browser.sign_in(emulator, ANN)
    if step == "Permissions requested":
        page = browser.press(mfa_code=emulator.mfa_code(ANN))
    assert page.title == step

    landed = browser.press("cancel")

    assert landed.query["error"] == "access_denied"
    assert landed.query["error_subcode"] == "cancel"
    assert landed.query["error_description"].startswith("AADSTS65004: ")
    assert landed.query["state"] == "the state"
    page = browser.press(step and "cancel")
    assert (page.status, page.title) == (400, "Sign-in is over")


def test_who_is_signed_in_need_not_sign_in_again(emulator, browser, address):
    browser.open(address())
    first = browser.sign_in(emulator, ANN)

    second = browser.open(address())

    assert second.query["code"] != first.query["code"]
    assert second.query["session_state"] == first.query["session_state"]
    emulator.revoke(ANN)
    assert browser.open(address()).title == "Sign in"


def test_another_browser_has_nobody_signed_in(emulator, browser, address, http):
    browser.open(address())
    browser.sign_in(emulator, ANN)
    http.cookies.clear()

    assert browser.open(address()).title == "Sign in"


def test_prompts_for_who_is_signed_in(emulator, browser, address):
    browser.open(address())
    browser.sign_in(emulator, ANN)

    assert browser.open(address(prompt="login")).title == "Sign in"
    assert browser.open(address(prompt="consent")).title == "Permissions requested"
    assert browser.open(address(prompt="select_account")).title == "Pick an account"
    assert "code" in browser.press(ANN).query
    assert "code" in browser.open(address(prompt="none")).query


def test_one_of_several_is_picked(emulator, browser, address, redeem):
    emulator.add_user(BOB)
    for name in (ANN, BOB):
        browser.open(address(prompt="login"))
        browser.sign_in(emulator, name)

    page = browser.open(address())
    assert page.title == "Pick an account"
    assert [value for _, value in page.buttons] == [BOB, ANN, "", "cancel"]
    assert browser.press("").title == "Sign in"
    browser.open(address())
    assert emulator.requests[-1].kind == "authorize"
    code = browser.press(ANN).query["code"]
    redeem(code)
    assert emulator.requests[-1].username == ANN

    assert "code" in browser.open(address(login_hint=ANN.upper())).query
    silent = browser.open(address(prompt="none")).query
    assert (silent["error"], silent["error_description"][:12]) == (
        "interaction_required",
        "AADSTS16000:",
    )


def test_hints_fill_in_the_page(browser, address):
    page = browser.open(address(login_hint=ANN, domain_hint="fabrikam.com"))

    assert page.fields["username"] == ANN
    assert page.hints["username"] == "someone@fabrikam.com"


@pytest.mark.parametrize(
    ("prepare", "number", "error"),
    [
        (lambda emulator: emulator.revoke(ANN), 50058, "login_required"),
        (lambda emulator: emulator.disable_user(ANN), 50058, "login_required"),
        (lambda emulator: emulator.remove_user(ANN), 50058, "login_required"),
        (lambda emulator: emulator.require_mfa(ANN), 50076, "interaction_required"),
        (lambda emulator: emulator.withdraw_consent(ANN), 65001, "interaction_required"),
    ],
)
def test_without_a_page_the_app_is_told_why_one_is_needed(
    emulator, browser, address, prepare, number, error
):
    browser.open(address())
    browser.sign_in(emulator, ANN)
    prepare(emulator)

    landed = browser.open(address(prompt="none"))

    assert landed.query["error"] == error
    assert landed.query["error_description"].startswith(f"AADSTS{number}: ")
    assert ("claims" in landed.query) == (number == 50076)


def test_without_a_page_another_user_is_not_taken_for_the_one_who_is_meant(
    emulator, browser, address
):
    browser.open(address())
    browser.sign_in(emulator, ANN)

    landed = browser.open(address(prompt="none", login_hint=BOB))

    assert "match the requested login hint" in landed.query["error_description"]


def test_a_sign_in_that_is_too_old_is_asked_for_again(emulator, browser, address):
    browser.open(address())
    browser.sign_in(emulator, ANN)

    assert "code" in browser.open(address(max_age=1000)).query
    page = browser.open(address(max_age=0))
    assert (page.title, page.fields["username"]) == ("Sign in", ANN)
    assert "code" in browser.sign_in(emulator, ANN).query
    silent = browser.open(address(max_age=0, prompt="none"))
    assert silent.query["error"] == "login_required"


def test_the_answer_may_be_in_the_fragment(emulator, browser, address):
    browser.open(address(response_mode="fragment"))

    landed = browser.sign_in(emulator, ANN)

    assert not landed.query
    assert {"code", "state"} <= set(landed.fragment)


def test_the_answer_may_be_posted(emulator, browser, address):
    state = '"><script>alert(1)</script>&amp;'
    browser.open(address(response_mode="form_post", state=state))

    page = browser.sign_in(emulator, ANN)

    assert page.action == CALLBACK
    assert page.fields["state"] == state
    assert {"code", "session_state"} <= set(page.fields)


def test_what_a_request_brings_is_no_html(browser, address):
    page = browser.open(address(login_hint='"><b>x', domain_hint='"><b>y'))

    assert page.fields["username"] == '"><b>x'
    assert page.hints["username"] == 'someone@"><b>y'


def test_a_redirect_uri_without_a_path_gets_one_and_one_with_a_query_keeps_it(
    emulator, browser, address
):
    for uri in ("https://app.example", "https://app.example/back?a=1"):
        emulator.add_redirect_uri(uri)
        browser.open(address(prompt="login", redirect_uri=uri))
        landed = browser.sign_in(emulator, ANN)
        assert landed.uri in ("https://app.example/", "https://app.example/back")
        assert "code" in landed.query
    assert landed.query["a"] == "1"


def test_signing_out_ends_the_browsers_session(emulator, browser, address):
    browser.open(address())
    code = browser.sign_in(emulator, ANN).query["code"]
    end = f"{emulator.authority()}/oauth2/v2.0/logout"

    landed = browser.open(end, post_logout_redirect_uri=CALLBACK, state="bye")

    assert (landed.uri, landed.query) == (CALLBACK, {"state": "bye"})
    assert browser.open(address()).title == "Sign in"
    assert code not in repr(emulator.requests)


def test_signing_out_leads_to_no_strange_place(emulator, browser, app):
    end = f"{emulator.authority()}/oauth2/v2.0/logout"

    page = browser.open(end, post_logout_redirect_uri="https://evil.example/")

    assert page.title == "You signed out of your account"


def test_one_of_several_may_sign_out(emulator, browser, address):
    emulator.add_user(BOB)
    for name in (ANN, BOB):
        browser.open(address(prompt="login"))
        browser.sign_in(emulator, name)

    browser.open(f"{emulator.authority()}/oauth2/v2.0/logout", logout_hint=BOB)

    assert "code" in browser.open(address()).query


def test_the_log_hides_what_is_typed(emulator, browser, address):
    emulator.require_mfa(ANN)
    browser.open(address())
    browser.sign_in(emulator, ANN)
    browser.press(mfa_code=emulator.mfa_code(ANN))

    shown = repr(emulator.requests)
    assert emulator.password(ANN) not in shown
    assert emulator.mfa_code(ANN) not in shown
    assert [each.kind for each in emulator.requests] == ["authorize", "page", "page"]


def test_the_endpoint_may_fail_too(emulator, browser, address):
    emulator.fail_next(path="authorize", status=503)

    assert browser.open(address()).status == 503
    assert browser.open(address()).status == 200
