"""The app registrations that the emulator knows, with what proves each of them."""

from __future__ import annotations

import secrets
import threading
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2.rfc6749 import ClientMixin
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from joserfc.jwk import Key, RSAKey, import_key

from .redirects import is_registered

__all__ = ["Client", "ClientDirectory", "FederatedCredential", "RegisteredCertificate"]

#: What a federated assertion has to name as its audience, unless it was registered otherwise:
#: https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations.
TOKEN_EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"  # noqa: S105 - an audience, no secret


@dataclass(frozen=True)
class FederatedCredential:
    """Another issuer whose assertions an app may show instead of a secret.

    Attributes:
        issuer: The assertions' ``iss``.
        subject: The assertions' ``sub``.
        public_key: What verifies them: RSA or EC, in PEM or as a JSON web key.
        audience: The assertions' ``aud``.
    """

    issuer: str
    subject: str
    public_key: str | bytes | dict[str, Any]
    audience: str = TOKEN_EXCHANGE_AUDIENCE

    def key(self) -> Key:
        """The public key, ready to verify with."""
        if isinstance(self.public_key, dict):
            key: Key = import_key(self.public_key)
            return key
        pem = self.public_key.encode() if isinstance(self.public_key, str) else self.public_key
        if isinstance(load_pem_public_key(pem), rsa.RSAPublicKey):
            return import_key(pem, "RSA")
        return import_key(pem, "EC")


class RegisteredCertificate:
    """A public certificate of an app, and the three ways in which an assertion points at it."""

    def __init__(self, pem: str | bytes) -> None:
        data = pem.encode() if isinstance(pem, str) else pem
        certificate = x509.load_pem_x509_certificate(data)
        self.der: bytes = certificate.public_bytes(Encoding.DER)
        # x5t is SHA-1 by definition (RFC 7515, section 4.1.7); the signature is what is trusted.
        self.x5t: str = _thumbprint(certificate.fingerprint(hashes.SHA1()))  # noqa: S303 - a name only
        self.x5t_s256: str = _thumbprint(certificate.fingerprint(hashes.SHA256()))
        public_key = certificate.public_key()
        pem_key = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.key: RSAKey = import_key(pem_key, "RSA")


def _thumbprint(digest: bytes) -> str:
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass
class Client(ClientMixin):
    """One app registration.

    Attributes:
        client_id: Its application id.
        roles: What an administrator consented to: the ``roles`` of its tokens.
        certificates: The certificates that are registered for it.
        federated: The issuers whose assertions it may show.
        redirect_uris: Where its users may be sent back to.
        public: Whether it is an app on a user's machine, which can keep no secret: its redirect
            URIs are of the platform "mobile and desktop", and public client flows are allowed.
        accepted_version: The version of the tokens that it takes as an API: in 2.0 their audience
            is its id, in 1.0 it is the resource as it was asked for.
        optional_claims: What else is to be in the tokens that it takes, of what the emulator knows:
            ``idtyp``.
        blueprint_id: Whose child it is, for an agent identity; None for every other app.
        tenant_id: The GUID of the one tenant that has it; None where every tenant does.
        only_for_agents: Whether it is an agent identity blueprint, whose own tokens prove agents.
    """

    client_id: str
    roles: Sequence[str] = ()
    public: bool = False
    accepted_version: str = "2.0"
    optional_claims: Sequence[str] = ()
    redirect_uris: list[str] = field(default_factory=list)
    certificates: list[RegisteredCertificate] = field(default_factory=list, repr=False)
    federated: list[FederatedCredential] = field(default_factory=list, repr=False)
    secret: str | None = field(default=None, repr=False)
    secret_expired: bool = False
    blueprint_id: str | None = None
    tenant_id: str | None = None
    only_for_agents: bool = False

    def is_at(self, tenant_id: str) -> bool:
        """Whether a tenant has it."""
        return self.tenant_id in (None, tenant_id)

    def get_client_id(self) -> str:
        """Its application id, as Authlib asks for it."""
        return self.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is its secret, expired or not."""
        expected = self.secret
        return expected is not None and secrets.compare_digest(
            client_secret.encode(), expected.encode()
        )

    def get_default_redirect_uri(self) -> str:
        """Where users go when a request does not say: the first one; empty when there is none."""
        return self.redirect_uris[0] if self.redirect_uris else ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether this is one of its redirect URIs."""
        return any(is_registered(each, redirect_uri) for each in self.redirect_uris)

    def check_response_type(self, response_type: str) -> bool:
        """Codes are given to every app, and tokens to none: none has implicit grants enabled."""
        return response_type == "code"

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002
        """Any way will do: Entra does not tie an app to one."""
        return True

    def check_grant_type(self, grant_type: str) -> bool:  # noqa: ARG002
        """Every grant that the emulator has is open to every app."""
        return True

    def get_allowed_scope(self, scope: Any) -> Any:
        """Scopes are the grant's affair here."""
        return scope


class ClientDirectory:
    """The apps by their ids. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _clients
        self._clients: dict[str, Client] = {}

    def find(self, client_id: str) -> Client | None:
        """The app of this id, None when there is none."""
        with self._lock:
            return self._clients.get(client_id.lower())

    def api_of(self, resource: str) -> Client | None:
        """The app whose API a resource is, by its id or by the URI that ends with it."""
        return self.find(resource.removeprefix("api://")) or self.find(resource.rpartition("/")[2])

    def have_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether this is a redirect URI of any app."""
        with self._lock:
            clients = tuple(self._clients.values())
        return any(client.check_redirect_uri(redirect_uri) for client in clients)

    def add(
        self,
        client_id: str | None = None,
        *,
        secret: str | None = None,
        certificates: Sequence[str | bytes] = (),
        federated: Sequence[FederatedCredential] = (),
        roles: Sequence[str] = (),
        redirect_uris: Sequence[str] = (),
        public: bool = False,
        accepted_version: str = "2.0",
        optional_claims: Sequence[str] = (),
    ) -> Client:
        """Register an app, or replace the one of the same id."""
        client = Client(
            client_id=client_id or str(uuid.uuid4()),
            roles=tuple(roles),
            certificates=[RegisteredCertificate(pem) for pem in certificates],
            federated=list(federated),
            secret=secret,
            redirect_uris=list(redirect_uris),
            public=public,
            accepted_version=accepted_version,
            optional_claims=tuple(optional_claims),
        )
        with self._lock:
            self._clients[client.client_id.lower()] = client
        return client
