from __future__ import annotations

import pytest

from tokenmgr._sharing import leases


@pytest.fixture(autouse=True)
def _leases_are_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no test wait for what tries to give a lease back to a store that goes on failing."""
    monkeypatch.setattr(leases, "_PAUSES", (0.0, 0.01, 0.01))
