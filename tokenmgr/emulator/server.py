"""EntraEmulator: a local Microsoft Entra, from its start to its end."""

from __future__ import annotations

import ipaddress
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .agent_controls import AgentControls
from .app import build_app, build_identity_app
from .authorities import DEFAULT_TENANT, AuthorityKind, tenant_guid
from .certificates import server_context
from .controls import new_secret
from .identities import Identities
from .identity_controls import IdentityControls, new_identity
from .managed_identity import IdentityEndpoints
from .serving import HttpsServer, listen
from .sidecar import ALLOWED, EmulatedSidecar
from .sidecar_options import SidecarApi
from .sign_in_controls import SignInControls
from .state import State
from .tokens import TokenSigner
from .user_controls import UserControls

if TYPE_CHECKING:
    from typing_extensions import Self

    from tokenmgr.registry import TokenRegistry

__all__ = ["EntraEmulator"]


class EntraEmulator(SignInControls, AgentControls, UserControls, IdentityControls):
    """A Microsoft Entra of your own, over HTTPS on the loopback interface.

    It serves Entra tenants, B2C policies, an ADFS and OpenID providers, verifies credentials for
    real, signs real tokens, and has a protected API under ``/graph/v1.0/`` that wants one::

        with EntraEmulator() as entra, entra.registry() as tokens:
            token = tokens.manager("https://graph.microsoft.com/.default").get_access_token()

    Its users sign in with :meth:`sign_in`, and an API acts for them with what that returns: the
    on-behalf-of grant and its refresh tokens, verified and refused as Entra does.

    They also sign in at an app that sends their browser here, on pages (see :meth:`authorize` for
    tests without a browser), with the code of a device, and with their name and password.

    Every tenant exists, except those whose names begin with ``nonexistent``.

    Args:
        port: Where to listen; 0 takes a free port.
        host: ``127.0.0.1``, ``::1`` or ``localhost``. It is no server for others to reach.
        client_id: The id of the app that is there from the start; a new GUID when left out.
        client_secret: Its secret; a new one when left out.
        token_lifetime: Seconds that access tokens live.
        refresh_in: Seconds after which answers suggest to renew; None suggests nothing.
        latency: Seconds that each token request waits.

    Raises:
        ValueError: ``host`` is not a loopback address.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        client_id: str | None = None,
        client_secret: str | None = None,
        token_lifetime: float = 3600,
        refresh_in: float | None = None,
        latency: float = 0.0,
    ) -> None:
        if host != "localhost" and not _is_loopback(host):
            raise ValueError(f"host has to be a loopback address, not {host!r}")
        self._host = host
        self._port = port
        self.client_id: str = client_id or str(uuid.uuid4())
        self._state = State(
            signer=TokenSigner(),
            token_lifetime=token_lifetime,
            refresh_in=refresh_in,
            latency=latency,
            identities=Identities(new_identity(str(uuid.uuid4()), "")),
        )
        self._endpoints = IdentityEndpoints(self._state)
        self._state.clients.add(self.client_id, secret=client_secret or new_secret())
        self._lock = threading.Lock()  # guards what follows
        self._server: HttpsServer | None = None
        #: Where managed identities are asked for, with its address.
        self._machine: tuple[HttpsServer, str] | None = None
        self._directory: Path | None = None
        self._closed = False
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.base_url or 'not started'}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Serve from now on. Nothing happens when it does so already.

        Raises:
            OSError: The port is taken.
            RuntimeError: It was closed before; make another one.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("this emulator was closed: make another one")
            if self._server is None:
                self._server = self._serve()
        return self

    def close(self) -> None:
        """Stop, and free the port, the thread and the files. Once is enough, twice does no harm."""
        with self._lock:
            server, self._server = self._server, None
            machine, self._machine = self._machine, None
            directory, self._directory = self._directory, None
            self._closed = True
        if os.getpid() != self._pid:
            # A forked child has neither the thread nor a right to its parent's files.
            return
        self._state.gate.close()
        for each in (server, machine[0] if machine else None):
            if each is not None:
                each.close()
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where it is, such as ``https://127.0.0.1:50443``.

        Raises:
            RuntimeError: It was not started yet.
        """
        if not self._state.base_url:
            raise RuntimeError("the emulator has no address before it is started")
        return self._state.base_url

    @property
    def ca_file(self) -> str:
        """The path of the certificate authority's PEM, for ``verify=``. Gone when it is closed.

        Raises:
            RuntimeError: It is not running.
        """
        directory = self._directory
        if directory is None:
            raise RuntimeError("the emulator has no certificate while it is not running")
        return str(directory / "ca.pem")

    def authority(self, tenant: str = DEFAULT_TENANT) -> str:
        """The authority of an Entra tenant, by its domain or its GUID."""
        return self._authority(AuthorityKind.ENTRA, tenant)

    def b2c_authority(self, name: str = "contoso", policy: str = "B2C_1_signin") -> str:
        """The authority of a user flow of the B2C tenant ``{name}.onmicrosoft.com``."""
        return self._authority(AuthorityKind.B2C, f"{name}.onmicrosoft.com", policy)

    def ciam_authority(self, name: str = "contoso") -> str:
        """The authority of the External ID tenant ``{name}.onmicrosoft.com``."""
        return self._authority(AuthorityKind.ENTRA, f"{name}.onmicrosoft.com")

    def adfs_authority(self) -> str:
        """The authority of the ADFS, whose users are those of the tenant ``adfs``."""
        return self._authority(AuthorityKind.ADFS)

    def oidc_authority(self, name: str = "default") -> str:
        """The authority, and issuer, of an OpenID provider that is not Microsoft's."""
        return self._authority(AuthorityKind.OIDC, name)

    def registry(self, **overrides: Any) -> TokenRegistry:
        """A registry for the app and the tenant that are there from the start.

        Args:
            **overrides: Arguments of :class:`tokenmgr.TokenRegistry` that win over the emulator's.
        """
        from tokenmgr.registry import TokenRegistry

        settings: dict[str, Any] = {
            "client_id": self.client_id,
            "credential": self.client_secret,
            "authority": self.authority(),
            "verify": self.ca_file,
        }
        return TokenRegistry(**(settings | overrides))

    def sidecar(
        self,
        *,
        port: int = 0,
        client_id: str | None = None,
        apis: Mapping[str, SidecarApi] | None = None,
        allow_overrides: Iterable[str] = ALLOWED,
        required_scopes: Iterable[str] = (),
    ) -> EmulatedSidecar:
        """A Microsoft Entra SDK for AgentID, whose tokens are this emulator's.

        It serves the routes of the service's versions 1.x, and what those pass over and refuse,
        over http on loopback, and calls the protected API. Its users and failures are the
        emulator's: :meth:`sign_in` gives what its callers send, and ``fail_next(path="sidecar")``
        has it fail by itself. Close it before the emulator::

            with EntraEmulator() as entra, entra.sidecar() as sidecar:
                ...  # SIDECAR_URL is sidecar.url

        Args:
            port: Where to listen; 0 takes a free port.
            client_id: The app that it runs as, the one from the start when left out; the audience
                of its callers' tokens.
            apis: Its ``DownstreamApis`` by name; ``Graph`` alone when left out, which is the
                protected API.
            allow_overrides: As :attr:`EmulatedSidecar.allow_overrides`.
            required_scopes: The scopes of which ``/Validate`` wants one; any will do when empty.

        Raises:
            RuntimeError: The emulator is not running.
            ValueError: ``allow_overrides`` names what is no route.
        """
        return EmulatedSidecar(
            self._state,
            self.ca_file,
            client_id or self.client_id,
            port=port,
            apis={"Graph": SidecarApi()} if apis is None else apis,
            allow_overrides=allow_overrides,
            required_scopes=required_scopes,
        )

    def environment(self) -> dict[str, str]:
        """The variables with which programs find it, as azure-identity and HTTP clients read them.

        requests has its own for the certificate authority; httpx, aiohttp and what else asks
        OpenSSL read ``SSL_CERT_FILE``.
        """
        return {
            "AZURE_TENANT_ID": tenant_guid(DEFAULT_TENANT),
            "AZURE_CLIENT_ID": self.client_id,
            "AZURE_CLIENT_SECRET": self.client_secret,
            "AZURE_AUTHORITY_HOST": self.url,
            "REQUESTS_CA_BUNDLE": self.ca_file,
            "SSL_CERT_FILE": self.ca_file,
            "NO_PROXY": self._host,
        }

    def _identity_endpoints(self, host: str) -> dict[str, str]:
        with self._lock:
            if self._directory is None:
                raise RuntimeError("the emulator has no machine while it is not running")
            if self._machine is None:
                self._machine = self._serve_machine(self._directory)
            return self._endpoints.environment(host, self._machine[1])

    def _serve_machine(self, directory: Path) -> tuple[HttpsServer, str]:
        self._state.identities.key_folder = directory
        listener = listen(self._host, 0)
        try:
            app = build_identity_app(self._state, self._endpoints)
            server = HttpsServer(app, listener=listener, context=None)
            server.start()
        except BaseException:
            listener.close()
            raise
        host = f"[{self._host}]" if ":" in self._host else self._host
        return server, f"http://{host}:{listener.getsockname()[1]}"

    def _authority(self, kind: AuthorityKind, tenant: str = "", policy: str | None = None) -> str:
        if not self._state.base_url:
            raise RuntimeError("the emulator has no address before it is started")
        return self._state.authority(kind, tenant, policy).url

    def _serve(self) -> HttpsServer:
        listener = listen(self._host, self._port)
        directory = Path(tempfile.mkdtemp(prefix="tokenmgr-emulator-"))
        try:
            context = server_context(directory / "ca.pem")
            host = f"[{self._host}]" if ":" in self._host else self._host
            self._state.base_url = f"https://{host}:{listener.getsockname()[1]}"
            server = HttpsServer(build_app(self._state), listener=listener, context=context)
            server.start()
        except BaseException:
            listener.close()
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._directory = directory
        return server


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
