"""Bodies that are sent a second time, each whole."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

__all__ = ["MOST_THROWN_AWAY", "Body", "throw_away"]

#: Bytes of a refused answer, as they come, that are read so that its connection serves again. What
#: is longer costs a connection. Nothing of it is kept or decompressed.
MOST_THROWN_AWAY = 262_144
#: Bytes that are read at a time.
_PIECE = 16_384


class Body:
    """A request's body, and where it begins.

    Args:
        body: What is sent: text or bytes, a file, or whatever else the client takes.
    """

    __slots__ = ("_body", "_start")

    def __init__(self, body: object) -> None:
        self._body = body
        self._start = None if _is_at_hand(body) else _position(body)

    def rewind(self) -> bool:
        """Lets it be sent again; says whether it can be."""
        if _is_at_hand(self._body):
            return True
        if self._start is None:
            return False
        try:
            self._body.seek(self._start)  # type: ignore[attr-defined] # what has none is caught
        except (AttributeError, OSError, ValueError):
            return False
        return True


def _is_at_hand(body: object) -> bool:
    return body is None or isinstance(body, (bytes, str, bytearray, memoryview))


def _position(body: object) -> int | None:
    """Where a file stands; None for what is none, or cannot tell."""
    try:
        start = body.tell()  # type: ignore[attr-defined] # what has none is caught
    except (AttributeError, OSError, ValueError):
        return None
    return start if isinstance(start, int) else None


def throw_away(response: BaseHTTPResponse) -> None:
    """Reads a refused answer of urllib3's to its end, unless that takes much, and closes it."""
    from urllib3.exceptions import HTTPError

    left = MOST_THROWN_AWAY
    with suppress(HTTPError, OSError):  # then its connection is closed
        while left > 0 and (piece := response.read(_PIECE, decode_content=False)):
            left -= len(piece)
    response.close()
    response.release_conn()
