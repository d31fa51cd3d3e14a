"""What the environment says, and what it says wrong."""

from __future__ import annotations

import re
import sys

import pytest

from tokenmgr import (
    AuthorityError,
    Certificate,
    ClientSecret,
    ConfigurationError,
    TokenRegistry,
    WorkloadIdentity,
)
from tokenmgr.emulator.certificates import client_certificate
from tokenmgr.identity.environment import settings_from
from tokenmgr.identity.proofs import SecretText, SignedAssertion
from tokenmgr.stores import MemoryStore

SECRET = "Abc8Q~the-secret"
STORE = "redis://:the-password@localhost:6379"
ENV = {
    "AZURE_CLIENT_ID": "an-id",
    "AZURE_TENANT_ID": "contoso.com",
    "AZURE_CLIENT_SECRET": SECRET,
}
CONTOSO = "https://login.microsoftonline.com/contoso.com"
VARIABLES = [
    *ENV,
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN",
    "AZURE_FEDERATED_TOKEN_FILE",
    "TOKENMGR_AUTHORITY",
    "TOKENMGR_STORE",
]


@pytest.fixture(scope="module")
def locked():
    return client_certificate(chain=True, password="the-password")


def but(**changes: str | None) -> dict[str, str]:
    """The variables of an app with a secret, with some set otherwise, and those of None unset."""
    return {name: value for name, value in {**ENV, **changes}.items() if value is not None}


# ── What it says ────────────────────────────────────────────────────────────────────────────


def test_id_tenant_and_secret_are_all_that_is_needed() -> None:
    settings = settings_from(ENV)
    assert settings.client_id == "an-id"
    assert str(settings.authority) == CONTOSO
    assert settings.credential.read() == SecretText(SECRET)
    assert settings.store is None


def test_white_space_around_a_value_is_left_out() -> None:
    spaced = settings_from({name: f" {value}\n" for name, value in ENV.items()})
    assert (spaced.client_id, str(spaced.authority)) == ("an-id", CONTOSO)
    assert spaced.credential.read() == SecretText(SECRET)


def test_the_store_is_passed_on_and_not_shown() -> None:
    settings = settings_from(but(TOKENMGR_STORE=STORE))
    assert settings.store == STORE
    assert STORE not in repr(settings)
    assert SECRET not in repr(settings)


def test_the_first_proof_of_secret_certificate_and_federated_token_is_taken() -> None:
    environ = but(AZURE_CLIENT_CERTIFICATE_PATH="app.pem", AZURE_FEDERATED_TOKEN_FILE="token")
    for kind, variable in (
        (ClientSecret, "AZURE_CLIENT_SECRET"),
        (Certificate, "AZURE_CLIENT_CERTIFICATE_PATH"),
        (WorkloadIdentity, "AZURE_FEDERATED_TOKEN_FILE"),
    ):
        assert type(settings_from(environ).credential) is kind
        environ[variable] = " "  # empty counts as not set


@pytest.mark.parametrize(
    ("flag", "sent"),
    [("1", 2), ("true", 2), ("True", 2), ("0", 1), ("false", 1), ("", 1), (None, 1)],
)
def test_a_certificate_has_its_path_its_password_and_whether_to_send_its_chain(
    flag, sent, locked, tmp_path
) -> None:
    path = tmp_path / "app.pfx"
    environ = but(
        AZURE_CLIENT_SECRET=None,
        AZURE_CLIENT_CERTIFICATE_PATH=str(path),
        AZURE_CLIENT_CERTIFICATE_PASSWORD="the-password",
        AZURE_CLIENT_SEND_CERTIFICATE_CHAIN=flag,
    )
    credential = settings_from(environ).credential  # which reads nothing: there is no file yet
    path.write_bytes(locked.pfx)
    pair = credential.read()
    assert (pair.thumbprint, len(pair.certificates)) == (locked.thumbprint, sent)


def test_a_certificate_without_a_password_is_read_without_one(locked, tmp_path) -> None:
    path = tmp_path / "app.pem"
    path.write_bytes(locked.pem)
    environ = but(
        AZURE_CLIENT_SECRET=None,
        AZURE_CLIENT_CERTIFICATE_PATH=str(path),
        AZURE_CLIENT_CERTIFICATE_PASSWORD="",
    )
    with pytest.raises(ConfigurationError, match="is encrypted: pass its password="):
        settings_from(environ).credential.read()


