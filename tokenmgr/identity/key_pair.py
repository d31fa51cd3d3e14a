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
from .callables import ProgramCall
from .proofs import KeyPair, RemoteKey

__all__ = ["parse_key_pair", "parse_remote_key"]


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
        certificates=_in_pem(chain),
        thumbprint=_thumbprint(leaf),
        ends_at=leaf.not_valid_after_utc.timestamp(),
    )


def parse_remote_key(
    content: bytes, sign: ProgramCall, *, algorithm: str, send_chain: bool, origin: str
) -> RemoteKey:
    """Parses the certificate of a private key that is elsewhere.

    Args:
        content: A file's content: PEM, the leaf first, or DER.
        sign: Signs bytes with the key.
        algorithm: How it does so.
        send_chain: Whether to keep the certificates behind the leaf, and send them.
        origin: Where the content came from, for messages.

    Raises:
        ConfigurationError: It is neither, or the certificate is not for an RSA key.
    """
    content, given = b"", Hidden(content)  # among it may be a key, by mistake
    chain, rsa_leaf = _public_chain(given)
    if not chain:
        raise ConfigurationError(
            f"{origin} is no certificate: give the public certificate of the key that sign= signs "
            "with, as PEM or DER"
        )
    if not rsa_leaf:
        raise ConfigurationError(
            f"the certificate of {origin} is not for an RSA key, the only kind that Microsoft "
            "Entra takes: make one with an RSA key"
        )
    return RemoteKey(
        certificates=_in_pem(chain if send_chain else chain[:1]),
        thumbprint=_thumbprint(chain[0]),
        ends_at=chain[0].not_valid_after_utc.timestamp(),
        algorithm=algorithm,
        send_chain=send_chain,
        sign=sign,
    )


def _public_chain(given: Hidden) -> tuple[list[x509.Certificate], bool]:
    """Gives the certificates, none where there are none, and whether the first is of an RSA key."""
    try:
        if b"-----BEGIN" in given.cell_contents:
            chain = x509.load_pem_x509_certificates(given.cell_contents)
        else:
            chain = [x509.load_der_x509_certificate(given.cell_contents)]
        return chain, isinstance(chain[0].public_key(), rsa.RSAPublicKey)
    except Exception:  # noqa: BLE001 - cryptography raises some of its own for odd files
        return [], False


def _in_pem(certificates: list[x509.Certificate]) -> tuple[str, ...]:
    return tuple(each.public_bytes(Encoding.PEM).decode() for each in certificates)


def _thumbprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - a name, not a proof


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
