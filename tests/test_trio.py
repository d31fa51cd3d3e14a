"""Trio's coroutines: what needs no waiting works, and what does says what to call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from support import SCOPE, FakeClock, FakeSource

from tokenmgr import AccessTokenManager, ConfigurationError
from tokenmgr.emulator import EntraEmulator


def run(call: Callable[[], Awaitable[object]]) -> object:
    async def main() -> object:
        return await call()

    return trio.run(main)


def test_a_token_in_hand_is_had_and_waiting_for_one_names_the_way(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    with pytest.raises(ConfigurationError, match=r"trio\.to_thread\.run_sync"):
        run(manager.aget_access_token)
    assert run(lambda: trio.to_thread.run_sync(manager.get_access_token)) == "token-1"
    assert run(manager.aget_access_token) == "token-1"
    with pytest.raises(ConfigurationError, match=r"trio\.to_thread\.run_sync"):
        run(manager.arefresh_access_token)


def test_a_registry_says_the_same(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        tokens.manager(SCOPE)
        for call in (tokens.aprefetch, tokens.aclose):
            with pytest.raises(ConfigurationError, match=r"trio\.to_thread\.run_sync"):
                run(call)
        assert tokens.get_access_token(SCOPE)
