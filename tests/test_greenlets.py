"""gevent and eventlet, which put greenlets in the place of threads; a lock of before stops all."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import programs
import pytest

from tokenmgr.emulator import EntraEmulator

PROGRAM = str(programs.TESTS / "greenlet_program.py")
#: Seconds that the service takes; for as long a frozen process would be.
LATENCY = 0.5


def green(kind: str, when: str) -> tuple[dict[str, Any], int]:
    """What the program said, and how often it asked for a token."""
    # Found, not imported: eventlet would warn of every fork of this process.
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    with EntraEmulator(latency=LATENCY) as entra:
        # What eventlet does to the look-up of names brings in whatever HTTP clients there are.
        settings = entra.environment() | {"EVENTLET_NO_GREENDNS": "yes"}
        done = programs.run(PROGRAM, kind, when, **settings)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), entra.count()


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
@pytest.mark.parametrize("when", ["first", "registry"])
def test_greenlets_have_their_tokens_and_none_stops_the_others(kind: str, when: str) -> None:
    said, requests = green(kind, when)
    assert said.pop("longest wait of another greenlet") < LATENCY / 2
    assert said == {"tokens": 1, "told": True}
    assert requests == 4


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_a_patch_that_comes_after_tls_is_named_and_the_token_in_hand_serves(kind: str) -> None:
    said, requests = green(kind, "fetch")
    assert said["error"].startswith("ConfigurationError: gevent's or eventlet's monkey patch came")
    assert said["in hand"]
    assert requests == 1
