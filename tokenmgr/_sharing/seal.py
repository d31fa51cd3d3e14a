"""The seal: whoever reads a store learns nothing from it, and whoever writes to it forges nothing.

A record's name is a keyed hash of what it is for, and its content is encrypted and bound to that
name: moved to another one, cut, or changed in any bit, it does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from .._runtime.forks import no_fork
from .._runtime.secrecy import Hidden, Unpicklable

__all__ = ["BrokenSealError", "SealingKey"]

#: What a sealed record begins with. The last byte is the version of all that is done here.
_HEADER = b"tkm\x02"
#: AES-256, and the nonce that GCM is made for (NIST SP 800-38D, section 8.2).
_KEY_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 12, 16


class BrokenSealError(Exception):
    """What is no record of this key: foreign, moved, cut or changed. The message says which."""


class SealingKey(Unpicklable):
    """Names records, seals and opens them. Equal material, equal names and seals.

    Args:
        material: What the keys are derived from (RFC 5869): a client secret that was stretched,
            a private key, or a key that the program gives.
    """

    @no_fork()  # all of it takes locks of OpenSSL's
    def __init__(self, material: bytes) -> None:
        material, given = b"", Hidden(material)
        self._naming = _derive(given, b"tokenmgr store names, 2")
        self._sealing = _derive(given, b"tokenmgr store seal, 2")

    @no_fork()
    def name(self, text: str) -> str:
        """Gives the name of what ``text`` describes, which tells nothing about it."""
        return hmac.new(self._naming, text.encode(), hashlib.sha256).hexdigest()

    @no_fork()
    def seal(self, content: bytes, name: str) -> bytes:
        """Seals a record's content under its name."""
        content, given = b"", Hidden(content)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher(name).encrypt(nonce, given.cell_contents, _HEADER + name.encode())
        return _HEADER + nonce + sealed

    @no_fork()
    def open(self, sealed: bytes, name: str) -> bytes:
        """Opens what was sealed under this name.

        Raises:
            BrokenSealError: It was not, or is not what it was.
        """
        if not isinstance(sealed, bytes) or not sealed.startswith(_HEADER):
            raise BrokenSealError("no sealed record of this version")
        if len(sealed) < len(_HEADER) + _NONCE_BYTES + _TAG_BYTES:
            raise BrokenSealError("cut short")
        body = sealed[len(_HEADER) :]
        nonce, body = body[:_NONCE_BYTES], body[_NONCE_BYTES:]
        try:
            return self._cipher(name).decrypt(nonce, body, _HEADER + name.encode())
        except InvalidTag:
            raise BrokenSealError("sealed with another key, for another name, or changed") from None

    def _cipher(self, name: str) -> AESGCM:
        # A key for each record: with one for all, a large fleet would see random nonces repeat
        # (NIST SP 800-38D, section 8.3, allows 2^32 of them).
        expand = HKDFExpand(algorithm=hashes.SHA256(), length=_KEY_BYTES, info=name.encode())
        return AESGCM(expand.derive(self._sealing))


def _derive(material: Hidden, purpose: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=purpose).derive(
        material.cell_contents
    )
