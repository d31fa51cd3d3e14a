"""What stands for an answer where there is none."""

from __future__ import annotations

from ..errors import SidecarError

__all__ = ["late", "unreachable", "untrusted"]


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
