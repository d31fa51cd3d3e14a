"""Event loops: asyncio's, and those that stand in for it, such as uvloop's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio

__all__ = ["running_loop"]


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
