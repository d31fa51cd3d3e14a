"""What workers tell each other of a session, and which of two records is the newer one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from .._runtime.secrecy import Hidden
from .._session import Account, SessionRecord, is_name
from ..token import TokenKey
from .record import AnotherOwnersError

__all__ = ["newest_of", "session_from_bytes", "session_to_bytes", "with_held"]

#: A session that began so many seconds before another one, by the clocks of who began them, began
#: before it: hosts' clocks do not differ by as much.
_CLOCKS_APART = 60.0
#: So many access tokens of a session are remembered, and so many characters of their scopes and
#: claims, to be erased with it; all others end by themselves.
_MOST_HELD, _LONGEST_HELD = 64, 12_288
#: What a record says as it is, besides the refresh token, which is hidden.
_SAID = (
    *("user", "authority", "epoch", "serial", "begun_at", "ends_at"),
    *("assertions", "held"),
)


def newest_of(known: SessionRecord | None, found: SessionRecord) -> SessionRecord:
    """Gives the newer of what is known and what is found; the latter, where nobody can say."""
    if known is None:
        return found
    if known.epoch == found.epoch:
        return known if known.serial > found.serial else found
    return known if found.begun_at + _CLOCKS_APART < known.begun_at else found


def with_held(
    held: tuple[tuple[tuple[str, ...], str], ...], key: TokenKey
) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Adds an access token to those that may lie in the store."""
    mine = (key.scopes, key.claims)
    all_ = [*(each for each in held if each != mine), mine][-_MOST_HELD:]
    while len(all_) > 1 and len(json.dumps(all_)) > _LONGEST_HELD:
        del all_[0]
    return tuple(all_)


def session_to_bytes(record: SessionRecord, owner: str) -> Hidden:
    """Writes a record, as what a store keeps, once that is sealed.

    Args:
        record: The record.
        owner: Whose it is.
    """
    return Hidden(
        json.dumps(
            {
                "owner": owner,
                **{name: getattr(record, name) for name in _SAID},
                "refresh_token": record.refresh_token.cell_contents,
                "account": _account_said(record.account).cell_contents,
            },
            separators=(",", ":"),
        ).encode()
    )


def session_from_bytes(content: bytes, owner: str) -> SessionRecord:
    """Reads a record. What a later version adds is passed over.

    Args:
        content: What a store kept, once it is opened.
        owner: Whose it has to be.

    Raises:
        AnotherOwnersError: It is another one's.
        ValueError: It is none.
    """
    content, given = b"", Hidden(content)
    said = Hidden(json.loads(given.cell_contents))
    if not isinstance(said.cell_contents, dict):
        raise ValueError("no JSON object")
    get: Callable[[str, Any], Any] = partial(_of_kind, said)
    record = SessionRecord(
        refresh_token=Hidden(_of_kind(said, "refresh_token", str, or_empty=True)),
        user=get("user", str),
        authority=get("authority", str),
        epoch=get("epoch", str),
        serial=get("serial", int),
        begun_at=float(get("begun_at", (int, float))),
        ends_at=float(get("ends_at", (int, float))),
        assertions=tuple(str(each) for each in get("assertions", list)),
        held=tuple((tuple(map(str, scopes)), str(claims)) for scopes, claims in get("held", list)),
        account=_account(Hidden(said.cell_contents.get("account"))),
    )
    if said.cell_contents.get("owner") != owner:
        raise AnotherOwnersError
    return record


def _of_kind(said: Hidden, name: str, kind: Any, *, or_empty: bool = False) -> Any:
    given = Hidden(said.cell_contents.get(name))
    if isinstance(given.cell_contents, kind) and (or_empty or given.cell_contents != ""):
        return given.cell_contents
    raise ValueError(f"no {name}")


def _account_said(account: Account | None) -> Hidden:
    if account is None:
        return Hidden(None)
    names = account.home_account_id, account.username
    return Hidden([*names, account.claims.cell_contents])


def _account(said: Hidden) -> Account | None:
    """Reads who it is; None in the record of an earlier version, which does not say."""
    if said.cell_contents is None:
        return None
    if not isinstance(said.cell_contents, list) or len(said.cell_contents) < 3:
        raise ValueError("no account")
    home_account_id, username = said.cell_contents[:2]
    claims = Hidden(said.cell_contents[2])
    if is_name(home_account_id) and is_name(username) and isinstance(claims.cell_contents, dict):
        return Account(home_account_id, username, claims)
    raise ValueError("no account")
