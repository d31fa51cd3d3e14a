"""Users sign in with the browser of this machine, with a password, or with what they have."""

from __future__ import annotations

import json
import socket
import threading
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from reporting import told_of
from sign_ins import ANN, ORDERS
from support import FakeClock

from tokenmgr import (
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidScopeError,
    SessionNotFoundError,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)


def query_of(uri):
    return dict(parse_qsl(urlsplit(uri).query))


def post(uri, answer, **more):
    """What a browser does with the service's page. The test reaches no other name than this."""
    to = uri.replace("localhost", "127.0.0.1")
    return requests.post(to, data=answer, timeout=10, **more)


@pytest.fixture
def browser(entra):
    """A browser whose user signs in; it notes what it is shown."""

    def open_(auth_uri, **how):
        sent = query_of(auth_uri)
        open_.sent = sent
        open_.page = post(sent["redirect_uri"], entra.authorize(auth_uri, ANN, **how))

    return open_


def test_a_user_signs_in_with_the_browser_of_this_machine(entra, public, kept, browser):
    got = public().sign_in(
        ORDERS, "openid", prompt="login", login_hint=ANN, max_age=60, open_browser=browser
    )
    assert got.account.username == ANN
    assert kept.scopes == [(ORDERS,)]
    assert browser.sent.items() >= {"prompt": "login", "max_age": "60"}.items()
    assert browser.sent["redirect_uri"].startswith("http://localhost:")
    assert browser.sent["code_challenge"]
    assert browser.page.status_code == 200
    assert "Close this window" in browser.page.text
    assert browser.page.headers["Cache-Control"] == "no-store"
    assert browser.page.headers["Content-Security-Policy"] == "default-src 'none'"


def test_the_browser_of_the_system_is_opened(public, kept, browser, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda uri: browser(uri) or True)
    assert public().sign_in(ORDERS).account.username == ANN


def test_without_a_browser_it_says_what_to_do(public, kept, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda uri: False)
    with pytest.raises(ConfigurationError, match="begin_device_code"):
        public().sign_in(ORDERS)


def test_what_opening_raises_is_the_programs(public, kept):
    def broken(uri):
        raise OSError("no display")

    with pytest.raises(OSError, match="no display"):
        public().sign_in(ORDERS, open_browser=broken)


def test_an_answer_may_come_in_the_address_too(entra, public, kept):
    def open_(auth_uri):
        answer = urlencode(entra.authorize(auth_uri, ANN))
        to = query_of(auth_uri)["redirect_uri"].replace("localhost", "127.0.0.1")
        assert requests.get(f"{to}/?{answer}", timeout=10).status_code == 200

    assert public().sign_in(ORDERS, open_browser=open_).account.username == ANN


def test_what_else_comes_is_refused_and_the_answer_is_waited_for(entra, public, kept):
    def open_(auth_uri):
        to = query_of(auth_uri)["redirect_uri"]
        answer = dict(entra.authorize(auth_uri, ANN))
        for odd in (
            {"code": "made-up", "state": "another"},
            {"error": "access_denied"},
            {"code": ["one", "two"], "state": answer["state"]},
            {"x" * 9: "y" * 100_000},
            {f"x{number}": "y" for number in range(99)},
        ):
            assert post(to, odd).status_code == 400
        assert post(f"{to}/other", answer).status_code == 400
        assert post(to, None, headers={"Content-Length": "many"}).status_code == 400
        assert requests.get(to.replace("localhost", "127.0.0.1"), timeout=10).status_code == 400
        page = post(to, answer)
        assert page.status_code == 200
        assert answer["code"] not in page.text

    assert public().sign_in(ORDERS, open_browser=open_).account.username == ANN


def test_a_browser_that_connects_ahead_keeps_nobody_waiting(entra, public, kept, browser):
    idle = []

    def open_(auth_uri):
        port = urlsplit(query_of(auth_uri)["redirect_uri"]).port
        idle.append(socket.create_connection(("127.0.0.1", port)))
        browser(auth_uri)

    assert public().sign_in(ORDERS, open_browser=open_)
    idle[0].close()


def test_a_user_who_says_no_is_told_apart(entra, public, kept, browser):
    with pytest.raises(ConsentRequiredError, match="said no"):
        public().sign_in(ORDERS, open_browser=lambda uri: browser(uri, accept=False))
    assert kept.signed_in == []
    assert browser.page.status_code == 200


def test_nobody_is_waited_for_too_long(public, kept):
    clock = FakeClock()
    tokens = public(clock=clock)
    for timeout, seconds in ((5.0, 5.0), (None, 600.0), (9_999.0, 600.0)):
        with pytest.raises(TokenTimeoutError, match="time for it is over"):
            tokens.sign_in(
                ORDERS,
                timeout=timeout,
                open_browser=lambda uri: clock.advance(seconds),  # noqa: B023
            )


def test_a_registry_that_is_closed_waits_for_nobody(public, kept):
    tokens = public()
    with pytest.raises(ConfigurationError, match="closed"):
        tokens.sign_in(ORDERS, open_browser=lambda uri: tokens.close())
    with pytest.raises(ConfigurationError, match="closed"):
        tokens.sign_in(ORDERS)


def test_a_port_may_be_named(public, kept, browser):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match="port="):
            public().sign_in(ORDERS, port=port, open_browser=browser)
    assert public().sign_in(ORDERS, port=port, open_browser=browser)
    assert browser.sent["redirect_uri"] == f"http://localhost:{port}"
    for port in (-1, 1 << 16, "80", True, 1.5):
        with pytest.raises(ConfigurationError, match="port="):
            public().sign_in(ORDERS, port=port, open_browser=browser)


