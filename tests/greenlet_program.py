"""A program that puts greenlets in the place of threads: ``gevent`` or ``eventlet``, and when.

Its arguments: which, and when: ``first``, after the ``registry`` was made, or after a ``fetch``.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

SCOPE, ORDERS = "https://graph.microsoft.com/.default", "api://orders/.default"

kind, when = sys.argv[1:3]
faulthandler.dump_traceback_later(40, exit=True)
warnings.simplefilter("ignore")  # both warn of just what is shown to work here
green: Any = importlib.import_module(kind)


def patch(now: str) -> None:
    if when == now and kind == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    elif when == now:
        green.monkey_patch()


def together(count: int, call: Callable[[], Any]) -> list[Any]:
    greenlets = [green.spawn(call) for _ in range(count)]
    return [each.get(timeout=30) if kind == "gevent" else each.wait() for each in greenlets]


def tick() -> None:
    while True:
        ticks.append(None)
        green.sleep(0.01)


def meanwhile(call: Callable[[], object]) -> int:
    """How often another greenlet had its turn during a call."""
    before = len(ticks)
    call()
    return len(ticks) - before


patch("first")
from tokenmgr import TokenManagerError, TokenRegistry  # noqa: E402 - after the patch

told: list[object] = []
ticks: list[None] = []
said: dict[str, Any] = {}
tokens = TokenRegistry.from_env(on_event=told.append)
patch("registry")
graph = tokens.manager(SCOPE)
if when == "fetch":
    graph.get_access_token()
    patch("fetch")
green.spawn(tick)
try:
    said["tokens"] = len(set(together(10, graph.refresh_access_token)))
    said["turns of another greenlet"] = [
        meanwhile(graph.refresh_access_token),
        meanwhile(lambda: tokens.get_access_token(ORDERS)),
        meanwhile(lambda: (graph.invalidate(graph.get_access_token()), graph.get_access_token())),
    ]
    green.sleep(0.05)
    said["told"] = len(told) > 0
except TokenManagerError as error:
    said["error"] = f"{type(error).__name__}: {error}"
    said["in hand"] = graph.get_access_token().startswith("eyJ")
tokens.close()
print(json.dumps(said))  # noqa: T201 - a program
