"""Event loops: asyncio's, and those that stand in for it, such as uvloop's."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConfigurationError
from .stack import is_logging

if TYPE_CHECKING:
    import asyncio

__all__ = ["in_thread", "running_loop", "warn_if_loop_runs"]

#: The folder of the library.
_PACKAGE = __file__.rpartition("_runtime")[0]

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop:
    """Gives the loop of this coroutine.

    Raises:
        ConfigurationError: It is another library's coroutine.
    """
    import asyncio  # 20 ms that a program without event loops does not have to spend

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "asyncio is the event loop that can be waited in here, and this is another one: call "
            "the method without 'a' before its name in a thread, such as by "
            "trio.to_thread.run_sync(manager.get_access_token)"
        ) from None


async def in_thread(work: Callable[[], T]) -> T:
    """Has work done that blocks, by a thread of the loop's.

    Raises:
        ConfigurationError: It is another library's coroutine.
    """
    running_loop()
    import asyncio

    return await asyncio.to_thread(work)


def warn_if_loop_runs() -> None:
    """Warns of a manager's call that is about to wait, and to block its thread's event loop."""
    events = sys.modules.get("asyncio.events")
    if events is None or events._get_running_loop() is None:  # noqa: SLF001 - as asyncio has it
        return
    if is_logging():  # which has no other way, waits for half a second, and may log warnings
        return
    frame, level = sys._getframe(2), 2  # noqa: SLF001 - the manager's method, then whose line it is
    name, manager = frame.f_code.co_name, frame.f_code.co_filename
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        if frame.f_code.co_filename == manager:  # as headers() is, which asks get_token()
            name = frame.f_code.co_name
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{name}() waits for a token here, and blocks the event loop meanwhile: "
        f"await a{name}() instead, or the asynchronous client",
        RuntimeWarning,
        stacklevel=level + 1,
    )
