"""What one user's record costs in a store, among few users and among many."""

from __future__ import annotations

import base64
import json
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from tempfile import TemporaryDirectory

import msal

from tokenmgr import AccessToken, ClientSecret, TokenKey
from tokenmgr._context import new_context
from tokenmgr._sharing.keys import SealingKeys
from tokenmgr._sharing.slot import SealedStore, Slot
from tokenmgr.stores import TokenStore, open_store
from tokenmgr.token import Record

from .figure import Figure, Section
from .redis_server import running_server
from .turns import called, in_turns, ratio

__all__ = ["Users", "msal_call", "section"]

_GOAL = 1.5
_TOKEN = secrets.token_hex(1024)
_HOUR = 3600.0
_SCOPE = "https://graph.microsoft.com/User.Read"
#: Seconds that a turn takes. SQLite writes its file at every thousandth page, and pays then: a turn
#: has several of these, or the median would leave them out.
_TURN = 1.0
#: MSAL's turns are longer, and do not differ.
_MSAL_ROUNDS = 3
_KEY = TokenKey(
    "https://login.microsoftonline.com/contoso.onmicrosoft.com", "app", "on_behalf_of", (_SCOPE,)
)
_ENDPOINT = "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"

_METHOD = (
    "Each call puts the record of one user, any of them, and gets it again, with a token of "
    f"{len(_TOKEN):,} characters, through all that a registry does for it: naming, sealing, the "
    "store, opening. Median of {rounds} rounds, in each of which both have their turn; a ratio is "
    "the median of the rounds' ratios. MSAL's `SerializableTokenCache` is one text, whoever "
    "shares it: a put is its `add()` and `serialize()`, a get `deserialize()` and `search()` in "
    "another process's."
)


class Users:
    """Users whose records lie in a store.

    Args:
        store: The store.
        count: How many they are.
    """

    def __init__(self, store: TokenStore, count: int) -> None:
        keys = SealingKeys(None, ClientSecret("the secret of an app"))
        self._sealed = SealedStore(store, keys, namespace="tokenmgr", context=new_context())
        now = time.time()
        self._record = Record(AccessToken(_TOKEN, now + _HOUR, scopes=(_SCOPE,)), now)
        self._count = count
        for number in range(count):
            self._slot_of(number).write(self._record, _HOUR)

    def put_and_get(self) -> None:
        """Puts the record of one of them, and gets it again."""
        slot = self._slot_of(random.randrange(self._count))  # noqa: S311 - guards nothing
        slot.write(self._record, _HOUR)
        if slot.read(lambda record: record == self._record) is None:
            raise RuntimeError("the record that was put is not there")

    def _slot_of(self, number: int) -> Slot:
        return Slot(self._sealed, replace(_KEY, subject=f"user {number}"))


def msal_call(users: int) -> Callable[[], None]:
    """What MSAL's cache has for a put and a get, with so many users in it."""
    cache, reader = msal.SerializableTokenCache(), msal.SerializableTokenCache()

    def put_and_get(number: int) -> None:
        _add(cache, number)
        reader.deserialize(cache.serialize())
        query = {"home_account_id": f"{number}.contoso"}
        found = reader.search(msal.TokenCache.CredentialType.ACCESS_TOKEN, [_SCOPE], query=query)
        if not any(found):
            raise RuntimeError("the token that was added is not there")

    for number in range(users):
        _add(cache, number)
    return lambda: put_and_get(random.randrange(users))  # noqa: S311 - guards nothing


def section(
    *,
    few: int = 10,
    many: int = 100_000,
    msal_many: int = 10_000,
    rounds: int = 15,
    turn: float = _TURN,
) -> Section:
    """The figures."""
    found = Section("One user's record among many users", _METHOD.format(rounds=rounds))
    with TemporaryDirectory() as folder, running_server() as one, running_server() as other:
        urls = {
            "SQLite": [f"sqlite:///{folder}/few.db", f"sqlite:///{folder}/many.db"],
            "Redis": [one.url, other.url],
        }
        for name, urls_of in urls.items():
            stores = [open_store(url) for url in urls_of]
            in_few, in_many = Users(stores[0], few), Users(stores[1], many)
            share, measured = _compared(in_few.put_and_get, in_many.put_and_get, rounds, turn)
            what = f"{name}, {many:,} users over {few}"
            goal = f"at most {_GOAL} times"
            found.figures.append(Figure(what, measured, goal, share <= _GOAL))
            for store in stores:
                store.close()
    of_msal = (msal_call(few), msal_call(msal_many))
    _, measured = _compared(*of_msal, min(rounds, _MSAL_ROUNDS), turn)
    what = f"MSAL's `SerializableTokenCache`, {msal_many:,} users over {few}"
    found.figures.append(Figure(what, measured))
    return found


def _compared(
    few: Callable[[], None], many: Callable[[], None], rounds: int, turn: float
) -> tuple[float, str]:
    """How many times as much the many cost, and that in words."""
    contestants = {"few": called("call()", call=few), "many": called("call()", call=many)}
    costs = in_turns(contestants, rounds=rounds, turn=turn)
    share = ratio(costs["many"], costs["few"])
    cost_of_many, cost_of_few = (median(costs[name]) * 1000 for name in ("many", "few"))
    return share, f"{share:,.2f} times ({cost_of_many:.3g} ms against {cost_of_few:.3g} ms)"


def _add(cache: msal.SerializableTokenCache, number: int) -> None:
    client_info = json.dumps({"uid": str(number), "utid": "contoso"}).encode()
    response = {
        "access_token": _TOKEN,
        "expires_in": _HOUR,
        "client_info": base64.urlsafe_b64encode(client_info).decode(),
    }
    event = {"client_id": "app", "scope": [_SCOPE], "token_endpoint": _ENDPOINT}
    cache.add(event | {"response": response})
