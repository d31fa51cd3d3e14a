"""Which hosts a token may go to: the binding that every HTTP client's bearer shares.

A token is for one API, and whoever receives it can use it there. So each bearer is bound to hosts:
those that the program names, or those that follow from the scopes. A request to any other is
refused before a token is even fetched.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

from urllib3.util import parse_url

from tokenmgr.errors import ConfigurationError, HostNotAllowedError
from tokenmgr.identity.clouds import INITIAL_DOMAINS

__all__ = ["HostBinding", "is_same_origin"]

_DEFAULT_PORTS = {"https": 443, "http": 80}
#: So many beginnings of URLs, and targets, are remembered that the token may go to.
_MOST_REMEMBERED = 256
#: Characters of one of them.
_LONGEST_REMEMBERED = 300
# Underscores are not for host names (RFC 1123, section 2.1), but container networks have them.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PATTERN = re.compile(r"(\*\.)?(\[[^\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?")


class HostBinding:
    """The hosts that a token may go to. They never change, so any thread may use it.

    A host is one of these; case and a trailing dot make no difference:

    * ``"graph.microsoft.com"``: this name, at port 443;
    * ``"api.contoso.com:8443"``: this name, at this port alone;
    * ``"*.blob.core.windows.net"``: whatever is below that name, one or more labels, at port 443.
      The name itself is not included;
    * ``"localhost"``, ``"127.0.0.1"`` (or another of 127.0.0.0/8), ``"[::1]"``: the loopback
      interface, by this name or address alone; without a port, at any port.

    Only https will do, except to the loopback hosts above, where plain http does too. Names under
    ``.localhost`` are no loopback hosts here, since some resolvers ask the network for them
    (RFC 6761, section 6.3, only says that they should not).

    Args:
        hosts: One host, or several.

    Raises:
        ConfigurationError: There is none, or one cannot be right.
    """

    def __init__(self, hosts: str | Iterable[str]) -> None:
        given = (hosts,) if isinstance(hosts, str) else tuple(hosts)
        self._patterns = tuple(_Pattern.parse(text, place) for place, text in enumerate(given, 1))
        if not self._patterns:
            raise ConfigurationError(
                'hosts= is empty: name where the token may go, as in hosts="api.contoso.com"'
            )
        #: What was found to be allowed: ``https://host:port/`` as it begins a URL, and targets.
        #: Reading a URL takes longer than all the rest of a warm call.
        self._known: set[object] = set()

    @classmethod
    def of(cls, scopes: Iterable[str], *, hosts: str | Iterable[str] | None = None) -> HostBinding:
        """Binds a token to ``hosts``, or, when they are left out, to those that its scopes name.

        ``https://graph.microsoft.com/.default`` names graph.microsoft.com. A scope such as
        ``api://…/.default``, a GUID, or a URL below ``onmicrosoft.com`` (a name in a directory,
        not a server) names none.

        Args:
            scopes: The token's scopes.
            hosts: As for :class:`HostBinding`.

        Raises:
            ConfigurationError: ``hosts`` cannot be right, or is missing and no scope names a host.
        """
        if hosts is not None:
            return cls(hosts)
        scopes = tuple(scopes)
        derived = tuple(dict.fromkeys(_hosts_of(scopes)))
        if not derived:
            short = not any("/" in scope for scope in scopes)
            whole = ", or the scope in full, as in https://graph.microsoft.com/User.Read"
            raise ConfigurationError(
                f"no host follows from the scope {' '.join(scopes)}: name where the token may go, "
                f'as in BearerAuth(manager, hosts="api.contoso.com"){whole if short else ""}'
            )
        return cls(derived)

    def __str__(self) -> str:
        return ", ".join(map(str, self._patterns))

    def __repr__(self) -> str:
        return f"<HostBinding to {self}>"

    def allows(self, url: str) -> bool:
        """Says whether a request to this URL may carry the token."""
        return self._refusal(_Target.parse(url)) is None

    def check(self, url: str) -> None:
        """Refuses a request that may not carry the token.

        Args:
            url: The URL that goes on the wire, not the one that it was made of.

        Raises:
            HostNotAllowedError: The host is not one of these, or the way to it is not https. The
                message names the host, and nothing else of the URL.
        """
        # What comes up to the first slash is the authority and all that could be in front of it:
        # nothing behind can change what any reader takes the host to be.
        start = url[: url.find("/", 8) + 1]
        if start not in self._known:
            self._check(_Target.parse(url))
            if start.startswith("https://"):
                self._remember(start)

    def check_target(self, scheme: str, host: bytes | str, port: int | None) -> None:
        """Does as :meth:`check`, for a client that has read the URL, and connects by what it read.

        Args:
            scheme: ``https`` or ``http``.
            host: The host in ASCII, a name beyond that in its xn-- form.
            port: The port; None for the scheme's own.

        Raises:
            HostNotAllowedError: As for :meth:`check`.
        """
        known = scheme, host, port
        if known not in self._known:
            name = host if isinstance(host, str) else host.decode("ascii")
            self._check(_Target.of(scheme, name, port))
            self._remember(known)

    @property
    def is_one_origin(self) -> bool:
        """Whether there is only one place that the token may go to."""
        return len(self._patterns) == 1 and self._patterns[0].is_one_origin

    def _remember(self, known: str | tuple[str, bytes | str, int | None]) -> None:
        if len(known) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known = set()
            self._known.add(known)

    def _check(self, target: _Target | None) -> None:
        refusal = self._refusal(target)
        if refusal is not None:
            raise HostNotAllowedError(refusal)

    def _refusal(self, target: _Target | None) -> str | None:
        if target is None:
            return (
                "the request's URL does not say for certain which host it goes to, so it gets no "
                "token: give it as https://host/path"
            )
        if target.scheme != "https" and not _is_loopback(target.host):
            return (
                f"a token goes over https only, and this request would take it to {target.host} "
                f"in the clear: use https, and a host that it is bound to ({self}) or that you "
                "add to hosts="
            )
        if not any(pattern.matches(target) for pattern in self._patterns):
            return (
                f"the token is bound to {self}, and this request would take it to {target}: if it "
                f'may go there, say so with hosts="{target}"; if not, send the request without it'
            )
        return None


@dataclass(frozen=True)
class _Target:
    """Where a request goes."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> _Target | None:
        """Reads a URL; None when it is not http(s) or anything about its host is doubtful."""
        try:
            parsed, split = parse_url(url), urlsplit(url)
            found = cls.of(parsed.scheme, parsed.host, parsed.port)
            # requests checks a URL with the one parser and connects by the other. They differ
            # about https://evil.example\@graph.microsoft.com/, and an attacker picks which.
            wire = cls.of(split.scheme, split.hostname, split.port)
        except ValueError:
            return None
        return found if found == wire else None

    @classmethod
    def of(cls, scheme: str | None, host: str | None, port: int | None) -> _Target | None:
        """Takes the parts of a URL; None where they name no host."""
        name = _normalize(host or "")
        if scheme not in _DEFAULT_PORTS or name is None:
            return None
        return cls(scheme, name, _DEFAULT_PORTS[scheme] if port is None else port)

    def __str__(self) -> str:
        default = _DEFAULT_PORTS[self.scheme]
        return self.host if self.port == default else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class _Pattern:
    """One host of a binding."""

    host: str
    port: int | None
    #: Whether it stands for what is below the host, and not for the host.
    below: bool

    @classmethod
    def parse(cls, text: object, place: int) -> _Pattern:
        """Reads one entry of ``hosts``; no message repeats it, since a URL may hold a password."""
        what = f"host {place} of hosts="
        if not isinstance(text, str):
            _refuse(f"{what} is of type {type(text).__name__}: give a str")
        if not text.isascii():
            _refuse(f"{what} has a character outside ASCII: give the xn-- form of the name")
        if "/" in text or "@" in text:
            _refuse(f'{what} is more than a host: give the host alone, such as "api.contoso.com"')
        match = _PATTERN.fullmatch(text)
        host = None if match is None else _normalize(match[2])
        port = None if match is None or match[3] is None else int(match[3])
        if match is None or host is None or not (port is None or 1 <= port <= 65535):
            _refuse(
                f'{what} is no host: give one such as "api.contoso.com", "api.contoso.com:8443", '
                '"*.blob.core.windows.net" or "[::1]:8443"'
            )
        below = match[1] is not None
        if below and ("." not in host or host.startswith("[") or _is_address(host)):
            _refuse(
                f"{what} is too wide: below a * there have to be two labels at least, as in "
                '"*.blob.core.windows.net"'
            )
        return cls(host, port, below)

    @property
    def is_one_origin(self) -> bool:
        return not self.below and not _is_loopback(self.host)  # which has http beside https

    def matches(self, target: _Target) -> bool:
        if not self._takes(target.port):
            return False
        if self.below:
            return target.host.endswith(f".{self.host}")
        return target.host == self.host

    def _takes(self, port: int) -> bool:
        if self.port is not None:
            return port == self.port
        # A development server listens wherever there is a free port.
        return port == _DEFAULT_PORTS["https"] or _is_loopback(self.host)

    def __str__(self) -> str:
        name = f"*.{self.host}" if self.below else self.host
        return name if self.port is None else f"{name}:{self.port}"


def is_same_origin(url: str, other: str) -> bool:
    """Says whether two URLs lead to the same scheme, host and port (RFC 6454, section 5)."""
    target = _Target.parse(url)
    return target is not None and target == _Target.parse(other)


def _hosts_of(scopes: Iterable[str]) -> Iterator[str]:
    for scope in scopes:
        target = _Target.parse(scope)
        if target is None or target.scheme != "https" or "@" in urlsplit(scope).netloc:
            continue
        if not f".{target.host}".endswith(INITIAL_DOMAINS):
            yield str(target)


def _normalize(host: str) -> str | None:
    """The one form in which hosts are compared; None for what is neither a name nor an address."""
    host = host.lower().removesuffix(".")
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            return None
        return None if address.scope_id else f"[{address.compressed}]"
    if len(host) > 253 or not _NAME.fullmatch(host):
        return None
    # 127.1 and 0x7f.1 are addresses to some resolvers: only the form that is one to all will do.
    return None if _ENDS_IN_A_NUMBER.fullmatch(host) and not _is_address(host) else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host in ("localhost", "[::1]"):
        return True
    return _is_address(host) and ipaddress.IPv4Address(host).is_loopback


def _refuse(message: str) -> NoReturn:
    raise ConfigurationError(message)
