"""A part in a store: what a registry, or a manager that stands alone, opens and closes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._context import Context
from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import ConfigurationError
from ..stores import take_store
from .keys import SealingKeys
from .slot import SealedStore

if TYPE_CHECKING:
    from .._runtime.shared import Share
    from ..stores import TokenStore

__all__ = ["StorePart", "part_of_source"]


class StorePart(Unpicklable):
    """A part in a store. What a URL names is closed with it, and a store of the program's is not.

    Args:
        store: The store or its URL, hidden, as that may hold a password.
        keys: What its records are sealed with.
        namespace: What the names of its records begin with.
        context: What those have in common who use it.

    Raises:
        ConfigurationError: It is no store, or no namespace.
    """

    def __init__(
        self, store: Hidden, keys: SealingKeys, *, namespace: str, context: Context
    ) -> None:
        #: The store that a URL names.
        self._opened: Share[TokenStore] | None = None
        if isinstance(store.cell_contents, str):
            self._opened = take_store(store.cell_contents)
        #: The store, as the library sees it.
        self.sealed: SealedStore = SealedStore(
            store.cell_contents if self._opened is None else self._opened.thing,
            keys,
            namespace=namespace,
            context=context,
        )

    def stop(self) -> None:
        """Ends every wait in it."""
        self.sealed.closed = True

    def close(self, patience: float) -> None:
        """Gives its leases back, and closes what it has opened.

        Args:
            patience: Seconds that this may take.
        """
        self.sealed.leases.give_back_all(patience)
        if self._opened is not None:
            self._opened.end()


def part_of_source(given: Hidden, *, namespace: str, context: Context) -> StorePart:
    """Takes the part of a manager whose source is the program's own, which has no credential.

    Args:
        given: The store or its URL, and the encryption key, hidden.
        namespace: As for :class:`StorePart`.
        context: As there.

    Raises:
        ConfigurationError: It is no store, no namespace, or no key that cannot be guessed.
    """
    store, key = map(Hidden, given.cell_contents)
    if key.cell_contents is None:
        raise ConfigurationError(
            "what is shared in a store is encrypted, and a source has no credential to derive a "
            "key from: pass encryption_key=, the same in every worker. python -c 'import secrets; "
            "print(secrets.token_urlsafe(32))' makes one"
        )
    keys = SealingKeys(key.cell_contents, None)
    return StorePart(store, keys, namespace=namespace, context=context)
