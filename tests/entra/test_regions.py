"""Entra's regional hosts: which one an app asks, by whose word, and how it is found out."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from contextlib import suppress

import jwt
import msal
import pytest
from entra_calls import VAULT, fetch
from support import EXACT, SCOPE

from tokenmgr import Authority, Certificate, ConfigurationError, TokenRegistry
from tokenmgr.emulator import client_certificate
from tokenmgr.entra.wire import connection, regions

TENANT = "11111111-2222-3333-4444-555555555555"
PUBLIC = Authority.entra(TENANT)
ALIAS = PUBLIC.url.replace("microsoftonline", "microsoft")
US_GOVERNMENT = Authority.entra(TENANT, cloud="usgovernment")
WITHOUT_REGIONS = [
    Authority.b2c("contoso", "b2c_1_signin"),
    Authority.ciam("contoso"),
    Authority.adfs("https://fs.contoso.com"),
    Authority.oidc("https://issuer.example/main"),
    Authority.entra(TENANT, cloud="https://login.private.example"),
]
#: In so many a machine drips what it says; http.client takes a hundred headers.
PIECES = 60
NO_NAMES = ["West US", "westus3.evil.example", "west-us", "westus/", "ÿ", "a" * 64]


def make(authority=PUBLIC, **settings):
    return TokenRegistry(client_id="an-app", credential="a secret", authority=authority, **settings)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """The metadata service of a virtual machine, as each test finds it: it has not been asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append((self.path, self.headers["Metadata"]))
            body = json.dumps(server.said).encode()
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(body) + PIECES))
            self.drip("headers", b"X-Padding: x\r\n")
            self.end_headers()
            self.drip("body", b" ")
            self.wfile.write(body.ljust(len(body) + PIECES * (server.drips != "body")))

        def drip(self, what, piece):
            if server.drips == what:
                self.flush_headers()
                for _ in range(PIECES):
                    with suppress(OSError):  # who does not wait has hung up
                        self.wfile.write(piece)
                    stopping.wait(0.05)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.said, server.status = [], {"location": "westus3"}, 200
    server.drips, stopping = "", threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}/compute?api-version=1"
    monkeypatch.setattr(regions, "_METADATA", address)
    monkeypatch.setattr(regions, "_discovery", regions._Discovery())
    yield server
    stopping.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def asked(rough, registry, proxy):
    """Makes registries whose hosts are all the rough server, and tells which host was asked."""
    proxy.leads_to = rough.server_address

    def hosts_of(authority=PUBLIC, scopes=(SCOPE,), **settings):
        rough.received.clear()
        tokens = registry(authority=authority, proxies={"https": proxy.url}, **settings)
        for scope in scopes:
            assert fetch(tokens, scope) == "a-token"
        return [each.headers["Host"] for each in rough.received if each.method == "POST"]

    return hosts_of


# Which host is asked


@pytest.mark.parametrize(
    ("authority", "region", "host"),
    [
        (PUBLIC, "westus3", "westus3.login.microsoft.com"),
        (
            PUBLIC.url.replace("microsoftonline", "microsoft"),
            "westus3",
            "westus3.login.microsoft.com",
        ),
        (US_GOVERNMENT, "usgovarizona", "usgovarizona.login.microsoftonline.us"),
        (PUBLIC, False, "login.microsoftonline.com"),
        (PUBLIC, None, "login.microsoftonline.com"),
    ],
    ids=str,
)
def test_the_host_of_a_region_is_asked_for_the_apps_own_tokens(asked, authority, region, host):
    assert asked(authority, azure_region=region) == [host]


