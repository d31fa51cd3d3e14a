"""A real browser signs users in: Debian's chromium (apt-get install chromium chromium-driver).

Where it is missing these tests are skipped, and say so; with ``CI`` set they fail.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

import msal
import pytest
from emulator_clients import ORDERS, trusting
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tokenmgr import ConsentRequiredError
from tokenmgr.emulator import EntraEmulator

ANN, MIA = "ann@contoso.com", "mia@contoso.com"
_MISSING = "chromium and chromedriver are missing: apt-get install chromium chromium-driver"


class Callback(HTTPServer):
    """The app's redirect URI: keeps what each browser brings."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _CallbackHandler)
        self.uri = f"http://localhost:{self.server_port}/signed-in"
        self.brought: list[tuple[str, dict[str, str]]] = []


class _CallbackHandler(BaseHTTPRequestHandler):
    server: Callback

    def do_GET(self) -> None:
        self._keep(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._keep(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _keep(self, text: str) -> None:
        if self.path.startswith("/signed-in"):
            self.server.brought.append((self.command, dict(parse_qsl(text))))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>the app</title>")

    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def entra() -> Iterator[EntraEmulator]:
    with EntraEmulator() as running:
        yield running


@pytest.fixture(scope="module")
def callback() -> Iterator[Callback]:
    with Callback() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        if os.environ.get("CI"):
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    options = ChromeOptions()
    options.binary_location = browser
    options.accept_insecure_certs = True  # the emulator's own authority is in no browser
    for argument in (
        "--headless=new",
        "--no-sandbox",  # which root, as whom containers run, does not have
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-proxy-server",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    running = Chrome(options=options, service=ChromeService(driver))
    yield running
    running.quit()


@pytest.fixture
def client(entra, callback, chrome) -> Iterator[msal.ConfidentialClientApplication]:
    """An app at the emulator, of whose users nobody is signed in yet."""
    chrome.get(entra.url)
    chrome.delete_all_cookies()
    callback.brought.clear()
    entra.add_user(ANN)
    entra.add_redirect_uri(callback.uri)
    with trusting(entra) as http:
        yield msal.ConfidentialClientApplication(
            entra.client_id,
            client_credential=entra.client_secret,
            authority=entra.authority(),
            instance_discovery=False,
            http_client=http,
        )


def title(chrome, text):
    WebDriverWait(chrome, 10, poll_frequency=0.02).until(lambda driver: driver.title == text)


def fill_in(chrome, **fields):
    for name, text in fields.items():
        field = chrome.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)


def press(chrome, value):
    chrome.find_element(By.CSS_SELECTOR, f"button[value='{value}']").click()


def begin(client, callback, response_mode="form_post"):
    return client.initiate_auth_code_flow(
        [ORDERS], redirect_uri=callback.uri, response_mode=response_mode
    )


def test_a_browser_goes_through_all_the_pages(entra, callback, chrome, client):
    entra.add_user(MIA)
    entra.require_mfa(MIA)
    entra.withdraw_consent(MIA)
    flow = begin(client, callback)
    chrome.get(flow["auth_uri"])

    fill_in(chrome, username=MIA, password="wrong")
    press(chrome, "next")
    WebDriverWait(chrome, 10).until(lambda driver: "AADSTS50126" in driver.page_source)
    fill_in(chrome, username=MIA, password=entra.password(MIA))
    press(chrome, "next")
    title(chrome, "Verify your identity")
    fill_in(chrome, mfa_code=entra.mfa_code(MIA))
    press(chrome, "next")
    title(chrome, "Permissions requested")
    assert ORDERS in chrome.page_source
    press(chrome, "accept")
    title(chrome, "the app")

    ((method, answer),) = callback.brought
    assert method == "POST"
    result = client.acquire_token_by_auth_code_flow(flow, answer)
    assert result["id_token_claims"]["preferred_username"] == MIA

    # The browser is remembered, by a cookie.
    flow = begin(client, callback)
    chrome.get(flow["auth_uri"])
    title(chrome, "the app")
    assert "access_token" in client.acquire_token_by_auth_code_flow(flow, callback.brought[1][1])


def test_a_browser_cancels(entra, callback, chrome, client):
    with pytest.warns(UserWarning, match="form_post"):
        flow = begin(client, callback, response_mode="query")
    chrome.get(flow["auth_uri"])

    press(chrome, "cancel")
    title(chrome, "the app")

    ((method, answer),) = callback.brought
    assert method == "GET"
    result = client.acquire_token_by_auth_code_flow(flow, answer)
    assert result["error"] == "access_denied"


def test_a_browser_lets_a_device_go_on(entra, chrome, client):
    native = entra.add_client(public=True)
    with trusting(entra) as http:
        device_app = msal.PublicClientApplication(
            native, authority=entra.authority(), instance_discovery=False, http_client=http
        )
        flow = device_app.initiate_device_flow([ORDERS])
        chrome.get(flow["verification_uri"])
        fill_in(chrome, user_code=flow["user_code"])
        press(chrome, "next")
        title(chrome, "Sign in")
        fill_in(chrome, username=ANN, password=entra.password(ANN))
        press(chrome, "next")
        title(chrome, "Continue on your device")
        press(chrome, "continue")
        title(chrome, "You have signed in")

        result = device_app.acquire_token_by_device_flow(flow)

    assert result["id_token_claims"]["preferred_username"] == ANN


def test_a_browser_runs_nothing_that_a_request_brings(callback, chrome, client, entra):
    url = begin(client, callback)["auth_uri"]
    chrome.get(f"{url}&login_hint=%22%3E%3Cscript%3Edocument.title%3D1%3C%2Fscript%3E")

    title(chrome, "Sign in")
    field = chrome.find_element(By.NAME, "username")
    assert field.get_attribute("value").startswith('"><script>')


@pytest.mark.parametrize("says", ["yes", "no"])
def test_a_registry_signs_a_user_in_with_it(entra, chrome, client, says):
    native = entra.add_client(public=True, redirect_uris=["http://localhost"])

    def open_browser(auth_uri):
        chrome.get(auth_uri)
        if says == "no":
            press(chrome, "cancel")
        else:
            fill_in(chrome, username=ANN, password=entra.password(ANN))
            press(chrome, "next")
        # The answer comes by a form, from a page of https to one of http on this machine.
        title(chrome, "Sign-in")

    with entra.registry(client_id=native, credential=None) as tokens:
        if says == "no":
            with pytest.raises(ConsentRequiredError):
                tokens.sign_in(ORDERS, open_browser=open_browser)
            assert tokens.users() == []
        else:
            ann = tokens.sign_in(ORDERS, open_browser=open_browser)
            assert ann.username == ANN
            assert ann.manager(ORDERS).get_access_token()
    assert "Close this window" in chrome.page_source
    assert chrome.current_url.startswith("http://localhost:")
