"""Records and leases in real Redis and Valkey servers, which hang, die, fill up and refuse."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import secrets
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
import redis.cluster
import redis.sentinel
from fork_marks import needs_fork, unwarned_forks
from forking import held, in_child
from programs import run
from redis_servers import Sentinel, Server, Tls, running_sentinel, running_server
from support import in_threads
from waiting import until

from tokenmgr import ConfigurationError, StoreError
from tokenmgr.stores import RedisStore, open_store
from tokenmgr.stores.contract import TokenStoreContract
from tokenmgr.stores.redis import client as client_module

if TYPE_CHECKING:
    from typing_extensions import Self

PASSWORD = "correct horse"
QUOTED = "correct%20horse"
RIGHTS = ("~tokenmgr:*", "+getrange", "+set", "+eval", "+del")

forks = [needs_fork, unwarned_forks]


@pytest.fixture
def haste() -> None:
    """Leaves a store as little patience as it has."""


@pytest.fixture(autouse=True)
def _patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no store give a server up because this machine is slow just now."""
    if "haste" not in request.fixturenames:
        for name in ("_CONNECT_TIMEOUT", "_READ_TIMEOUT", "_POOL_TIMEOUT"):
            monkeypatch.setattr(client_module, name, 20.0)


@pytest.fixture
def opened() -> Iterator[Callable[..., RedisStore]]:
    """Opens stores, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def open_it(url: str) -> RedisStore:
            store = RedisStore.from_url(url)
            stack.callback(store.close)
            return store

        yield open_it


@pytest.fixture
def store(server: Server, opened: Callable[..., RedisStore]) -> RedisStore:
    return opened(server.url)


@pytest.fixture
def key() -> str:
    return f"tokenmgr:{secrets.token_hex(16)}"


# The contract


class TestRedis(TokenStoreContract):
    @pytest.fixture
    def store(self, server: Server, opened) -> RedisStore:
        return opened(server.url)

    @pytest.fixture
    def other(self, server: Server, opened) -> RedisStore:
        return opened(server.url + "/0")

    @pytest.fixture(autouse=True)
    def _all_that_is_left_ends_by_itself(self, server: Server) -> Iterator[None]:
        yield
        with server.client() as client:
            assert [key for key in client.scan_iter() if client.pttl(key) == -1] == []


class TestUnixSocket(TokenStoreContract):
    @pytest.fixture
    def store(self, server: Server, opened) -> RedisStore:
        return opened(server.unix_url)

    @pytest.fixture
    def other(self, server: Server, opened) -> RedisStore:
        return opened(server.url)


def secure_url(tls: Tls) -> str:
    # What encrypts shares its processor time with the test's threads, as no real server does.
    return f"rediss://localhost:{tls.port}/0?ssl_ca_certs={tls.ca_file}&socket_timeout=20"


class TestTls(TokenStoreContract):
    @pytest.fixture
    def store(self, tls: Tls, opened) -> RedisStore:
        return opened(secure_url(tls))


class TestGivenClient(TokenStoreContract):
    @pytest.fixture
    def store(self, server: Server) -> Iterator[RedisStore]:
        with server.client() as client:
            yield RedisStore(client)

    @pytest.fixture
    def other(self, server: Server) -> Iterator[RedisStore]:
        valkey = pytest.importorskip("valkey")
        with valkey.Valkey(port=server.port) as client:
            yield RedisStore(client)


class TestCluster(TokenStoreContract):
    @pytest.fixture
    def store(self, cluster: list[Server]) -> Iterator[RedisStore]:
        client = redis.cluster.RedisCluster(port=cluster[0].port, host="127.0.0.1")
        yield RedisStore(client)
        client.close()

    @pytest.fixture
    def other(self, cluster: list[Server]) -> Iterator[RedisStore]:
        valkey = pytest.importorskip("valkey.cluster")
        client = valkey.ValkeyCluster(port=cluster[2].port, host="127.0.0.1")
        yield RedisStore(client)
        client.close()


@pytest.fixture(scope="module")
def sentinel(binary: Path) -> Iterator[Sentinel]:
    with running_sentinel(binary) as sentinel:
        yield sentinel


def master_of(sentinel: Sentinel, kind: Any = redis.sentinel.Sentinel) -> Any:
    client = kind(sentinel.addresses(), socket_timeout=5.0)
    return client.master_for(sentinel.name, socket_timeout=5.0)


class TestSentinel(TokenStoreContract):
    @pytest.fixture
    def store(self, sentinel: Sentinel) -> Iterator[RedisStore]:
        with master_of(sentinel) as client:
            yield RedisStore(client)

    @pytest.fixture
    def other(self, sentinel: Sentinel) -> Iterator[RedisStore]:
        valkey = pytest.importorskip("valkey.sentinel")
        with master_of(sentinel, valkey.Sentinel) as client:
            yield RedisStore(client)


if "REDIS_URL" in os.environ:

    class TestRedisOfTheEnvironment(TokenStoreContract):
        @pytest.fixture
        def store(self, opened) -> RedisStore:
            return opened(os.environ["REDIS_URL"])

        @pytest.fixture
        def other(self, opened) -> RedisStore:
            return opened(os.environ["REDIS_URL"])


def named(name: str, client: redis.Redis) -> list[dict[str, Any]]:
    """The connections of this name to a server."""
    return [each for each in client.client_list() if each["name"] == name]


@contextlib.contextmanager
def under_way(store: RedisStore, key: str, client: redis.Redis) -> Iterator[None]:
    """A thread is in the middle of an operation for as long as the block runs."""
    answers: list[Any] = []
    queue = f"{key}:queue"
    asking = threading.Thread(
        target=lambda: answers.append(store._ask(lambda client: client.blpop(queue, 20)))
    )
    asking.start()
    try:
        until(lambda: client.info("clients")["blocked_clients"], "the operation")
        yield
    finally:
        client.rpush(queue, "answer")
        asking.join()
    assert [list(answer) for answer in answers] == [[queue.encode(), b"answer"]]


# What lies in the server


def test_what_lies_in_the_server_is_the_bytes_and_ends_by_itself(
    server: Server, store: RedisStore, key: str
) -> None:
    store.put(key, b"\xff\x00value", 30.0)
    assert store.lease(f"{key}:lease", b"owner", 12.5)
    with server.client() as client:
        assert client.get(key) == b"\xff\x00value"
        assert 20_000 < client.pttl(key) <= 30_000
        assert 8_000 < client.pttl(f"{key}:lease") <= 12_500


def test_the_shortest_life_is_a_millisecond(store: RedisStore, key: str) -> None:
    store.put(key, b"value", 0.0001)
    assert store.lease(f"{key}:lease", b"owner", 0.0001)
    until(lambda: store.get(key) is None and store.get(f"{key}:lease") is None, "their end")


def test_scripts_may_be_flushed_at_any_time(server: Server, store: RedisStore, key: str) -> None:
    with server.client() as client:
        for _ in range(2):
            store.put(key, b"value", 30.0)
            client.script_flush()
            assert store.delete(key, b"value")


# Servers that fail


def test_a_server_that_was_started_anew_is_found_at_once(
    own_server: Server, opened, key: str
) -> None:
    store = opened(own_server.url)
    in_threads(8, lambda: store.put(key, b"value", 30.0))
    own_server.kill()
    own_server.start()
    assert store.get(key) is None
    assert in_threads(8, lambda: store.lease(key, b"owner", 30.0)).count(True) == 1


def test_a_server_that_is_gone_is_named_and_found_again_when_it_is_back(
    own_server: Server, opened, key: str
) -> None:
    store = opened(own_server.url)
    store.put(key, b"value", 30.0)
    own_server.kill()
    for operation in (
        lambda: store.get(key),
        lambda: store.put(key, b"value", 30.0),
        lambda: store.lease(key, b"owner", 30.0),
        lambda: store.delete(key, b"value"),
    ):
        with pytest.raises(StoreError, match=rf"^Redis \({own_server.url}\) cannot be reached: "):
            operation()
    own_server.start()
    store.put(key, b"value", 30.0)
    assert store.get(key) == b"value"


@pytest.mark.usefixtures("haste")
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not connected"])
def test_a_hung_server_is_left_soon_and_used_again_when_it_goes_on(
    own_server: Server, opened, key: str, connected: bool
) -> None:
    store = opened(own_server.url.replace("//", "//:any@") if not connected else own_server.url)
    with own_server.client() as admin:
        if not connected:  # so that the answer to AUTH is what is waited for
            admin.config_set("requirepass", "any")
            admin.auth("any")
        else:
            store.put(key, b"value", 30.0)
        own_server.pause()
        # Whose own end is at three seconds.
        slow = threading.Thread(target=lambda: patient(own_server, 3.0))
        slow.start()
        try:
            with pytest.raises(StoreError, match="does not answer in time: see whether it hangs"):
                store.get(key)
            assert slow.is_alive()
        finally:
            own_server.resume()
            slow.join()
    store.put(key, b"value", 30.0)
    assert store.get(key) == b"value"


def patient(server: Server, seconds: float) -> None:
    with server.client(socket_timeout=seconds) as client, contextlib.suppress(redis.RedisError):
        client.ping()


class Wire:
    """A peer that says what a test wants, connection by connection.

    Args:
        connections: What each answers to one request after the other; then it hangs up. None
            stands for silence.
    """

    def __init__(self, *connections: list[bytes | None]) -> None:
        self.requests: list[bytes] = []
        self._connections = connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends the wait for one more
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        for answers in self._connections:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                for answer in answers:
                    self.requests.append(connection.recv(65_536))
                    if answer is None:
                        connection.recv(65_536)  # until the client gives up
                        break
                    connection.sendall(answer)


def test_a_connection_that_breaks_within_an_operation_is_opened_again_once(opened) -> None:
    hangs_up = [b"$1\r\n1\r\n", b""]
    with Wire(hangs_up, [b"$1\r\n2\r\n", b""], [b""]) as wire:
        store = opened(wire.url)
        assert [store.get("a"), store.get("b")] == [b"1", b"2"]
        with pytest.raises(StoreError, match="cannot be reached"):
            store.get("c")
    assert [request.split(b"\r\n")[4] for request in wire.requests] == [*b"a b b c c".split()]


@pytest.mark.usefixtures("haste")
def test_what_is_too_slow_is_not_asked_twice(opened) -> None:
    with Wire([None], [b"$1\r\n1\r\n"]) as wire:
        store = opened(wire.url)
        with pytest.raises(StoreError, match="in time"):
            store.lease("a", b"owner", 1.0)
        assert len(wire.requests) == 1
        assert store.get("b") == b"1"


ANSWERS = {
    b"-LOADING Redis is loading the dataset in memory": "is still loading its data",
    b"-CLUSTERDOWN Hash slot not served": "a cluster that is down or does not cover all slots",
    b"-MASTERDOWN Link with MASTER is down": "a replica whose master is away",
    b"-MISCONF Redis is configured to save RDB snapshots": r"fails: see its log \(MISCONF Redis",
    b"-ERR max number of clients reached": "has as many clients as it takes",
    b"HTTP/1.1 400 Bad Request": "does not answer as Redis does",
}


@pytest.mark.parametrize(("answer", "told"), ANSWERS.items())
def test_what_a_server_answers_is_told_with_what_to_do(opened, answer: bytes, told: str) -> None:
    with Wire(*[[answer + b"\r\n"]] * 2) as wire:
        store = opened(wire.url)
        with pytest.raises(StoreError, match=told):
            store.get("a")


def test_without_room_nothing_is_kept_and_leases_are_given_back(
    own_server: Server, opened, key: str
) -> None:
    store = opened(own_server.url)
    assert store.lease(key, b"owner", 30.0)
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreError, match="is out of memory: raise its maxmemory"):
            store.put(key, b"value", 30.0)
        with pytest.raises(StoreError, match="is out of memory"):
            store.lease(f"{key}:another", b"owner", 30.0)
        assert store.get(key) == b"owner"
        assert store.delete(key, b"owner")
        client.config_set("maxmemory", "0")
    store.put(key, b"value", 30.0)
    assert store.get(key) == b"value"


# Who may do what


@pytest.fixture
def users(server: Server) -> Iterator[Callable[..., str]]:
    """Makes a user with these rights; gives the URL with its name and password."""
    names: list[str] = []

    def make(*rights: str) -> str:
        names.append(f"user-{len(names)}")
        client.execute_command("ACL", "SETUSER", names[-1], "on", f">{PASSWORD}", *rights)
        return server.url.replace("//", f"//{names[-1]}:{QUOTED}@")

    with server.client() as client:
        yield make
        for name in names:
            client.execute_command("ACL", "DELUSER", name)


def use(store: RedisStore, key: str) -> None:
    store.put(key, b"value", 30.0)
    assert store.get(key) == b"value"
    assert store.lease(f"{key}:lease", b"owner", 30.0)
    assert store.delete(f"{key}:lease", b"owner")


def test_five_rights_are_enough_and_no_other_is_asked_for(
    server: Server, users, opened, key: str
) -> None:
    with server.client() as client:
        client.execute_command("ACL", "LOG", "RESET")
        use(opened(users(*RIGHTS)), key)
        assert client.execute_command("ACL", "LOG") == []


@pytest.mark.parametrize("missing", [*RIGHTS, "+select"])
def test_a_right_that_is_missing_is_named(users, opened, key: str, missing: str) -> None:
    url = users(*(right for right in RIGHTS if right != missing))
    store = opened(url + "/1" if missing == "+select" else url)
    with pytest.raises(
        StoreError,
        match=r"ACL SETUSER <user> ~tokenmgr:\* \+getrange \+set \+eval \+del, .* \+select where",
    ):
        use(store, key)


def test_a_cluster_wants_two_rights_more(cluster: list[Server], key: str) -> None:
    more = ["+cluster|slots", "+command"]
    for node in cluster:
        with node.client() as client:
            client.execute_command("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", *RIGHTS, *more)
    client = redis.cluster.RedisCluster(
        host="127.0.0.1", port=cluster[1].port, username="worker", password=PASSWORD
    )
    use(RedisStore(client), key)
    client.close()


def test_a_database_other_than_the_first_is_used(server: Server, users, opened, key: str) -> None:
    use(opened(users(*RIGHTS, "+select") + "/3"), key)
    with server.client(db=3) as client:
        assert client.get(key) == b"value"


# Secrets


def everything_told_of(error: BaseException) -> str:
    """Its text, its attributes, and the local variables of its frames but the test's."""
    assert error.__cause__ is None
    assert error.__context__ is None
    seen = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [str(frame.locals) for frame in seen.stack if frame.filename != __file__]
    assert frames
    return "\n".join([str(error), repr(error), repr(vars(error)), *frames])


