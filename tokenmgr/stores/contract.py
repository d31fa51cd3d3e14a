"""What every store has to do, as tests that any store can run.

::

    from tokenmgr.stores.contract import TokenStoreContract

    class TestTableStore(TokenStoreContract):
        @pytest.fixture
        def store(self):
            return TableStore(dsn)

``pytest.register_assert_rewrite("tokenmgr.stores.contract")`` in your ``conftest.py`` has failures
show values. The tests have threads; that other processes see the same is for you to try.

Two instances over the same data have to see the same; where a store has several, the fixture
``other`` gives the second.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

import pytest

from .base import TokenStore

__all__ = ["TokenStoreContract"]

#: Long enough for a slow machine to be in time for what is to happen before the end.
_LONG, _SHORT = 30.0, 0.05


class TokenStoreContract:
    """Subclass it and give it a fixture ``store``: pytest runs the rest."""

    @pytest.fixture
    def other(self, store: TokenStore) -> TokenStore:
        """Gives another instance over the same data: a second worker's."""
        return store

    @pytest.fixture
    def key(self) -> str:
        """Gives a key that nobody else uses."""
        return f"contract:{secrets.token_hex(16)}"

    def let_pass(self, seconds: float) -> None:
        """Lets time go by; override it where the store's clock is moved by hand."""
        time.sleep(seconds)

    def test_it_has_every_method(self, store: TokenStore) -> None:
        assert isinstance(store, TokenStore)

    def test_nothing_is_found_where_nothing_was_put(self, store: TokenStore, key: str) -> None:
        assert store.get(key) is None

    def test_what_is_put_is_found_by_every_worker(
        self, store: TokenStore, other: TokenStore, key: str
    ) -> None:
        store.put(key, b"value", _LONG)
        assert store.get(key) == b"value"
        assert other.get(key) == b"value"

    def test_a_value_is_any_bytes(self, store: TokenStore, key: str) -> None:
        value = bytes(range(256)) * 256
        store.put(key, value, _LONG)
        assert store.get(key) == value
        assert type(store.get(key)) is bytes, "such as psycopg2's memoryview: give bytes(value)"

    def test_a_later_value_takes_the_place_of_the_earlier(
        self, store: TokenStore, other: TokenStore, key: str
    ) -> None:
        store.put(key, b"earlier", _LONG)
        other.put(key, b"later", _LONG)
        assert store.get(key) == b"later"

    def test_keys_do_not_touch_each_other(self, store: TokenStore, key: str) -> None:
        store.put(key, b"value", _LONG)
        store.put(f"{key}:lease", b"another", _LONG)
        assert store.get(key) == b"value"
        assert store.delete(f"{key}:lease", b"another")
        assert store.get(key) == b"value"

    def test_a_value_ends_by_itself(self, store: TokenStore, other: TokenStore, key: str) -> None:
        store.put(key, b"value", _SHORT)
        self.let_pass(2 * _SHORT)
        assert store.get(key) is None
        assert other.get(key) is None

    def test_a_later_value_has_its_own_end(self, store: TokenStore, key: str) -> None:
        store.put(key, b"earlier", _SHORT)
        store.put(key, b"later", _LONG)
        self.let_pass(2 * _SHORT)
        assert store.get(key) == b"later"

    def test_only_the_value_that_is_there_is_deleted(
        self, store: TokenStore, other: TokenStore, key: str
    ) -> None:
        store.put(key, b"value", _LONG)
        assert not other.delete(key, b"another")
        assert store.get(key) == b"value"
        assert other.delete(key, b"value")
        assert store.get(key) is None
        assert not store.delete(key, b"value")

    def test_a_value_that_has_ended_cannot_be_deleted(self, store: TokenStore, key: str) -> None:
        store.put(key, b"value", _SHORT)
        self.let_pass(2 * _SHORT)
        assert not store.delete(key, b"value")

    def test_one_worker_at_a_time_holds_a_lease(
        self, store: TokenStore, other: TokenStore, key: str
    ) -> None:
        assert store.lease(key, b"one", _LONG)
        assert not other.lease(key, b"two", _LONG)
        assert not store.lease(key, b"one", _LONG)
        assert store.get(key) == b"one"

    def test_a_lease_is_given_back_by_its_holder_alone(
        self, store: TokenStore, other: TokenStore, key: str
    ) -> None:
        assert store.lease(key, b"one", _LONG)
        assert not other.delete(key, b"two")
        assert not other.lease(key, b"two", _LONG)
        assert store.delete(key, b"one")
        assert other.lease(key, b"two", _LONG)

    def test_a_dead_holder_s_lease_ends_by_itself(
        self, store: TokenStore, other: TokenStore, key: str
    ) -> None:
        assert store.lease(key, b"one", _SHORT)
        self.let_pass(2 * _SHORT)
        assert other.lease(key, b"two", _LONG)
        assert not store.delete(key, b"one")
        assert store.get(key) == b"two"

    def test_a_lease_may_be_put_over(self, store: TokenStore, key: str) -> None:
        assert store.lease(key, b"one", _LONG)
        store.put(key, b"what came of it", _LONG)
        assert not store.lease(key, b"two", _LONG)
        assert not store.delete(key, b"one")
        assert store.get(key) == b"what came of it"

    def test_of_many_threads_one_gets_the_lease(
        self, store: TokenStore, other: TokenStore, key: str
    ) -> None:
        def take(number: int) -> bool:
            return (store, other)[number % 2].lease(key, b"%d" % number, _LONG)

        assert sorted(_at_once(16, take)) == [False] * 15 + [True]

    def test_of_many_threads_one_deletes(
        self, store: TokenStore, other: TokenStore, key: str
    ) -> None:
        store.put(key, b"value", _LONG)

        def take(number: int) -> bool:
            return (store, other)[number % 2].delete(key, b"value")

        assert sorted(_at_once(16, take)) == [False] * 15 + [True]

    def test_it_opens_again_after_it_was_closed(self, store: TokenStore, key: str) -> None:
        store.close()
        store.put(key, b"value", _LONG)
        assert store.get(key) == b"value"
        store.close()
        store.close()


def _at_once(count: int, call: Callable[[int], bool]) -> list[bool]:
    """Calls it in so many threads at once, with their numbers; gives what came of it."""
    outcomes: list[bool] = []
    together = threading.Barrier(count)

    def run(number: int) -> None:
        together.wait(_LONG)
        outcomes.append(call(number))

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LONG)
    return outcomes
