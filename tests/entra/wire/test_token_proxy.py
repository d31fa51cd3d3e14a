"""The proxy of AKS's identity bindings: asked in the service's place, as azure-identity asks it."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import azure.identity
import pytest
import trustme
from azure.identity import WorkloadIdentityCredential
from packaging.version import Version
from reporting import told_of
from support import EXACT, SCOPE

from tokenmgr import AuthorityError, ConfigurationError, TokenRegistry, WorkloadIdentity
from tokenmgr.identity.token_proxy import TokenProxy, token_proxy_from

#: A name that the proxy's certificate has, and the URL has not.
NAME = "login.private.example"
PROXY, SNI, CA_FILE, CA_DATA = (
    f"AZURE_KUBERNETES_{name}" for name in ("TOKEN_PROXY", "SNI_NAME", "CA_FILE", "CA_DATA")
)
TENANT, CLIENT = "22222222-2222-3333-4444-555555555555", "11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PROXY, SNI, CA_FILE, CA_DATA):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def names(rough: Any) -> list[str | None]:
    """The names by which the proxy is connected to."""
    seen: list[str | None] = []

    def note(sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        seen.append(name)

    rough.tls.sni_callback = note
    return seen


@pytest.fixture
def proxied(
    rough: Any, names: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An environment with the proxy; gives the path of the federated token."""
    monkeypatch.setenv(PROXY, f"{rough.url}/proxy/one/")
    monkeypatch.setenv(SNI, NAME)
    monkeypatch.setenv(CA_FILE, rough.ca_file)
    file = tmp_path / "token"
    file.write_text("eyJ.a.b")
    return file


def at_entra(file: Path, **settings: Any) -> TokenRegistry:
    """A registry at Microsoft's own cloud, which no test reaches."""
    return TokenRegistry(
        client_id=CLIENT,
        credential=WorkloadIdentity(file, enable_azure_proxy=True),
        authority=f"https://login.microsoftonline.com/{TENANT}",
        policy=EXACT,
        **settings,
    )


def forms(rough: Any) -> list[dict[str, str]]:
    """Has the proxy note what it is sent, and answer it."""
    seen: list[dict[str, str]] = []

    def answer(handler: Any) -> None:
        seen.append(handler.form)
        handler.token()

    rough.on_post = answer
    return seen


def test_tokens_are_asked_for_through_the_proxy(rough, names, proxied):
    seen = forms(rough)
    with at_entra(proxied) as tokens:
        assert tokens.manager(SCOPE).get_access_token() == "a-token"
        tokens.manager(SCOPE).refresh_access_token()
    assert [each.path for each in rough.received] == 2 * [f"/proxy/one/{TENANT}/oauth2/v2.0/token"]
    assert set(names) == {NAME}, "it is connected to by its own name"
    assert seen[0]["client_assertion"] == "eyJ.a.b"


@pytest.mark.skipif(
    Version(azure.identity.__version__) < Version("1.27"), reason="it knows of no such proxy"
)
def test_it_is_asked_as_azure_identity_asks_it(rough, names, proxied):
    def discovery(handler: Any) -> None:
        base = f"https://login.microsoftonline.com/{TENANT}"
        handler.answer(
            200,
            json.dumps(
                {
                    "issuer": f"{base}/v2.0",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                }
            ),
        )

    rough.on_get = discovery
    seen = forms(rough)
    theirs = WorkloadIdentityCredential(
        tenant_id=TENANT,
        client_id=CLIENT,
        token_file_path=str(proxied),
        enable_azure_proxy=True,
        disable_instance_discovery=True,
    )
    assert theirs.get_token(SCOPE).token == "a-token"
    theirs.close()
    with at_entra(proxied) as tokens:
        assert tokens.manager(SCOPE).get_access_token() == "a-token"
    theirs_path, ours_path = [each.path for each in rough.received if each.method == "POST"]
    assert theirs_path == ours_path
    assert set(names) == {NAME}
    for name in ("client_id", "scope", "grant_type", "client_assertion", "client_assertion_type"):
        assert seen[0][name] == seen[1][name]


@pytest.mark.parametrize("kind", ["file", "data"])
def test_nobody_but_its_own_certificate_authorities_is_trusted(
    rough, proxied, monkeypatch, tmp_path, kind
):
    forms(rough)
    another = trustme.CA().cert_pem.bytes().decode()
    (tmp_path / "another.pem").write_text(another)
    monkeypatch.setenv(CA_FILE, str(tmp_path / "another.pem") if kind == "file" else "")
    monkeypatch.setenv(CA_DATA, another if kind == "data" else "")
    # Neither verify= nor what requests trusts is believed of it.
    for verify in (rough.ca_file, False):
        with (
            at_entra(proxied, verify=verify) as tokens,
            pytest.raises(AuthorityError, match=CA_FILE),
        ):
            tokens.manager(SCOPE).get_access_token()
    assert rough.received == []


def test_its_certificate_authorities_may_be_in_the_variable(rough, proxied, monkeypatch):
    forms(rough)
    monkeypatch.setenv(CA_FILE, "")
    monkeypatch.setenv(CA_DATA, Path(rough.ca_file).read_text())
    with at_entra(proxied) as tokens:
        assert tokens.manager(SCOPE).get_access_token() == "a-token"


def test_without_any_whom_the_registry_trusts_is_trusted(rough, names, proxied, monkeypatch):
    forms(rough)
    monkeypatch.setenv(CA_FILE, "")
    monkeypatch.setenv(SNI, "")
    with at_entra(proxied, verify=rough.ca_file) as tokens:
        assert tokens.manager(SCOPE).get_access_token() == "a-token"
    assert names == [None], "an address has no name in TLS"