def test_a_wrong_password_is_refused_and_told_to_nobody(users, opened, key: str) -> None:
    store = opened(users(*RIGHTS).replace(QUOTED, "hunter2"))
    with pytest.raises(StoreError, match="refuses the user name or the password") as raised:
        store.get(key)
    assert "hunter2" not in everything_told_of(raised.value) + repr(store) + repr(vars(store))


def test_a_missing_password_is_asked_for(own_server: Server, opened, key: str) -> None:
    store = opened(own_server.url)
    with own_server.client() as client:
        client.config_set("requirepass", PASSWORD)
    with pytest.raises(StoreError, match="refuses the user name or the password, or wants one"):
        store.get(key)


def test_a_server_that_repeats_the_password_is_not_quoted(opened) -> None:
    answer = b"-ERR unknown command `AUTH`, with args beginning with: `hunter2`, \r\n"
    with Wire(*[[answer]] * 2) as wire:
        store = opened(wire.url.replace("//", "//:hunter2@"))
        with pytest.raises(StoreError, match="unknown command") as raised:
            store.get("a")
    assert "hunter2" not in everything_told_of(raised.value)


def test_a_store_says_where_it_is_and_not_how_it_gets_in(opened) -> None:
    store = opened("rediss://user:hunter2@tokens.contoso.com:6380/2?client_name=hunter2")
    assert repr(store) == "<RedisStore rediss://tokens.contoso.com:6380/2>"
    store = opened("unix://user:hunter2@/run/redis.sock?password=hunter2")
    assert repr(store) == "<RedisStore unix:///run/redis.sock>"
    assert repr(RedisStore(redis.Redis(password="hunter2"))) == "<RedisStore redis.client.Redis>"
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(store)


