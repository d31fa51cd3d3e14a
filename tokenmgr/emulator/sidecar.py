"""EmulatedSidecar: a Microsoft Entra SDK for AgentID of the emulator's, from start to end."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from .serving import HttpsServer, listen
from .sidecar_app import SidecarSettings, build_sidecar
from .sidecar_options import SidecarApi
from .sidecar_tokens import TokenAcquirer
from .state import State

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ALLOWED", "EmulatedSidecar"]

#: What takes overrides unless it is told otherwise.
ALLOWED = ("GetAuthorizationHeader", "CallDownstreamApi")
_ROUTES = frozenset(
    {*ALLOWED, "GetAuthorizationHeaderUnauthenticated", "CallDownstreamApiUnauthenticated"}
)


class EmulatedSidecar:
    """The sidecar next to an app, over http on loopback. See :meth:`EntraEmulator.sidecar`.

    Args:
        state: The emulator's.
        ca_file: What its certificate is trusted by.
        client_id: The app that it runs as.
        port: Where to listen; 0 takes a free port.
        apis: The downstream APIs by name.
        allow_overrides: The routes that take overrides.
        required_scopes: The scopes of which ``/Validate`` wants one.
    """

    def __init__(
        self,
        state: State,
        ca_file: str,
        client_id: str,
        *,
        port: int,
        apis: Mapping[str, SidecarApi],
        allow_overrides: Iterable[str],
        required_scopes: Iterable[str],
    ) -> None:
        self._state = state
        self._settings = SidecarSettings(
            TokenAcquirer(state, client_id),
            ca_file,
            dict(apis),
            _checked(allow_overrides),
            tuple(required_scopes),
        )
        self._port = port
        self._server: HttpsServer | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at port {self._port}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it is, such as ``http://127.0.0.1:5000``: what ``SIDECAR_URL`` is set to."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Serve from now on. Nothing happens when it does so already.

        Raises:
            OSError: The port is taken.
        """
        if self._server is None:
            listener = listen("127.0.0.1", self._port)
            self._port = listener.getsockname()[1]
            app = build_sidecar(self._state, self._settings)
            self._server = HttpsServer(app, listener=listener, context=None)
            self._server.start()
        return self

    def close(self) -> None:
        """Stop, and free the port and the thread. It may be started again, at the same port."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def add_agent(self, agent_id: str | None = None) -> str:
        """Let the app have an agent identity.

        Args:
            agent_id: Its client id; a new GUID when left out.

        Returns:
            Its client id.
        """
        agent_id = agent_id or str(uuid.uuid4())
        self._settings.acquirer.agents.add(agent_id.lower())
        return agent_id

    @property
    def allow_overrides(self) -> frozenset[str]:
        """The routes that take overrides and agents; the others pass over them, with 200.

        They are ``GetAuthorizationHeader``, ``CallDownstreamApi`` and, closed unless they are
        opened, these with ``Unauthenticated`` behind them.
        """
        return self._settings.allow_overrides

    @allow_overrides.setter
    def allow_overrides(self, routes: Iterable[str]) -> None:
        self._settings.allow_overrides = _checked(routes)

    @property
    def healthy(self) -> bool:
        """Whether its health probe says so."""
        return self._settings.healthy

    @healthy.setter
    def healthy(self, healthy: bool) -> None:
        self._settings.healthy = healthy

    @property
    def remote_callers(self) -> bool:
        """Whether it takes its callers for ones of another machine, and refuses them (403)."""
        return self._settings.remote_callers

    @remote_callers.setter
    def remote_callers(self, remote: bool) -> None:
        self._settings.remote_callers = remote


def _checked(routes: Iterable[str]) -> frozenset[str]:
    named = frozenset(routes)
    if not named <= _ROUTES:
        raise ValueError(f"routes that take overrides are of {', '.join(sorted(_ROUTES))}")
    return named
