"""A real SQLite file among workers: deleted, replaced, damaged, killed over and forked over."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fork_marks import unwarned_forks
from forking import Child, held, in_child
from programs import environment, run
from sqlite_files import beside, checked, fill, flipped, mode, open_files, overwritten, works
from waiting import until

from tokenmgr import StoreError
from tokenmgr.stores import SqliteStore
from tokenmgr.stores.sqlite import database as room
from tokenmgr.stores.sqlite.file import DatabaseFile

pytestmark = unwarned_forks

WORKER = str(Path(__file__).with_name("sqlite_worker.py"))


#: Far above what any wait for others takes: no test here is judged by the speed of its machine.
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PATIENCE", PATIENCE)


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return child


# Files that go away while they are in use


def test_a_deleted_file_is_made_anew_and_shared_by_all(
    store: SqliteStore, other: SqliteStore, path: Path
):
    store.put("key", b"earlier", 30.0)
    assert other.get("key") == b"earlier"
    path.unlink()
    store.put("key", b"later", 30.0)
    assert other.get("key") == b"later"
    checked(path)


def test_what_was_in_the_wal_of_a_deleted_file_does_not_come_back(
    store: SqliteStore, other: SqliteStore, path: Path
):
    store.put("gone", b"value", 30.0)
    assert beside(path, "-wal").stat().st_size
    path.unlink()
    other.put("key", b"value", 30.0)
    assert other.get("gone") is None
    assert store.get("gone") is None
    assert store.get("key") == b"value"
    checked(path)


def test_a_deleted_file_that_another_worker_still_has_open_does_no_harm(
    store: SqliteStore, path: Path
):
    has_it, go_on = multiprocessing.Event(), multiprocessing.Event()

    def work() -> bool:
        fill(store)
        has_it.set()
        assert go_on.wait(PATIENCE)
        found = store.get("key") == b"value"
        works(store)
        return found

    child = Child(work)
    assert has_it.wait(PATIENCE)
    path.unlink()
    store.put("key", b"value", 60.0)
    fill(store)
    go_on.set()
    assert child.outcome() is True
    assert store.get("key") == b"value"
    checked(path)


def test_a_wal_that_a_killed_worker_left_alone_does_not_come_back(path: Path):
    def work() -> None:
        store = SqliteStore(path)
        store.put("gone", b"value", 30.0)
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(forked(work), 0)
    path.unlink()
    assert beside(path, "-wal").stat().st_size
    store = SqliteStore(path)
    assert store.get("gone") is None
    works(store)
    store.close()
    checked(path)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no error codes")
def test_a_deleted_wal_keeps_no_new_worker_out(store: SqliteStore, other: SqliteStore, path: Path):
    fill(store)
    beside(path, "-wal").unlink()
    works(other)
    other.put("key", b"value", 60.0)
    assert store.get("key") == b"value"
    checked(path)


def test_all_files_are_deleted(store: SqliteStore, other: SqliteStore, path: Path):
    works(store)
    works(other)
    for file in path.parent.iterdir():
        file.unlink()
    store.put("key", b"value", 30.0)
    assert other.get("key") == b"value"


def test_the_directory_is_deleted(store: SqliteStore, path: Path):
    works(store)
    shutil.rmtree(path.parent)
    works(store)


def test_a_file_that_takes_its_place_is_used_without_the_old_ones_wal(
    store: SqliteStore, other: SqliteStore, path: Path
):
    replacement = SqliteStore(path.with_name("backup.db"))
    replacement.put("restored", b"value", 30.0)
    replacement.close()
    for number in range(50):
        store.put(f"gone-{number}", bytes(2000), 30.0)
    replacement.path.replace(path)
    assert other.get("restored") == b"value"
    other.put("key", b"value", 30.0)
    assert store.get("restored") == store.get("key") == b"value"
    assert store.get("gone-1") is None
    checked(path)


def test_who_closes_a_file_that_was_put_aside_leaves_the_new_ones_wal(
    store: SqliteStore, other: SqliteStore, path: Path
):
    for each in (store, other):
        works(each)
    store._database._damaged = store._database._failed = True
    store.put("key", b"value", 30.0)
    wal = beside(path, "-wal").stat()
    assert beside(path, "-broken").exists()
    other.close()
    assert beside(path, "-wal").stat() == wal
    assert other.get("key") == b"value"


def test_a_lock_file_that_somebody_deleted_is_locked_by_nobody(path: Path):
    first, second, third = (DatabaseFile(path) for _ in range(3))
    soon = time.monotonic() + PATIENCE
    steps: list[str] = []

    def wait_for_it() -> None:
        with second.locked(soon):
            steps.append("second")

    waiting = threading.Thread(target=wait_for_it)
    with contextlib.ExitStack() as deleted:
        deleted.enter_context(first.locked(soon))
        waiting.start()
        until(lambda: open_files(beside(path, "-lock")) == 2, "the second one's waiting")
        beside(path, "-lock").unlink()
        with third.locked(soon):
            deleted.close()
            until(lambda: open_files(beside(path, "-lock")) == 2, "another try of the second one's")
            steps.append("third")
    waiting.join(PATIENCE)
    assert steps == ["third", "second"]


def test_a_copy_of_the_locks_descriptor_in_a_child_keeps_nobody_out(path: Path):
    first, second = DatabaseFile(path), DatabaseFile(path)
    with contextlib.ExitStack() as stack:
        with first.locked(0.0):
            stack.callback(os.close, os.dup(first._lock_file.fileno()))
        with second.locked(0.0):
            pass


# Damage


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing left": lambda data: b"",
    "garbage": lambda data: random.Random(1).randbytes(len(data)),
    "text": lambda data: b"no database " * 1000,
    "zeros": lambda data: bytes(len(data)),
    "garbage after the header": lambda data: data[:100] + random.Random(1).randbytes(len(data)),
    "garbage after a page": lambda data: data[:4096] + random.Random(1).randbytes(len(data)),
    "cut in the header": lambda data: data[:50],
    "cut in the first page": lambda data: data[:2000],
    "cut after the first page": lambda data: data[:4096],
    "cut after the second page": lambda data: data[:8192],
    "cut in a page": lambda data: data[:10_000],
    # https://sqlite.org/fileformat2.html, section 1.3
    "a version not to be written": lambda data: flipped(data, 18, 3),
    "a version not to be read": lambda data: flipped(data, 19, 3),
    "an unknown format of the schema": lambda data: flipped(data, 47, 4),
    "an unknown page size": lambda data: flipped(data, 16, 0),
    "garbage in the schema": lambda data: data.replace(b"CREATE TABLE", b"CREATE \xffABLE"),
    "another program's mark": lambda data: flipped(data, 68, 0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("in_use", [True, False], ids=["in use", "not in use"])
def test_a_damaged_file_is_put_aside_and_made_anew(
    store: SqliteStore,
    other: SqliteStore,
    path: Path,
    damage: Callable[[bytes], bytes],
    in_use: bool,
):
    fill(store)
    store.close()
    if in_use:
        for each in (store, other):
            assert each.get("key-1")
    overwritten(path, damage(path.read_bytes()))
    fill(other)
    fill(store)
    for each in (store, other):
        assert each.get("key-199") == b"199" * 500
        works(each)
    store.close()
    other.close()
    works(store)  # what nobody has read so far is found now
    store.close()
    checked(path)
    assert not beside(path, "-wal").exists()


def test_a_damaged_value_is_none(store: SqliteStore, path: Path):
    store.put("number", b"value", 60.0)
    store.put("text", b"value", 60.0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE records SET value = 7 WHERE key = 'number'")
        connection.execute("UPDATE records SET value = CAST(x'FFFE' AS TEXT) WHERE key = 'text'")
    assert store.get("number") is None
    assert store.get("text") is None


def test_what_was_damaged_lies_beside_it_as_it_was_and_is_told(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
):
    for number in range(3):
        works(store)
        store.close()
        overwritten(path, b"garbage %d" % number)
        works(store)
        assert beside(path, "-broken").read_bytes() == b"garbage %d" % number
        assert mode(beside(path, "-broken")) == 0o600
    names = {file.name for file in path.parent.iterdir()}
    assert names == {f"tokens.db{end}" for end in ("", "-wal", "-shm", "-lock", "-broken")}
    assert caplog.messages == [f"{path} was damaged: it is {path}-broken now, and made anew"] * 3


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_garbage_beside_the_file_harms_nothing(path: Path, suffix: str):
    store = SqliteStore(path)
    fill(store)
    store.close()
    beside(path, suffix).write_bytes(random.Random(1).randbytes(100_000))
    assert store.get("key-199") == b"199" * 500
    works(store)
    store.close()
    checked(path)


#: Where the header has the schema's version (https://sqlite.org/fileformat2.html, section 1.3).
USER_VERSION = range(60, 64)


def test_a_flipped_bit_in_the_header_is_survived(store: SqliteStore, path: Path):
    rng = random.Random(7)
    fill(store)
    store.close()
    good = path.read_bytes()
    for byte in range(100):
        if byte not in USER_VERSION:
            overwritten(path, flipped(good, byte, rng.randrange(8)))
            works(store)
            store.close()


def test_a_flipped_bit_anywhere_is_no_error(store: SqliteStore, path: Path):
    rng = random.Random(7)
    fill(store)
    store.close()
    good = path.read_bytes()
    for byte in rng.sample(range(100, len(good)), 100):
        overwritten(path, flipped(good, byte, rng.randrange(8)))
        for number in range(0, 200, 40):
            store.get(f"key-{number}")
            store.put(f"key-{number}", b"value", 60.0)
            store.lease(f"lease-{number}", b"owner", 60.0)
            store.delete(f"key-{number}", b"value")
        store.close()


def test_a_table_that_somebody_dropped_is_made_anew(store: SqliteStore, path: Path):
    works(store)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE records")
        connection.commit()
    with pytest.raises(StoreError, match="no such table"):
        works(store)
    works(store)


def test_many_processes_that_find_it_damaged_together_mend_it_once(path: Path):
    store = SqliteStore(path)
    fill(store)
    store.close()
    go, said = multiprocessing.Event(), []

    def work(number: int) -> list[Any]:
        mine = SqliteStore(path)
        assert mine.get("key-1")
        ready[number].set()
        assert go.wait(20)
        mine.put(f"mine-{number}", b"value", 60.0)
        return [mine.get(f"mine-{number}") is not None, path.stat().st_ino]

    for _ in range(2):
        go.clear()
        ready = [multiprocessing.Event() for _ in range(16)]
        children = [Child(lambda number=number: work(number)) for number in range(16)]
        assert all(event.wait(20) for event in ready)
        overwritten(path, b"garbage")
        go.set()
        said = [child.outcome() for child in children]
        assert said == [[True, path.stat().st_ino]] * 16
        fill(store)
        assert all(store.get(f"mine-{number}") for number in range(16))
        store.close()
        checked(path)


# Processes


def test_many_processes_and_threads_share_it_without_an_error(path: Path):
    waiting, go = os.pipe()  # they begin together, when its end is closed
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, "hammer", str(path), "1", "2", str(PATIENCE)],
            stdin=waiting,
            stdout=subprocess.PIPE,
            env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        )
        for _ in range(16)
    ]
    os.close(waiting)
    assert [worker.stdout.readline() for worker in workers] == [b'"ready"\n'] * 16
    os.close(go)
    said = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    assert [each["errors"] for each in said] == [[]] * 16
    for step in ("put", "get", "lease", "held", "open_anew"):
        assert sum(each["counts"].get(step, 0) for each in said) > 10
    checked(path)


def test_killed_writers_leave_a_good_file(path: Path):
    rng = random.Random(3)
    killed = os.getpid()

    def write(number: int) -> None:
        store = SqliteStore(path)
        while os.getppid() == killed:
            store.put(f"key-{number}", os.urandom(rng.randrange(20_000)), 60.0)
            store.lease("lease", b"%d" % number, 60.0)
            store.delete("lease", b"%d" % number)
            if rng.random() < 0.1:
                store.close()

    survivor = SqliteStore(path)
    for number in range(20):
        children = [forked(lambda number=number: write(number)) for _ in range(2)]
        works(survivor)
        threading.Event().wait(rng.random() * 0.05)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        works(survivor)
        checked(path)
    assert not beside(path, "-broken").exists()
    survivor.close()


def test_deleting_and_damaging_it_all_the_time_stops_nobody(path: Path):
    """Whatever is done to the files, when it is over all workers share one that is good."""
    over = multiprocessing.Event()
    settled = multiprocessing.Barrier(5)
    rng = random.Random(5)

    def work(number: int) -> bool:
        store = SqliteStore(path)
        while not over.is_set():
            with contextlib.suppress(StoreError):
                store.put(f"key-{number}", os.urandom(5000), 60.0)
                store.get("key-0")
                if random.random() < 0.02:
                    store.close()
        store.put(f"end-{number}", b"value", 60.0)
        settled.wait(20)
        return all(store.get(f"end-{each}") == b"value" for each in range(4))

    children = [Child(lambda number=number: work(number)) for number in range(4)]
    for _ in range(60):
        rng.choice([_delete, _delete_all, _put_garbage, _cut, _flip])(path, rng)
        threading.Event().wait(0.02)
    _delete(path, rng)  # what a flipped bit did may be found much later
    over.set()
    settled.wait(20)
    assert [child.outcome() for child in children] == [True] * 4
    checked(path)


def _delete(path: Path, rng: random.Random) -> None:
    path.unlink(missing_ok=True)


def _delete_all(path: Path, rng: random.Random) -> None:
    for suffix in ("", "-wal", "-shm", "-lock"):
        beside(path, suffix).unlink(missing_ok=True)


def _put_garbage(path: Path, rng: random.Random) -> None:
    with contextlib.suppress(FileNotFoundError):
        overwritten(path, rng.randbytes(10_000))


def _cut(path: Path, rng: random.Random) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path, rng: random.Random) -> None:
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        file.seek(rng.randrange(20, 8192))
        file.write(rng.randbytes(8))


# Forks


def test_a_fork_closes_the_file_and_both_open_it_anew(store: SqliteStore, path: Path):
    store.put("key", b"value", 30.0)

    def work() -> list[Any]:
        carried = store._database._connection is not None
        found = store.get("key") == b"value"
        store.put("child's", b"value", 30.0)
        works(store)
        return [carried, found]

    assert in_child(work) == [False, True]
    assert store.get("child's") == b"value"
    works(store)
    checked(path)


def test_a_child_of_a_child_uses_it_too(store: SqliteStore):
    works(store)
    assert in_child(lambda: [works(store), in_child(lambda: works(store))]) == [None, None]
    works(store)


def test_what_a_child_closes_stays_open_in_its_parent(store: SqliteStore):
    works(store)

    def work() -> None:
        works(store)
        store.close()

    child = Child(work)
    works(store)
    connection = store._database._connection
    child.outcome()
    works(store)
    assert store._database._connection is connection


def test_children_of_multiprocessing_use_it(store: SqliteStore):
    store.put("key", b"value", 30.0)
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=store.put, args=(f"child-{number}", b"value", 30.0))
        for number in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert all(store.get(f"child-{number}") for number in range(4))


def test_a_fork_at_any_moment_leaves_both_with_a_store_that_works(store: SqliteStore, path: Path):
    done = threading.Event()
    errors: list[Exception] = []

    def hammer(number: int) -> None:
        try:
            while not done.is_set():
                store.put(f"key-{number}", os.urandom(2000), 30.0)
                store.get(f"key-{number}")
                if random.random() < 0.01:
                    store.close()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is an error
            errors.append(exc)

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(12):
            assert in_child(lambda: works(store)) is None
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert errors == []
    checked(path)


def test_a_fork_while_a_thread_waits_with_the_lock_leaves_a_child_that_works(store: SqliteStore):
    works(store)
    store.close()
    with held(store._database._lock), pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_LONGEST_USE", 0.05)
        assert in_child(lambda: works(store)) is None
    works(store)


def test_a_child_that_was_forked_in_the_middle_of_a_use_leaves_the_file_alone(path: Path):
    quiet = ("-W", "error", "-W", "ignore::DeprecationWarning")  # Python 3.12's, as above
    said = run(
        *(*quiet, WORKER, "inherit", str(path)),
        PYTHONPATH=os.pathsep.join(sys.path),
        COVERAGE_PROCESS_CONFIG="",  # coverage has connections of its own
    )
    lines = said.stdout.splitlines()
    assert "was forked while" in lines[0]
    # It is closed once, by the parent: neither is it finalized in the child, at its end.
    assert lines[1:] == ['"value"', "finalized"]
    assert (said.returncode, said.stderr) == (0, "")


def is_taken(lock: threading.RLock) -> bool:
    """Whether another thread has it."""
    if not lock.acquire(blocking=False):
        return True
    lock.release()
    return False


def test_who_has_just_had_the_file_does_not_take_it_before_those_that_wait(store: SqliteStore):
    works(store)
    database = store._database
    soon = time.monotonic() + PATIENCE
    assert database._take(soon)
    got_it, let_go = threading.Event(), threading.Event()

    def wait_for_it() -> None:
        assert database._take(soon)
        got_it.set()
        let_go.wait(PATIENCE)
        database._leave()

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    until(lambda: is_taken(database._door), "its waiting")
    database._leave()
    assert not database._take(0.0)
    assert got_it.wait(PATIENCE)
    let_go.set()
    waiting.join(PATIENCE)


def test_an_operation_that_is_under_way_ends_before_the_fork(store: SqliteStore):
    """Forks wait for it: the child of one that did not could never use the file."""
    works(store)
    lock = store._database._lock
    lock.acquire()
    forks = threading.Thread(target=lambda: said.append(in_child(lambda: works(store))))
    said: list[Any] = []
    forks.start()
    lock.release()
    forks.join(30)
    assert said == [None]


# Its end


def test_a_program_that_ends_takes_the_files_beside_it_along(path: Path):
    said = run("-W", "error", WORKER, "use", str(path), PYTHONPATH=os.pathsep.join(sys.path))
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert {file.name for file in path.parent.iterdir()} == {"tokens.db", "tokens.db-lock"}
    store = SqliteStore(path)
    assert store.get("kept") == store.get("key") == b"value"
    store.close()


def test_a_store_that_nobody_holds_any_more_is_closed(path: Path):
    store = SqliteStore(path)
    works(store)
    assert open_files(path) == 1
    del store
    until(lambda: open_files(path) == 0, "the closing of the file")


def test_a_store_that_was_never_used_is_closed_without_a_file(path: Path):
    SqliteStore(path).close()
    assert not list(path.parent.iterdir())
