"""The example of a store of one's own keeps the contract, in fifty lines."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from programs import ROOT, run

from tokenmgr.emulator import EntraEmulator
from tokenmgr.stores import TokenStore
from tokenmgr.stores.contract import TokenStoreContract


def example() -> ModuleType:
    path = ROOT / "examples/own_store.py"
    spec = importlib.util.spec_from_file_location("own_store", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestOwnStore(TokenStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> TokenStore:
        return example().TableStore(tmp_path / "tokens.db")

    @pytest.fixture
    def other(self, tmp_path: Path, store: TokenStore) -> TokenStore:
        return type(store)(tmp_path / "tokens.db")


def test_it_has_no_more_than_fifty_lines():
    text = (ROOT / "examples/own_store.py").read_text()
    store = text[text.index("class TableStore") : text.index("def main")]
    assert len(store.strip().splitlines()) <= 50


def test_the_second_run_finds_the_first_one_s_token(entra: EntraEmulator, tmp_path: Path):
    for _ in range(2):
        done = run("examples/own_store.py", str(tmp_path / "tokens.db"), **entra.environment())
        assert done.returncode == 0, done.stderr
        assert "a token that is valid for" in done.stdout
    assert entra.count() == 1
