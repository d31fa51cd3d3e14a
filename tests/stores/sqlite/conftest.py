from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenmgr.stores import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(path)) as store:
        yield store


@pytest.fixture
def other(path: Path) -> Iterator[SqliteStore]:
    """Another worker's."""
    with contextlib.closing(SqliteStore(path)) as other:
        yield other
