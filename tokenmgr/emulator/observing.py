"""What happens to each request, whatever is asked for: it is written down, and may have to fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from .faults import Fault
from .recording import RecordedRequest
from .state import State

__all__ = ["observed"]

#: What waits as long as tests want.
_WAITING = frozenset({"token", "identity"})


async def observed(
    state: State,
    request: web.Request,
    record: RecordedRequest,
    answer: Callable[[Fault | None], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """Write a request down, let it wait and break off as tests want, and answer it.

    Args:
        state: Where it is written, and what says how it fails.
        request: The request.
        record: What is written of it.
        answer: What answers it; it is told how to fail, or None.
    """
    number = state.log.arrived(record)
    if record.kind in _WAITING:
        await state.gate.wait(state.latency)
    fault = state.faults.take(record)
    if fault is not None and fault.disconnect:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    response = await answer(fault)
    state.log.answered(number, response.status)
    return response
