"""Text that UTF-8 cannot say, as of a variable in another encoding, is told by its setting."""

from __future__ import annotations

import os

import pytest
from reporting import told_of

from tokenmgr import (
    AccessTokenManager,
    AuthorityError,
    Certificate,
    ClientAssertion,
    ClientSecret,
    ConfigurationError,
    InvalidScopeError,
    TokenManagerError,
    TokenRegistry,
    WorkloadIdentity,
)
from tokenmgr.emulator.certificates import client_certificate
from tokenmgr.identity.environment import settings_from
from tokenmgr.stores import MemoryStore, open_store

#: What os.environ gives of this in Latin-1.
LATIN = b"K\xf6nigsberger-Klopse-mit-Kapern-sind".decode("utf-8", errors="surrogateescape")
ENVIRONMENT = {
    "AZURE_CLIENT_ID": "an-id",
    "AZURE_TENANT_ID": "contoso.com",
    "AZURE_CLIENT_SECRET": "a-secret",
}
SCOPE = "https://graph.microsoft.com/.default"


def refused(make, kind=ConfigurationError, *, hidden=True):
    """The words of the error, which is of that very kind, and shows no part of a secret."""
    with pytest.raises(TokenManagerError) as caught:
        make()
    assert type(caught.value) is kind
    assert "nigsberger" not in str(caught.value)
    assert not hidden or told_of(caught.value, (LATIN, "nigsberger", "\\udcf6")) == []
    return str(caught.value)


@pytest.mark.parametrize("name", ["AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"])
def test_a_variable_is_named(name):
    hidden = name == "AZURE_CLIENT_SECRET"
    assert name in refused(lambda: settings_from(ENVIRONMENT | {name: LATIN}), hidden=hidden)


@pytest.mark.parametrize("name", ["AZURE_TENANT_ID", "AZURE_AUTHORITY_HOST", "TOKENMGR_AUTHORITY"])
def test_an_address_is_named_too(name):
    assert name in refused(lambda: settings_from(ENVIRONMENT | {name: LATIN}))


def test_a_certificates_password_is_named():
    environ = ENVIRONMENT | {
        "AZURE_CLIENT_SECRET": "",
        "AZURE_CLIENT_CERTIFICATE_PATH": "app.pem",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD": LATIN,
    }
    assert "AZURE_CLIENT_CERTIFICATE_PASSWORD" in refused(lambda: settings_from(environ))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENMGR_STORE", f"redis://:{LATIN}@localhost:6379"),
        ("TOKENMGR_ENCRYPTION_KEY", f"{LATIN}, and-what-it-was-before-the-change"),
    ],
)
def test_the_store_and_its_key_are_named(monkeypatch, name, value):
    for each, text in (
        ENVIRONMENT | {"TOKENMGR_STORE": "sqlite:///tokens.db", name: value}
    ).items():
        monkeypatch.setenv(each, text)

    assert name in refused(TokenRegistry.from_env)


def made(**changes):
    settings = {
        "client_id": "an-id",
        "credential": "a-secret",
        "authority": "https://login.microsoftonline.com/contoso.com",
        "store": MemoryStore(),
    }
    return lambda: TokenRegistry(**(settings | changes))


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("client_id", LATIN, "client_id="),
        ("credential", LATIN, "client secret"),
        ("store", f"redis://:{LATIN}@localhost:6379", "store="),
        ("store", f"sqlite:///{LATIN}.db", "store="),
        ("encryption_key", LATIN + "-and-more-of-it", "encryption_key="),
        ("encryption_key", ["a-key-that-is-as-long-as-can-be-asked", LATIN], "encryption_key="),
        ("proxies", {"https": f"http://bob:{LATIN}@proxy.example"}, "proxies="),
    ],
)
def test_a_registrys_setting_is_named(setting, value, named):
    assert named in refused(made(**{setting: value}), hidden=setting != "client_id")


def test_an_authority_is_told_what_is_wrong_with_it():
    url = f"https://login.microsoftonline.com/{LATIN}"
    assert "authority URL" in refused(made(authority=url), AuthorityError, hidden=False)


@pytest.mark.parametrize("scope", [f"api://{LATIN}/.default", f"{LATIN}/.default"])
def test_a_scope_is_no_outage(scope):
    with made()() as tokens:
        assert "scope" in refused(lambda: tokens.manager(scope), InvalidScopeError, hidden=False)


def test_claims_are_no_outage():
    with made()() as tokens:
        manager = tokens.manager(SCOPE)
        assert "claims=" in refused(
            lambda: manager.refresh_access_token(claims=LATIN), hidden=False
        )


@pytest.fixture(scope="module")
def pem():
    return client_certificate().pem.decode()


def test_what_proves_the_app_is_named(tmp_path, pem):
    file = tmp_path / "secret"
    file.write_bytes(LATIN.encode("utf-8", errors="surrogatepass"))

    assert "client secret" in refused(lambda: ClientSecret(LATIN))
    assert "callable" in refused(lambda: ClientSecret(lambda: LATIN).read())
    assert "client assertion" in refused(lambda: ClientAssertion(lambda: LATIN).read())
    assert "password" in refused(lambda: Certificate("app.pem", password=LATIN))
    assert "certificate" in refused(lambda: Certificate(pem + LATIN))
    assert "client secret" in refused(
        lambda: AccessTokenManager.from_secret("contoso.com", "an-id", LATIN, SCOPE)
    )


def test_a_store_of_its_own_is_named():
    assert "store=" in refused(lambda: open_store(f"redis://:{LATIN}@localhost"))


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX alone")
def test_the_name_of_a_file_may_be_whatever_the_system_takes(tmp_path):
    file = tmp_path / LATIN
    file.write_text("a-secret")

    assert ClientSecret(file=file).read().text == "a-secret"
    assert WorkloadIdentity(file).read().text == "a-secret"
    settings = settings_from(
        ENVIRONMENT | {"AZURE_CLIENT_SECRET": "", "AZURE_FEDERATED_TOKEN_FILE": str(file)}
    )
    assert settings.credential.read().text == "a-secret"
