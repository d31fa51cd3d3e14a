"""Registries with a store, and caches that come and go."""

from __future__ import annotations

import os
import stat
import traceback
from pathlib import Path

import msal
import pytest
from reporting import PACKAGE
from waiting import until

from tokenmgr import ConfigurationError, TokenRegistry, WorkloadIdentity
from tokenmgr.emulator import EntraEmulator
from tokenmgr.stores import MemoryStore

GRAPH = "https://graph.microsoft.com/.default"
ORDERS = "api://orders/.default"
KEY, NEW_KEY = "a key for the records of the tests", "another key for the records of the tests"


def test_registries_over_one_file_fetch_once(entra: EntraEmulator, tmp_path: Path):
    url = f"sqlite:///{tmp_path}/tokens.db"
    with entra.registry(store=url) as one, entra.registry(store=url) as other:
        token = one.get_access_token(GRAPH)
        assert other.get_access_token(GRAPH) == token
        assert one.get_access_token(ORDERS) != token
    assert entra.count() == 2
    with entra.registry(store=url) as later:
        assert later.get_access_token(GRAPH) == token
    assert entra.count() == 2


def test_a_token_in_the_file_is_sealed_and_the_file_is_nobody_else_s(entra, tmp_path):
    with entra.registry(store=f"sqlite:///{tmp_path}/tokens.db") as tokens:
        token = tokens.get_access_token(GRAPH)
        for file in tmp_path.iterdir():
            content = file.read_bytes()
            for secret in (token, entra.client_id, "graph.microsoft.com"):
                assert secret.encode() not in content
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_namespaces_and_keys_keep_programs_apart(entra):
    store = MemoryStore()
    for settings in (
        {},
        {"namespace": "other"},
        {"encryption_key": KEY},
        {"encryption_key": [KEY[::-1], KEY]},
    ):
        with entra.registry(store=store, **settings) as tokens:
            tokens.get_access_token(GRAPH)
    assert entra.count() == 3


def test_a_store_that_was_passed_in_stays_open_and_one_of_a_url_does_not(entra, tmp_path):
    closed: list[str] = []

    class Closing(MemoryStore):
        def close(self) -> None:
            closed.append("closed")

    with entra.registry(store=Closing()) as tokens:
        tokens.get_access_token(GRAPH)
    assert not closed
    tokens = entra.registry(store=f"sqlite:///{tmp_path}/tokens.db")
    tokens.get_access_token(GRAPH)
    assert _open_files(tmp_path)
    tokens.close()
    assert not _open_files(tmp_path)


def _open_files(folder: Path) -> list[Path]:
    targets = [Path(os.path.realpath(link)) for link in Path("/proc/self/fd").iterdir()]
    return [target for target in targets if target.parent == folder]


def test_making_a_registry_with_a_store_opens_nothing(tmp_path):
    TokenRegistry(
        client_id="app",
        credential="secret",
        authority="https://login.microsoftonline.com/contoso.com",
        store=f"sqlite:///{tmp_path}/deep/tokens.db",
    ).manager(GRAPH)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"store": "postgres://app:hunter2@db"}, "store="),
        ({"store": "redis://app:hunter2@host:port"}, "Redis URL"),
        ({"store": b"redis://app:hunter2@host"}, "store="),
        ({"store": "sqlite://app:hunter2@host"}, "sqlite:///"),
        ({"store": object()}, "store="),
        ({"store": "sqlite://"}, "sqlite:///"),
        ({"store": MemoryStore(), "encryption_key": "hunter2"}, "encryption_key="),
        ({"store": MemoryStore(), "credential": WorkloadIdentity("file")}, "encryption_key="),
        ({"store": MemoryStore(), "namespace": "{tokens}"}, "namespace="),
        ({"store": MemoryStore(), "namespace": ""}, "namespace="),
    ],
)
def test_what_cannot_be_right_is_refused_at_once_without_showing_it(settings, named):
    usual = {
        "client_id": "app",
        "credential": "secret",
        "authority": "https://login.microsoftonline.com/contoso.com",
    }
    with pytest.raises(ConfigurationError, match=named) as caught:
        TokenRegistry(**(usual | settings))
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [str(frame.locals) for frame in told.stack if frame.filename.startswith(f"{PACKAGE}/")]
    assert "hunter2" not in str(caught.value)
    assert not any("hunter2" in frame for frame in frames[1:])


