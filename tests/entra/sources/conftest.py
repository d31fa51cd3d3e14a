"""A machine of Azure's: the emulator's endpoints, and the variables that lead a program there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msal.managed_identity
import pytest
from machine import VARIABLES, MachineServer

from tokenmgr.emulator import EntraEmulator


@pytest.fixture(autouse=True)
def _no_identity_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tokenmgr.entra.sources.managed_identity._PAUSE", 0.0)


@pytest.fixture
def machine() -> Iterator[MachineServer]:
    """An endpoint that answers as the test says."""
    server = MachineServer()
    yield server
    server.close()


@pytest.fixture
def on(entra: EntraEmulator, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has the program run on a machine of a kind."""

    def run_on(host: str) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in entra.identity_environment(host).items():
            monkeypatch.setenv(name, value)
        # Where Arc writes its files is a folder of the system's.
        folder = str(entra._state.identities.key_folder)
        folders = msal.managed_identity._supported_arc_platforms_and_their_prefixes
        monkeypatch.setitem(folders, "linux", folder)

    return run_on
