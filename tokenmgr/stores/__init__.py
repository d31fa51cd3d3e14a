"""Stores: where workers share tokens. Each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .._runtime.secrecy import Hidden, is_unicode
from .._runtime.shared import Share, Shared
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .base import TokenStore
    from .memory import MemoryStore
    from .redis import RedisStore
    from .sqlite.store import SqliteStore

__all__ = ["MemoryStore", "RedisStore", "SqliteStore", "TokenStore", "open_store", "take_store"]

_HOMES = {
    "MemoryStore": "memory",
    "RedisStore": "redis",
    "SqliteStore": "sqlite",
    "TokenStore": "base",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def open_store(url: str) -> TokenStore:
    """Makes the store that a URL names. Nothing is opened before it is used.

    Args:
        url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``; ``redis://host:6379/0``,
            ``rediss://…`` or ``unix:///path``, with all that redis-py's ``from_url`` takes.

    Raises:
        ConfigurationError: It names none.
    """
    url, given = "", Hidden(url)  # it may hold a password
    if not isinstance(given.cell_contents, str):
        given = Hidden("")
    if not is_unicode(given.cell_contents):
        raise ConfigurationError(
            "store= (or TOKENMGR_STORE) has characters that UTF-8 cannot say: write those of the "
            "password as %E4 and the like"
        )
    if given.cell_contents.lower().startswith("sqlite:"):
        from .sqlite.store import SqliteStore

        return SqliteStore.from_url(given.cell_contents)
    if given.cell_contents.lower().startswith(("redis:", "rediss:", "unix:")):
        from .redis import RedisStore

        return RedisStore.from_url(given.cell_contents)
    raise ConfigurationError(
        "store= is a URL such as 'sqlite:///tokens.db' or 'redis://host:6379/0', or a TokenStore: "
        "correct it"
    )


#: Those that were made of URLs.
_STORES: Shared[TokenStore] = Shared()


def take_store(url: str) -> Share[TokenStore]:
    """Gives a share in the store that a URL names: one store for all who name it in this process.

    Args:
        url: As for :func:`open_store`. A relative path and an absolute one may name the same file;
            of Redis, the same text is the same store.

    Raises:
        ConfigurationError: It names none.
    """
    url, given = "", Hidden(url)  # it may hold a password
    store = open_store(given.cell_contents)
    path = getattr(store, "path", None)
    return _STORES.take(given if path is None else Hidden(f"sqlite:{path}"), lambda: store)
