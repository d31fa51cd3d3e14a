"""How far it is from a call to the wire, in frames of the library's own."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import SCOPE

import tokenmgr
from tokenmgr._runtime.workers import Workers
from tokenmgr.emulator import EntraEmulator
from tokenmgr.stores import MemoryStore

ROOT = Path(tokenmgr.__file__).parent
#: Functions from ``get_access_token()`` to the token request, on both threads together.
MOST = 12
#: And those that have one of all workers ask.
MOST_SHARED = 13


def own_frames() -> list[str]:
    """The functions of the library that are under way in this thread, the innermost first."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        if ROOT in Path(frame.f_code.co_filename).parents:
            found.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
        frame = frame.f_back
    return found


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Notes what is under way as a fetch is handed over, and as its token request is written."""
    caller: list[list[str]] = []
    worker: list[list[str]] = []
    do, endheaders = Workers.do, http.client.HTTPConnection.endheaders

    def handing_over(self: Workers, work: Callable[[], object]) -> None:
        if self._name == "tokenmgr-fetch":
            caller.append(["workers.do", *own_frames()])
        do(self, work)

    def writing(self: http.client.HTTPConnection, *args: object, **kwargs: object) -> None:
        if b"POST " in self._buffer[0]:
            worker.append(own_frames())
        endheaders(self, *args, **kwargs)

    monkeypatch.setattr(Workers, "do", handing_over)
    monkeypatch.setattr(http.client.HTTPConnection, "endheaders", writing)

    def way() -> list[str]:
        assert (len(caller), len(worker)) == (1, 1)
        return [*reversed(caller[0]), *reversed(worker[0])]

    return way


@pytest.mark.parametrize(
    ("shared", "most"), [(False, MOST), (True, MOST_SHARED)], ids=["alone", "with a store"]
)
def test_a_call_is_few_frames_from_the_wire(
    entra: EntraEmulator, way: Callable[[], list[str]], shared: bool, most: int
) -> None:
    with entra.registry(store=MemoryStore() if shared else None) as tokens:
        assert tokens.manager(SCOPE).get_access_token()
        frames = way()
    assert frames[0] == "manager.get_access_token"
    assert len(frames) <= most, f"{len(frames)}: {' > '.join(frames)}"
