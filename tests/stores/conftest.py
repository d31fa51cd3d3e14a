from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_servers import (
    BINARIES,
    Server,
    Tls,
    running_cluster,
    running_server,
    tls_in_front_of,
)


@pytest.fixture(scope="session", params=BINARIES.values(), ids=BINARIES.keys())
def binary(request: pytest.FixtureRequest) -> Path:
    """A Redis server's program, then a Valkey server's."""
    return request.param


@pytest.fixture(scope="session")
def server(binary: Path) -> Iterator[Server]:
    """A server for all tests, each with keys of its own."""
    with running_server(binary) as server:
        yield server


@pytest.fixture
def own_server(binary: Path) -> Iterator[Server]:
    """A server for one test, which may do to it what it likes."""
    with running_server(binary) as server:
        yield server


@pytest.fixture(scope="session")
def tls(server: Server) -> Iterator[Tls]:
    """The server behind TLS."""
    with tls_in_front_of(server) as tls:
        yield tls


@pytest.fixture(scope="session")
def cluster(binary: Path) -> Iterator[list[Server]]:
    """A cluster for all tests, each with keys of its own."""
    with running_cluster(binary) as nodes:
        yield nodes
