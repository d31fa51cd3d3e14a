"""Functions of the program's own that give a proof, or part of one: a vault's, a signer."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from .._runtime.calls import Calls, CallTimeoutError
from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import TokenManagerError, TokenRequestError

__all__ = ["PATIENCE", "ProgramCall", "is_async", "wants_argument"]

#: Seconds that one may take, where no fetch says what is left of its own.
PATIENCE = 10.0


class ProgramCall(Unpicklable):
    """A function of the program's own: it has an end, and what it raises is typed.

    Args:
        function: The function, hidden: its repr may show what it closes over.
        what: What it gives, for messages.
    """

    def __init__(self, function: Hidden, what: str) -> None:
        self._function = function
        self._what = what
        self._calls = Calls()

    def __call__(self, *args: object, seconds: float = PATIENCE) -> Hidden:
        """Calls it, and gives what it gives, hidden; a coroutine's, once that has ended.

        Args:
            *args: What it is called with; nothing secret.
            seconds: How long it may take.

        Raises:
            TokenRequestError: It raises, or takes longer.
        """
        function = self._function
        try:
            return self._calls.call(lambda: function.cell_contents(*args), seconds)
        except TokenManagerError:
            raise
        except CallTimeoutError:
            pass  # whose frames are of no use to anybody
        except Exception as exc:
            raise TokenRequestError(
                f"the callable that gives the {self._what} failed with {type(exc).__name__}, "
                "which is chained to this error",
                retryable=True,
            ) from exc
        raise TokenRequestError(
            f"the callable that gives the {self._what} has not ended within {seconds:.1f} s: see "
            "what it waits for, and give that an end",
            retryable=True,
        )


def is_async(function: Callable[..., object]) -> bool:
    """Whether it says of itself that it gives a coroutine."""
    of_class = getattr(type(function), "__call__", None)  # noqa: B004 - as an object may have one
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(of_class)


def wants_argument(function: Callable[..., object]) -> bool:
    """Whether it has a positional parameter without a default; as MSAL sees it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # such as one of C
        return False
    return any(
        each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in parameters
    )
