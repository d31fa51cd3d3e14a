"""A program that fetches a token, and names every import of a worker's that no fork waits for.

Its arguments: the names of modules that are not installed here, whatever the machine has.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import sys
import threading
import traceback
from collections.abc import Sequence
from types import ModuleType

from support import SCOPE

from tokenmgr import TokenManagerError, TokenRegistry
from tokenmgr._runtime import forks


class Missing(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


seen: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event != "import" or threading.current_thread() is threading.main_thread():
        return
    if not forks._mine.reads:
        frames = [f"{each.filename}:{each.lineno}" for each in traceback.extract_stack()]
        importers = [each for each in frames if "importlib" not in each and __file__ not in each]
        seen.append(f"{arguments[0]} in {importers[-1]}")


sys.meta_path.insert(0, Missing())
with TokenRegistry.from_env() as tokens:
    graph = tokens.manager(SCOPE)
    sys.addaudithook(watch)
    for _ in range(3):
        graph.refresh_access_token()
    with contextlib.suppress(TokenManagerError):  # what says so may import too
        tokens.get_access_token("api://nobody-knows-it/.default")
print(*sorted(set(seen)), sep="\n")  # noqa: T201 - a program
