"""The keys that a registry seals its records with: given, or derived from its credential."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._runtime.forks import no_fork
from .._runtime.secrecy import Hidden, Unpicklable, is_unicode
from ..entra.sources.base import SourceCredential
from ..errors import ConfigurationError, TokenManagerError
from ..identity.certificates import Certificate
from ..identity.credentials import ClientCredential, ClientSecret
from ..identity.proofs import KeyPair, Proof, SecretText

if TYPE_CHECKING:
    from .seal import SealingKey

__all__ = ["EncryptionKey", "SealingKeys", "keys_of_app"]

#: A given key shorter than this, or with fewer characters that differ, can be guessed by whoever
#: reads the store.
_SHORTEST, _FEWEST = 32, 8
#: Rounds of PBKDF2-HMAC-SHA256 (RFC 8018), which FIPS 140 allows too: some 50 ms for each guess at
#: a client secret.
_ROUNDS = 150_000
#: So many stretched secrets are remembered.
_MOST_REMEMBERED = 64

#: A key, or several, of which the first seals and all open.
EncryptionKey = str | bytes | Sequence[str | bytes]


class SealingKeys(Unpicklable):
    """The keys of a registry's records.

    Args:
        encryption_key: The key, or several, of which the first seals and all open. None derives
            it from the credential: whoever can ask for a token can then open its record, and
            nobody else.
        credential: What it is derived from; None for a public client. One that gives tokens by
            itself has nothing to derive it from.
        salt: What a guess at the credential has to be made for anew: whose it is.

    Raises:
        ConfigurationError: A key can be guessed, or there is nothing to derive one from.
    """

    def __init__(
        self,
        encryption_key: EncryptionKey | None,
        credential: ClientCredential | SourceCredential | None,
        *,
        salt: str = "",
    ) -> None:
        encryption_key, given = None, Hidden(encryption_key)
        self._given = _materials(given)
        if self.is_derived and not _gives_secret(credential):
            raise ConfigurationError(
                f"what is shared in a store is encrypted, and {_no_secret(credential)} to derive a "
                "key from: pass encryption_key=, or set TOKENMGR_ENCRYPTION_KEY, to the same in "
                "every worker. "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
            )
        self._credential = credential if isinstance(credential, ClientCredential) else None
        self._salt = f"tokenmgr store, 2\n{salt}".encode()
        #: The keys, and what they are made of: one value, replaced whole.
        self._made: tuple[Hidden, tuple[SealingKey, ...]] = Hidden(()), ()

    @property
    def is_derived(self) -> bool:
        """Whether all who share records have the same credential."""
        return not self._given.cell_contents

    def of(self, proof: Proof | None) -> tuple[SealingKey, ...]:
        """Gives the keys of a proof that has just been read, the first to seal.

        Where it cannot be read, the last keys count; none, where nothing was ever read.
        """
        made_of, keys = self._made
        material = self._given
        if self.is_derived and proof is not None:
            secret = _secret_of(proof)
            material = Hidden((secret.cell_contents.encode(),))
        if material.cell_contents in ((), made_of.cell_contents):
            return keys
        with no_fork():
            from .seal import SealingKey

        if self.is_derived and not isinstance(proof, KeyPair):
            stretched = _stretched(material.cell_contents[0], self._salt)
            keys = (SealingKey(stretched.cell_contents),)
        else:
            keys = tuple(map(SealingKey, material.cell_contents))
        self._made = material, keys
        return keys

    def at_hand(self) -> tuple[SealingKey, ...]:
        """Does as :meth:`known`.

        Raises:
            TokenManagerError: The credential cannot be read.
        """
        keys = self.of(None)
        if not keys and self._credential is not None:
            keys = self.of(self._credential.read())
        return keys

    def known(self) -> tuple[SealingKey, ...]:
        """Gives the keys without a fetch: the last ones, or those of the credential as it is."""
        try:
            return self.at_hand()
        except TokenManagerError:  # the fetch that follows says so, to whom it concerns
            return ()


def keys_of_app(
    encryption_key: Hidden, credential: ClientCredential | SourceCredential | None, *, salt: str
) -> SealingKeys:
    """Makes the keys of what an app seals without a store: its own, or else this process's.

    Args:
        encryption_key: As for :class:`SealingKeys`, hidden.
        credential: As there.
        salt: As there.

    Raises:
        ConfigurationError: A key can be guessed.
    """
    given = encryption_key
    if given.cell_contents is None and not _gives_secret(credential):
        given = Hidden(secrets.token_bytes(_SHORTEST))
    return SealingKeys(given.cell_contents, credential, salt=salt)


#: The last secrets that were stretched, and what came of each.
_remembered: dict[tuple[bytes, bytes], bytes] = {}
#: Held while one is stretched, lest all first fetches do it; without a fork alone, and so free in
#: every child.
_stretching = threading.RLock()


def _stretched(secret: bytes, salt: bytes) -> Hidden:
    """Makes a key of what a person may have made up; once in a process."""
    secret, what = b"", Hidden((secret, salt))
    with no_fork(), _stretching:  # it takes locks of OpenSSL's
        known = Hidden(_remembered.get(what.cell_contents))
        if known.cell_contents is None:
            known = Hidden(hashlib.pbkdf2_hmac("sha256", what.cell_contents[0], salt, _ROUNDS))
            for oldest in map(Hidden, list(_remembered)[: 1 - _MOST_REMEMBERED]):
                _remembered.pop(oldest.cell_contents, None)
            _remembered[what.cell_contents] = known.cell_contents
        return known


def _gives_secret(credential: object) -> bool:
    """Whether there is anything in it to derive a key from that all workers have in common."""
    if isinstance(credential, Certificate):
        return credential.has_key
    return isinstance(credential, ClientSecret)


def _secret_of(proof: Proof) -> Hidden:
    if isinstance(proof, KeyPair):
        return Hidden(proof.private_key)
    return Hidden(proof.text if isinstance(proof, SecretText) else "")


def _no_secret(credential: object) -> str:
    if credential is None:
        return "a public client has no credential"
    if isinstance(credential, SourceCredential):
        return f"{credential!r} has no secret that all workers know"
    if isinstance(credential, Certificate):
        return "the key of this certificate is handed to nobody"
    return "this credential changes too often"


def _is_strong(key: object) -> bool:
    return isinstance(key, bytes) and len(key) >= _SHORTEST and len(set(key)) >= _FEWEST


def _as_bytes(key: object) -> object:
    return key.encode() if isinstance(key, str) and is_unicode(key) else key


def _materials(given: Hidden) -> Hidden:
    if given.cell_contents is None:
        return Hidden(())
    several = isinstance(given.cell_contents, (list, tuple))
    keys = Hidden(tuple(given.cell_contents) if several else (given.cell_contents,))
    keys = Hidden(tuple(map(_as_bytes, keys.cell_contents)))
    if keys.cell_contents and all(map(_is_strong, keys.cell_contents)):
        return keys
    if str in map(type, keys.cell_contents):
        raise ConfigurationError(
            "encryption_key= (or TOKENMGR_ENCRYPTION_KEY) has characters that UTF-8 cannot say, as "
            "when it was set in another encoding: set it in UTF-8"
        )
    raise ConfigurationError(
        f"encryption_key= is a text or bytes of {_SHORTEST} or more, {_FEWEST} of them different, "
        "or several in a list, the first of which seals: python -c 'import secrets; "
        "print(secrets.token_urlsafe(32))' makes one"
    )
