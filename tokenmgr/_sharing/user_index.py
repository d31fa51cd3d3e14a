"""Which users have signed in, as all workers share it: a list, so that they can be found.

A store lists nothing, and so there is one record that does, for each app at each authority: of each
user two digests, by one of which the session is found, and by the other the person's name. It is
changed under a lease. Nothing relies on it: a session that it has lost is found by its user's id,
and one that it has too many is looked for, and taken out.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import islice

from .._runtime.secrecy import Hidden
from ..stores.base import MOST_BYTES
from ..token import TokenKey
from .guarded import StoreAwayError
from .record import AnotherOwnersError
from .slot import Lease, Place, SealedStore, take_all

__all__ = ["UserIndex"]

#: So many users are in it: those who signed in last.
_MOST_USERS = 1_000
#: Characters of a digest at most.
_LONGEST_DIGEST = 64
#: Seconds for which it is kept after it was changed last: longer than any session goes on unused.
_TTL = 31_536_000.0
#: Seconds that a lease lasts, to read a record and to write it; and between two looks.
_LEASE, _PAUSE = 4.0, 0.02
#: Seconds for which anybody waits at most, where leases pass from one to another.
_PATIENCE = 30.0
#: What the seal adds, and some more.
_ROOM = MOST_BYTES - 512

#: Who a user is called, by what the person is called: digests.
Users = dict[str, str]


class UserIndex(Place):
    """The users who have signed in, the last ones at the end.

    Args:
        sealed: The store.
        key: What stands for it in events.
        described: What names it, and is written in its record.
    """

    _suffix = ":users"

    def __init__(self, sealed: SealedStore, key: TokenKey, described: Hidden) -> None:
        super().__init__(sealed, key, described.cell_contents)

    def read(self) -> Users:
        """Gives the users.

        Raises:
            StoreAwayError: The store cannot say.
        """
        users: Users = {}
        parse = partial(_from_bytes, owner=self._described)
        # The first key's at the end: it is the one that is written.
        for sealing, name in reversed(self._places()):
            found, _ = self._opened(sealing, name, parse)
            for user, username in (found or {}).items():
                users.pop(user, None)
                users[user] = username
        return users

    def change(self, *, come: Users | None = None, gone: Iterable[str] = ()) -> bool:
        """Adds users, and takes others out. Where the store is away, nothing is changed.

        Args:
            come: Those who have signed in.
            gone: Those whose sessions are gone.

        Returns:
            Whether it was changed.
        """
        leases = [_brief(each) for each in self.leases()]
        with suppress(StoreAwayError):
            try:
                self._take(leases)
                users = self.read()
                for user in {*gone, *(come or {})}:
                    users.pop(user, None)
                self._write(users | (come or {}))
                return True
            finally:
                for lease in leases:
                    lease.give_back()
        return False

    def _take(self, leases: list[Lease]) -> None:
        """Waits for its turn, but for nobody for longer than a lease lasts: who has it has died."""
        give_up_at = time.monotonic() + _PATIENCE
        holders, seen_at = None, 0.0
        while not take_all(leases) and (now := time.monotonic()) < give_up_at:
            seen = [lease.holder for lease in leases]
            if seen != holders:
                holders, seen_at = seen, now
            if now - seen_at >= _LEASE:
                return
            time.sleep(_PAUSE * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the looks

    def _write(self, users: Users) -> None:
        (sealing, name), *others = self._places()
        content = _to_bytes(users, self._described)
        self._sealed.store.put(name, sealing.seal(content, name), _TTL)
        for _, other in others:
            self._erase(other)


def _brief(lease: Lease) -> Lease:
    lease.ttl = _LEASE
    return lease


def _to_bytes(users: Users, owner: str) -> bytes:
    kept = list(users.items())[-_MOST_USERS:]
    while True:
        content = json.dumps({"owner": owner, "users": kept}, separators=(",", ":")).encode()
        if len(content) <= _ROOM:
            return content
        del kept[: 1 + len(kept) // 10]


def _from_bytes(content: bytes, owner: str) -> Users:
    """Reads it. What a later version adds is passed over.

    Raises:
        AnotherOwnersError: It is another one's.
        ValueError: It is none.
    """
    said = json.loads(content)
    if not isinstance(said, dict) or not isinstance(said.get("users"), list):
        raise ValueError("no list of users")
    users = {}
    for user, username, *_ in islice(said["users"], _MOST_USERS):
        digests = isinstance(user, str) and isinstance(username, str)
        if not digests or max(len(user), len(username)) > _LONGEST_DIGEST:
            raise ValueError("no users")
        users[user] = username
    if said.get("owner") != owner:
        raise AnotherOwnersError
    return users
