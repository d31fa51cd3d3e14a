"""Many registries in one process: what they may have open, and the stores that they share."""

from __future__ import annotations

import gc
import json
import sys
import threading

import programs
import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from sqlite_files import open_files
from support import SCOPE, in_threads

from tokenmgr import TokenRegistry
from tokenmgr.stores import MemoryStore, take_store

ORDERS = "api://orders/.default"

shows_open_files = pytest.mark.skipif(sys.platform != "linux", reason="/proc shows what is open")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.db"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


def store(tokens: TokenRegistry) -> object:
    return tokens._own.app.sealed.store._store


@shows_open_files
@pytest.mark.parametrize("kind", ["one", "each"])
@pytest.mark.parametrize("with_store", [False, True], ids=["alone", "with SQLite"])
def test_more_tenants_than_files_may_be_open_all_have_their_tokens(entra, url, with_store, kind):
    program, variables = str(programs.TESTS / "many_registries.py"), programs.with_tests()

    done = programs.run(
        *(program, entra.url, "320", "256", kind, *([url] if with_store else [])),
        **(entra.environment() | variables),
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tokens"] == entra.count() == 320, done.stderr
    # A quarter of them are connections, and a few are of other kinds.
    assert found["files"] < 100


@shows_open_files
def test_registries_of_one_file_have_it_open_once_and_the_last_one_closes_it(entra, path, url):
    tenants = [entra.authority(f"tenant-{number}.onmicrosoft.com") for number in range(5)]
    several = [entra.registry(store=url, authority=tenant) for tenant in tenants]
    for tokens in several:
        tokens.get_access_token(SCOPE)
    assert open_files(path) == 1

    for tokens in several[:-1]:
        tokens.close()
    assert open_files(path) == 1
    several[-1].get_access_token(ORDERS)

    several[-1].close()
    assert open_files(path) == 0


def test_a_path_may_be_relative_and_other_files_are_other_stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = take_store("sqlite:///tokens.db")
    same = take_store(f"SQLite:///{tmp_path}/t%6Fkens.db")
    other = take_store("sqlite:///other.db")
    assert one.thing is same.thing
    assert one.thing is not other.thing


def test_a_relative_path_names_another_file_in_another_directory(tmp_path, monkeypatch):
    paths = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        paths.append(take_store("sqlite:///tokens.db").thing.path)
    assert paths == [tmp_path / "one" / "tokens.db", tmp_path / "other" / "tokens.db"]


def test_redis_stores_are_shared_where_their_urls_are_the_same():
    pytest.importorskip("redis")
    urls = ["redis://app:hunter2@127.0.0.1/0", "redis://app:hunter3@127.0.0.1/0"]
    urls.append(f"{urls[0]}?socket_timeout=1")
    shares = [take_store(url) for url in urls]
    assert take_store(urls[0]).thing is shares[0].thing
    assert len({share.thing for share in shares}) == 3


def test_a_store_that_was_passed_in_is_its_owner_s(entra):
    mine = MemoryStore()
    with entra.registry(store=mine) as one, entra.registry(store=mine) as other:
        assert store(one) is store(other) is mine


@shows_open_files
def test_a_registry_that_is_dropped_closes_its_file(entra, path, url):
    tokens = entra.registry(store=url)
    tokens.get_access_token(SCOPE)
    tokens._own.app.context.settle(10)
    assert open_files(path) == 1
    del tokens
    gc.collect()
    assert open_files(path) == 0


def test_registries_that_come_and_go_at_once_take_nothing_from_each_other(entra, path, url):
    failures: list[object] = []

    def come_and_go() -> None:
        for number in range(15):
            tenant = entra.authority(f"{threading.get_ident()}-{number}.onmicrosoft.com")
            on_event = lambda event: (  # noqa: E731
                failures.append(event) if "Failed" in type(event).__name__ else None
            )
            with entra.registry(store=url, authority=tenant, on_event=on_event) as tokens:
                tokens.get_access_token(SCOPE)

    assert in_threads(2, come_and_go, timeout=60.0) == [None] * 2
    assert failures == []
    assert open_files(path) == 0


@needs_fork
@unwarned_forks
@shows_open_files
def test_a_child_shares_a_file_too_and_its_parent_goes_on(entra, path, url):
    with entra.registry(store=url) as one, entra.registry(store=url) as other:
        one.get_access_token(SCOPE)
        one._own.app.context.settle(
            10
        )  # or the parent may be in the middle of something with the file

        def in_the_child() -> list[int]:
            found = [one.get_access_token(ORDERS) == other.get_access_token(ORDERS)]
            found.append(open_files(path))
            one.close()
            found.append(open_files(path))
            other.close()
            return [*found, open_files(path)]

        assert in_child(in_the_child) == [True, 1, 1, 0]
        assert other.get_access_token(SCOPE) == one.get_access_token(SCOPE)
        assert entra.count() == 2
