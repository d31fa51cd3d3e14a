"""A small web application that hands out its token; gunicorn serves it.

``web_app:wsgi`` and ``web_app:asgi`` have no token before their server forks,
``web_app:begins`` has its token fetched, and does not wait for it;
``web_app:fetched("wsgi")`` and ``web_app:fetched("asgi")`` do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from support import SCOPE

from tokenmgr import TokenRegistry

graph = TokenRegistry.from_env().manager(SCOPE)


def fetched(kind: str) -> Callable[..., Any]:
    """The application of this kind, which has its token when it is loaded."""
    graph.get_access_token()
    return {"wsgi": wsgi, "asgi": asgi}[kind]


def _body(token: str) -> bytes:
    return json.dumps({"pid": os.getpid(), "token": token}).encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """For gunicorn's own workers (PEP 3333)."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [_body(graph.get_access_token())]


def begins(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """An application that has its token fetched, and answers without it."""
    graph.prefetch()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [_body("")]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """For uvicorn's workers (ASGI 3.0)."""
    body = _body(await graph.aget_access_token())
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
