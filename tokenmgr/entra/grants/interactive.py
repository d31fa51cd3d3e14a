"""Where a browser on this machine brings the answer of a sign-in (RFC 8252, section 7.3).

MSAL has one too. It opens a browser of its own before it asks for another, listens for the whole
network where it takes the machine for a container, and holds its one call for as long as the user
takes.
"""

from __future__ import annotations

import http.server
import socketserver
import sys
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..._runtime.secrecy import Hidden, Unpicklable
from ..._runtime.threads import DaemonThread
from ...errors import ConfigurationError, TokenManagerError
from .auth_code import Arrived

__all__ = ["Loopback"]

_LONGEST_FORM = 65_536
#: Seconds that a browser has for one request: it opens connections ahead, and says nothing there.
_PATIENCE = 10.0
_LOOK_EVERY = 0.05
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Connection": "close",
}
_DONE = "You are back from signing in. Close this window, and return to the program."
_OTHER = "This is not the answer to the sign-in that the program waits for."


class Loopback(Unpicklable):
    """A server on the loopback interface, that waits for the one answer to a sign-in.

    Args:
        port: Which port it listens at; 0 for any.

    Raises:
        ConfigurationError: Nothing can listen there.
    """

    def __init__(self, port: int) -> None:
        whole = isinstance(port, int) and not isinstance(port, bool) and 0 <= port < 1 << 16
        try:
            if not whole:
                raise ValueError
            self._server = _Server(("127.0.0.1", port), _Handler)
        except (OSError, ValueError):
            raise ConfigurationError(
                "port= is none at which this program can listen: leave it out, and have the app's "
                "registration name http://localhost, with which any port goes"
            ) from None
        #: Where the service sends the browser. Registrations name localhost, and no address.
        self.redirect_uri: str = f"http://localhost:{self._server.server_address[1]}"

    @property
    def arrived(self) -> Arrived | None:
        """What has come; None as long as nothing has."""
        return self._server.arrived

    def wait_for(self, flow: Hidden) -> None:
        """Begins to listen for the answer to a sign-in."""
        self._server.flow = flow
        serve = partial(self._server.serve_forever, _LOOK_EVERY)
        thread = DaemonThread(serve, name="tokenmgr-sign-in")
        thread.start()
        self._server.thread = thread

    def close(self) -> None:
        """Listens no more."""
        if self._server.thread is not None:
            self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = sys.platform != "win32"  # where two could listen at one port
    flow: Hidden
    thread: DaemonThread | None = None
    arrived: Arrived | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of browsers that hang up."""

    def server_bind(self) -> None:
        # Without the look-up of the host's name that HTTPServer does.
        socketserver.TCPServer.server_bind(self)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE

    def do_GET(self) -> None:
        """Takes the answer in an address."""
        self._take(Hidden(urlsplit(self.path).query))

    def do_POST(self) -> None:
        """Takes the answer in a form (OAuth 2.0 Form Post Response Mode)."""
        length = self.headers.get("Content-Length") or ""
        if not length.isdecimal() or int(length) > _LONGEST_FORM:
            self._answer(400, _OTHER)
            return
        self._take(Hidden(self.rfile.read(int(length)).decode("utf-8", errors="replace")))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the library
        """Logs nothing: there is a code in the request."""

    def _take(self, query: Hidden) -> None:
        try:
            arrived = Arrived(Hidden(parse_qs(query.cell_contents, max_num_fields=50)))
            mine = arrived.is_of(self.server.flow)
        except (TokenManagerError, ValueError):
            mine = False
        if not mine or urlsplit(self.path).path not in ("", "/"):
            self._answer(400, _OTHER)
            return
        self._answer(200, _DONE)
        self.server.arrived = self.server.arrived or arrived

    def _answer(self, status: int, text: str) -> None:
        page = f"<!doctype html><title>Sign-in</title><p>{text}</p>".encode()
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