def test_the_environment_names_the_store(entra, tmp_path, monkeypatch):
    settings = entra.environment() | {
        "TOKENMGR_STORE": f"sqlite:///{tmp_path}/tokens.db",
        "TOKENMGR_ENCRYPTION_KEY": KEY,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with TokenRegistry.from_env() as one, TokenRegistry.from_env() as other:
        assert one.get_access_token(GRAPH) == other.get_access_token(GRAPH)
    assert entra.count() == 1


def test_the_environment_rotates_the_key(entra, tmp_path, monkeypatch):
    settings = entra.environment() | {"TOKENMGR_STORE": f"sqlite:///{tmp_path}/tokens.db"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    tokens = set()
    for keys in (KEY, f"{KEY},{NEW_KEY}", f"{NEW_KEY}, {KEY},"):
        monkeypatch.setenv("TOKENMGR_ENCRYPTION_KEY", keys)
        with TokenRegistry.from_env() as registry:
            tokens.add(registry.get_access_token(GRAPH))
    assert len(tokens) == 1
    monkeypatch.setenv("TOKENMGR_ENCRYPTION_KEY", NEW_KEY)
    with TokenRegistry.from_env() as registry:
        assert registry.get_access_token(GRAPH) not in tokens


def test_a_refused_token_is_gone_for_every_registry(entra, tmp_path):
    url = f"sqlite:///{tmp_path}/tokens.db"
    with entra.registry(store=url) as one, entra.registry(store=url) as other:
        refused = one.get_access_token(GRAPH)
        one.manager(GRAPH).invalidate(refused)

        def forgotten() -> bool:
            with entra.registry(store=url) as another:
                return another.manager(GRAPH)._cell.shared.look(()) is None

        until(forgotten, "the removal")
        assert other.get_access_token(GRAPH) != refused


# Caches of MSAL.


def msal_app(entra: EntraEmulator, cache: msal.TokenCache) -> msal.ConfidentialClientApplication:
    return msal.ConfidentialClientApplication(
        entra.client_id,
        client_credential=entra.client_secret,
        authority=entra.authority(),
        instance_discovery=False,
        verify=entra.ca_file,
        token_cache=cache,
    )


def test_what_msal_cached_is_used(entra):
    cache = msal.SerializableTokenCache()
    token = msal_app(entra, cache).acquire_token_for_client([GRAPH])["access_token"]
    with entra.registry() as tokens:
        tokens.import_cache(cache.serialize())
        assert tokens.get_access_token(GRAPH) == token
        (status,) = tokens.status()
        assert status.state == "fresh"
    assert entra.count() == 1


def test_msal_uses_what_is_exported(entra):
    cache = msal.SerializableTokenCache()
    with entra.registry() as tokens:
        token = tokens.get_access_token(GRAPH)
        cache.deserialize(tokens.export_cache())
    answer = msal_app(entra, cache).acquire_token_for_client([GRAPH])
    assert answer["access_token"] == token
    assert answer["token_source"] == "cache"
    assert entra.count() == 1


def test_accounts_and_refresh_tokens_pass_through(entra):
    cache = msal.SerializableTokenCache()
    app = msal_app(entra, cache)
    cache.add(
        {
            "client_id": entra.client_id,
            "scope": ["User.Read"],
            "token_endpoint": app.authority.token_endpoint,
            "response": {
                "access_token": "the user's token",
                "refresh_token": "the user's refresh token",
                "expires_in": 3600,
                "client_info": "eyJ1aWQiOiJ1aWQiLCJ1dGlkIjoidXRpZCJ9",
                "id_token_claims": {"preferred_username": "alice@contoso.com", "sub": "alice"},
            },
        }
    )
    back = msal.SerializableTokenCache()
    with entra.registry() as tokens:
        tokens.import_cache(cache.serialize())
        assert not tokens.status()
        tokens.get_access_token(GRAPH)
        back.deserialize(tokens.export_cache())
    restored = msal_app(entra, back)
    (account,) = restored.get_accounts()
    assert account["home_account_id"] == "uid.utid"
    answer = restored.acquire_token_silent(["User.Read"], account)
    assert answer["access_token"] == "the user's token"
    kept = list(back.search(msal.TokenCache.CredentialType.REFRESH_TOKEN))
    assert [entry["secret"] for entry in kept] == ["the user's refresh token"]


def test_an_imported_token_takes_the_place_of_an_older_one_alone(entra):
    with entra.registry() as one, entra.registry() as other:
        older = one.get_access_token(GRAPH)
        exported = one.export_cache()
        newer = other.get_access_token(GRAPH)
        other.import_cache(exported)
        assert other.get_access_token(GRAPH) == newer != older


def test_a_text_that_is_no_cache_is_refused_and_not_shown(entra):
    with entra.registry() as tokens:
        with pytest.raises(ConfigurationError, match="SerializableTokenCache") as caught:
            tokens.import_cache("eyJ0 hunter2")
        assert "hunter2" not in str(caught.value)
        tokens.get_access_token(GRAPH)
    with pytest.raises(ConfigurationError, match="closed"):
        tokens.export_cache()
    with pytest.raises(ConfigurationError, match="closed"):
        tokens.import_cache("{}")
