"""What the authorization endpoint refuses: on a page, or by telling the app."""

from __future__ import annotations

import pytest
from emulator_clients import CALLBACK, ORDERS

ANN = "ann@contoso.com"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWBuGJSstw-cM"


@pytest.mark.parametrize(
    ("parameters", "number"),
    [
        ({"client_id": None}, 900144),
        ({"client_id": "somebody"}, 700016),
        ({"redirect_uri": "https://evil.example/"}, 50011),
        ({"redirect_uri": f"{CALLBACK}/"}, 50011),
        ({"redirect_uri": CALLBACK.replace("signed", "Signed")}, 50011),
        ({"redirect_uri": CALLBACK.replace("http:", "https:")}, 50011),
        ({"redirect_uri": CALLBACK.replace("localhost", "localhost.evil.example")}, 50011),
        ({"redirect_uri": CALLBACK.replace("localhost", "evil@localhost")}, 50011),
        ({"redirect_uri": f"{CALLBACK}?more=1"}, 50011),
    ],
)
def test_nobody_is_sent_where_the_app_may_not_be(browser, address, parameters, number):
    page = browser.open(address(**parameters))

    assert page.status == 400
    assert f"AADSTS{number}: " in page.text
    assert not page.action


@pytest.mark.parametrize(
    ("parameters", "error", "number"),
    [
        ({"response_type": None}, "invalid_request", 900144),
        ({"response_type": "token"}, "unsupported_response_type", 700054),
        ({"response_type": "code id_token"}, "unsupported_response_type", 700054),
        ({"scope": None}, "invalid_request", 900144),
        ({"scope": f"{ORDERS} api://orders/.default"}, "invalid_scope", 70011),
        ({"scope": "api://gone/read"}, "invalid_resource", 500011),
        ({"prompt": "login consent"}, "invalid_request", 90023),
        ({"prompt": "admin_consent"}, "invalid_request", 90023),
        ({"max_age": "-1"}, "invalid_request", 90023),
        ({"response_mode": "smoke_signals"}, "invalid_request", 70007),
        ({"claims": "no JSON"}, "invalid_request", 9002313),
        ({"code_challenge": CHALLENGE, "code_challenge_method": "S512"}, "invalid_request", 50149),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request", 50147),
        ({"code_challenge_method": "S256"}, "invalid_request", 50147),
    ],
)
def test_the_app_is_told_what_it_did_wrong(emulator, browser, address, parameters, error, number):
    emulator.unknown_resources = {"api://gone"}

    landed = browser.open(address(**parameters))

    assert landed.uri == CALLBACK
    assert landed.query["error"] == error
    assert landed.query["error_description"].startswith(f"AADSTS{number}: ")
    assert landed.query["state"] == "the state"
    assert landed.query["error_uri"].endswith(f"code={number}")
    assert "code" not in landed.query


def test_a_parameter_that_is_there_twice_is_refused(browser, address):
    page = browser.open(address() + "&state=other")

    assert "AADSTS9000411: " in page.text


def test_a_refusal_travels_as_the_answer_would(browser, address):
    landed = browser.open(address(response_mode="fragment", prompt="wrong"))
    assert landed.fragment["error"] == "invalid_request"

    page = browser.open(address(response_mode="form_post", prompt="wrong"))
    assert (page.action, page.fields["error"]) == (CALLBACK, "invalid_request")


def test_an_app_without_a_redirect_uri_signs_nobody_in(emulator, browser, address):
    assert "AADSTS500113: " in browser.open(address(client_id=emulator.add_client())).text


def test_where_the_request_names_no_redirect_uri_the_first_one_is_meant(
    emulator, browser, address, redeem
):
    browser.open(address(redirect_uri=None))
    landed = browser.sign_in(emulator, ANN)
    assert landed.uri == CALLBACK

    assert redeem(landed.query["code"], redirect_uri=None).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_on_this_machine_any_port_will_do(emulator, browser, address, host):
    emulator.add_redirect_uri(f"http://{host}/back")

    page = browser.open(address(redirect_uri=f"http://{host}:43210/back"))

    assert page.title == "Sign in"


def test_elsewhere_the_port_counts(emulator, browser, address):
    emulator.add_redirect_uri("https://app.example/back")

    page = browser.open(address(redirect_uri="https://app.example:8443/back"))

    assert "AADSTS50011" in page.text


def test_there_has_to_be_such_a_tenant(emulator, browser, address):
    page = browser.open(address(authority=emulator.authority("nonexistent.com")))

    assert "AADSTS90002: " in page.text
    end = f"{emulator.authority('nonexistent.com')}/oauth2/v2.0/logout"
    assert "AADSTS90002: " in browser.open(end).text


def test_no_app_is_for_personal_accounts_alone(emulator, browser, address):
    page = browser.open(address(authority=emulator.authority("consumers")))

    assert "AADSTS9002332: " in page.text


def test_the_request_may_be_posted(emulator, browser, http, address):
    url, _, query = address().partition("?")

    answer = http.post(
        url, data=query, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )

    assert answer.status_code == 200
    assert "Password" in answer.text
    assert emulator.requests[-1].form["state"] == "the state"


def test_pages_are_kept_by_nobody_and_shown_in_no_frame(http, address):
    headers = http.get(address()).headers

    assert "no-store" in headers["Cache-Control"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "script-src" not in headers["Content-Security-Policy"]


def test_without_a_browser_a_user_does_the_same(emulator, address):
    assert set(emulator.authorize(address(), ANN)) == {"code", "state", "session_state"}
    assert emulator.authorize(address(), ANN, accept=False)["error"] == "access_denied"
    assert emulator.authorize(address(prompt="wrong"), ANN)["error"] == "invalid_request"
    assert "code" in emulator.authorize(address(prompt="none"), ANN)
    emulator.revoke(ANN)
    assert emulator.authorize(address(prompt="none"), ANN)["error"] == "login_required"


def test_without_a_browser_a_user_gets_stuck_where_the_page_would_keep_them(emulator, address):
    with pytest.raises(PermissionError, match="AADSTS50011"):
        emulator.authorize(address(redirect_uri="https://evil.example/"), ANN)
    emulator.require_mfa(ANN)
    with pytest.raises(PermissionError, match="authenticator"):
        emulator.authorize(address(), ANN)
    assert "code" in emulator.authorize(address(), ANN, mfa=True)
    emulator.disable_user(ANN)
    with pytest.raises(PermissionError, match="AADSTS50057"):
        emulator.authorize(address(), ANN)
    with pytest.raises(KeyError):
        emulator.authorize(address(), "nobody@contoso.com")
    with pytest.raises(ValueError, match="not this emulator's"):
        emulator.authorize("https://login.microsoftonline.com/common/oauth2/v2.0/authorize", ANN)
    with pytest.raises(ValueError, match="nothing"):
        emulator.authorize(f"{emulator.url}/somewhere", ANN)


def test_without_a_browser_a_user_consents(emulator, address):
    emulator.withdraw_consent(ANN)
    assert emulator.authorize(address(prompt="none"), ANN)["error"] == "login_required"

    assert "code" in emulator.authorize(address(), ANN)
    assert "code" in emulator.authorize(address(prompt="none"), ANN)
