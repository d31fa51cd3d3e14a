"""Trouble made to order: answers that fail, connections that break, requests that wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from aiohttp import web

from .errors import error_body
from .recording import RecordedRequest

__all__ = ["Fault", "FaultPlan", "Gate", "Target"]

#: The kinds of request that can be made to fail.
_PATHS = (
    *("token", "discovery", "keys", "graph", "authorize", "devicecode", "userrealm"),
    "sidecar",
)

_SERVER_ERRORS = 500


@dataclass(frozen=True)
class Target:
    """The requests that fail: these alone. See ``EntraEmulator.fail_next``.

    Raises:
        ValueError: There are none of that kind.
    """

    path: str = "token"
    grant_type: str | None = None
    scope: str | None = None
    username: str | None = None

    def __post_init__(self) -> None:
        if self.path not in _PATHS:
            raise ValueError(f"path is one of {', '.join(_PATHS)}, not {self.path!r}")

    def matches(self, request: RecordedRequest) -> bool:
        """Whether a request is one of them."""
        return (
            request.kind == self.path
            and self.grant_type in (None, request.grant_type)
            and self.scope in (None, request.scope)
            and self.username in (None, request.username)
        )


@dataclass(frozen=True)
class Fault:
    """One way to fail. See ``EntraEmulator.fail_next``."""

    status: int = 500
    error: str | None = None
    error_codes: Sequence[int] = ()
    retry_after: float | str | None = None
    body: str | bytes | None = None
    disconnect: bool = False

    def response(self, *, correlation_id: str | None, base_url: str) -> web.Response:
        """The failing answer."""
        headers = {"Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.body is not None:
            raw = self.body.encode() if isinstance(self.body, str) else self.body
            return web.Response(
                status=self.status, body=raw, headers=headers, content_type="application/json"
            )
        error = self.error or (
            "server_error" if self.status >= _SERVER_ERRORS else "temporarily_unavailable"
        )
        body = error_body(
            error,
            "The emulator was told to fail this request.",
            codes=tuple(self.error_codes),
            correlation_id=correlation_id,
            base_url=base_url,
        )
        return web.json_response(body, status=self.status, headers=headers)


class FaultPlan:
    """The failures that are still to come. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _pending
        self._pending: list[tuple[Target, Fault]] = []

    def add(self, target: Target, fault: Fault, n: int) -> None:
        """Let the next ``n`` requests that match fail this way, after those planned already."""
        with self._lock:
            self._pending.extend([(target, fault)] * n)

    def take(self, request: RecordedRequest) -> Fault | None:
        """The failure of this request, which is used up by that; None when it may succeed."""
        with self._lock:
            for index, (target, _) in enumerate(self._pending):
                if target.matches(request):
                    return self._pending.pop(index)[1]
        return None

    def clear(self) -> None:
        """Let everything succeed again."""
        with self._lock:
            self._pending.clear()


class Gate:
    """Where token requests wait: during a pause, and for the latency that was asked for.

    It is opened from the threads of tests, and waited at in the server's event loop. Futures that
    can be set in any thread and awaited in any loop carry the news across.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all that follows
        self._pause: Future[None] | None = None
        self._delayed: set[Future[None]] = set()
        self._closed = False

    def pause(self) -> None:
        """Let whoever arrives from now on wait. Nothing happens during a pause."""
        with self._lock:
            if self._pause is None and not self._closed:
                self._pause = Future()

    def resume(self) -> None:
        """Let everyone who waits pass, and everyone who comes."""
        with self._lock:
            pause, self._pause = self._pause, None
        if pause is not None:
            pause.set_result(None)

    def close(self) -> None:
        """Let everyone pass for good, those who wait for their latency too."""
        with self._lock:
            self._closed = True
            delayed, self._delayed = self._delayed, set()
        for waiter in delayed:
            waiter.set_result(None)
        self.resume()

    async def wait(self, latency: float) -> None:
        """Wait for the end of the pause, and then for ``latency`` seconds."""
        with self._lock:
            pause = self._pause
        if pause is not None:
            # Shielded, as a request that is cancelled must not cancel the others' future.
            await asyncio.shield(asyncio.wrap_future(pause))
        if latency > 0:
            await self._delay(latency)

    async def _delay(self, seconds: float) -> None:
        waiter: Future[None] = Future()
        with self._lock:
            if self._closed:
                return
            self._delayed.add(waiter)
        await asyncio.wait([asyncio.wrap_future(waiter)], timeout=seconds)
        with self._lock:
            self._delayed.discard(waiter)
