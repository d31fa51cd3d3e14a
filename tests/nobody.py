"""Files and processes of a user without rights, for what root may do all the same."""

from __future__ import annotations

import os
from pathlib import Path

#: The user that nobody is.
_NOBODY = 65534


def give_away(*paths: Path) -> None:
    """Gives them to a user without rights; who is not root is one."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, _NOBODY, _NOBODY)


def become_nobody() -> None:
    """Has this process no more rights than the programs of most people."""
    if os.geteuid() == 0:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