def test_a_federated_token_is_read_from_its_file_each_time(tmp_path) -> None:
    path = tmp_path / "token"
    environ = but(AZURE_CLIENT_SECRET=None, AZURE_FEDERATED_TOKEN_FILE=str(path))
    credential = settings_from(environ).credential
    for text in ("first", "second"):
        path.write_text(text)
        assert credential.read() == SignedAssertion(text)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("login.microsoftonline.us", "https://login.microsoftonline.us/contoso.com"),
        ("https://login.microsoftonline.us", "https://login.microsoftonline.us/contoso.com"),
        ("https://login.microsoftonline.us/", "https://login.microsoftonline.us/contoso.com"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443/contoso.com"),
        ("localhost:8443", "https://localhost:8443/contoso.com"),
        ("https://emulator", "https://emulator/contoso.com"),
        ("", CONTOSO),
    ],
)
def test_the_authority_s_host_comes_with_and_without_https(host, url) -> None:
    assert str(settings_from(but(AZURE_AUTHORITY_HOST=host)).authority) == url


KINDS = {
    "entra": "https://login.microsoftonline.us/fabrikam.com",
    "b2c": "https://fabrikam.b2clogin.com/fabrikam.onmicrosoft.com/b2c_1_signin",
    "ciam": "https://fabrikam.ciamlogin.com/fabrikam.onmicrosoft.com",
    "adfs": "https://fs.fabrikam.com/adfs",
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_authority_of_any_kind_stands_in_for_tenant_and_host(kind) -> None:
    environ = but(AZURE_TENANT_ID=None, TOKENMGR_AUTHORITY=KINDS[kind])
    authority = settings_from(environ).authority
    assert (authority.kind, str(authority)) == (kind, KINDS[kind])


@pytest.mark.parametrize("kind", ["entra", "b2c", "ciam"])
def test_a_tenant_and_a_host_beside_the_authority_may_say_the_same(kind) -> None:
    url = KINDS[kind]
    environ = but(
        AZURE_TENANT_ID=url.split("/")[3].upper(),
        AZURE_AUTHORITY_HOST=url.split("/")[2],
        TOKENMGR_AUTHORITY=url,
    )
    assert str(settings_from(environ).authority) == url


@pytest.mark.parametrize(
    "host", ["usgovernment", "LOGIN.microsoftonline.us", "https://login.microsoftonline.us/"]
)
def test_the_host_beside_the_authority_may_be_spelled_otherwise(host) -> None:
    environ = but(
        AZURE_TENANT_ID=None, AZURE_AUTHORITY_HOST=host, TOKENMGR_AUTHORITY=KINDS["entra"]
    )
    assert str(settings_from(environ).authority) == KINDS["entra"]


@pytest.mark.parametrize("host", ["http://login.microsoftonline.us", "nowhere", "a b.com"])
def test_a_host_beside_the_authority_that_is_none_is_blamed_on_its_variable(host) -> None:
    environ = but(
        AZURE_TENANT_ID=None, AZURE_AUTHORITY_HOST=host, TOKENMGR_AUTHORITY=KINDS["entra"]
    )
    with pytest.raises(AuthorityError, match=r"^AZURE_AUTHORITY_HOST: "):
        settings_from(environ)


def test_ad_fs_has_no_tenant_that_another_could_contradict() -> None:
    environ = but(TOKENMGR_AUTHORITY=KINDS["adfs"])
    assert str(settings_from(environ).authority) == KINDS["adfs"]


# ── What it says wrong ──────────────────────────────────────────────────────────────────────


def test_who_has_no_credential_is_led_to_a_public_client() -> None:
    with pytest.raises(ConfigurationError, match=r"public client.* TokenRegistry\(client_id="):
        settings_from(
            but(AZURE_CLIENT_SECRET=None, AZURE_TENANT_ID=None, TOKENMGR_AUTHORITY=CONTOSO)
        )


def test_who_has_neither_a_credential_nor_an_authority_is_left_to_the_host() -> None:
    settings = settings_from(but(AZURE_CLIENT_SECRET=" \n", TOKENMGR_STORE="sqlite:///t.db"))
    assert (settings.client_id, settings.credential, settings.authority) == (None, None, None)
    assert settings.store == "sqlite:///t.db"


@pytest.mark.parametrize("empty", [None, "", " \n"])
@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("AZURE_CLIENT_ID", ["AZURE_CLIENT_ID"]),
        ("AZURE_TENANT_ID", ["AZURE_TENANT_ID", "TOKENMGR_AUTHORITY"]),
    ],
)
def test_what_is_missing_or_empty_is_named(missing, named, empty) -> None:
    with pytest.raises(ConfigurationError, match=r"\bset ") as raised:
        settings_from(but(**{missing: empty}))
    assert re.findall(r"[A-Z]+(?:_[A-Z]+)+", str(raised.value)) == named
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("kind", ["entra", "b2c", "ciam"])
def test_a_tenant_that_contradicts_the_authority_is_refused(kind) -> None:
    with pytest.raises(
        ConfigurationError, match="TOKENMGR_AUTHORITY and AZURE_TENANT_ID name different tenants"
    ) as raised:
        settings_from(but(TOKENMGR_AUTHORITY=KINDS[kind]))
    assert SECRET not in str(raised.value)


