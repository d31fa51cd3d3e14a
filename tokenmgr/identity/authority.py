"""The authority: the address of the directory, or of the provider, that issues the tokens.

An :class:`Authority` is checked once, offline, when it is made. What comes out is canonical, so
that two spellings of one authority are equal, share a token, and never meet a second cache entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn
from urllib.parse import unquote, urlsplit

from ..errors import AuthorityError

__all__ = ["Authority", "AuthorityKind"]

AuthorityKind = Literal["entra", "b2c", "ciam", "adfs", "oidc"]

# https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud, and, for the
# sovereign clouds of France, Germany and Singapore, MSAL's AZURE_GOV_FR, _DE and _SG.
_CLOUDS = {
    "public": "login.microsoftonline.com",
    "usgovernment": "login.microsoftonline.us",
    "china": "login.partner.microsoftonline.cn",
    "gov-fr": "login.sovcloud-identity.fr",
    "gov-de": "login.sovcloud-identity.de",
    "gov-sg": "login.sovcloud-identity.sg",
}
_B2C_DOMAINS = (".b2clogin.com", ".b2clogin.cn", ".b2clogin.us", ".b2clogin.de")
_CIAM_DOMAIN = ".ciamlogin.com"
# The domain that every directory starts with: worldwide, and in the cloud of China.
_INITIAL_DOMAINS = (".onmicrosoft.com", ".partner.onmschina.cn")
_ALIASES = frozenset({"common", "organizations", "consumers"})

# Patterns are text, and compiled when first used: ten of them would double the import.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NETLOC = rf"(\[[0-9a-f:.]+\]|{_LABEL}(?:\.{_LABEL})*)(?::([0-9]{{1,5}}))?"
_GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DOMAIN = rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])"
_POLICY = r"[a-z0-9_-]{1,128}"
_SEGMENT = r"(?i:[a-z0-9._~!$&'()*+,;=:@-]|%[0-9a-f]{2})+"
# What people paste along with an authority, from the portal or from a metadata document.
_ENDPOINT = (
    r"(?i:/(?:v2\.0|(?:v2\.0/)?\.well-known/openid-configuration"
    r"|oauth2/(?:v2\.0/)?(?:token|authorize|devicecode)))$"
)
_METADATA = r"(?i:(?:^|/)\.well-known/openid-configuration)+$"

_TENANT_HELP = (
    "a tenant is a GUID such as 11111111-2222-3333-4444-555555555555, a domain name such as "
    "contoso.onmicrosoft.com, or one of common, organizations and consumers"
)


@dataclass(frozen=True, slots=True)
class Authority:
    """Who issues the tokens. Equal by value, hashable, and checked without a request.

    Make one with a class method: :meth:`entra`, :meth:`b2c`, :meth:`ciam`, :meth:`adfs`,
    :meth:`oidc`, or, from a URL, with :meth:`parse`. ``str(authority)`` is its URL.

    Args:
        url: The canonical address: https, the host in lower case, no trailing slash, the port
            only where it is not 443.
        kind: ``"entra"``, ``"b2c"``, ``"ciam"``, ``"adfs"`` or ``"oidc"``.

    Raises:
        AuthorityError: The URL is not a canonical one of this kind. No message repeats what was
            given, since a URL may hold a password.
    """

    url: str
    kind: AuthorityKind

    def __post_init__(self) -> None:
        """Check by-hand constructions too: whoever holds an Authority need not check it again."""
        url, kind = _oidc(self.url) if self.kind == "oidc" else _classify(self.url)
        if kind != self.kind:
            _refuse(f"the URL is one of kind {kind!r}: use Authority.{kind}(...)")
        if url != self.url:
            _refuse("the URL is not canonical: use Authority.parse(url)")

    def __str__(self) -> str:
        """The URL."""
        return self.url

    @classmethod
    def entra(cls, tenant: str, *, cloud: str = "public") -> Authority:
        """A Microsoft Entra tenant.

        Hosts: https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud

        Args:
            tenant: The tenant's GUID or one of its domain names. ``common``, ``organizations``
                and ``consumers`` sign people in, and are of no use to client credentials.
            cloud: ``"public"``, ``"usgovernment"``, ``"china"``, ``"gov-fr"``, ``"gov-de"``,
                ``"gov-sg"``, or the host of a private cloud or an emulator, with or without
                ``https://`` (both forms that ``AZURE_AUTHORITY_HOST`` takes).

        Raises:
            AuthorityError: The tenant or the cloud is not one.
        """
        host = _CLOUDS.get(cloud) if isinstance(cloud, str) else None
        if host is None:
            host = _host(cloud, what="cloud", hint=f"one of {', '.join(_CLOUDS)}, or a host name")
        return cls(f"https://{host}/{_tenant(tenant)}", "entra")

    @classmethod
    def b2c(cls, name: str, policy: str, *, host: str | None = None) -> Authority:
        """A policy (user flow) of an Azure AD B2C tenant.

        Source: https://learn.microsoft.com/azure/active-directory-b2c/b2clogin

        Args:
            name: ``"contoso"`` or ``"contoso.onmicrosoft.com"``. With ``host``, the tenant's GUID
                is taken as well.
            policy: Such as ``"B2C_1_signup_signin"``; kept in lower case.
            host: A custom domain or an emulator, with or without ``https://``; left out,
                ``{name}.b2clogin.com``.

        Raises:
            AuthorityError: The name, the policy or the host is not one.
        """
        tenant = _text(name, "B2C tenant name").lower()
        if re.fullmatch(_LABEL, tenant) and not re.fullmatch(_GUID, tenant):
            tenant += ".onmicrosoft.com"
        if not _is_b2c_tenant(tenant):
            _refuse("the B2C name is no tenant: give contoso or contoso.onmicrosoft.com")
        if host is None:
            if not tenant.endswith(".onmicrosoft.com"):
                _refuse("the B2C host does not follow from this tenant: give host= too")
            host = f"{tenant.partition('.')[0]}.b2clogin.com"
        else:
            host = _host(host, what="B2C host", hint="a host name such as login.contoso.com")
        return cls(f"https://{host}/{tenant}/{_policy(policy)}", "b2c")

    @classmethod
    def ciam(cls, name: str) -> Authority:
        """An external tenant of Microsoft Entra External ID (CIAM).

        Source: https://learn.microsoft.com/entra/external-id/customers/overview-customers-ciam

        Args:
            name: ``"contoso"``, ``"contoso.onmicrosoft.com"`` or ``"contoso.ciamlogin.com"``.

        Raises:
            AuthorityError: The name is not one.
        """
        name = _text(name, "CIAM tenant name").lower()
        name = name.removesuffix(".onmicrosoft.com").removesuffix(_CIAM_DOMAIN)
        if not re.fullmatch(_LABEL, name):
            _refuse("the CIAM name is no tenant: give contoso or contoso.onmicrosoft.com")
        return cls(_classify(f"https://{name}{_CIAM_DOMAIN}")[0], "ciam")

    @classmethod
    def adfs(cls, url: str) -> Authority:
        """An Active Directory Federation Services server: ``https://host/adfs``.

        Source: https://learn.microsoft.com/entra/identity-platform/msal-client-application-configuration

        Args:
            url: ``https://adfs.contoso.com/adfs``, or the host alone as ``https://…``.

        Raises:
            AuthorityError: The URL is not https, or has another path than ``/adfs``.
        """
        host, path = _split(url)
        if re.sub(_ENDPOINT, "", path).lower() not in ("", "adfs"):
            _refuse("the path of an AD FS authority is /adfs: give https://host/adfs")
        return cls(f"https://{host}/adfs", "adfs")

    @classmethod
    def oidc(cls, url: str) -> Authority:
        """Any other provider of OpenID Connect, or a custom domain of External ID.

        Source: OpenID Connect Discovery 1.0, section 4, and
        https://learn.microsoft.com/entra/external-id/customers/how-to-custom-url-domain

        Args:
            url: The issuer, such as ``https://idp.example.com/realms/main``; the address of its
                metadata is taken too.

        Raises:
            AuthorityError: The URL is not https, or has no path.
        """
        return cls(*_oidc(url))

    @classmethod
    def parse(cls, value: str | Authority) -> Authority:
        """The authority behind a URL, of whichever kind.

        An :class:`Authority` is returned as it is. ``/tfp/`` of old B2C addresses, ``/v2.0``, and
        the token, authorize, device code and metadata endpoints are taken off. A generic provider
        whose path looks like an Entra tenant, or a B2C tenant and policy, is taken for that: give
        :meth:`oidc` then.

        Args:
            value: Such as ``"https://login.microsoftonline.com/contoso.onmicrosoft.com"``.

        Raises:
            AuthorityError: This is no authority's URL; the message says what would be.
        """
        return value if isinstance(value, Authority) else cls(*_classify(value))

    @property
    def host(self) -> str:
        """The host name, with ``:port`` where that is not 443."""
        return urlsplit(self.url).netloc

    @property
    def tenant(self) -> str | None:
        """The tenant's GUID, domain name or alias; None for AD FS and generic OpenID Connect."""
        return None if self.kind in ("adfs", "oidc") else self.url.split("/")[3]

    @property
    def policy(self) -> str | None:
        """The B2C policy in lower case; None for every other kind."""
        return self.url.split("/")[4] if self.kind == "b2c" else None

    @property
    def is_multi_tenant_alias(self) -> bool:
        """Whether the tenant is ``common``, ``organizations`` or ``consumers``.

        Those stand for the tenant of whoever signs in. Client credentials have no such person,
        and Entra refuses them.
        """
        return self.kind == "entra" and self.tenant in _ALIASES