class Recorder:
    """What MSAL takes for its HTTP client: it notes what is sent, and gives a token."""

    def __init__(self):
        self.posted = None

    def get(self, url, **kwargs):
        tenant = url.partition("/v2.0/")[0]
        said = {
            "issuer": f"{PUBLIC.url}/v2.0",
            "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        }
        return Answer(said)

    def post(self, url, **kwargs):
        self.posted = url, kwargs["data"]
        return Answer({"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"})

    def close(self):
        pass


class Answer:
    status_code = 200
    headers = {}

    def __init__(self, said):
        self.text = json.dumps(said)

    def raise_for_status(self):
        pass


@pytest.mark.filterwarnings("ignore")
def test_it_is_the_request_that_msal_sends_by_itself(asked, rough, monkeypatch):
    monkeypatch.setenv("REGION_NAME", "westus3")
    recorder = Recorder()
    msal.ConfidentialClientApplication(
        "11111111-2222-3333-4444-555555555555",
        client_credential=rough.secret,
        authority=PUBLIC.url,
        azure_region="westus3",
        http_client=recorder,
        instance_discovery=False,
    ).acquire_token_for_client([SCOPE])
    forms = []

    def answer(handler):
        forms.append((f"https://{handler.headers['Host']}{handler.path}", handler.form))
        handler.token()

    rough.on_post = answer
    asked(azure_region="westus3")

    url, said = recorder.posted
    assert forms == [(url, {name: str(text) for name, text in said.items() if text is not None})]


def test_a_users_token_is_asked_for_at_the_host_of_all_regions(rough, registry, proxy, entra):
    proxy.leads_to = rough.server_address
    tokens = registry(authority=PUBLIC, proxies={"https": proxy.url}, azure_region="westus3")

    tokens.on_behalf_of(entra.sign_in("ann@contoso.com"), "User.Read").get_access_token()

    assert rough.received[-1].headers["Host"] == "login.microsoftonline.com"


def test_the_assertion_of_a_certificate_is_for_all_regions(rough, registry, proxy):
    forms = []
    rough.on_post = lambda handler: (forms.append(handler.form), handler.token())
    proxy.leads_to = rough.server_address
    tokens = registry(
        authority=PUBLIC,
        proxies={"https": proxy.url},
        azure_region="westus3",
        credential=Certificate(client_certificate("any").pem),
    )
    fetch(tokens)

    said = jwt.decode(forms[0]["client_assertion"], options={"verify_signature": False})
    assert said["aud"] == f"{PUBLIC.url}/oauth2/v2.0/token"


def test_its_tenants_have_the_same_region(rough, registry, proxy):
    proxy.leads_to = rough.server_address
    tokens = registry(authority=PUBLIC, proxies={"https": proxy.url}, azure_region="westus3")

    fetch(tokens.tenant("fabrikam.com"))

    assert rough.received[-1].headers["Host"] == "westus3.login.microsoft.com"
    assert rough.received[-1].path.startswith("/fabrikam.com/")


def test_the_connection_that_is_begun_before_msal_is_imported_goes_there_too(asked, monkeypatch):
    begun = []
    begin = connection.begun_connection

    def noting(url, **settings):
        begun.append(url)
        return begin(url, **settings)

    monkeypatch.setattr(connection, "is_first_fetch", lambda: True)
    monkeypatch.setattr(connection, "begun_connection", noting)
    asked(azure_region="westus3")

    assert begun == [f"https://westus3.login.microsoft.com/{TENANT}/oauth2/v2.0/token"]


# What the variables say


def test_msals_variable_is_a_region_where_the_program_names_none(asked, monkeypatch):
    monkeypatch.setenv("MSAL_FORCE_REGION", "westus3")

    assert asked() == ["westus3.login.microsoft.com"]
    assert asked(azure_region=False) == ["login.microsoftonline.com"]
    assert asked(US_GOVERNMENT, azure_region="usgovarizona") == [
        "usgovarizona.login.microsoftonline.us"
    ]


@pytest.mark.parametrize("value", ["", "  "])
def test_a_variable_that_is_empty_is_not_set(asked, monkeypatch, value):
    monkeypatch.setenv("MSAL_FORCE_REGION", value)

    assert asked() == ["login.microsoftonline.com"]


@pytest.mark.parametrize("value", NO_NAMES)
def test_what_is_no_regions_name_is_told_at_once_and_by_whose_word(monkeypatch, value):
    with pytest.raises(ConfigurationError, match=r"azure_region= is .* no region's name"):
        make(azure_region=value)
    monkeypatch.setenv("MSAL_FORCE_REGION", value)
    with pytest.raises(ConfigurationError, match=r"MSAL_FORCE_REGION is .* no region's name"):
        make()


@pytest.mark.parametrize("authority", WITHOUT_REGIONS, ids=lambda each: each.kind)
def test_other_authorities_have_no_regions_and_no_variable_gives_them_one(monkeypatch, authority):
    for value in ("westus3", "West US"):
        monkeypatch.setenv("MSAL_FORCE_REGION", value)
        monkeypatch.setenv("REGION_NAME", value)
        with make(authority) as tokens:
            assert tokens._own.client.particulars.region is None
    for region in ("westus3", True):
        with pytest.raises(ConfigurationError, match="clouds of Microsoft Entra"):
            make(authority, azure_region=region)


def test_a_generic_provider_is_asked_as_ever_whatever_the_variables_say(entra, monkeypatch):
    monkeypatch.setenv("MSAL_FORCE_REGION", "West US")
    for authority in (entra.b2c_authority(), entra.authority()):
        with entra.registry(policy=EXACT, authority=authority) as tokens:
            assert fetch(tokens)


def test_the_variable_of_app_service_alone_changes_and_warns_of_nothing(asked, monkeypatch, caplog):
    monkeypatch.setenv("REGION_NAME", "West US 3")
    with caplog.at_level(logging.WARNING):
        assert asked(scopes=(SCOPE, VAULT)) == ["login.microsoftonline.com"] * 2
        assert asked(azure_region="westus3") == ["westus3.login.microsoft.com"]

    assert caplog.records == []


def test_what_is_neither_a_name_nor_a_choice_is_refused():
    for value in (1, "", ["westus3"]):
        with pytest.raises(ConfigurationError, match="azure_region="):
            make(azure_region=value)


@pytest.mark.parametrize(
    ("value", "region"),
    [("westus3", "westus3"), ("TryAutoDetect", True), ("true", True), ("", None)],
)
def test_azure_identitys_variable_is_a_setting_of_from_env(monkeypatch, value, region):
    settings = {"CLIENT_ID": "an-app", "CLIENT_SECRET": "a secret", "TENANT_ID": TENANT}
    for name, text in (settings | {"REGIONAL_AUTHORITY_NAME": value}).items():
        monkeypatch.setenv(f"AZURE_{name}", text)
    with TokenRegistry.from_env() as tokens:
        assert tokens._own.client.particulars.region == region
    with TokenRegistry.from_env(azure_region="eastus") as tokens:
        assert tokens._own.client.particulars.region == "eastus"

    monkeypatch.setenv("AZURE_REGIONAL_AUTHORITY_NAME", "West US")
    with pytest.raises(ConfigurationError, match=r"^AZURE_REGIONAL_AUTHORITY_NAME is 'West US'"):
        TokenRegistry.from_env()
    monkeypatch.setenv("TOKENMGR_AUTHORITY", WITHOUT_REGIONS[0].url)
    monkeypatch.delenv("AZURE_TENANT_ID")
    with TokenRegistry.from_env() as tokens:
        assert tokens._own.client.particulars.region is None


# Finding it out


def test_the_region_of_app_service_is_read_as_people_write_it(asked, monkeypatch, machine):
    monkeypatch.setenv("REGION_NAME", "West US 3")

    assert asked(azure_region=True) == ["westus3.login.microsoft.com"]
    assert machine.asked == []


def test_the_machine_is_asked_once_in_a_process(asked, machine):
    for _ in range(2):
        hosts = asked(azure_region=True, scopes=(SCOPE, VAULT, SCOPE))
        assert hosts == ["westus3.login.microsoft.com"] * 3

    assert machine.asked == [("/compute?api-version=1", "true")]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        *((404, {"location": "westus3"}), (200, {"location": 7}), (200, []), (200, {})),
        *((200, {"location": "evil.example/"}), (200, {"location": "westus3", "x": "x" * 70_000})),
    ],
)
def test_where_it_is_not_known_all_regions_host_is_asked_and_that_is_told_once(
    asked, machine, caplog, status, said
):
    machine.status, machine.said = status, said
    with caplog.at_level(logging.WARNING):
        assert asked(azure_region=True, scopes=(SCOPE, VAULT)) == ["login.microsoftonline.com"] * 2

    assert len(machine.asked) == 1
    assert [each.message[:24] for each in caplog.records] == ["the region is not known:"]


