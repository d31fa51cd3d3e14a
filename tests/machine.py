"""What answers on a machine of Azure's as the emulator cannot: plain http that misbehaves."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

import msal

#: What may be set on a machine of Azure's, or on whatever machine the tests run.
VARIABLES = (
    *("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"),
    *("MSI_ENDPOINT", "MSI_SECRET", "AZURE_POD_IDENTITY_AUTHORITY_HOST"),
    *("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS"),
    *("AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"),
    *("TOKENMGR_AUTHORITY", "TOKENMGR_STORE", "TOKENMGR_ENCRYPTION_KEY", "AZURE_USERNAME"),
    "AZURE_CONFIG_DIR",
)
#: What MSAL has learned since the lowest version that is allowed: Service Fabric's certificate, and
#: Arc's user-assigned identities.
OLD_MSAL = tuple(map(int, msal.__version__.split(".")[:2])) < (1, 38)
VAULT = "https://vault.azure.net/.default"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: MachineServer
    timeout = 20

    def do_GET(self) -> None:
        self.server.received.append((self.path, dict(self.headers.items())))
        self.server.on_get(self)

    def answer(self, status: int, body: str | dict[str, Any], **headers: str) -> None:
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in ({"content_length": str(len(raw))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def token(self) -> None:
        self.answer(200, {"access_token": "a-token", "expires_in": "3600", "resource": "r"})

    def log_message(self, *args: Any) -> None:
        pass


class MachineServer(http.server.ThreadingHTTPServer):
    """A plain server on the loopback interface that answers as a test says."""

    daemon_threads = False
    block_on_close = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.received: list[tuple[str, dict[str, str]]] = []
        self.on_get: Callable[[Any], object] = _Handler.token
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="machine")
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up: the tests make them."""

    def close(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._thread.join()
