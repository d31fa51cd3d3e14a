"""The way through the proxy of AKS that gives a pod's tokens, in the place of the direct one."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from ..._runtime.forks import no_fork
from ..._runtime.secrecy import Hidden
from ..._runtime.shared import Share, Shared
from ...errors import ConfigurationError
from ...identity.token_proxy import TokenProxy
from .adapter import DeadlineAdapter
from .pool import Pool
from .transport import Transport

__all__ = ["ProxyWay"]


class _Adapter(DeadlineAdapter):
    """Connects to a proxy by its own name, and trusts its own certificate authorities alone."""

    def __init__(
        self, server_name: str | None, ca_data: str | None, *args: Any, **named: Any
    ) -> None:
        self._server_name = server_name
        self._ca_data = ca_data
        super().__init__(*args, **named)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        if self._server_name is not None:
            kwargs["server_hostname"] = self._server_name
        if self._ca_data is not None:
            kwargs["ca_cert_data"] = self._ca_data
        super().init_poolmanager(*args, **kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        if self._ca_data is None:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
        else:  # requests would trust its own besides
            conn.cert_reqs = "CERT_REQUIRED"


class _ProxyPool(Pool):
    def __init__(self, server_name: str | None, ca_data: str | None) -> None:
        self._names = server_name, ca_data
        super().__init__()

    def new_adapter(self, *args: Any, **named: Any) -> DeadlineAdapter:
        return _Adapter(*self._names, *args, **named)


_POOLS: Shared[_ProxyPool] = Shared()


class ProxyWay:
    """What sends a fetch's requests to a proxy; no other proxy is on the way.

    Args:
        transport: What they would go through otherwise, and end with.
        proxy: The proxy.
    """

    #: What to do to have another certificate be trusted.
    trust = (
        "let AZURE_KUBERNETES_CA_FILE or AZURE_KUBERNETES_CA_DATA have the certificate authority "
        "that signed it, and AZURE_KUBERNETES_SNI_NAME the name that is in it"
    )

    def __init__(self, transport: Transport, proxy: TokenProxy) -> None:
        self._transport = transport
        self._proxy = proxy
        #: The certificate authorities that are trusted, and the connections to whom they vouch
        #: for; replaced whole.
        self._pool: tuple[str | None, Share[_ProxyPool]] | None = None

    def address(self, url: str) -> str:
        """Gives the address to send a request to."""
        return self._proxy.address_of(url)

    def settings(self, url: str) -> Hidden:
        """Gives what a request is sent with; see :meth:`.transport.Transport.settings`."""
        said = self._transport.settings(url).cell_contents
        trusted = self._proxy.ca_file or self._proxy.ca_data
        verify = True if trusted else said["verify"]
        return Hidden({"verify": verify, "proxies": {}, "cert": None, "stream": True})

    def session(self) -> requests.Session:
        """Gives what sends a request.

        Raises:
            ConfigurationError: It is closed, or nobody is to be trusted.
        """
        self._transport.session()  # which says whether it is closed
        before, data = self._pool, self._ca_data()
        if before is None or before[0] != data:
            named = Hidden(repr((self._proxy.url, self._proxy.server_name, data)))
            share = _POOLS.take(named, lambda: _ProxyPool(self._proxy.server_name, data))
            if before is not None:
                before[1].end()
            self._pool = before = data, share
        return before[1].thing.use()

    def _ca_data(self) -> str | None:
        """Gives the certificate authorities; those of before, while their file is replaced."""
        proxy = self._proxy
        if proxy.ca_file is None and proxy.ca_data is None:
            return None
        data = proxy.ca_data or ""
        if proxy.ca_file is not None:
            with suppress(OSError, ValueError):
                data = Path(proxy.ca_file).read_text(encoding="utf-8")
        if self._pool is not None and data == self._pool[0]:
            return data
        if _are_authorities(data):
            return data
        if self._pool is not None:
            return self._pool[0]
        raise ConfigurationError(
            f"there are no certificate authorities in {proxy.ca_file or 'AZURE_KUBERNETES_CA_DATA'}"
            ", or they cannot be read: check AZURE_KUBERNETES_CA_FILE or AZURE_KUBERNETES_CA_DATA, "
            "and that this process may read the file"
        )

    def close(self) -> None:
        """Lets go of the connections."""
        if self._pool is not None:
            self._pool[1].end()


def _are_authorities(data: str) -> bool:
    try:
        with no_fork():
            return bool(ssl.create_default_context(cadata=data).get_ca_certs()) and data != ""
    except (ssl.SSLError, ValueError):
        return False