def _refuse(message: str) -> NoReturn:
    raise AuthorityError(message[0].upper() + message[1:] + ".")


def _classify(value: str) -> tuple[str, AuthorityKind]:
    """The canonical URL, and its kind."""
    host, path = _split(value)
    segments = re.sub(_ENDPOINT, "", path).split("/") if path else []
    if segments and segments[0].lower() == "tfp":
        del segments[0]
    name = host.partition(":")[0]
    if name.endswith(_CIAM_DOMAIN):
        return _ciam(host, segments), "ciam"
    if name.endswith(_B2C_DOMAINS):
        return _b2c(host, segments), "b2c"
    if [segment.lower() for segment in segments] == ["adfs"]:
        return f"https://{host}/adfs", "adfs"
    if len(segments) == 1:
        return f"https://{host}/{_tenant(segments[0])}", "entra"
    if len(segments) == 2 and _looks_like_b2c(name, *segments):
        return _b2c(host, segments), "b2c"
    if not segments:
        _refuse("the authority URL has no tenant: add one, as in https://host/tenant")
    if name not in _CLOUDS.values():
        return _oidc(value)
    _refuse("the authority URL has more than a tenant: shorten it to https://host/tenant")


def _looks_like_b2c(host: str, tenant: str, policy: str) -> bool:
    if policy.lower().startswith("b2c_"):
        return True
    # Entra's own hosts have other pages below a tenant, such as /saml2: those are no policies.
    return host not in _CLOUDS.values() and _is_b2c_tenant(tenant.lower())


