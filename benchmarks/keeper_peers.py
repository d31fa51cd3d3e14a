"""Libraries that keep tokens of whatever provider they are given."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from anthropic.lib.credentials import AccessToken, TokenCache
from databricks.sdk.oauth import Refreshable, Token

from .keepers import Keeper, Provider

__all__ = ["DISTRIBUTIONS", "KEEPERS"]

#: Whose versions the results name.
DISTRIBUTIONS = ("anthropic", "databricks-sdk")


def _anthropic(provider: Provider) -> Callable[[], object]:
    def give(*, force_refresh: bool = False) -> AccessToken:  # noqa: ARG001 - its protocol
        return AccessToken("token", int(provider.end_of_token()))

    return TokenCache(give).get_token


class _Refreshable(Refreshable):
    def __init__(self, provider: Provider, *, disable_async: bool) -> None:
        super().__init__(disable_async=disable_async)
        self._provider = provider

    def refresh(self) -> Token:
        ends = dt.datetime.fromtimestamp(self._provider.end_of_token(), dt.timezone.utc)
        return Token("token", expiry=ends)


def _databricks(provider: Provider) -> Callable[[], object]:
    return _Refreshable(provider, disable_async=True).token


def _databricks_async(provider: Provider) -> Callable[[], object]:
    return _Refreshable(provider, disable_async=False).token


#: What keeps a provider's tokens, by name.
KEEPERS: dict[str, Keeper] = {
    "anthropic": _anthropic,
    "databricks-sdk": _databricks,
    "databricks-sdk, asynchronous refresh": _databricks_async,
}
