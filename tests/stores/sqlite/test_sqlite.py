"""Records and leases in a real SQLite file: whose it is, who may read it, what is in the way."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import resource
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fork_marks import unwarned_forks
from forking import Child, held, in_child
from nobody import become_nobody, give_away
from programs import run
from sqlite_files import beside, checked, fill, mode, said_by, works
from support import FakeClock, in_threads
from waiting import until

from tokenmgr import ConfigurationError, StoreError
from tokenmgr.stores import SqliteStore, open_store
from tokenmgr.stores.contract import TokenStoreContract
from tokenmgr.stores.sqlite.file import DatabaseFile

pytestmark = unwarned_forks


@pytest.fixture
def timed(path: Path, clock: FakeClock) -> Iterator[SqliteStore]:
    """A store whose clock is moved by hand."""
    with contextlib.closing(SqliteStore(path, clock=clock)) as timed:
        yield timed


class TestSqliteStore(TokenStoreContract):
    @pytest.fixture
    def store(self, path: Path, clock: FakeClock) -> Iterator[SqliteStore]:
        self.clock = clock
        with contextlib.closing(SqliteStore(path, clock=clock)) as store:
            yield store

    @pytest.fixture
    def other(self, path: Path, clock: FakeClock) -> Iterator[SqliteStore]:
        with contextlib.closing(SqliteStore(path, clock=clock)) as other:
            yield other

    def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)


# Its name


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///tokens.db", Path.cwd() / "tokens.db"),
        ("SQLite:///run/tokens.db", Path.cwd() / "run/tokens.db"),
        ("sqlite:////var/lib/app/tokens.db", Path("/var/lib/app/tokens.db")),
        ("sqlite:////var/my%20app/100%25%3F%23.db", Path("/var/my app/100%?#.db")),
        ("sqlite:////var/caf%C3%A9/%FF.db", Path("/var/café/\udcff.db")),
    ],
)
def test_a_url_names_the_file(url: str, expected: Path):
    store = open_store(url)
    assert isinstance(store, SqliteStore)
    assert store.path == expected


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:tokens.db",
        "sqlite:/tokens.db",
        "sqlite://tokens.db",
        "sqlite://user:hunter2@host/tokens.db",
        "sqlite:///tokens.db?mode=ro&password=hunter2",
        "sqlite:///tokens.db#1",
        "sqlite://",
        "sqlite:",
    ],
)
def test_what_names_no_file_of_this_host_is_refused_without_repeating_it(url: str):
    with pytest.raises(ConfigurationError, match=r"'sqlite:///relative\.db'") as caught:
        SqliteStore.from_url(url)
    assert "hunter2" not in str(caught.value)
    assert all("hunter2" not in str(each.frame.f_locals) for each in caught.traceback[1:])


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:////var/lib/", "sqlite:///a%00b.db"])
def test_what_is_no_path_of_a_file_is_refused(url: str):
    with pytest.raises(ConfigurationError, match=r"'sqlite:////var/lib/app/tokens\.db'"):
        SqliteStore.from_url(url)


@pytest.mark.parametrize("url", [None, 5, b"sqlite:///tokens.db"])
def test_what_is_no_text_names_no_store(url: object):
    with pytest.raises(ConfigurationError, match="store= is a URL such as"):
        open_store(url)


def test_a_database_in_memory_is_refused_since_nobody_would_share_it():
    with pytest.raises(ConfigurationError, match="MemoryStore"):
        SqliteStore.from_url("sqlite:///:memory:")


def test_its_making_touches_no_file_and_its_repr_tells_the_path(path: Path):
    assert repr(SqliteStore(path)) == f"SqliteStore({str(path)!r})"
    assert not list(path.parent.iterdir())


def test_it_stays_the_same_file_when_the_program_changes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("tokens.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    works(store)
    store.close()
    assert (tmp_path / "tokens.db").exists()


def test_sqlite_is_imported_with_the_first_use():
    # Asked of the room that imports sqlite3: what measures coverage imports it too.
    program = (
        "import sys; from tokenmgr.stores import SqliteStore; SqliteStore('tokens.db'); "
        "print('tokenmgr.stores.sqlite.database' in sys.modules)"
    )
    assert run("-c", program).stdout == "False\n"


# Time


def test_a_lease_from_before_the_clock_was_set_back_has_ended(timed: SqliteStore, clock: FakeClock):
    assert timed.lease("key", b"one", 12.0)
    clock.step_wall(-3600)
    assert timed.lease("key", b"two", 12.0)
    assert not timed.lease("key", b"three", 12.0)


def test_a_record_from_before_the_clock_was_set_back_is_not_believed(
    timed: SqliteStore, clock: FakeClock
):
    timed.put("key", b"value", 60.0)
    clock.step_wall(-3600)
    assert timed.get("key") is None
    assert not timed.delete("key", b"value")


def test_a_lease_outlasts_the_small_steps_of_a_time_service(timed: SqliteStore, clock: FakeClock):
    assert timed.lease("key", b"one", 12.0)
    clock.step_wall(-0.5)
    assert not timed.lease("key", b"two", 12.0)
    assert timed.get("key") == b"one"


def test_a_worker_that_waited_for_the_file_does_not_take_what_was_leased_meanwhile(
    timed: SqliteStore, path: Path, clock: FakeClock
):
    timed.put("else", b"value", 60.0)
    late = SqliteStore(path, clock=clock)
    late.put("else", b"value", 60.0)
    connection = timed._database._connection
    connection.execute("BEGIN IMMEDIATE")
    outcomes: list[bool] = []
    waiting = threading.Thread(target=lambda: outcomes.append(late.lease("key", b"late", 12.0)))
    waiting.start()
    until(lambda: late._database._inside, "its waiting")
    clock.advance(5.0)
    assert timed.lease("key", b"in time", 12.0)
    connection.execute("COMMIT")
    waiting.join(30)
    assert outcomes == [False]
    assert timed.get("key") == b"in time"
    late.close()


def test_a_lease_is_not_given_over_a_record_that_lives_longer_than_it_would(store: SqliteStore):
    store.put("key", b"value", 3600.0)
    assert not store.lease("key", b"owner", 12.0)


def test_the_file_does_not_grow_with_what_has_ended(
    timed: SqliteStore, clock: FakeClock, path: Path
):
    for number in range(10_000):
        timed.put(hashlib.sha256(b"%d" % number).hexdigest(), bytes(1000), 100.0)
        clock.advance(1.0)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((rows,),) = connection.execute("SELECT count(*) FROM records")
    assert rows < 200
    assert path.stat().st_size < 1_000_000


def test_among_many_that_live_what_has_ended_is_a_quarter(
    timed: SqliteStore, clock: FakeClock, path: Path
):
    for number in range(6_000):
        timed.put(hashlib.sha256(b"%d" % number).hexdigest(), b"value", 1_000.0)
        clock.advance(1.0)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((rows,),) = connection.execute("SELECT count(*) FROM records")
    assert rows < 1_000 / 0.7


def test_programs_that_put_one_record_each_sweep_too(path: Path, clock: FakeClock):
    for number in range(20):
        with contextlib.closing(SqliteStore(path, clock=clock)) as store:
            store.put(f"key-{number}", b"value", 1.0)
        clock.advance(2.0)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchall() == [(1,)]


# Modes and owners


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_only_its_user_reads_it_whatever_the_umask(path: Path, umask: int):
    path = path.parent / "made" / "for it" / path.name

    def work() -> list[int]:
        os.umask(umask)
        store = SqliteStore(path)
        store.put("key", b"value", 30.0)
        files = [path, *(beside(path, suffix) for suffix in ("-wal", "-shm", "-lock"))]
        return [mode(file) for file in [*files, path.parent, path.parent.parent]]

    assert in_child(work) == [0o600] * 4 + [0o700] * 2


def test_a_file_that_others_may_read_is_tightened(store: SqliteStore, path: Path):
    store.put("key", b"value", 30.0)
    files = [path, *(beside(path, suffix) for suffix in ("-wal", "-shm", "-lock"))]
    for file in files:
        file.chmod(0o666)
    other = SqliteStore(path)
    assert other.get("key") == b"value"
    assert [mode(file) for file in files] == [0o600] * 4
    other.close()


def test_what_sqlite_made_read_only_while_the_file_was_is_made_writable(
    store: SqliteStore, other: SqliteStore, path: Path
):
    works(store)
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).chmod(0o400)
    works(other)
    assert mode(beside(path, "-wal")) == mode(beside(path, "-shm")) == 0o600


def test_a_directory_that_is_there_keeps_its_mode(store: SqliteStore, path: Path):
    path.parent.chmod(0o755)
    works(store)
    assert mode(path.parent) == 0o755


def _link(path: Path) -> None:
    (path.parent / "elsewhere.db").touch()
    path.symlink_to(path.parent / "elsewhere.db")


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a symbolic link": (_link, "is a symbolic link: give the path of the file itself"),
    "a directory": (lambda path: path.mkdir(), "is a directory: give the path of a file in it"),
    "a pipe": (os.mkfifo, "is no regular file: give another path"),
}


@pytest.mark.parametrize(("make", "said"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_is_no_file_is_refused_and_left(
    store: SqliteStore, path: Path, make: Callable[[Path], object], said: str
):
    make(path)
    before = path.lstat()
    with pytest.raises(StoreError, match=said):
        store.get("key")
    assert path.lstat() == before


def test_a_link_in_place_of_the_lock_file_is_not_followed(store: SqliteStore, path: Path):
    target = path.parent / "target"
    beside(path, "-lock").symlink_to(target)
    with pytest.raises(StoreError, match="-lock cannot be used"):
        store.get("key")
    assert not target.exists()


def test_a_link_in_place_of_sqlites_own_file_is_not_followed(store: SqliteStore, path: Path):
    target = path.parent / "target"
    target.touch(mode=0o644)
    works(store)
    store.close()
    beside(path, "-wal").symlink_to(target)
    with pytest.raises(StoreError, match="-wal is a symbolic link"):
        store.get("key")
    assert mode(target) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("suffix", ["", "-lock", "-wal", "-shm"])
def test_what_belongs_to_somebody_else_is_refused(path: Path, store: SqliteStore, suffix: str):
    store.put("key", b"value", 30.0)
    store.close()
    beside(path, suffix).touch()
    os.chown(beside(path, suffix), 12345, -1)
    with pytest.raises(StoreError, match=r"belongs to another user \(uid 12345\).*delete it"):
        store.get("key")


@pytest.fixture
def without_rights() -> Iterator[Path]:
    """A directory for :func:`as_nobody`, with a store's file in it."""
    directory = Path(tempfile.mkdtemp())
    path = directory / "tokens.db"
    store = SqliteStore(path)
    store.put("key", b"value", 60.0)
    store.close()
    give_away(directory, *directory.iterdir())
    yield path
    directory.chmod(0o700)
    shutil.rmtree(directory)


