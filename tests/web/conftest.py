from __future__ import annotations

from collections.abc import Iterator

import pytest

from tokenmgr import TokenRegistry
from tokenmgr.emulator import EntraEmulator


@pytest.fixture
def registry(entra: EntraEmulator) -> Iterator[TokenRegistry]:
    """The registry of an API, with the emulator's first app."""
    with entra.registry() as tokens:
        yield tokens
