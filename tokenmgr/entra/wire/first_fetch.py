"""The first fetch of a process, which has to import what speaks to the service.

That keeps the processor busy for as long as two or three round trips to the service take. The one
is done during the other: a thread imports while the connection is opened.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..._runtime.forks import about_to_end, no_fork

__all__ = ["early_socket", "import_ahead", "import_msal", "is_first_fetch"]

#: Taken by the first who imports ahead, and never given back.
_begun = threading.Lock()


def is_first_fetch() -> bool:
    """Whether MSAL is yet to be imported."""
    return "msal" not in sys.modules


def import_ahead() -> None:
    """Imports what sends requests, and then MSAL, in a thread of its own.

    It saves time, and nobody relies on it: who needs a module imports it, and waits for whoever
    does so already. Where no thread runs, nothing but that time is lost.
    """
    if _begun.acquire(blocking=False):
        with contextlib.suppress(RuntimeError):  # no thread can be started here
            threading.Thread(target=_import_all, name="tokenmgr-import", daemon=True).start()


def import_msal() -> None:
    """Imports MSAL, or waits for the thread that does."""
    with no_fork():
        import msal  # noqa: F401


def _import_all() -> None:
    with no_fork():
        from . import exchange  # noqa: F401
    import_msal()
    about_to_end()


@contextlib.contextmanager
def early_socket(url: str, proxied: bool, seconds: float) -> Iterator[socket.socket | None]:
    """Opens a TCP connection to where the first request will go; whoever wants it, takes it over.

    There is none where it cannot be had, which is for the request to find out and to say, and none
    where a proxy may be on the way.

    Args:
        url: Where the request will go.
        proxied: Whether the program has proxies of its own.
        seconds: How long it may take.
    """
    with no_fork():
        import encodings.idna  # noqa: F401 - Python imports it at the first look-up of a host name
        from urllib.request import getproxies

    opened = None
    if not proxied and not {"https", "all"} & getproxies().keys():
        parts = urlsplit(url)
        with contextlib.suppress(OSError, UnicodeError):
            address = (parts.hostname or "", parts.port or 443)
            opened = socket.create_connection(address, seconds)
    try:
        yield opened
    finally:
        if opened is not None:
            opened.close()  # which does nothing to what TLS has taken over