def as_nobody(work: Callable[[], Any]) -> Any:
    """Does it in a child that is not root."""

    def run_it() -> Any:
        become_nobody()
        return work()

    return in_child(run_it)


def test_a_file_that_cannot_be_written_is_left_and_named(without_rights: Path):
    without_rights.chmod(0o400)
    before = without_rights.read_bytes()

    def work() -> str:
        return said_by(lambda: SqliteStore(without_rights).put("key", b"value", 30.0))

    assert "cannot be opened to write" in as_nobody(work)
    assert without_rights.read_bytes() == before
    assert mode(without_rights) == 0o400


def test_a_directory_that_cannot_be_written_is_named(without_rights: Path):
    without_rights.parent.chmod(0o500)
    beside(without_rights, "-lock").unlink()

    def work() -> str:
        return said_by(lambda: SqliteStore(without_rights).get("key"))

    said = as_nobody(work)
    assert "tokens.db-lock cannot be used (Permission denied)" in said
    assert "its directory" in said


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    store = SqliteStore(tmp_path / "file" / "tokens.db")
    assert "Not a directory" in said_by(lambda: store.get("key"))


# What is another's


def make_foreign(path: Path, *statements: str) -> bytes:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    path.chmod(0o644)
    return path.read_bytes()


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE users (name)", "INSERT INTO users VALUES ('ann')"],
        ["CREATE TABLE records (key, value)"],
        ["PRAGMA application_id = 7"],
    ],
    ids=["with tables", "with a table of the same name", "empty, but claimed"],
)
def test_another_programs_database_is_left_as_it_is(
    store: SqliteStore, path: Path, statements: list[str]
):
    before = make_foreign(path, *statements)
    for _ in range(2):
        with pytest.raises(StoreError, match="is another program's database: give tokenmgr a file"):
            store.put("key", b"value", 30.0)
    store.close()
    assert path.read_bytes() == before
    assert mode(path) == 0o644
    assert not beside(path, "-broken").exists()


