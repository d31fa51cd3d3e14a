"""The keys that a registry seals its records with: given, or derived from its credential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._runtime.forks import no_fork
from .._runtime.secrecy import Unpicklable
from ..errors import ConfigurationError, TokenManagerError
from ..identity.credentials import Certificate, ClientCredential, ClientSecret
from ..identity.proofs import KeyPair

if TYPE_CHECKING:
    from .seal import SealingKey

__all__ = ["EncryptionKey", "Keyring"]

#: A given key shorter than this can be guessed by whoever reads the store.
_SHORTEST = 32

#: A key, or several, of which the first seals and all open.
EncryptionKey = str | bytes | Sequence[str | bytes]


class Keyring(Unpicklable):
    """The keys of a registry's records.

    Args:
        encryption_key: The key, or several, of which the first seals and all open. None derives
            it from the credential: whoever can ask for a token can then open its record, and
            nobody else.
        credential: What it is derived from.

    Raises:
        ConfigurationError: A key is too short, or there is nothing to derive one from.
    """

    def __init__(
        self,
        encryption_key: EncryptionKey | None,
        credential: ClientCredential,
    ) -> None:
        try:
            self._given = _materials(encryption_key)
        finally:
            del encryption_key  # so that no traceback shows it
        if not self._given and not isinstance(credential, (ClientSecret, Certificate)):
            raise ConfigurationError(
                "what is shared in a store is encrypted, and this credential changes too often to "
                "derive a key from: pass encryption_key=, or set TOKENMGR_ENCRYPTION_KEY, to the "
                "same in every worker. python -c 'import secrets; "
                "print(secrets.token_urlsafe(32))' makes one"
            )
        self._credential = credential
        #: The keys, and what they are made of; replaced together.
        self._made: tuple[tuple[bytes, ...], tuple[SealingKey, ...]] = (), ()

    @property
    def is_derived(self) -> bool:
        """Whether all who share records have the same credential."""
        return not self._given

    def sealing_keys(self, *, anew: bool = False) -> tuple[SealingKey, ...]:
        """Gives the keys; none where the credential cannot be read.

        Args:
            anew: Whether to read the credential again, which may have been renewed.
        """
        material, keys = self._made
        if anew or not keys:
            material = self._given or self._derived() or material
        if material != self._made[0]:
            with no_fork():
                from .seal import SealingKey

                keys = tuple(SealingKey(each) for each in material)
            self._made = material, keys
        return keys

    def _derived(self) -> tuple[bytes, ...]:
        try:
            proof = self._credential.read()
        except TokenManagerError:  # the fetch that follows says so, to whom it concerns
            return ()
        return (
            (proof.private_key if isinstance(proof, KeyPair) else proof.text).encode(
                errors="surrogatepass"
            ),
        )


def _materials(given: EncryptionKey | None) -> tuple[bytes, ...]:
    if given is None:
        return ()
    keys = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    materials = tuple(
        key.encode(errors="surrogatepass") if isinstance(key, str) else key for key in keys
    )
    if keys and all(isinstance(each, bytes) and len(each) >= _SHORTEST for each in materials):
        return materials
    del given, keys, materials  # a traceback would show them
    raise ConfigurationError(
        f"encryption_key= is a text or bytes of {_SHORTEST} or more, or several in a list, the "
        "first of which seals: python -c 'import secrets; print(secrets.token_urlsafe(32))' makes "
        "one"
    )