def test_a_name_that_its_certificate_has_not_is_refused(rough, proxied, monkeypatch):
    forms(rough)
    monkeypatch.setenv(SNI, "another.example")
    with at_entra(proxied) as tokens, pytest.raises(AuthorityError, match=SNI):
        tokens.manager(SCOPE).get_access_token()
    assert rough.received == []


def test_certificate_authorities_that_are_replaced_are_read_anew(
    rough, proxied, monkeypatch, tmp_path
):
    forms(rough)
    file = tmp_path / "ca.pem"
    file.write_text(trustme.CA().cert_pem.bytes().decode())
    monkeypatch.setenv(CA_FILE, str(file))
    with at_entra(proxied) as tokens:
        manager = tokens.manager(SCOPE)
        with pytest.raises(AuthorityError):
            manager.get_access_token()
        file.write_bytes(Path(rough.ca_file).read_bytes())
        assert manager.refresh_access_token() == "a-token"
        file.write_text("")  # as it is replaced
        assert manager.refresh_access_token() == "a-token"
        file.unlink()
        assert manager.refresh_access_token() == "a-token"


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_certificate_authorities_that_cannot_be_read_are_named(
    rough, proxied, monkeypatch, tmp_path, content
):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv(CA_FILE, str(file))
    with at_entra(proxied) as tokens, pytest.raises(ConfigurationError, match=CA_FILE):
        tokens.manager(SCOPE).get_access_token()
    assert rough.received == []


@pytest.mark.parametrize("content", ["garbage", "-----BEGIN CERTIFICATE-----\nx"])
def test_certificate_authorities_that_are_none_fail_typed(
    rough, proxied, monkeypatch, tmp_path, content
):
    file = tmp_path / "ca.pem"
    file.write_text(content)
    monkeypatch.setenv(CA_FILE, str(file))
    with at_entra(proxied) as tokens, pytest.raises(ConfigurationError, match=CA_FILE):
        tokens.manager(SCOPE).get_access_token()
    assert rough.received == []


def test_no_http_proxy_is_on_the_way(rough, proxied, monkeypatch):
    forms(rough)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with at_entra(proxied, proxies={"https": "http://127.0.0.1:9"}) as tokens:
        assert tokens.manager(SCOPE).get_access_token() == "a-token"


def test_who_does_not_ask_for_it_is_asked_directly(rough, proxied, registry):
    forms(rough)
    with registry(credential=WorkloadIdentity(proxied)) as tokens:
        assert tokens.manager(SCOPE).get_access_token() == "a-token"
    assert not any(each.path.startswith("/proxy") for each in rough.received)


def test_without_the_variable_it_is_asked_directly(rough, proxied, registry, monkeypatch):
    forms(rough)
    for name in (PROXY, SNI, CA_FILE):
        monkeypatch.delenv(name)
    credential = WorkloadIdentity(proxied, enable_azure_proxy=True)
    with registry(credential=credential) as tokens:
        assert tokens.manager(SCOPE).get_access_token() == "a-token"


def test_a_closed_registry_asks_nobody(rough, proxied):
    forms(rough)
    tokens = at_entra(proxied)
    manager = tokens.manager(SCOPE)
    manager.get_access_token()
    tokens.close()
    with pytest.raises(ConfigurationError, match="closed"):
        manager.refresh_access_token()


# ── The variables ───────────────────────────────────────────────────────────────────────────


def test_the_variables_are_read() -> None:
    said = {PROXY: " https://proxy.example:8443/a ", SNI: NAME, CA_DATA: "pem", CA_FILE: " "}
    assert token_proxy_from(said) == TokenProxy("https://proxy.example:8443/a", NAME, None, "pem")
    assert token_proxy_from({}) is None


@pytest.mark.parametrize(
    ("proxy", "url", "address"),
    [
        ("https://p", "https://s/t/token", "https://p/t/token"),
        ("https://p/", "https://s/t/token", "https://p/t/token"),
        ("https://p:1/a/b/", "https://s:2/t/token?q=1", "https://p:1/a/b/t/token?q=1"),
        ("https://[::1]:1/a", "https://s", "https://[::1]:1/a/"),
    ],
)
def test_a_request_s_path_goes_behind_the_proxy_s(proxy, url, address) -> None:
    assert TokenProxy(proxy, None, None, None).address_of(url) == address


@pytest.mark.parametrize("name", [SNI, CA_FILE, CA_DATA])
def test_a_setting_of_no_proxy_is_refused(name, monkeypatch) -> None:
    monkeypatch.setenv(name, "something")
    with pytest.raises(ConfigurationError, match=f"{PROXY} is not set"):
        WorkloadIdentity("token", enable_azure_proxy=True)
    WorkloadIdentity("token")


def test_two_places_of_certificate_authorities_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="both set"):
        token_proxy_from({PROXY: "https://p", CA_FILE: "f", CA_DATA: "d"})


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy.example",
        "proxy.example",
        "https://",
        "https:///path",
        "https://bob:hunter2@proxy.example",
        "https://hunter2@proxy.example",
        "https://proxy.example?key=hunter2",
        "https://proxy.example/#hunter2",
        "https://proxy.example:port",
        "https://proxy.example:0",
        "https://[::1",
        "https://proxy.example/a b",
        "https://prøxy.example",
        "https://proxy.example\udcff",
        "ftp://proxy.example",
    ],
)
def test_what_is_no_plain_https_url_is_refused_and_not_shown(url) -> None:
    with pytest.raises(ConfigurationError, match=f"{PROXY} is no https URL") as raised:
        token_proxy_from({PROXY: url})
    assert told_of(raised.value, ("hunter2",)) == []