def _is_b2c_tenant(tenant: str) -> bool:
    if re.fullmatch(_GUID, tenant):
        return True
    return bool(re.fullmatch(_DOMAIN, tenant)) and tenant.endswith(_INITIAL_DOMAINS)


def _b2c(host: str, segments: list[str]) -> str:
    if len(segments) < 2:
        _refuse(
            "the B2C authority has no policy: add it, as in "
            "https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_signin, "
            "or use Authority.b2c(name, policy)"
        )
    if len(segments) > 2:
        _refuse("the B2C authority has more than /tenant/policy: remove what follows")
    return f"https://{host}/{_tenant(segments[0])}/{_policy(segments[1])}"


def _ciam(host: str, segments: list[str]) -> str:
    if len(segments) > 1:
        _refuse("the CIAM authority has more than a tenant: give https://contoso.ciamlogin.com")
    # WHY the path is spelled out: MSAL asks for the same metadata with and without it, and one
    # form makes the two equal here. A GUID, unlike a name, has no domain name of its own.
    name = host.partition(":")[0].removesuffix(_CIAM_DOMAIN)
    tenant = name if re.fullmatch(_GUID, name) else f"{name}.onmicrosoft.com"
    return f"https://{host}/{_tenant(segments[0] if segments else tenant)}"


