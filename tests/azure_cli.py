"""A stand-in for ``az``: it takes its seconds, notes that it was asked, and gives a token."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PROGRAM = """#!{python}
import json, os, sys, time
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
time.sleep({seconds})
answer = {answer}
if isinstance(answer, str):
    sys.exit(answer)
now = int(time.time())
print(json.dumps({{"accessToken": f"az-{{os.getpid()}}", "expires_on": now + 3600}} | answer))
"""


class AzureCli:
    """Puts it on a path of its own.

    Args:
        folder: Where.
        seconds: What it takes.
        answer: What it says besides a token; a text is what it fails with.
    """

    def __init__(
        self, folder: Path, *, seconds: float = 0.0, answer: dict[str, object] | str | None = None
    ) -> None:
        self._log = folder / "az.log"
        program = folder / "az"
        said = {"log": str(self._log), "seconds": seconds, "answer": repr(answer or {})}
        program.write_text(_PROGRAM.format(python=sys.executable, **said), encoding="utf-8")
        program.chmod(0o755)
        #: The variable that finds it first.
        self.path = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"

    @property
    def calls(self) -> list[str]:
        """What it was asked."""
        return self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
