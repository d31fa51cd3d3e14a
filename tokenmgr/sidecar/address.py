"""Where the sidecar is: on loopback, or behind TLS, since callers' tokens go there."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import NamedTuple, NoReturn
from urllib.parse import unquote, urlsplit

from .._runtime.secrecy import Hidden
from ..errors import ConfigurationError

__all__ = ["Address", "address_of"]

#: Where the service is unless it is told otherwise.
_DEFAULT = "http://localhost:5000"
#: A name, an address, or an IPv6 address in brackets, and the port: so that all parsers read it
#: alike.
_NETLOC = re.compile(
    r"([a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")


class Address(NamedTuple):
    """Where the sidecar is."""

    #: The URL, without a slash at its end.
    url: str
    #: Whether it is on this machine: then no proxy is on the way.
    is_loopback: bool


def address_of(base_url: Hidden) -> Address:
    """Reads where the sidecar is.

    Args:
        base_url: The URL, hidden; None for ``SIDECAR_URL``, or else port 5000 of this machine.

    Raises:
        ConfigurationError: It is no URL, or callers' tokens would go there in the clear.
    """
    given = base_url.cell_contents is not None
    what = "base_url=" if given else "SIDECAR_URL"
    if not given:
        base_url = Hidden(os.environ.get("SIDECAR_URL") or _DEFAULT)
    _check_text(base_url, what)
    try:
        parts = Hidden(urlsplit(base_url.cell_contents))
    except ValueError:
        _refuse(what, "is no URL")
    if "@" in parts.cell_contents.netloc:
        _refuse(what, "holds a user name or password, which the sidecar knows nothing of")
    scheme = str(parts.cell_contents.scheme)
    netloc = str(parts.cell_contents.netloc).lower()
    path = str(parts.cell_contents.path).rstrip("/")
    if scheme not in ("http", "https"):
        _refuse(what, "is no http(s) URL")
    read = _NETLOC.fullmatch(netloc)
    if read is None or int(read[2] or 1) not in range(1, 65_536):
        _refuse(what, "has no host, or no port, that is one")
    segments = [unquote(each) for each in path.split("/")[1:]]
    if _PATH.fullmatch(path) is None or not {".", ".."}.isdisjoint(segments):
        _refuse(what, "has a path that is none")
    is_loopback = _is_loopback(read[1])
    if scheme == "http" and not is_loopback:
        raise ConfigurationError(
            f"{what} leads to {read[1]} over http, and tokens would go there in the clear: run "
            "the sidecar next to the program, as containers of one pod share their loopback "
            "interface, and name it http://localhost:5000; or reach it by https"
        )
    return Address(f"{scheme}://{netloc}{path}", is_loopback)


def _check_text(given: Hidden, what: str) -> None:
    text = given.cell_contents if isinstance(given.cell_contents, str) else ""
    odd = not text.isascii() or not text.isprintable() or not {" ", "\\", "?", "#"}.isdisjoint(text)
    text, empty = "", text == ""
    if empty or odd:
        _refuse(what, "is no URL of printable ASCII characters without a query")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _refuse(what: str, why: str) -> NoReturn:
    raise ConfigurationError(f"{what} {why}: give the sidecar's address, such as {_DEFAULT}")