def test_a_host_that_contradicts_the_authority_is_refused() -> None:
    environ = but(
        AZURE_TENANT_ID=None,
        AZURE_AUTHORITY_HOST="https://login.partner.microsoftonline.cn",
        TOKENMGR_AUTHORITY=KINDS["entra"],
    )
    with pytest.raises(
        ConfigurationError, match="TOKENMGR_AUTHORITY and AZURE_AUTHORITY_HOST name different hosts"
    ):
        settings_from(environ)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "entra"])
def test_what_kubernetes_sets_in_every_pod_contradicts_no_other_authority(kind) -> None:
    settings = settings_from(
        but(
            AZURE_TENANT_ID="72f988bf-86f1-41af-91ab-2d7cd011db47",
            AZURE_AUTHORITY_HOST="https://login.microsoftonline.com/",
            TOKENMGR_AUTHORITY=KINDS[kind],
        )
    )
    assert settings.authority.kind == kind


def test_a_store_that_is_none_is_refused_without_showing_it(monkeypatch) -> None:
    for name, value in but(TOKENMGR_STORE="postgres://app:hunter2@db/tokens").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="sqlite:///") as caught:
        TokenRegistry.from_env()
    assert "hunter2" not in str(caught.value)


def test_what_is_passed_wins_over_the_environment_s_store(monkeypatch) -> None:
    for name, value in but(TOKENMGR_STORE="nothing", TOKENMGR_ENCRYPTION_KEY="short").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="encryption_key="):
        TokenRegistry.from_env(store=MemoryStore())
    with TokenRegistry.from_env(
        store=MemoryStore(), encryption_key="a key of the test that is long enough"
    ):
        pass


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AZURE_TENANT_ID", "not a tenant"),
        ("AZURE_TENANT_ID", CONTOSO),
        ("AZURE_AUTHORITY_HOST", "http://login.microsoftonline.com"),
        ("AZURE_AUTHORITY_HOST", "nowhere"),
        ("AZURE_AUTHORITY_HOST", CONTOSO),
        ("TOKENMGR_AUTHORITY", "contoso.com"),
        ("TOKENMGR_AUTHORITY", "http://login.microsoftonline.com/contoso.com"),
    ],
)
def test_a_value_that_is_no_part_of_an_authority_is_blamed_on_its_variable(variable, value) -> None:
    with pytest.raises(AuthorityError, match=f"^{variable}: ") as raised:
        settings_from(but(**{variable: value}))
    assert SECRET not in str(raised.value)


# ── A registry of it ────────────────────────────────────────────────────────────────────────


def set_only(monkeypatch, environ: dict[str, str]) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def test_a_registry_is_made_of_the_environment(monkeypatch) -> None:
    set_only(monkeypatch, ENV)
    with TokenRegistry.from_env() as tokens:
        assert repr(tokens) == f"<TokenRegistry of an-id at {CONTOSO}>"
        key = tokens.manager("https://graph.microsoft.com/.default").key
    assert (key.authority, key.client_id) == (CONTOSO, "an-id")


@pytest.mark.parametrize("kind", KINDS)
def test_a_registry_is_made_at_an_authority_of_any_kind(kind, monkeypatch) -> None:
    set_only(monkeypatch, but(AZURE_TENANT_ID=None, TOKENMGR_AUTHORITY=KINDS[kind]))
    with TokenRegistry.from_env() as tokens:
        assert tokens.manager("api://an-api/.default").key.authority == KINDS[kind]


def test_a_registry_of_an_empty_environment_says_where_to_begin(monkeypatch) -> None:
    set_only(monkeypatch, {})
    monkeypatch.setitem(sys.modules, "azure.identity", None)  # as where it is not installed
    with pytest.raises(ConfigurationError, match=r"\bset ") as raised:
        TokenRegistry.from_env()
    assert re.findall(r"AZURE(?:_[A-Z]+)+", str(raised.value)) == [
        *("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE"),
        "AZURE_TOKEN_CREDENTIALS",
    ]


def test_a_registry_of_the_environment_asks_with_the_secret_there(entra, monkeypatch) -> None:
    set_only(monkeypatch, entra.environment())
    with TokenRegistry.from_env(verify=entra.ca_file) as tokens:
        assert tokens.manager("https://graph.microsoft.com/.default").get_access_token()
    assert entra.count("client_credentials") == 1
