"""The first fetch of a process, which has to import what speaks to the service.

That keeps the processor busy for as long as two or three round trips to the service take. So the
connection is begun before, and the service's answer is looked at after it. A thread that imports
meanwhile would gain nothing: threads that run Python take turns, and pay for each.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._runtime.forks import no_fork

if TYPE_CHECKING:
    import ssl

__all__ = ["begun_connection", "import_msal", "is_first_fetch"]

#: Seconds for which TCP is waited for. Most of it is there by the time that the certificate
#: authorities are read.
_PATIENCE = 1.0


#: Taken by the first fetch, and never given back: of many that begin side by side, one begins a
#: connection of its own.
_first = threading.Lock()


def is_first_fetch() -> bool:
    """Whether MSAL is yet to be imported, and nobody has been told so."""
    return "msal" not in sys.modules and _first.acquire(blocking=False)


def import_msal() -> None:
    """Imports MSAL, and what sends its requests: a tenth of a second."""
    with no_fork():
        import msal  # noqa: F401


@contextlib.contextmanager
def begun_connection(
    url: str, *, verify: bool | str | None, proxied: bool
) -> Iterator[ssl.SSLSocket | None]:
    """Begins a connection to where the first request will go; whoever wants it, takes it over.

    The first message of TLS's handshake is sent. There is none where that cannot be done, which is
    for the request to find out and to say; where a proxy may be on the way; and where nobody is to
    verify whose it is.

    Args:
        url: Where the request will go.
        verify: As :class:`.connection.Connection` has it.
        proxied: Whether the program has proxies of its own.
    """
    with no_fork():
        import encodings.idna  # noqa: F401 - Python imports it at the first look-up of a host name
        from urllib.request import getproxies

    begun = None
    if verify is not False and not proxied and not {"https", "all"} & getproxies().keys():
        parts = urlsplit(url)
        with contextlib.suppress(OSError, ValueError):
            begun = _begin(parts.hostname or "", parts.port or 443, verify)
    try:
        yield begun
    except BaseException:
        if begun is not None:
            begun.close()
        raise


def _begin(host: str, port: int, verify: bool | str | None) -> ssl.SSLSocket:
    with _begin_tcp(host, port) as opening:  # whose end does nothing to what TLS has taken over
        with no_fork():
            context = _context(verify)
        select.select([], [opening], [], _PATIENCE)
        opening.getpeername()  # raises where it is not connected
        opening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with no_fork():
            begun = context.wrap_socket(
                opening, server_hostname=host, do_handshake_on_connect=False
            )
            with contextlib.suppress(OSError):  # such as that the service has not answered yet
                begun.do_handshake()
        return begun


def _begin_tcp(host: str, port: int) -> socket.socket:
    """Begins to connect to the first of a host's addresses to which there is a way from here."""
    for family, kind, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        opening = socket.socket(family, kind)
        opening.setblocking(False)
        try:
            opening.connect(address)
        except BlockingIOError:
            return opening
        except OSError:
            opening.close()
        else:
            return opening
    raise OSError


def _context(verify: bool | str | None) -> ssl.SSLContext:
    """What checks no less than requests does, and trusts nobody whom it does not."""
    import ssl

    import certifi

    trusted = verify if isinstance(verify, str) else certifi.where()
    if verify is None:
        named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        trusted = named or trusted
    folder = trusted if Path(trusted).is_dir() else None
    context = ssl.create_default_context(cafile=None if folder else trusted, capath=folder)
    context.set_alpn_protocols(["http/1.1"])
    return context