def test_a_certificate_of_an_unknown_authority_is_told(tls: Tls, opened) -> None:
    with pytest.raises(StoreError, match="not trusted: name its authority with ssl_ca_certs"):
        opened(f"rediss://localhost:{tls.port}?socket_timeout=20").get("key")


def test_a_certificate_of_another_host_is_told(tls: Tls, opened) -> None:
    url = secure_url(tls).replace("localhost", "127.0.0.1")  # the certificate names localhost
    with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.* IP address mismatch"):
        opened(url).get("key")


@pytest.mark.usefixtures("haste")
def test_the_wrong_scheme_is_told(server: Server, tls: Tls, opened) -> None:
    with pytest.raises(StoreError, match=r"cannot be reached: .*rediss:// where it wants TLS"):
        opened(f"redis://localhost:{tls.port}").get("key")
    with pytest.raises(StoreError, match=r"whether it speaks TLS where the URL says rediss://"):
        opened(f"rediss://localhost:{server.port}").get("key")


# URLs

REFUSED = {
    "http://hunter2": "a Redis URL is redis://",
    "redis:hunter2": "a Redis URL is redis://",
    "redis://": "a Redis URL is redis://",
    "redis://:hunter2@": "a Redis URL is redis://",
    "redis://:hunter2@/0": "a Redis URL is redis://",
    "redis://:hunter2@host:0/0": "a Redis URL is redis://",
    "redis://:hunter2@host:66666/0": "a port or an option that is none",
    "redis://:hunter2@host:six/0": "a port or an option that is none",
    "redis://host:6379,hunter2:6379/0": "a port or an option that is none",
    "redis://:hun#hunter2@host:6379": "a port or an option that is none",
    "redis://host:6379/0#hunter2": "has a # in it",
    "redis://user:12/hunter2@host:6379": "database in a Redis URL is a number",
    "redis://user:12?hunter2@host:6379": "a port or an option that is none",
    "redis://host/hunter2": "database in a Redis URL is a number",
    "redis://host?db=hunter2": "database in a Redis URL is a number",
    "redis://[::1/hunter2": "a port or an option that is none",
    "unix://hunter2/redis.sock": "a Redis URL is redis://",
    "unix://:hunter2@": "a Redis URL is redis://",
    "redis://:hunter2@host?decode_responses=True": "take decode_responses out",
}


