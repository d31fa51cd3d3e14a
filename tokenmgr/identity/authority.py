"""The authority: the address of the directory, or of the provider, that issues the tokens.

An :class:`Authority` is checked once, offline, when it is made. What comes out is canonical, so
that two spellings of one authority are equal, share a token, and never meet a second cache entry.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from .._runtime.values import Value
from .addresses import (
    checked_text,
    host_of,
    is_domain,
    is_guid,
    is_label,
    refusal,
    split_url,
    without_endpoint,
)
from .clouds import B2C_DOMAINS, CIAM_DOMAIN, CLOUDS, INITIAL_DOMAINS, cloud_of

__all__ = ["Authority", "AuthorityKind", "neighbour"]

AuthorityKind = Literal["entra", "b2c", "ciam", "adfs", "oidc", "given"]

_ALIASES = frozenset({"common", "organizations", "consumers"})

_POLICY = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")

_METADATA = "/.well-known/openid-configuration"

_TENANT_HELP = (
    "a tenant is a GUID such as 11111111-2222-3333-4444-555555555555, a domain name such as "
    "contoso.onmicrosoft.com, or one of common, organizations and consumers"
)


class Authority(Value):
    """Who issues the tokens. Equal by value, hashable, and checked without a request.

    Make one with a class method: :meth:`entra`, :meth:`b2c`, :meth:`ciam`, :meth:`adfs`,
    :meth:`oidc`, or, from a URL, with :meth:`parse`. ``str(authority)`` is its URL.

    Args:
        url: The canonical address: https, the host in lower case, no trailing slash, the port
            only where it is not 443.
        kind: ``"entra"``, ``"b2c"``, ``"ciam"``, ``"adfs"`` or ``"oidc"``; ``"given"`` is what
            stands for one where a credential gives tokens by itself, such as ``managed-identity``.

    Raises:
        AuthorityError: The URL is not a canonical one of this kind. No message repeats what was
            given, since a URL may hold a password.
    """

    url: str
    kind: AuthorityKind

    def _check(self) -> None:
        """Check by-hand constructions too: whoever holds an Authority need not check it again."""
        if self.kind == "given":
            return  # nobody is asked at that address
        url, kind = _oidc(self.url) if self.kind == "oidc" else _classify(self.url)
        if kind != self.kind:
            raise refusal(f"the URL is one of kind {kind!r}: use Authority.{kind}(...)")
        if url != self.url:
            raise refusal("the URL is not canonical: use Authority.parse(url)")

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
        host = next((each.host for each in CLOUDS if each.name == cloud), None)
        if host is None:
            names = ", ".join(each.name for each in CLOUDS)
            host = host_of(cloud, what="cloud", hint=f"one of {names}, or a host name")
        return cls(f"https://{host}/{_tenant(tenant)}", "entra")

    @classmethod
    def b2c(cls, name: str, policy: str, *, host: str | None = None) -> Authority:
        """A policy (user flow) of an Azure AD B2C tenant.

        Source: https://learn.microsoft.com/azure/active-directory-b2c/b2clogin

        Args:
            name: ``"contoso"`` or ``"contoso.onmicrosoft.com"``; of another cloud its own form,
                such as ``"contoso.onmicrosoft.us"``. With ``host``, the tenant's GUID is taken as
                well.
            policy: Such as ``"B2C_1_signup_signin"``; kept in lower case.
            host: A custom domain or an emulator, with or without ``https://``; left out,
                ``{name}.b2clogin.com``, or what its cloud has in that one's place.

        Raises:
            AuthorityError: The name, the policy or the host is not one.
        """
        tenant = checked_text(name, "B2C tenant name").lower()
        if is_label(tenant) and not is_guid(tenant):
            tenant += ".onmicrosoft.com"
        if not _is_b2c_tenant(tenant):
            raise refusal("the B2C name is no tenant: give contoso or contoso.onmicrosoft.com")
        if host is None:
            host = _b2c_host(tenant)
        else:
            host = host_of(host, what="B2C host", hint="a host name such as login.contoso.com")
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
        name = checked_text(name, "CIAM tenant name").lower()
        name = name.removesuffix(".onmicrosoft.com").removesuffix(CIAM_DOMAIN)
        if not is_label(name):
            raise refusal("the CIAM name is no tenant: give contoso or contoso.onmicrosoft.com")
        return cls(_classify(f"https://{name}{CIAM_DOMAIN}")[0], "ciam")

    @classmethod
    def adfs(cls, url: str) -> Authority:
        """An Active Directory Federation Services server: ``https://host/adfs``.

        Source: https://learn.microsoft.com/entra/identity-platform/msal-client-application-configuration

        Args:
            url: ``https://adfs.contoso.com/adfs``, or the host alone as ``https://…``.

        Raises:
            AuthorityError: The URL is not https, or has another path than ``/adfs``.
        """
        host, path = split_url(url)
        if without_endpoint(path).lower() not in ("", "adfs"):
            raise refusal("the path of an AD FS authority is /adfs: give https://host/adfs")
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
        """The tenant's GUID, domain name or alias; None for AD FS and generic OpenID Connect.

        Where a credential gives tokens by itself, the tenant that it is asked for, or None.
        """
        if self.kind == "given":
            return self.url.partition(":")[2] or None
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


def neighbour(authority: Authority, tenant: str) -> Authority:
    """Gives another tenant of the same cloud, or of the same credential that gives tokens.

    Args:
        authority: The one that is there.
        tenant: As for :meth:`Authority.entra`.

    Raises:
        AuthorityError: It is no tenant.
    """
    if authority.kind == "given":
        return Authority(f"{authority.url.partition(':')[0]}:{_tenant(tenant)}", "given")
    return Authority.entra(tenant, cloud=f"https://{authority.host}")


def _classify(value: str) -> tuple[str, AuthorityKind]:
    """The canonical URL, and its kind."""
    host, path = split_url(value)
    segments = without_endpoint(path).split("/") if path else []
    if segments and segments[0].lower() == "tfp":
        del segments[0]
    name = host.partition(":")[0]
    if name.endswith(CIAM_DOMAIN):
        return _ciam(host, segments), "ciam"
    if name.endswith(B2C_DOMAINS):
        return _b2c(host, segments), "b2c"
    if [segment.lower() for segment in segments] == ["adfs"]:
        return f"https://{host}/adfs", "adfs"
    if len(segments) == 1:
        return f"https://{host}/{_tenant(segments[0])}", "entra"
    if len(segments) == 2 and _looks_like_b2c(name, *segments):
        return _b2c(host, segments), "b2c"
    if not segments:
        raise refusal("the authority URL has no tenant: add one, as in https://host/tenant")
    if cloud_of(name) is None:
        return _oidc(value)
    raise refusal("the authority URL has more than a tenant: shorten it to https://host/tenant")


def _looks_like_b2c(host: str, tenant: str, policy: str) -> bool:
    if policy.lower().startswith("b2c_"):
        return True
    # Entra's own hosts have other pages below a tenant, such as /saml2: those are no policies.
    return cloud_of(host) is None and _is_b2c_tenant(tenant.lower())


def _is_b2c_tenant(tenant: str) -> bool:
    if is_guid(tenant):
        return True
    return is_domain(tenant) and tenant.endswith(INITIAL_DOMAINS)


def _b2c_host(tenant: str) -> str:
    """The host of a B2C tenant in its own cloud."""
    for cloud in CLOUDS:
        if cloud.b2c_domain and tenant.endswith(cloud.initial_domains):
            return tenant.partition(".")[0] + cloud.b2c_domain
    raise refusal("the B2C host does not follow from this tenant: give host= too")


def _b2c(host: str, segments: list[str]) -> str:
    if len(segments) < 2:
        raise refusal(
            "the B2C authority has no policy: add it, as in "
            "https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_signin, "
            "or use Authority.b2c(name, policy)"
        )
    if len(segments) > 2:
        raise refusal("the B2C authority has more than /tenant/policy: remove what follows")
    return f"https://{host}/{_tenant(segments[0])}/{_policy(segments[1])}"


def _ciam(host: str, segments: list[str]) -> str:
    if len(segments) > 1:
        raise refusal(
            "the CIAM authority has more than a tenant: give https://contoso.ciamlogin.com"
        )
    # WHY the path is spelled out: MSAL asks for the same metadata with and without it, and one
    # form makes the two equal here. A GUID, unlike a name, has no domain name of its own.
    name = host.partition(":")[0].removesuffix(CIAM_DOMAIN)
    tenant = name if is_guid(name) else f"{name}.onmicrosoft.com"
    return f"https://{host}/{_tenant(segments[0] if segments else tenant)}"


def _oidc(value: str) -> tuple[str, AuthorityKind]:
    host, path = split_url(value)
    while f"/{path}".lower().endswith(_METADATA):
        path = path[: 1 - len(_METADATA)].rstrip("/")
    if not path:
        raise refusal(
            "the OpenID Connect authority has no path, and MSAL asks for at least one segment: "
            "give https://host/path"
        )
    return f"https://{host}/{path}", "oidc"


def _tenant(value: str) -> str:
    # WHY lower case, here and for policies: Entra and B2C match both in any case, and B2C answers
    # in lower case, so that two spellings would be two cache entries and two requests for one
    # token. Paths of generic providers keep theirs: a Keycloak realm is case-sensitive.
    tenant = checked_text(value, "tenant").lower()
    if tenant in _ALIASES or is_guid(tenant):
        return tenant
    if not is_domain(tenant):
        raise refusal(f"the tenant is not one: {_TENANT_HELP}")
    return tenant


def _policy(value: str) -> str:
    policy = checked_text(value, "policy").lower()
    if len(policy) > 128 or not _POLICY.issuperset(policy):
        raise refusal(
            "the B2C policy is not one: give its name alone, such as B2C_1_signin (letters, "
            "digits, - and _)"
        )
    return policy
