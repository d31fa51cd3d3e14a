"""What a Redis that drips, floods or is not the one that was meant can cost."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import trustme
from redis_servers import Server
from waiting import until

from tokenmgr import StoreError
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import Event, StoreFailed
from tokenmgr.stores import RedisStore, SqliteStore
from tokenmgr.stores.base import MOST_BYTES

#: Seconds for which a slow server goes on: far more than any operation may take.
_FOR_EVER = 20.0
_DEFAULT_DEADLINE = 0.25 + 2 * 0.3


class Peer:
    """A server that answers each connection as a test wants, for as long as it is there."""

    def __init__(
        self, answer: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self._answer = answer
        self._tls = tls
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(
                    threading.Thread(target=self._serve, args=(connection,), daemon=True)
                )
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self._answer(connection)

    def drip(self, connection: socket.socket, answer: bytes, every: float = 0.1) -> None:
        """Sends it byte by byte, each in time for a timeout of its own."""
        give_up_at = time.monotonic() + _FOR_EVER
        for byte in answer:
            if self._over.wait(every) or time.monotonic() > give_up_at:
                return
            connection.sendall(bytes([byte]))

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def peer(
    answer: Callable[[Peer, socket.socket], None], tls: ssl.SSLContext | None = None
) -> Iterator[Peer]:
    it = Peer(lambda connection: answer(it, connection), tls)
    try:
        yield it
    finally:
        it.close()


def dripping(it: Peer, connection: socket.socket) -> None:
    """A value that never ends, at once after the request."""
    connection.recv(65_536)
    it.drip(connection, b"$65536\r\n" + b"x" * 65_536)


def dripping_at_the_start(it: Peer, connection: socket.socket) -> None:
    """The answer to AUTH."""
    connection.recv(65_536)
    it.drip(connection, b"+" + b"O" * 1000)


@pytest.mark.parametrize(
    ("answer", "login"), [(dripping, ""), (dripping_at_the_start, ":any@")], ids=["value", "AUTH"]
)
def test_a_server_that_drips_holds_no_operation_for_longer_than_its_deadline(
    answer: Callable[[Peer, socket.socket], None], login: str
):
    with peer(answer) as it:
        store = RedisStore.from_url(it.url.replace("//", f"//{login}"))
        for operation in (
            lambda: store.get("key"),
            lambda: store.put("key", b"value", 30.0),
            lambda: store.lease("key", b"owner", 30.0),
            lambda: store.delete("key", b"value"),
        ):
            began = time.monotonic()
            with pytest.raises(StoreError, match="does not answer in time"):
                operation()
            assert time.monotonic() - began < _DEFAULT_DEADLINE + 2.0
        assert it.connections == 4  # what is too slow is not asked twice
        store.close()


def test_a_tls_handshake_that_drips_holds_none_either():
    def answer(it: Peer, connection: socket.socket) -> None:
        connection.recv(65_536)
        it.drip(connection, b"\x16\x03\x03\x40\x00" + b"x" * 16_384)

    with peer(answer) as it:
        store = RedisStore.from_url(f"rediss://127.0.0.1:{it.port}")
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not answer in time"):
            store.get("key")
        assert time.monotonic() - began < _DEFAULT_DEADLINE + 2.0
        store.close()


def test_the_deadline_grows_with_the_timeouts_of_the_url():
    def answer(it: Peer, connection: socket.socket) -> None:
        while connection.recv(65_536):
            it.drip(connection, b"$5\r\nvalue\r\n", every=0.15)

    with peer(answer) as it:  # whose answer takes 1.65 s
        store = RedisStore.from_url(f"{it.url}?socket_timeout=10")
        assert store.get("key") == b"value"
        store.close()
        with pytest.raises(StoreError, match="in time"):
            RedisStore.from_url(it.url).get("key")


def test_a_connection_has_the_whole_deadline_again_after_one_that_was_short_of_it():
    """However little time was left when it was made."""

    def answer(it: Peer, connection: socket.socket) -> None:
        connection.recv(65_536)
        it.drip(connection, b"+OK\r\n", every=0.25)
        connection.recv(65_536)
        connection.sendall(b"$1\r\n1\r\n")
        connection.recv(65_536)
        it.drip(connection, b"$1\r\n2\r\n", every=0.2)

    with peer(answer) as it:  # which takes more than half of 2.25 s each time
        store = RedisStore.from_url(f"{it.url.replace('//', '//:any@')}?socket_timeout=1")
        assert [store.get("a"), store.get("b")] == [b"1", b"2"]
        assert it.connections == 1
        store.close()


def test_a_flood_is_cut_off():
    sent = []

    def answer(it: Peer, connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"$419430400\r\n")
        while True:
            sent.append(connection.send(b"x" * 65_536))

    with peer(answer) as it:
        store = RedisStore.from_url(it.url)
        with pytest.raises(StoreError, match="does not answer as Redis does"):
            store.get("key")
        store.close()
    # What the kernels' buffers take is beyond what was read.
    assert sum(sent) < 32 * 1024 * 1024


def test_of_a_value_that_is_too_large_no_more_is_read_than_tells_so(server: Server):
    with server.client() as client:
        client.set("tokenmgr:large", bytes(64 * 1024 * 1024), px=60_000)
        own = RedisStore.from_url(server.url)
        for store in (own, RedisStore(client)):
            before = client.info("stats")["total_net_output_bytes"]
            assert len(store.get("tokenmgr:large") or b"") == MOST_BYTES + 1
            assert not store.lease("tokenmgr:large", b"owner", 30.0)
            assert not store.delete("tokenmgr:large", b"value")
            assert client.info("stats")["total_net_output_bytes"] - before < 1_000_000
        own.put("tokenmgr:large", b"value", 30.0)
        assert own.get("tokenmgr:large") == b"value"
        own.close()


# A whole registry


def test_a_call_over_a_redis_that_drips_gets_its_token(entra: EntraEmulator):
    events: list[Event] = []
    with peer(dripping) as it:
        url = it.url
        with entra.registry(store=url, on_event=events.append) as tokens:
            began = time.monotonic()
            assert tokens.get_access_token("api://orders/.default", timeout=15).startswith("eyJ")
            assert time.monotonic() - began < 10
    assert any(isinstance(event, StoreFailed) for event in events)


def test_one_registry_s_store_keeps_no_worker_from_another_registry(
    entra: EntraEmulator, tmp_path: Path
):
    """Not even where it cannot be bounded, as with a client of the program's own."""
    with (
        peer(dripping) as it,
        redis.Redis(host="127.0.0.1", port=it.port, socket_timeout=5.0) as client,
    ):
        slow = entra.registry(store=RedisStore(client), timeout=60.0)
        for number in range(80):
            slow.manager(f"api://slow-{number}/.default").prefetch()
        until(lambda: it.connections >= 60, "that all its workers are busy")
        for settings in ({}, {"store": SqliteStore(tmp_path / "tokens.db")}):
            with entra.registry(**settings) as other:
                for number in range(8):
                    other.manager(f"api://orders-{number}/.default")
                other.prefetch(timeout=10)
        slow.close()


# Whose certificate it is


def test_a_certificate_for_another_name_ends_it_before_the_password_is_sent(tmp_path: Path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("redis.example.com").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    heard: list[bytes] = []

    def impostor(it: Peer, connection: socket.socket) -> None:
        heard.append(connection.recv(65_536))

    with peer(impostor, context) as it:
        store = RedisStore.from_url(
            f"rediss://:hunter2@localhost:{it.port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
            "&socket_timeout=20&socket_connect_timeout=20"
        )
        with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.* Hostname mismatch"):
            store.get("key")
        store.close()
    assert it.connections
    assert b"".join(heard) == b""
