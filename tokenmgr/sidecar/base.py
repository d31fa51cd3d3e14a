"""BaseClient: what both clients are made with."""

from __future__ import annotations

import abc

from .._runtime.secrecy import Hidden, Unpicklable
from ..entra.wire.verify import Verify, checked_verify
from .asking import Settings, Sidecar

__all__ = ["BaseClient"]


class BaseClient(abc.ABC, Unpicklable):
    """A client of the sidecar. Its arguments are those of :class:`.client.SidecarClient`."""

    def __init__(
        self,
        base_url: str | None = None,
        timeout: float = 10.0,
        *,
        retries: int = 2,
        max_bytes: int = 16_777_216,
        overrides_opened: bool = False,
        verify: Verify = None,
    ) -> None:
        base_url, given = None, Hidden(base_url)  # it may hold a password, and is refused then
        settings = Settings(timeout, retries, max_bytes, overrides_opened)
        self._sidecar = Sidecar(given, settings)
        self._verify = checked_verify(verify)
        self._prepare()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.base_url}>"

    @property
    def base_url(self) -> str:
        """Where the sidecar is."""
        return self._sidecar.address.url

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Makes what keeps the connections, and opens none."""
