"""A local Entra in a process of its own, so that its work is in nobody's measurement."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenmgr import TokenRegistry
from tokenmgr.emulator import EntraEmulator

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SCOPE", "Service", "Settings"]

SCOPE = "https://graph.microsoft.com/.default"


class Settings(NamedTuple):
    """Where it is, and its app."""

    url: str
    authority: str
    tenant_id: str
    client_id: str
    client_secret: str
    ca_file: str


class Service:
    """A local Entra in a process of its own.

    Args:
        **options: Those of :class:`tokenmgr.emulator.EntraEmulator`.
    """

    def __init__(self, **options: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, options), daemon=True)
        self._process.start()
        theirs.close()
        settings: Settings = self._pipe.recv()
        # A copy, which is there still when it is gone: callers are to find a closed port.
        self._folder = TemporaryDirectory()
        ca_file = shutil.copy(settings.ca_file, self._folder.name)
        self.settings: Settings = settings._replace(ca_file=str(ca_file))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.forget()

    def close(self) -> None:
        """Ends it, and its port is closed. Once is enough, twice does no harm."""
        self._pipe.close()
        self._process.join(10)

    def forget(self) -> None:
        """Lets go of what callers needed."""
        self.close()
        self._folder.cleanup()

    def ask(self, command: Callable[[EntraEmulator], Any]) -> Any:
        """Has it do something, such as ``operator.methodcaller("count")``, and gives its answer."""
        self._pipe.send(command)
        return self._pipe.recv()

    def registry(self, **overrides: Any) -> TokenRegistry:
        """A registry for its app."""
        settings: dict[str, Any] = {
            "client_id": self.settings.client_id,
            "credential": self.settings.client_secret,
            "authority": self.settings.authority,
            "verify": self.settings.ca_file,
        }
        return TokenRegistry(**(settings | overrides))


def _serve(pipe: Connection, options: dict[str, Any]) -> None:
    with EntraEmulator(**options) as entra:
        tenant_id = entra.environment()["AZURE_TENANT_ID"]
        pipe.send(
            Settings(
                entra.url,
                entra.authority(),
                tenant_id,
                entra.client_id,
                entra.client_secret,
                entra.ca_file,
            )
        )
        while True:
            try:
                command = pipe.recv()
            except EOFError:  # whoever started it has closed it, or is gone
                return
            pipe.send(command(entra))