def test_another_programs_file_is_left_as_it_is(store: SqliteStore, path: Path):
    path.write_text("port: 8080\n" * 100)
    path.chmod(0o644)
    with pytest.raises(StoreError, match="none of tokenmgr's before: delete it, or give another"):
        store.get("key")
    assert path.read_text() == "port: 8080\n" * 100
    assert mode(path) == 0o644


def test_a_newer_versions_file_is_left_as_it_is(store: SqliteStore, path: Path):
    store.put("key", b"value", 30.0)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"a newer tokenmgr \(format 2\): upgrade"):
        store.get("key")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", None], ids=["an empty file", "an empty database"])
def test_what_is_empty_is_taken(store: SqliteStore, path: Path, content: bytes | None):
    if content is None:
        make_foreign(path, "VACUUM")
    else:
        path.write_bytes(content)
    works(store)
    assert mode(path) == 0o600
    checked(path)


def test_indexes_and_statistics_that_somebody_added_are_no_damage(store: SqliteStore, path: Path):
    store.put("key", b"value", 30.0)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE INDEX mine ON records (begun)")
        connection.execute("ANALYZE")
        connection.commit()
    store.close()
    assert store.get("key") == b"value"


# What is in the way


def test_a_full_disk_is_named_and_reading_goes_on(store: SqliteStore, path: Path):
    fill(store)

    def work() -> list[Any]:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        mine = SqliteStore(path)
        found = [mine.get("key-1") is not None]
        # Python ignores SIGXFSZ, and SQLite gets EFBIG: a disk with no room for this process.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
        said = said_by(lambda: fill(mine))
        found += ["free space on its disk" in said, mine.get("key-1") is not None]
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        works(mine)
        return found

    assert in_child(work) == [True] * 3
    works(store)
    checked(path)


