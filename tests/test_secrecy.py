"""Wherever something breaks, an error reporter that shows variables is told no secret."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from reporting import texts_of, told_at_every_line, told_of
from support import KEY as TOKEN
from support import FakeClock, FakeSource

from tokenmgr import AccessTokenManager, ClientSecret, TokenManagerError, TokenRegistry
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.identity.environment import settings_from
from tokenmgr.identity.proofs import SecretText

SECRET, PASSWORD, KEY = "Abc8Q~the-secret", "the-password", "0123456789-the-key-of-all-records"
PROXY_PASSWORD = "hunter2-of-the-proxy"
SECRETS = (SECRET, PASSWORD, KEY, PROXY_PASSWORD)
STORE = f"redis://:{PASSWORD}@localhost:6379"
ENVIRONMENT = {
    "AZURE_CLIENT_ID": "an-id",
    "AZURE_TENANT_ID": "contoso.com",
    "AZURE_CLIENT_SECRET": SECRET,
    "TOKENMGR_STORE": STORE,
    "TOKENMGR_ENCRYPTION_KEY": f"{KEY}, {KEY}-before",
}
PROXIES = {"https": f"http://bob:{PROXY_PASSWORD}@proxy.example:8080"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AZURE_", "TOKENMGR_"))]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def from_env():
    TokenRegistry.from_env(proxies=PROXIES).close()


def from_a_certificate_in_the_environment():
    environ = ENVIRONMENT | {
        "AZURE_CLIENT_SECRET": "",
        "AZURE_CLIENT_CERTIFICATE_PATH": "app.pem",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD": PASSWORD,
    }
    settings_from(environ)


def by_hand():
    TokenRegistry(
        client_id="an-id",
        credential=SECRET,
        authority="https://login.microsoftonline.com/contoso.com",
        store=STORE,
        encryption_key=[KEY, KEY.encode() + b"-before"],
        proxies=PROXIES,
    ).close()


def from_secret():
    AccessTokenManager.from_secret(
        "contoso.com", "an-id", SECRET, "https://graph.microsoft.com/.default"
    ).close()


def over_a_source():
    clock = FakeClock()
    source = FakeSource(clock)
    AccessTokenManager(source, TOKEN, store=STORE, encryption_key=KEY, clock=clock).close()


def rotating():
    ClientSecret(lambda: SECRET).read()


@pytest.mark.traces
@pytest.mark.parametrize(
    "work",
    [
        from_env,
        from_a_certificate_in_the_environment,
        by_hand,
        from_secret,
        over_a_source,
        rotating,
    ],
)
def test_what_is_made_tells_no_secret_wherever_it_breaks(work):
    assert told_at_every_line(work, SECRETS) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"AZURE_CLIENT_ID": ""},
        {"AZURE_TENANT_ID": ""},
        {"AZURE_TENANT_ID": "not a tenant"},
        {"TOKENMGR_STORE": f"postgres://app:{PASSWORD}@db/tokens"},
        {"TOKENMGR_STORE": f"redis://:{PASSWORD}@host:port"},
        {"TOKENMGR_STORE": f"redis://:{PASSWORD}@host/x"},
        {"TOKENMGR_STORE": f"redis://host?password={PASSWORD}&decode_responses=1"},
        {"TOKENMGR_ENCRYPTION_KEY": KEY[:31]},
        {"TOKENMGR_AUTHORITY": "https://login.microsoftonline.us/contoso.com"},
    ],
    ids=str,
)
def test_an_environment_that_is_wrong_is_refused_without_telling_what_is_in_it(
    monkeypatch, changes
):
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "login.microsoftonline.com")

    with pytest.raises(TokenManagerError) as caught:
        TokenRegistry.from_env(proxies=PROXIES)

    assert told_of(caught.value, (*SECRETS, KEY[:31])) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"proxies": [*PROXIES.values()]},
        {"proxies": PROXIES | {"http": None}},
        {"verify": "missing.pem"},
        {"timeout": 0},
        {"namespace": "no name"},
        {"encryption_key": [KEY, "short"]},
        {"credential": [SECRET]},
        {"store": [STORE]},
        {"policy": "often"},
        {"client_id": ""},
        {"authority": "https://nowhere"},
    ],
    ids=str,
)
def test_a_setting_that_is_wrong_is_refused_without_telling_the_others(settings):
    whole = {
        "client_id": "an-id",
        "credential": SECRET,
        "authority": "https://login.microsoftonline.com/contoso.com",
        "store": STORE,
        "encryption_key": KEY,
        "proxies": PROXIES,
    }

    with pytest.raises(TokenManagerError) as caught:
        TokenRegistry(**(whole | settings))

    assert told_of(caught.value, SECRETS) == []


def test_a_value_that_cannot_be_made_tells_nothing():
    with pytest.raises(TypeError) as caught:
        SecretText(text=SECRET, other=PASSWORD)

    assert told_of(caught.value, SECRETS) == []


def test_the_reporter_of_these_tests_takes_apart_what_others_do():
    class Variables(dict):
        def __repr__(self):
            return "<variables>"

    @dataclass
    class Settings:
        store: str

    hidden = Hidden(SECRET)
    for shown in (
        Variables(a=SECRET),
        [(SECRET,)],
        Settings(SECRET),
        SimpleNamespace(a=[SECRET]),
        functools.partial(print, SECRET),
        urlsplit(f"redis://:{SECRET}@host"),
    ):
        assert any(SECRET in text for text in texts_of(shown))
    assert not any(SECRET in text for text in texts_of([hidden, {"a": hidden}]))
