"""What the environment says: the variables of azure-identity, and three of our own.

See "Environment variables" in the README of azure-identity, on Microsoft Learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import AuthorityError, ConfigurationError
from .authority import Authority
from .credentials import Certificate, ClientCredential, ClientSecret, WorkloadIdentity

__all__ = ["Settings", "settings_from"]


@dataclass(frozen=True)
class Settings:
    """What a registry is made of."""

    client_id: str
    credential: ClientCredential
    authority: Authority
    #: Its URL, which may hold a password.
    store: str | None = field(repr=False)
    encryption_key: tuple[str, ...] | None = field(repr=False)


class _Variables(dict[str, str]):
    """The variables that are set. A traceback that shows them shows no value."""

    def __repr__(self) -> str:
        return f"<variables {', '.join(sorted(self))}>"


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Reads a registry's settings. A variable that is empty counts as not set.

    Args:
        environ: The variables, such as ``os.environ``.

    Raises:
        ConfigurationError: One is missing, or two contradict each other; the message names them.
        AuthorityError: The authority or the tenant is not one; the message names the variable.
    """
    env = _Variables({name: value.strip() for name, value in environ.items() if value.strip()})
    if "AZURE_CLIENT_CERTIFICATE_PASSWORD" in env:  # white space may be part of a password
        env["AZURE_CLIENT_CERTIFICATE_PASSWORD"] = environ["AZURE_CLIENT_CERTIFICATE_PASSWORD"]
    del environ  # its repr shows the secret
    if "AZURE_CLIENT_ID" not in env:
        raise ConfigurationError("set AZURE_CLIENT_ID to the app's client id")
    return Settings(
        client_id=env["AZURE_CLIENT_ID"],
        credential=_credential(env),
        authority=_authority(env),
        store=env.get("TOKENMGR_STORE"),
        encryption_key=_encryption_keys(env),
    )


def _encryption_keys(env: Mapping[str, str]) -> tuple[str, ...] | None:
    if "TOKENMGR_ENCRYPTION_KEY" not in env:
        return None
    keys = (each.strip() for each in env["TOKENMGR_ENCRYPTION_KEY"].split(","))
    return tuple(each for each in keys if each)


def _credential(env: Mapping[str, str]) -> ClientCredential:
    # The order is azure-identity's, so that a deployment behaves as it did.
    if "AZURE_CLIENT_SECRET" in env:
        return ClientSecret(env["AZURE_CLIENT_SECRET"])
    if "AZURE_CLIENT_CERTIFICATE_PATH" in env:
        return Certificate(
            env["AZURE_CLIENT_CERTIFICATE_PATH"],
            password=env.get("AZURE_CLIENT_CERTIFICATE_PASSWORD"),
            send_chain=env.get("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "").lower() in ("1", "true"),
        )
    if "AZURE_FEDERATED_TOKEN_FILE" in env:
        return WorkloadIdentity(env["AZURE_FEDERATED_TOKEN_FILE"])
    raise ConfigurationError(
        "nothing proves who the app is: set AZURE_CLIENT_SECRET, or "
        "AZURE_CLIENT_CERTIFICATE_PATH, or AZURE_FEDERATED_TOKEN_FILE"
    )


def _authority(env: Mapping[str, str]) -> Authority:
    tenant, cloud = env.get("AZURE_TENANT_ID"), env.get("AZURE_AUTHORITY_HOST")
    named = env.get("TOKENMGR_AUTHORITY")
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
