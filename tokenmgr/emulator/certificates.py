"""Certificates made for one run: the server's own, and those of apps under test."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

__all__ = ["ClientCertificate", "client_certificate", "server_context"]


def server_context(ca_file: Path) -> ssl.SSLContext:
    """TLS for ``localhost`` and the loopback addresses; ``ca_file`` gets the PEM to trust."""
    authority = trustme.CA(organization_name="tokenmgr emulator")
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(context)
    return context


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate for an app, in the forms in which apps keep theirs.

    Attributes:
        pem: The private key (encrypted if there is a password), the certificate, and its chain.
        private_key_pem: The private key alone, PKCS #8 and PEM.
        certificate_pem: The public certificate alone: what an app registration is given.
        pfx: The same as ``pem`` as PKCS #12.
        password: What opens the key, None when it lies open.
        thumbprint: SHA-1 of the certificate, in hexadecimal.
        thumbprint_sha256: SHA-256 of the certificate, in hexadecimal.
    """

    pem: bytes = field(repr=False)
    private_key_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    pfx: bytes = field(repr=False)
    password: str | None = field(repr=False)
    thumbprint: str
    thumbprint_sha256: str


def client_certificate(
    common_name: str = "tokenmgr-test-app",
    *,
    password: str | None = None,
    chain: bool = False,
    valid_days: float = 365.0,
) -> ClientCertificate:
    """Make a new RSA key and a certificate for it. Nothing is registered anywhere.

    Args:
        common_name: The subject's common name.
        password: Encrypts the private key, in PEM and in PFX.
        chain: Let a certificate authority of its own sign it, and put that one's certificate
            after it; otherwise it signs itself, as most app certificates do.
        valid_days: Days until it expires; negative ones make one that has.
    """
    key = _new_key()
    issuer_name, issuer_key, issuers = common_name, key, []
    if chain:
        issuer_name, issuer_key = f"{common_name} authority", _new_key()
        issuers.append(
            _sign(issuer_name, issuer_key, issuer_name, issuer_key, days=3650, authority=True)
        )
    certificate = _sign(common_name, key, issuer_name, issuer_key, days=valid_days)
    encryption = _encryption(password)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    certificate_pem = certificate.public_bytes(Encoding.PEM)
    return ClientCertificate(
        pem=key_pem + certificate_pem + b"".join(c.public_bytes(Encoding.PEM) for c in issuers),
        private_key_pem=key_pem,
        certificate_pem=certificate_pem,
        pfx=pkcs12.serialize_key_and_certificates(
            common_name.encode(), key, certificate, issuers or None, encryption
        ),
        password=password,
        # SHA-1 names a certificate here, as Entra's portal does: nothing is trusted for it.
        thumbprint=certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - a name only
        thumbprint_sha256=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _encryption(password: str | None) -> KeySerializationEncryption:
    return NoEncryption() if password is None else BestAvailableEncryption(password.encode())


def _sign(
    subject: str,
    key: rsa.RSAPrivateKey,
    issuer: str,
    issuer_key: rsa.RSAPrivateKey,
    *,
    days: float,
    authority: bool = False,
) -> x509.Certificate:
    ends = datetime.now(timezone.utc) + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=abs(days) + 1))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
