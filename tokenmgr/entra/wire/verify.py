"""What certificates are trusted, as programs say it: ``verify=``."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import ConfigurationError

__all__ = ["Verify", "checked_verify"]

#: Certificate authorities: a file or folder; True for those of requests, None as requests does.
Verify = bool | str | os.PathLike[str] | None


def checked_verify(verify: Verify) -> bool | str | None:
    """Takes ``verify=``.

    Raises:
        ConfigurationError: It is none.
    """
    # To requests an empty text means no check at all, and a missing variable gives one.
    if verify is None or isinstance(verify, bool):
        return verify
    path = os.fspath(verify) if isinstance(verify, (str, os.PathLike)) else ""
    if path and Path(path).exists():
        return path
    raise ConfigurationError(
        f"verify={verify!r} is neither True, False nor the path of a file of certificate "
        "authorities that exists: correct it"
    )
