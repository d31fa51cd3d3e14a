"""What completion offers on objects that users have in hand: what they may call, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import KEY, SCOPE, STORE_KEY, FakeClock, FakeSource

from tokenmgr import AccessTokenManager, Authority, RefreshPolicy, TokenRegistry
from tokenmgr.sidecar import AsyncSidecarClient, SidecarClient, SidecarSource
from tokenmgr.stores import MemoryStore, RedisStore, SqliteStore

MANAGER = """
aget_access_token aget_token aheaders arefresh_access_token close from_secret get_access_token
get_token headers invalidate key prefetch refresh_access_token scopes status
"""
REGISTRY = """
abegin_auth_code abegin_device_code aclose acomplete_auth_code aget_access_token aprefetch auser
ausers authorization_request_url begin_auth_code begin_device_code close complete_auth_code
export_cache from_env get_access_token health import_cache manager on_behalf_of prefetch
redeem_auth_code redeem_refresh_token session sign_in sign_in_with_password status tenant user
users
"""
SESSION = """
aend asign_out claims end home_account_id manager sign_out username
"""
SIDECAR = """
base_url call_downstream_api close get_authorization_header healthy validate wait_until_ready
"""
POLICY = """
backoff_base backoff_cap jitter margin max_wait min_margin retry_after_cap skew
"""
AUTHORITY = """
adfs b2c ciam entra host is_multi_tenant_alias kind oidc parse policy tenant url
"""


def registry() -> TokenRegistry:
    return TokenRegistry(
        client_id=KEY.client_id,
        credential="secret",
        authority=KEY.authority,
        store=MemoryStore(),
        encryption_key=STORE_KEY,
    )


def used(manager: AccessTokenManager) -> AccessTokenManager:
    """Has it grow what it grows as it is used."""
    manager.refresh_access_token(claims="c")
    manager.invalidate(manager.get_token())
    return manager


def over_a_source() -> AccessTokenManager:
    clock = FakeClock()
    return AccessTokenManager(FakeSource(clock), KEY, clock=clock)


OBJECTS = {
    "a manager over a source": (lambda folder: used(over_a_source()), MANAGER),
    "a manager of a registry": (lambda folder: registry().manager(SCOPE), MANAGER),
    "a registry": (lambda folder: registry(), REGISTRY),
    "a session": (lambda folder: registry().session("job"), SESSION),
    "a store in memory": (lambda folder: MemoryStore(), "close delete get lease put"),
    "a store in SQLite": (
        lambda folder: SqliteStore(folder / "tokens.db"),
        "close delete from_url get lease path put",
    ),
    "a store in Redis": (
        lambda folder: RedisStore.from_url("redis://localhost"),
        "close delete from_url get lease put",
    ),
    "a sidecar": (lambda folder: SidecarClient(), SIDECAR),
    "a sidecar, from coroutines": (
        lambda folder: AsyncSidecarClient(),
        SIDECAR.replace("close ", "").replace("\nbase_url", "\naclose base_url"),
    ),
    "a source": (
        lambda folder: SidecarSource(SidecarClient(), "Graph", as_app=True),
        "check ends_at fetch_token key manager",
    ),
    "a policy": (lambda folder: RefreshPolicy(), POLICY),
    "an authority": (lambda folder: Authority.entra("contoso.com"), AUTHORITY),
}


@pytest.mark.parametrize(("make", "names"), OBJECTS.values(), ids=OBJECTS.keys())
def test_completion_offers_what_a_user_may_call(make, names: str, tmp_path: Path) -> None:
    offered = [name for name in dir(make(tmp_path)) if not name.startswith("_")]
    assert offered == names.split()