@pytest.mark.parametrize(("url", "told"), REFUSED.items())
def test_a_url_that_is_none_is_refused_and_not_quoted(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as raised:
        RedisStore.from_url(url)
    assert "hunter2" not in everything_told_of(raised.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("socket_timeout=soon", "Invalid value for .socket_timeout."),
        ("colour=hunter2", "unexpected keyword argument 'colour'"),
        ("db=99", "DB index is out of range"),
    ],
)
def test_an_option_that_redis_py_does_not_know_is_told_when_it_is_used(
    server: Server, opened, options: str, told: str
) -> None:
    store = opened(f"{server.url}?{options}")
    with pytest.raises(StoreError, match=f"with these options: .*{told}") as raised:
        store.get("key")
    assert "hunter2" not in everything_told_of(raised.value)


@pytest.mark.usefixtures("haste")
def test_what_the_url_sets_wins(own_server: Server, opened, key: str) -> None:
    options = "max_connections=1&socket_timeout=30&client_name=worker"
    store = opened(f"REDIS{own_server.url[5:]}/2?{options}")
    store.put(key, b"value", 30.0)
    with own_server.client(db=2) as client:
        (connection,) = named("worker", client)
        assert connection["db"] == "2"
        with (
            under_way(store, key, client),
            pytest.raises(StoreError, match="more threads than there are connections: raise max"),
        ):
            store.get(key)
    assert store.get(key) == b"value"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_host_may_be_a_name(server: Server, opened, key: str, host: str) -> None:
    use(opened(server.url.replace("127.0.0.1", host)), key)