def test_where_nobody_listens_it_is_not_known(asked, monkeypatch):
    monkeypatch.setattr(regions, "_METADATA", "http://127.0.0.1:1/compute?api-version=1")

    assert asked(azure_region=True) == ["login.microsoftonline.com"]


@pytest.mark.parametrize("what", ["headers", "body"])
def test_a_machine_that_drips_is_waited_for_no_longer_than_any(asked, monkeypatch, machine, what):
    monkeypatch.setattr(regions, "_PATIENCE", 0.2)
    machine.drips = what

    # By the end of what it says it has been fifteen times as long.
    assert asked(azure_region=True) == ["login.microsoftonline.com"]


def test_what_app_service_says_and_is_no_name_is_told_with_the_variable(monkeypatch):
    monkeypatch.setenv("REGION_NAME", "westus3.evil.example")

    with pytest.raises(ConfigurationError, match=r"REGION_NAME is .* no region's name"):
        make(azure_region=True)


def test_no_proxy_is_between_a_program_and_its_machine(asked, monkeypatch, machine):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert asked(azure_region=True) == ["westus3.login.microsoft.com"]


def test_while_one_finds_it_out_others_ask_the_host_of_all_regions():
    discovery = regions._Discovery()
    assert discovery._turn.acquire(blocking=False)
    assert discovery.region() is None
    discovery._start_anew()  # as in a child, whose parent was about to
    assert discovery.region() == "westus3"
