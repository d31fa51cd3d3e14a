"""What the machine that this runs on says of itself: a service of its own, in plain HTTP.

It is imported before requests is, which takes a tenth of a second, so that the first connection to
the service may be begun meanwhile.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - Python imports it at the first look-up of a host name
import json
import socket
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from .whole_answers import WholeResponse

__all__ = ["NoAnswerError", "ask_machine"]

#: Seconds that an answer has at least once there is a connection: none at all is for ever.
_LEAST = 0.001


class NoAnswerError(Exception):
    """The machine has no such service, or none that answers well, or in time."""


class _Connection(HTTPConnection):
    response_class = WholeResponse
    sock: socket.socket


def ask_machine(url: str, headers: Mapping[str, str], seconds: float, most_bytes: int) -> object:
    """Gets what a service of the machine says, past every proxy.

    Args:
        url: Its address, without TLS.
        headers: What it wants to be asked with.
        seconds: How long that may take in all, whatever it drips.
        most_bytes: How much of its answer is read.

    Returns:
        The JSON that it answers.

    Raises:
        NoAnswerError: There is none.
    """
    parts, give_up_at = urlsplit(url), time.monotonic() + seconds
    connection = _Connection(parts.netloc, timeout=seconds)
    try:
        connection.connect()
        connection.sock.settimeout(max(_LEAST, give_up_at - time.monotonic()))
        connection.request("GET", f"{parts.path}?{parts.query}", headers=dict(headers))
        answer = connection.getresponse()
        body = answer.read(most_bytes + 1)
        if answer.status != 200 or len(body) > most_bytes:
            raise NoAnswerError
        return json.loads(body)
    except (OSError, HTTPException, ValueError, RecursionError):
        raise NoAnswerError from None
    finally:
        connection.close()
