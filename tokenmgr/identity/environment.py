"""What the environment says: the variables of azure-identity, and three of our own.

See "Environment variables" in the README of azure-identity, on Microsoft Learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .._runtime.secrecy import Hidden, is_unicode
from .._runtime.values import Value
from ..errors import AuthorityError, ConfigurationError
from .authority import Authority
from .certificates import Certificate
from .clouds import checked_region, cloud_of
from .credentials import ClientCredential, ClientSecret, WorkloadIdentity

__all__ = ["Settings", "settings_from"]


class Settings(Value):
    """What a registry is made of."""

    _hidden = frozenset({"store", "encryption_key"})

    #: None, and what follows, where nothing proves who an app is: the host may know.
    client_id: str | None
    credential: ClientCredential | None
    authority: Authority | None
    #: Its URL, which may hold a password.
    store: str | None
    encryption_key: tuple[str, ...] | None
    #: A region's name, or True to find it out; None where it is not said, or there are none.
    azure_region: str | bool | None


class _Variables:
    """The variables that are set. It shows none of them; what is empty counts as not set."""

    def __init__(self, environ: Hidden) -> None:
        self._environ = environ

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __getitem__(self, name: str) -> str:
        return self.get(name) or ""

    def get(self, name: str) -> str | None:
        return self._environ.cell_contents.get(name, "").strip() or None

    def text(self, name: str) -> str | None:
        """Gives one that has to be a text, and may be the name of no file.

        Raises:
            ConfigurationError: UTF-8 cannot say it.
        """
        if not is_unicode(self[name]):
            raise ConfigurationError(
                f"{name} holds what is no text in UTF-8, as when it was set in another encoding: "
                "set it in UTF-8"
            )
        return self.get(name)

    def password(self, name: str) -> str | None:
        """Gives one with the white space around it, which may be part of it."""
        return self._environ.cell_contents.get(name) if self.text(name) else None


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Reads a registry's settings. A variable that is empty counts as not set.

    Args:
        environ: The variables, such as ``os.environ``.

    Raises:
        ConfigurationError: One is missing, or two contradict each other; the message names them.
            Where no credential is named at all, nor an authority, nothing is missing.
        AuthorityError: The authority or the tenant is not one; the message names the variable.
    """
    environ, given = {}, Hidden(environ)
    env = _Variables(given)
    credential = _credential(env)
    client_id = authority = None
    if credential is not None:
        client_id = env.text("AZURE_CLIENT_ID")
        if client_id is None:
            raise ConfigurationError("set AZURE_CLIENT_ID to the app's client id")
        authority = _authority(env)
    return Settings(
        client_id=client_id,
        credential=credential,
        authority=authority,
        store=env.get("TOKENMGR_STORE"),
        encryption_key=_encryption_keys(env),
        azure_region=_region(env, authority),
    )


def _region(env: _Variables, authority: Authority | None) -> str | bool | None:
    name = "AZURE_REGIONAL_AUTHORITY_NAME"
    if name not in env or authority is None or authority.kind != "entra":
        return None
    if cloud_of(authority.host) is None:
        return None
    # As azure-identity reads it.
    return env[name].lower() in ("tryautodetect", "true") or checked_region(env[name], name)


def _encryption_keys(env: _Variables) -> tuple[str, ...] | None:
    name = "TOKENMGR_ENCRYPTION_KEY"
    return tuple(filter(None, map(str.strip, env[name].split(",")))) if name in env else None


def _credential(env: _Variables) -> ClientCredential | None:
    # The order is azure-identity's, so that a deployment behaves as it did.
    if "AZURE_CLIENT_SECRET" in env:
        return ClientSecret(env.text("AZURE_CLIENT_SECRET"))
    if "AZURE_CLIENT_CERTIFICATE_PATH" in env:
        sends = env["AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"]
        return Certificate(
            env["AZURE_CLIENT_CERTIFICATE_PATH"],  # or the certificate itself, by mistake
            password=env.password("AZURE_CLIENT_CERTIFICATE_PASSWORD"),
            send_chain=sends.lower() in ("1", "true"),
        )
    if "AZURE_FEDERATED_TOKEN_FILE" in env:
        return WorkloadIdentity(env["AZURE_FEDERATED_TOKEN_FILE"])
    if "TOKENMGR_AUTHORITY" not in env:
        return None
    raise ConfigurationError(
        "TOKENMGR_AUTHORITY is set, and nothing proves who the app is there: set "
        "AZURE_CLIENT_SECRET, or AZURE_CLIENT_CERTIFICATE_PATH, or AZURE_FEDERATED_TOKEN_FILE. A "
        "public client, which signs users in, is made by TokenRegistry(client_id=, authority=)"
    )


def _authority(env: _Variables) -> Authority:
    tenant, cloud = env.text("AZURE_TENANT_ID"), env.text("AZURE_AUTHORITY_HOST")
    named = env.text("TOKENMGR_AUTHORITY")
    if named is None:
        if tenant is None:
            raise ConfigurationError(
                "set AZURE_TENANT_ID to the tenant's id or domain name, or TOKENMGR_AUTHORITY to "
                "the authority's URL"
            )
        with _naming("AZURE_AUTHORITY_HOST"):
            Authority.entra("common", cloud=cloud or "public")
        with _naming("AZURE_TENANT_ID"):
            return Authority.entra(tenant, cloud=cloud or "public")
    with _naming("TOKENMGR_AUTHORITY"):
        authority = Authority.parse(named)
    if tenant and authority.tenant and _differ(authority.tenant, tenant.lower()):
        raise ConfigurationError(
            "TOKENMGR_AUTHORITY and AZURE_TENANT_ID name different tenants: unset one of them"
        )
    # Kubernetes names Entra's host in every pod, whatever authority the app in it uses.
    if authority.kind != "entra":
        return authority
    with _naming("AZURE_AUTHORITY_HOST"):
        host = Authority.entra("common", cloud=cloud).host if cloud else authority.host
    if authority.host != host:
        raise ConfigurationError(
            "TOKENMGR_AUTHORITY and AZURE_AUTHORITY_HOST name different hosts: unset one of them"
        )
    return authority


def _differ(one: str, other: str) -> bool:
    """Whether they are named apart: an id may be that of any domain name, and is taken for it."""
    return one != other and ("." in one) == ("." in other)


@contextmanager
def _naming(variable: str) -> Iterator[None]:
    """Names the variable in the error that its value leads to."""
    try:
        yield
    except AuthorityError as exc:
        raise AuthorityError(f"{variable}: {exc}") from None
