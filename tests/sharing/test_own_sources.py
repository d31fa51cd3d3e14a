"""Managers over a program's own source, whose tokens are shared in a store."""

from __future__ import annotations

from typing import Any

import psutil
import pytest
from reporting import told_of
from support import KEY, STORE_KEY, FakeClock, FakeSource, RecordingStore, settle

from tokenmgr import AccessTokenManager, ConfigurationError


def manager(clock: FakeClock, source: FakeSource, store: Any, **more: Any) -> AccessTokenManager:
    given = {"store": store, "encryption_key": STORE_KEY, "clock": clock} | more
    return AccessTokenManager(source, KEY, **given)


def test_what_one_manager_fetches_another_finds(clock, source, store):
    one, other = (manager(clock, source, store) for _ in range(2))
    assert one.get_access_token() == other.get_access_token() == "token-1"
    assert source.fetches == 1
    one.close()
    other.close()


@pytest.mark.parametrize(
    "different", [{"encryption_key": STORE_KEY + "!"}, {"namespace": "other"}], ids=str
)
def test_another_key_and_another_name_are_another_store(clock, source, store, different):
    one, other = manager(clock, source, store), manager(clock, source, store, **different)
    assert one.get_access_token() != other.get_access_token()
    one.close()
    other.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"encryption_key": None}, "encryption_key="),
        ({"encryption_key": "short"}, "encryption_key="),
        ({"namespace": "no name"}, "namespace="),
        ({"store": 5}, "store="),
        ({"store": "postgres://app:hunter2@db"}, "store="),
    ],
    ids=str,
)
def test_a_store_that_would_keep_tokens_open_is_refused(clock, source, store, wrong, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        manager(clock, source, **({"store": store} | wrong))
    assert told_of(caught.value, (STORE_KEY, "hunter2")) == []


def test_a_manager_closes_what_it_has_opened_and_nothing_else(clock, source, store, tmp_path):
    def is_open() -> bool:
        return any("tokens.db" in each.path for each in psutil.Process().open_files())

    url = f"sqlite:///{tmp_path}/tokens.db"
    one, other = manager(clock, source, url), manager(clock, source, url)
    assert one.get_access_token() == other.get_access_token()
    one.close()
    assert is_open(), "the other one has it still"
    other.close()
    assert not is_open()
    one.close()
    own = manager(clock, source, store)
    own.get_access_token()
    own.close()
    assert store.get("anything") is None, "it is the program's"


def test_a_fetch_that_is_under_way_at_the_end_is_found_by_others(clock, source, store):
    one, other = (manager(clock, source, store) for _ in range(2))
    source.gate.clear()
    source.during = one._part.stop  # as close() does, before it waits for the fetch
    one.prefetch()
    source.entered.acquire()
    source.gate.set()
    settle(one)
    one.close()
    source.during = lambda: None
    assert other.get_access_token() == "token-1"
    other.close()


def test_without_a_store_nothing_is_shared(clock, source):
    one, other = (AccessTokenManager(source, KEY, clock=clock) for _ in range(2))
    assert one.get_access_token() != other.get_access_token()


def test_the_store_holds_no_token_as_it_is(clock, source):
    store = RecordingStore(clock)
    one = manager(clock, source, store)
    one.get_access_token()
    kept = b"".join(store.get(name) or b"" for name in store.names)
    assert kept
    assert b"token-1" not in kept
    one.close()