def test_no_room_for_a_new_file_is_named_and_made_good_later(path: Path):
    def work() -> bool:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        store = SqliteStore(path)
        for size in range(0, 40_000, 1000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
            with contextlib.suppress(StoreError):
                works(store)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        works(store)
        store.close()
        return True

    assert in_child(work)
    checked(path)


def test_a_power_cut_harms_no_file_and_a_cut_file_kills_nobody(store: SqliteStore):
    works(store)

    def setting(name: str) -> object:
        return store._database._connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert setting("journal_mode") == b"wal"
    assert setting("synchronous") == 1  # NORMAL
    assert setting("mmap_size") == 0
    assert setting("cell_size_check") == 1


def test_who_could_not_open_the_file_may_fork_and_open_it_later(path: Path):
    def work() -> bool:
        SqliteStore(path).get("key")
        few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        said = set()
        for limit in range(free, free + 8):
            store = SqliteStore(path)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
            try:
                store.get("key")
            except StoreError as exc:
                said.add(str(exc))
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
            in_child(lambda store=store: works(store))
            store.close()
        return any("unable to open database file" in each for each in said)

    assert in_child(work)


def test_a_full_database_is_named(store: SqliteStore):
    works(store)
    store._database._connection.execute("PRAGMA max_page_count = 10").fetchall()
    assert "database or disk is full" in said_by(lambda: fill(store))
    works(store)


@contextlib.contextmanager
def locked(path: Path, *statements: str) -> Iterator[None]:
    """Another process holds a lock for as long as the block runs."""
    has_it, let_go = multiprocessing.Event(), multiprocessing.Event()

    def work() -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement).fetchall()
            has_it.set()
            assert let_go.wait(30)

    child = Child(work)
    assert has_it.wait(30)
    try:
        yield
    finally:
        let_go.set()
        child.outcome()


