"""The store in a SQLite file, for the workers of one host."""

from .store import SqliteStore

__all__ = ["SqliteStore"]
