"""Addresses as people write them: checked by hand, since the app's secret goes there.

Everything that could make two URL parsers disagree about the host is refused.
"""

from __future__ import annotations

from urllib.parse import unquote

from ..errors import AuthorityError

__all__ = [
    "checked_text",
    "host_of",
    "is_domain",
    "is_guid",
    "is_label",
    "refusal",
    "split_url",
    "without_endpoint",
]

# Sets and no patterns: each pattern takes longer to compile than all of an address to check.
_DIGITS = frozenset("0123456789")
_HEX = _DIGITS | frozenset("abcdef")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_OF_LABELS = _LETTERS | _DIGITS | {"-"}
#: What a path is made of (RFC 3986, section 3.3), in lower case.
_OF_PATHS = _OF_LABELS | frozenset("._~!$&'()*+,;=:@%")

#: What people paste along with an authority, from the portal or from a metadata document.
_ENDPOINTS = (
    "/v2.0/.well-known/openid-configuration",
    "/.well-known/openid-configuration",
    "/v2.0",
    *(f"/oauth2/{name}" for name in ("token", "authorize", "devicecode")),
    *(f"/oauth2/v2.0/{name}" for name in ("token", "authorize", "devicecode")),
)


def refusal(message: str) -> AuthorityError:
    """The error of an address that cannot be one."""
    return AuthorityError(message[0].upper() + message[1:] + ".")


def is_label(text: str) -> bool:
    """Whether it is one label of a host name (RFC 1123, section 2.1), in lower case."""
    return 0 < len(text) <= 63 and _OF_LABELS.issuperset(text) and "-" not in (text[0], text[-1])


def is_domain(text: str) -> bool:
    """Whether it is a domain name of two labels at least, in lower case."""
    *labels, top = text.split(".")
    named = len(top) >= 2 and top[0] in _LETTERS and is_label(top)
    return named and len(text) <= 253 and labels != [] and all(map(is_label, labels))


def is_guid(text: str) -> bool:
    """Whether it is a GUID, in lower case."""
    parts = text.split("-")
    return [*map(len, parts)] == [8, 4, 4, 4, 12] and all(map(_HEX.issuperset, parts))


def without_endpoint(path: str) -> str:
    """A path without the endpoint at its end, such as ``/oauth2/v2.0/token``."""
    lower = path.lower()
    ending = next((each for each in _ENDPOINTS if lower.endswith(each)), "")
    return path[: len(path) - len(ending)]


def host_of(value: str, *, what: str, hint: str) -> str:
    """``host[:port]`` of a host name or an https URL without a path."""
    text = checked_text(value, what)
    # A word without a dot is a cloud's misspelled name more often than it is a host.
    if "." not in text and ":" not in text:
        raise refusal(f"the {what} is not known: give {hint} (https://… for a name without a dot)")
    host, path = split_url(text if "://" in text else f"https://{text}")
    if path:
        raise refusal(f"the {what} has a path: give the host alone, {hint}")
    return host


def checked_text(value: object, what: str) -> str:
    """A string that can be part of a URL: not empty, printable ASCII, no space."""
    if not isinstance(value, str):
        raise refusal(f"the {what} is of type {type(value).__name__}: give a str")
    if not value:
        raise refusal(f"the {what} is empty: set it")
    if not value.isascii():
        raise refusal(f"the {what} has a character outside ASCII: give the xn-- form of the name")
    if not value.isprintable() or " " in value or "\\" in value:
        raise refusal(f"the {what} has a space, a backslash or a control character: remove it")
    return value


def split_url(value: object) -> tuple[str, str]:
    """The canonical ``host[:port]`` of an https URL, and its path without outer slashes.

    Everything that could make two URL parsers disagree about the host is refused here, because
    the host is where the app's secret goes.
    """
    text = checked_text(value, "authority URL")
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise refusal(
            "the authority is no URL: begin with https://, or use Authority.entra(tenant) where "
            "all you have is a tenant"
        )
    if scheme.lower() != "https":
        raise refusal(
            "the authority URL is not https: use https, since the app's secret goes there"
        )
    netloc, _, path = rest.partition("/")
    if "@" in netloc:
        raise refusal("the authority URL holds a user name or password: remove it")
    if "?" in rest or "#" in rest:
        raise refusal("the authority URL has a query or a fragment: remove it from the ? or # on")
    path = path.rstrip("/")
    if path:
        _check_path(path)
    return _netloc(netloc.lower()), path


def _netloc(value: str) -> str:
    if not value or value.startswith(":"):
        raise refusal("the authority URL has no host: give one, as in https://host/tenant")
    host, digits = value, "443"
    if ":" in value and not value.endswith("]"):
        host, _, digits = value.rpartition(":")
    numbered = 0 < len(digits) <= 5 and _DIGITS.issuperset(digits)
    if not numbered or not _is_host(host):
        raise refusal("the host of the authority URL is not one: correct the host name or its port")
    port = int(digits)
    if not 1 <= port <= 65535:
        raise refusal("the port of the authority URL is out of range: give one from 1 to 65535")
    if host.startswith("["):
        import ipaddress  # 3 ms of import for what hardly anybody writes

        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            host = ""
    if not host:
        raise refusal(
            "the host of the authority URL is no IPv6 address: correct what is in brackets"
        )
    return host if port == 443 else f"{host}:{port}"


def _is_host(text: str) -> bool:
    """Whether it is a host name, or may be an address."""
    if text.startswith("[") and text.endswith("]"):
        return len(text) > 2 and (_HEX | {":", "."}).issuperset(text[1:-1])
    return len(text) <= 253 and all(map(is_label, text.split(".")))


def _check_path(path: str) -> None:
    for segment in path.split("/"):
        plain = unquote(segment)
        # Encoded or not, what changes the path on its way through a proxy has no business here.
        unsafe = plain in ("", ".", "..") or not plain.isprintable() or "/" in plain
        odd = "\\" in plain or not _OF_PATHS.issuperset(segment.lower())
        if unsafe or odd or not _is_encoded(segment):
            raise refusal(
                "the path of the authority URL has a part that is empty or invalid: correct it"
            )


def _is_encoded(segment: str) -> bool:
    """Whether each ``%`` in it begins the code of a character."""
    codes = segment.lower().split("%")[1:]
    return all(len(code) >= 2 and _HEX.issuperset(code[:2]) for code in codes)