def test_a_url_names_it_wherever_a_store_is_named(server: Server) -> None:
    assert isinstance(open_store(server.url), RedisStore)


def test_a_store_is_made_without_redis_py_being_loaded_or_a_server_being_there() -> None:
    program = (
        "import sys; from tokenmgr.stores import open_store; "
        "print(open_store('redis://127.0.0.1:1'), 'redis' in sys.modules)"
    )
    assert run("-c", program).stdout == "<RedisStore redis://127.0.0.1:1> False\n"


def test_a_missing_redis_py_is_told_when_the_store_is_made(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tokenmgr\[redis\]'"):
        RedisStore.from_url("redis://localhost")


# Clients that are passed in


def test_a_client_that_decodes_is_refused(cluster: list[Server]) -> None:
    told = "made without decode_responses=True"
    with pytest.raises(ConfigurationError, match=told):
        RedisStore(redis.Redis(decode_responses=True))
    with (
        contextlib.closing(
            redis.cluster.RedisCluster(
                host="127.0.0.1", port=cluster[0].port, decode_responses=True
            )
        ) as client,
        pytest.raises(ConfigurationError, match=told),
    ):
        RedisStore(client)


def test_a_client_for_asyncio_is_refused() -> None:
    for client in (redis.asyncio.Redis(), redis.asyncio.RedisCluster("127.0.0.1")):
        with pytest.raises(ConfigurationError, match=r"no client for asyncio.*: pass redis\.Redis"):
            RedisStore(client)


def test_what_is_no_client_is_refused_and_not_quoted() -> None:
    for what in (None, "redis://:hunter2@host", redis.sentinel.Sentinel([("127.0.0.1", 1)])):
        with pytest.raises(ConfigurationError, match=r"takes a client such as") as raised:
            RedisStore(what)
        assert "hunter2" not in everything_told_of(raised.value)


def test_closing_a_store_closes_its_own_connections_and_no_others(
    server: Server, opened, key: str
) -> None:
    store = opened(f"{server.url}?client_name={key[:30]}")
    in_threads(4, lambda: store.get(key))
    with server.client() as client, server.client() as given:
        assert named(key[:30], client)
        before = given.client_id()
        used = store._way.do(lambda client: client)  # which keeps them from being closed as garbage
        store.close()
        until(lambda: not named(key[:30], client), "the end of its connections")
        assert used is not store._way.do(lambda client: client)
        RedisStore(given).close()
        assert given.client_id() == before


# Many at once


def test_many_threads_share_few_connections(server: Server, opened, key: str) -> None:
    store = opened(f"{server.url}?client_name={key[:30]}")

    numbers = itertools.count()
    assert in_threads(64, lambda: use(store, f"{key}:{next(numbers)}")) == [None] * 64
    with server.client() as client:
        assert 1 <= len(named(key[:30], client)) <= 16


# Replicas, clusters and failovers


def test_a_replica_is_told_and_its_connections_are_dropped(
    sentinel: Sentinel, opened, key: str
) -> None:
    with sentinel.master.client() as client:
        client.set(key, b"value", px=30_000)
    store = opened(f"{sentinel.replica.url}?client_name={key[:30]}")
    with sentinel.replica.client() as replica:
        until(lambda: store.get(key) == b"value", "the value at the replica")
        for refused in (lambda: store.put(key, b"1", 30.0), lambda: store.delete(key, b"value")):
            assert store.get(key) == b"value"
            assert named(key[:30], replica)
            with pytest.raises(StoreError, match=r"is a replica, .*: name its master, or pass"):
                refused()
            until(lambda: not named(key[:30], replica), "the end of its connections")


def test_of_a_client_that_was_passed_in_a_replica_s_idle_connections_are_dropped(
    sentinel: Sentinel, key: str
) -> None:
    def listeners() -> list[str]:
        return [each["id"] for each in named(key[:30], replica) if each["sub"] == "1"]

    with (
        sentinel.replica.client() as replica,
        sentinel.replica.client(client_name=key[:30]) as given,
        given.pubsub() as listening,
    ):
        listening.subscribe(key)
        until(listeners, "the program's own connection")
        in_use, idle = listeners(), given.client_id()
        with pytest.raises(StoreError, match="is a replica"):
            RedisStore(given).put(key, b"1", 30.0)
        assert given.client_id() != idle
        assert listeners() == in_use


class _OlderPool(redis.BlockingConnectionPool):
    """That of redis-py 6, which closes all connections or none."""

    def disconnect(self) -> None:
        super().disconnect()


def test_of_an_older_pool_all_connections_are_dropped(sentinel: Sentinel, key: str) -> None:
    pool = _OlderPool(host="127.0.0.1", port=sentinel.replica.port)
    with redis.Redis(connection_pool=pool) as client:
        before = client.client_id()
        with pytest.raises(StoreError, match="is a replica"):
            RedisStore(client).put(key, b"1", 30.0)
        assert client.client_id() != before
        pool.disconnect()


class _Bare:
    """A client of some other library's, without a pool to be seen."""

    execute_command = set = eval = property(lambda self: self._refuse)

    def _refuse(self, *args: object, **options: object) -> None:
        raise redis.ReadOnlyError("You can't write against a read only replica.")

    def get_encoder(self) -> Any:
        return redis.Redis().get_encoder()


def test_a_client_without_a_pool_finds_the_new_master_by_itself() -> None:
    with pytest.raises(StoreError, match="is a replica"):
        RedisStore(_Bare()).put("key", b"1", 30.0)


def test_a_node_of_a_cluster_is_told(cluster: list[Server], opened) -> None:
    store = opened(cluster[0].url)
    with cluster[0].client() as client:
        last = next(f"{n}" for n in range(1000) if client.cluster("keyslot", f"{n}") > 16_000)
    with pytest.raises(StoreError, match=r"a node of a cluster: pass RedisStore\(redis\.cluster"):
        store.get(last)


def test_a_cluster_without_slots_is_told(binary: Path, opened) -> None:
    with (
        running_server(binary, "--cluster-enabled", "yes") as node,
        pytest.raises(StoreError, match="a cluster that is down or does not cover all"),
    ):
        opened(node.url).get("key")


def test_after_a_failover_the_new_master_is_asked(binary: Path, key: str) -> None:
    with running_sentinel(binary) as sentinel, master_of(sentinel) as client:
        store = RedisStore(client)
        store.put(key, b"value", 60.0)
        with sentinel.replica.client() as replica:
            until(lambda: replica.get(key) == b"value", "the value at the replica")
        sentinel.master.kill()
        with pytest.raises(StoreError, match=r"Redis \(redis\.client\.Redis\) "):
            store.get(key)
        until(lambda: tries(lambda: store.delete(key, b"value")), "the new master")
        use(store, key)


def tries(operation: Callable[[], Any]) -> Any:
    with contextlib.suppress(StoreError):
        return operation()
    return None


# Forks


@pytest.fixture
def hammering(key: str) -> Iterator[Callable[[RedisStore], list[BaseException]]]:
    """Starts threads that use a store; gives the list that their failures come to."""
    done = threading.Event()
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []

    def hammer(store: RedisStore, own: str) -> None:
        try:
            while not done.is_set():
                use(store, own)
        except BaseException as exc:  # noqa: BLE001 - it is the outcome
            failures.append(exc)

    def start(store: RedisStore) -> list[BaseException]:
        for number in range(4):
            threads.append(threading.Thread(target=hammer, args=(store, f"{key}:{number}")))
            threads[-1].start()
        return failures

    yield start
    done.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


_IMPORTS = """
import sys
from tokenmgr._runtime import forks
from tokenmgr.stores import open_store

store = open_store(sys.argv[1])
store.close()
unguarded = []

def note(event, arguments):
    if event == "import" and not forks._mine.reads:
        unguarded.append(arguments[0])

sys.addaudithook(note)
store.put("tokenmgr:imports", b"value", 1.0)
store.delete("tokenmgr:imports", b"value")
print(unguarded, "redis" in sys.modules)
"""


class TestForks:
    pytestmark = forks

    def test_none_hits_the_middle_of_an_import(self, server: Server) -> None:
        assert run("-c", _IMPORTS, server.url).stdout == "[] True\n"

    def test_a_fork_at_any_moment_leaves_both_a_store_that_works(
        self, store: RedisStore, key: str, hammering
    ) -> None:
        failures = hammering(store)
        for number in range(20):
            assert in_child(lambda number=number: use(store, f"{key}:child-{number}")) is None
        assert failures == []

    def test_a_fork_in_the_middle_of_an_operation_leaves_each_its_own_answer(
        self, own_server: Server, opened, key: str
    ) -> None:
        store = opened(f"{own_server.url}?socket_timeout=20")
        store.put(key, b"value", 30.0)
        with own_server.client() as client, under_way(store, key, client):
            assert in_child(lambda: [store.get("none"), store.get(key).decode()]) == [None, "value"]
            assert store.get(key) == b"value"

    @pytest.mark.parametrize(
        "lock",
        [
            lambda store: store._way._lock,
            lambda store: store._way.do(lambda client: client).connection_pool._fork_lock,
        ],
        ids=["the store's", "redis-py's"],
    )
    def test_a_lock_that_a_thread_of_the_parent_holds_does_not_stop_the_child(
        self, store: RedisStore, key: str, lock: Callable[[RedisStore], Any]
    ) -> None:
        use(store, key)
        with held(lock(store)):
            assert in_child(lambda: use(store, key)) is None
        use(store, key)

    @pytest.mark.parametrize("scheme", ["redis", "rediss"])
    def test_what_a_child_closes_stays_open_in_its_parent(
        self, server: Server, tls: Tls, opened, key: str, scheme: str
    ) -> None:
        store = opened(secure_url(tls) if scheme == "rediss" else server.url)
        store.put(key, b"value", 30.0)
        client = store._way.do(lambda client: client)
        before = client.client_id()

        def work() -> None:
            store.close()
            use(store, f"{key}:child")
            store.close()

        assert in_child(work) is None
        assert client.client_id() == before
        assert store._way.do(lambda client: client) is client

    def test_a_client_that_was_passed_in_works_in_both(self, server: Server, key: str) -> None:
        with server.client() as client:
            store = RedisStore(client)
            use(store, key)
            assert in_child(lambda: use(store, f"{key}:child")) is None
            use(store, f"{key}:parent")
