"""The proxy of AKS through which a pod with an identity binding asks for tokens.

The names of the variables, and what of them is refused, are azure-identity's. See "Identity
bindings for Azure Kubernetes Service" on Microsoft Learn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from .._runtime.secrecy import Hidden
from .._runtime.values import Value
from ..errors import ConfigurationError

__all__ = ["TokenProxy", "own_token_proxy", "token_proxy_from"]

_PROXY, _SERVER_NAME = "AZURE_KUBERNETES_TOKEN_PROXY", "AZURE_KUBERNETES_SNI_NAME"
_CA_FILE, _CA_DATA = "AZURE_KUBERNETES_CA_FILE", "AZURE_KUBERNETES_CA_DATA"


class TokenProxy(Value):
    """Where requests for tokens are sent instead, and whom to take for that."""

    #: Its https URL, whose path goes before that of each request.
    url: str
    #: The name that it has in TLS, where that is not the URL's host.
    server_name: str | None
    #: The path of the certificate authorities to trust, or these themselves, as PEM.
    ca_file: str | None
    ca_data: str | None

    def address_of(self, url: str) -> str:
        """Gives the address to which a request is sent instead."""
        parts, own = urlsplit(url), urlsplit(self.url)
        path = f"{own.path.rstrip('/')}/{parts.path.lstrip('/')}"
        return parts._replace(scheme=own.scheme, netloc=own.netloc, path=path).geturl()


def token_proxy_from(environ: Mapping[str, str]) -> TokenProxy | None:
    """Reads which proxy the environment names; None where it names none.

    Args:
        environ: The variables, such as ``os.environ``.

    Raises:
        ConfigurationError: They contradict each other, or name what is no proxy.
    """
    environ, given = {}, Hidden(environ)
    url, *others = (
        Hidden(given.cell_contents.get(name, "").strip() or None)  # a URL may hold a password
        for name in (_PROXY, _SERVER_NAME, _CA_FILE, _CA_DATA)
    )
    server_name, ca_file, ca_data = (each.cell_contents for each in others)
    if url.cell_contents is None:
        if server_name or ca_file or ca_data:
            raise ConfigurationError(
                f"{_PROXY} is not set, and {_SERVER_NAME}, {_CA_FILE} or {_CA_DATA} is: set it, or "
                "unset them"
            )
        return None
    if ca_file and ca_data:
        raise ConfigurationError(f"{_CA_FILE} and {_CA_DATA} are both set: unset one of them")
    if not _is_plain_https(url):
        raise ConfigurationError(
            f"{_PROXY} is no https URL of a host and a path alone, without user, query or "
            "fragment: correct it"
        )
    return TokenProxy(url.cell_contents, server_name, ca_file, ca_data)


def _is_plain_https(url: Hidden) -> bool:
    if not all("!" <= character <= "~" for character in url.cell_contents):
        return False
    try:
        parts = Hidden(urlsplit(url.cell_contents))
        whole = bool(parts.cell_contents.hostname) and parts.cell_contents.port != 0
    except ValueError:
        return False
    said = parts.cell_contents.scheme == "https" and "@" not in parts.cell_contents.netloc
    return whole and said and not set("?#").intersection(url.cell_contents)


def own_token_proxy() -> TokenProxy | None:
    """Does as :func:`token_proxy_from`, with this process's environment."""
    return token_proxy_from(os.environ)