def test_a_locked_file_is_an_error_and_no_wait_for_ever(store: SqliteStore, path: Path):
    store.put("key", b"value", 30.0)
    with locked(path, "BEGIN EXCLUSIVE"):
        assert store.get("key") == b"value"
        for call in (
            lambda: store.put("key", b"value", 30.0),
            lambda: store.lease("lease", b"owner", 30.0),
            lambda: store.delete("key", b"value"),
        ):
            with pytest.raises(StoreError, match="is locked by another process") as caught:
                call()
            assert caught.value.retryable
    works(store)


def test_a_file_that_one_process_has_for_itself_is_an_error_too(store: SqliteStore, path: Path):
    store.put("key", b"value", 30.0)
    store.close()
    exclusive = ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT")
    with locked(path, *exclusive):
        assert "is locked by another process" in said_by(lambda: store.get("key"))
    assert store.get("key") == b"value"


def test_who_waits_for_a_lock_gets_it(store: SqliteStore, other: SqliteStore):
    store.put("key", b"value", 30.0)
    other.put("key", b"value", 30.0)
    connection = store._database._connection
    connection.execute("BEGIN EXCLUSIVE")
    waiting = threading.Thread(target=other.put, args=("key", b"later", 30.0))
    waiting.start()
    connection.execute("COMMIT")
    waiting.join(30)
    assert store.get("key") == b"later"


def test_a_worker_that_stops_while_it_opens_the_file_is_an_error(store: SqliteStore):
    other = SqliteStore(store.path)
    works(store)
    with DatabaseFile(store.path).locked(time.monotonic() + 10):  # another's
        assert "-lock, and end it" in said_by(lambda: other.get("key"))
        store.close()  # might remove what the other one makes, and leaves it open
        assert store._database._connection is not None
    assert other.get("key") is None
    other.close()


def test_a_thread_that_a_disk_keeps_is_an_error_to_the_others(store: SqliteStore):
    works(store)
    with held(store._database._lock):
        said = in_threads(4, lambda: said_by(lambda: store.get("key")))
        assert all("takes too long to answer: check its disk" in each for each in said)
        store.close()  # and does not wait either
    works(store)


def test_a_disk_without_shared_memory_is_named(store: SqliteStore, monkeypatch: pytest.MonkeyPatch):
    connect = sqlite3.connect

    def without_shared_memory(path: Path, **options: Any) -> sqlite3.Connection:
        return connect(f"file:{path}?vfs=unix-dotfile", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", without_shared_memory)
    assert "give a path on a local disk" in said_by(lambda: store.get("key"))


def test_an_old_sqlite_is_named(store: SqliteStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 22, 0))
    assert "SQLite 3.24 or newer is needed" in said_by(lambda: store.get("key"))


def test_a_python_without_sqlite_is_named(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    monkeypatch.delitem(sys.modules, "tokenmgr.stores.sqlite.database", raising=False)
    assert "this Python has no sqlite3" in said_by(lambda: SqliteStore(path).get("key"))


def test_a_mistake_of_the_callers_costs_nobody_the_file(store: SqliteStore, path: Path):
    store.put("key", b"value", 30.0)
    with pytest.raises(StoreError):
        store.put("key", object(), 30.0)
    with pytest.raises(StoreError):
        store.put("key", None, 30.0)
    assert store.get("key") == b"value"
    assert not beside(path, "-broken").exists()
