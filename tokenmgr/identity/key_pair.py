"""Reads a private key and its certificates out of PEM or PFX, whatever their order."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

from .._runtime.secrecy import Hidden
from ..errors import ConfigurationError
from .proofs import KeyPair

__all__ = ["parse_key_pair"]


def parse_key_pair(
    content: bytes, password: bytes | None, *, send_chain: bool, origin: str
) -> KeyPair:
    """Parses a private key with its certificates.

    Args:
        content: A PEM or PFX file's content.
        password: What it is encrypted with; None when it is not.
        send_chain: Whether to keep the certificates behind the leaf.
        origin: Where it came from, for messages.

    Raises:
        ConfigurationError: It is neither, the password is wrong, or key and certificate are
            not a pair.
    """
    content, password, given = b"", None, Hidden((content, password))
    loaded = _load(given, origin)
    if isinstance(loaded, ConfigurationError):
        raise loaded
    key, pairs = loaded
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(
            f"{origin} has no RSA private key, the only kind that Microsoft Entra takes: export "
            "the certificate with its RSA private key"
        )
    leaf = next((c for c, public in pairs if public == _public(key)), None)
    if leaf is None:
        raise ConfigurationError(
            f"{origin} has no certificate for its private key: put both into the file"
        )
    chain = [leaf, *(c for c, _ in pairs if c != leaf)] if send_chain else [leaf]
    return KeyPair(
        private_key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        certificates=tuple(c.public_bytes(Encoding.PEM).decode() for c in chain),
        thumbprint=leaf.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - a name, not a proof
    )


def _load(
    given: Hidden, origin: str
) -> tuple[object, list[tuple[x509.Certificate, bytes]]] | ConfigurationError:
    """Loads the key, and the certificates with their public keys.

    Gives the error for the caller to raise, without the one that it comes from.
    """
    pem = b"-----BEGIN" in given.cell_contents[0]
    try:
        key, certificates = (_load_pem if pem else _load_pfx)(*given.cell_contents)
        return key, [(certificate, _public(certificate)) for certificate in certificates]
    except Exception as exc:  # noqa: BLE001 - cryptography raises some of its own for odd files
        # A wrong password can look like a broken key: one in 256 decrypts to good padding.
        reason = str(exc).lower()
        encrypted = b"ENCRYPTED" in given.cell_contents[0]
        locked = encrypted or "password" in reason or "decrypt" in reason
        unlocked = given.cell_contents[1] is not None
        return _refusal(exc, locked=locked, password=unlocked, origin=origin)


def _load_pem(content: bytes, password: bytes | None) -> tuple[object, list[x509.Certificate]]:
    content, password, given = b"", None, Hidden((content, password))
    certified = b"CERTIFICATE-----" in given.cell_contents[0]
    certificates = x509.load_pem_x509_certificates(given.cell_contents[0]) if certified else []
    return load_pem_private_key(*given.cell_contents), certificates


def _load_pfx(content: bytes, password: bytes | None) -> tuple[object, list[x509.Certificate]]:
    content, password, given = b"", None, Hidden((content, password))
    key, leaf, issuers = pkcs12.load_key_and_certificates(*given.cell_contents)
    return key, [c for c in (leaf, *issuers) if c is not None]


def _public(holder: x509.Certificate | rsa.RSAPrivateKey) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _refusal(exc: Exception, *, locked: bool, password: bool, origin: str) -> ConfigurationError:
    if locked and not password:
        return ConfigurationError(f"{origin} is encrypted: pass its password=")
    if isinstance(exc, TypeError):
        return ConfigurationError(f"{origin} is not encrypted: leave password= out")
    if locked:
        return ConfigurationError(
            f"the password of {origin} is wrong, or the file is damaged: check both"
        )
    return ConfigurationError(
        f"{origin} is neither a PEM with a private key and its certificate nor a PFX: export the "
        "certificate with its private key"
    )
