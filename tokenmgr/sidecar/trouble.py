"""What stands for an answer where there is none; and the settings of TLS that clients share."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigurationError, SidecarError

__all__ = ["Verify", "checked_verify", "late", "unreachable", "untrusted"]

#: Certificate authorities: a file or folder; True for those of the library, None as it does.
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
        "verify= is neither True, False nor the path of a file of certificate authorities that "
        "exists: correct it"
    )


def late() -> SidecarError:
    """Says that there was no answer in time."""
    return SidecarError(
        "the sidecar gave no answer in time: see its log, or allow a longer timeout=",
        retryable=True,
    )


def unreachable(kind: str) -> SidecarError:
    """Says that there was no connection, or that it broke.

    Args:
        kind: What it came to, by its class.
    """
    return SidecarError(
        f"the sidecar cannot be reached ({kind}): see that it runs, and that base_url= or "
        "SIDECAR_URL names its port",
        retryable=True,
    )


def untrusted() -> SidecarError:
    """Says that nobody knows who answers there."""
    return SidecarError(
        "the sidecar's certificate is not trusted here: pass verify= the path of the certificate "
        "authority that signed it"
    )