def _oidc(value: str) -> tuple[str, AuthorityKind]:
    host, path = _split(value)
    path = re.sub(_METADATA, "", path)
    if not path:
        _refuse(
            "the OpenID Connect authority has no path, and MSAL asks for at least one segment: "
            "give https://host/path"
        )
    return f"https://{host}/{path}", "oidc"


def _tenant(value: str) -> str:
    # WHY lower case, here and for policies: Entra and B2C match both in any case, and B2C answers
    # in lower case, so that two spellings would be two cache entries and two requests for one
    # token. Paths of generic providers keep theirs: a Keycloak realm is case-sensitive.
    tenant = _text(value, "tenant").lower()
    if tenant in _ALIASES or re.fullmatch(_GUID, tenant):
        return tenant
    if len(tenant) > 253 or not re.fullmatch(_DOMAIN, tenant):
        _refuse(f"the tenant is not one: {_TENANT_HELP}")
    return tenant


def _policy(value: str) -> str:
    policy = _text(value, "policy").lower()
    if not re.fullmatch(_POLICY, policy):
        _refuse(
            "the B2C policy is not one: give its name alone, such as B2C_1_signin (letters, "
            "digits, - and _)"
        )
    return policy


def _host(value: str, *, what: str, hint: str) -> str:
    """``host[:port]`` of a host name or an https URL without a path."""
    text = _text(value, what)
    # A word without a dot is a cloud's misspelled name more often than it is a host.
    if "://" not in text and not re.search(r"[.:]", text):
        _refuse(f"the {what} is not known: give {hint} (https://… for a name without a dot)")
    host, path = _split(text if "://" in text else f"https://{text}")
    if path:
        _refuse(f"the {what} has a path: give the host alone, {hint}")
    return host


def _text(value: object, what: str) -> str:
    """A string that can be part of a URL: not empty, printable ASCII, no space."""
    if not isinstance(value, str):
        _refuse(f"the {what} is of type {type(value).__name__}: give a str")
    if not value:
        _refuse(f"the {what} is empty: set it")
    if not value.isascii():
        _refuse(f"the {what} has a character outside ASCII: give the xn-- form of the name")
    if not value.isprintable() or " " in value or "\\" in value:
        _refuse(f"the {what} has a space, a backslash or a control character: remove it")
    return value


def _split(value: object) -> tuple[str, str]:
    """The canonical ``host[:port]`` of an https URL, and its path without outer slashes.

    Everything that could make two URL parsers disagree about the host is refused here, because
    the host is where the app's secret goes.
    """
    text = _text(value, "authority URL")
    scheme, separator, rest = text.partition("://")
    if not separator:
        _refuse(
            "the authority is no URL: begin with https://, or use Authority.entra(tenant) where "
            "all you have is a tenant"
        )
    if scheme.lower() != "https":
        _refuse("the authority URL is not https: use https, since the app's secret goes there")
    netloc, _, path = rest.partition("/")
    if "@" in netloc:
        _refuse("the authority URL holds a user name or password: remove it")
    if "?" in rest or "#" in rest:
        _refuse("the authority URL has a query or a fragment: remove it from the ? or # on")
    path = path.rstrip("/")
    if path:
        _check_path(path)
    return _netloc(netloc.lower()), path


def _netloc(value: str) -> str:
    match = re.fullmatch(_NETLOC, value)
    if not value or value.startswith(":"):
        _refuse("the authority URL has no host: give one, as in https://host/tenant")
    if match is None or len(match[1]) > 253:
        _refuse("the host of the authority URL is not one: correct the host name or its port")
    host, port = match[1], int(match[2] or 443)
    if not 1 <= port <= 65535:
        _refuse("the port of the authority URL is out of range: give one from 1 to 65535")
    if host.startswith("["):
        import ipaddress  # 3 ms of import for what hardly anybody writes

        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            host = ""
    if not host:
        _refuse("the host of the authority URL is no IPv6 address: correct what is in brackets")
    return host if port == 443 else f"{host}:{port}"


def _check_path(path: str) -> None:
    for segment in path.split("/"):
        plain = unquote(segment)
        # Encoded or not, what changes the path on its way through a proxy has no business here.
        unsafe = plain in (".", "..") or not plain.isprintable() or re.search(r"[/\\]", plain)
        if unsafe or not re.fullmatch(_SEGMENT, segment):
            _refuse("the path of the authority URL has a part that is empty or invalid: correct it")
