"""The store for workers on many hosts: Redis or Valkey."""

from .store import RedisStore

__all__ = ["RedisStore"]