def test_nothing_listens_once_it_is_over(public, kept, browser):
    public().sign_in(ORDERS, open_browser=browser)
    port = urlsplit(browser.sent["redirect_uri"]).port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert not [t for t in threading.enumerate() if t.name == "tokenmgr-sign-in"]


def test_an_app_with_a_credential_has_no_browser_here(web):
    with pytest.raises(ConfigurationError, match="begin_auth_code"):
        web().sign_in(ORDERS)


# With a password


def with_password(tokens, username, password, *scopes, **more):
    with pytest.warns(UserWarning, match="multi-factor"):
        return tokens.sign_in_with_password(username, password, *(scopes or (ORDERS,)), **more)


@pytest.mark.parametrize("kind", ["public", "web"])
def test_a_user_signs_in_with_a_password(entra, request, kept, kind):
    tokens = request.getfixturevalue(kind)()
    got = with_password(tokens, ANN, entra.password(ANN), ORDERS, "profile")
    assert got.account.username == ANN
    assert kept.scopes == [(ORDERS,)]


def test_a_name_that_no_header_can_say_signs_in_too(entra, public, kept):
    name = "łucja@contoso.com"
    entra.add_user(name)
    assert with_password(public(), name, entra.password(name), ORDERS).account.username == name


def test_a_password_that_is_wrong_is_told_and_not_shown(entra, public, kept):
    with pytest.raises(InteractionRequiredError, match="type their name") as caught:
        with_password(public(), ANN, "hunter2-of-ann")
    assert caught.value.error_codes == (50126,)
    assert told_of(caught.value, ("hunter2-of-ann",)) == []


def test_more_than_a_password_is_told_with_its_claims(entra, public, kept):
    entra.require_mfa(ANN)
    with pytest.raises(InteractionRequiredError) as caught:
        with_password(public(), ANN, entra.password(ANN))
    assert caught.value.error_codes == (50076,)


def test_no_other_service_is_told_a_password(entra, public, kept):
    entra.add_user("fay@contoso.com", account="federated")
    with pytest.raises(TokenManagerError) as caught:
        with_password(public(), "fay@contoso.com", entra.password("fay@contoso.com"))
    assert told_of(caught.value, (entra.password("fay@contoso.com"),)) == []
    assert kept.signed_in == []


@pytest.mark.parametrize(
    ("username", "password"),
    [
        *[("", "p"), (ANN, ""), (None, "p"), (ANN, None), (ANN, 5), (ANN, "p" * 2_000)],
        *[(ANN, "\ud800"), (f"{ANN}\r\nX-Evil: 1", "p"), (f"{ANN}\x00", "p")],
    ],
    ids=lambda value: repr(value)[:9],
)
def test_what_is_no_password_is_not_sent(entra, public, kept, username, password):
    with pytest.raises(ConfigurationError):
        with_password(public(), username, password)
    assert entra.count() == 0


def test_a_service_that_repeats_a_password_is_not_repeated(rough, registry, kept):
    said = {"error": "invalid_grant", "error_description": "hunter2-of-ann is wrong"}
    rough.on_post = lambda handler: handler.answer(400, json.dumps(said))
    with pytest.raises(InteractionRequiredError) as caught:
        with_password(registry(credential=None), ANN, "hunter2-of-ann")
    assert "hunter2" not in str(caught.value)
    assert "is wrong" in str(caught.value)


# With a refresh token


def test_a_refresh_token_from_elsewhere_makes_a_session(entra, web, kept):
    tokens = web()
    flow = tokens.begin_auth_code(ORDERS, redirect_uri="http://localhost:5000/signed-in")
    first = tokens.complete_auth_code(flow, entra.authorize(flow.auth_uri, ANN))
    text = first.refresh_token.cell_contents

    got = tokens.redeem_refresh_token(text, ORDERS, "offline_access")

    assert got.account.home_account_id == first.account.home_account_id
    assert got.refresh_token.cell_contents != text
    with pytest.raises(InteractionRequiredError) as caught:
        tokens.redeem_refresh_token(text, ORDERS)
    assert told_of(caught.value, (text,)) == []


def test_a_refresh_token_that_is_not_replaced_stays(rough, registry, kept):
    rough.on_post = lambda handler: handler.token()
    got = registry(credential=None).redeem_refresh_token("from-elsewhere", ORDERS)
    assert got.refresh_token.cell_contents == "from-elsewhere"
    assert got.account.home_account_id


@pytest.mark.parametrize("text", ["", None, 5, "a b", "x" * 20_000], ids=lambda t: repr(t)[:9])
def test_what_is_no_refresh_token_is_not_sent(entra, web, kept, text):
    with pytest.raises(TokenRequestError, match="no refresh token"):
        web().redeem_refresh_token(text, ORDERS)
    assert entra.count() == 0


# What comes of it


def test_a_session_takes_the_reserved_scopes_and_asks_for_others_by_itself(entra, public):
    tokens = public()
    ann = with_password(tokens, ANN, entra.password(ANN), ORDERS, "openid")
    manager = ann.manager("offline_access", ORDERS)
    assert manager is ann.manager(ORDERS)
    assert manager.get_access_token()
    assert entra.count() == 1
    assert ann.manager("api://stock/count").get_access_token()
    assert entra.count() == 2
    with pytest.raises(InvalidScopeError, match="leave them out"):
        ann.manager("openid")
    assert tokens.user(ann.home_account_id).username == ANN


def test_nobody_is_kept_whose_sign_in_fails(entra, public):
    tokens = public()
    with pytest.raises(InteractionRequiredError):
        with_password(tokens, ANN, "wrong")
    assert tokens.users() == []
    with pytest.raises(SessionNotFoundError):
        tokens.user("nobody.known")
