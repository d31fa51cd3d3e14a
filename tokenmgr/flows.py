"""Sign-ins that have begun, and wait for their user."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypedDict

from ._runtime.clock import Clock, sleep_unless
from ._runtime.forks import renew_in_child
from ._runtime.loops import running_loop
from ._runtime.secrecy import Unpicklable
from ._runtime.values import Value
from .errors import (
    ConfigurationError,
    InteractionRequiredError,
    TokenManagerError,
    TokenTimeoutError,
)

if TYPE_CHECKING:
    from ._session import SignedIn
    from .entra.grants.device_code import DeviceCode
    from .sessions import UserSession

__all__ = ["AuthCodeFlow", "DeviceCodeFlow", "SignInOptions"]

#: Seconds between two looks whether there is something to do: a clock may be moved by hand.
_LOOK_EVERY = 0.05


class SignInOptions(TypedDict, total=False):
    """What a browser's sign-in may be asked for besides, each None where it is left out."""

    #: ``login``, ``select_account``, ``consent``, ``none`` or ``create``.
    prompt: str | None
    #: Who is likely to sign in.
    login_hint: str | None
    #: Where they are at home.
    domain_hint: str | None
    #: Seconds within which they have to have signed in.
    max_age: int | None
    #: The claims of an :class:`~tokenmgr.InteractionRequiredError`.
    claims: str | None


class AuthCodeFlow(Value, Unpicklable):
    """A sign-in with a browser that has begun: send it to ``auth_uri``, and keep ``text``."""

    _hidden = frozenset({"auth_uri", "text"})

    #: Where to send the user's browser.
    auth_uri: str
    #: What :meth:`TokenRegistry.complete_auth_code` takes when the user is back: keep it in the web
    #: session. It is sealed.
    text: str


class DeviceCodeFlow(Unpicklable):
    """A sign-in on another device that has begun: show :attr:`message`, and :meth:`wait`.

    For a message of your own there are ``verification_uri``, ``user_code`` and ``expires_in``
    (seconds). It asks the service as often as that one allows, and only while somebody waits.
    """

    def __init__(
        self,
        code: DeviceCode,
        keep: Callable[[SignedIn], UserSession],
        clock: Clock,
        is_closed: Callable[[], bool],
    ) -> None:
        #: What to show the user, as the service says it; our own words where it says nothing.
        self.message: str = code.told["message"] or (
            f"To sign in, open {code.told['verification_uri']} and enter the code "
            f"{code.told['user_code']}"
        )
        #: What the user is to enter.
        self.user_code: str = code.told["user_code"]
        #: Where the user is to enter it.
        self.verification_uri: str = code.told["verification_uri"]
        #: Seconds that the user has for it, from the beginning.
        self.expires_in: int = code.told["expires_in"]
        self._code = code
        self._keep = keep
        self._clock = clock
        self._is_closed = is_closed
        #: What has come of it.
        self._session: UserSession | None = None
        self._error: TokenManagerError | None = None
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew."""
        #: Held by the one of those who wait that asks the service.
        self._asking = threading.RLock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def wait(self, timeout: float | None = None) -> UserSession:
        """Waits until the user has signed in. A coroutine awaits :meth:`await_`.

        Args:
            timeout: Seconds to wait, and for as long as a request takes that is under way then; for
                as long as the code is good when left out.

        Raises:
            TokenTimeoutError: The user has not signed in yet: it may be waited for again.
            ConsentRequiredError: The user has said no.
            InteractionRequiredError: The code has ended, or the sign-in was cancelled: begin again.
            ConfigurationError: The registry is closed.
            TokenManagerError: The service refuses.
        """
        give_up_at = self._end_of(timeout)
        while (session := self._session) is None:
            due_at = self._due_at(give_up_at)
            sleep_unless(lambda: self._is_over or self._clock.elapsed() >= due_at, float("inf"))  # noqa: B023
            if self._clock.elapsed() >= due_at:
                self._poll()
        return session

    async def await_(self, timeout: float | None = None) -> UserSession:
        """Does as :meth:`wait`, and never blocks the event loop."""
        running_loop()
        import asyncio

        give_up_at = self._end_of(timeout)
        while (session := self._session) is None:
            if self._clock.elapsed() < self._due_at(give_up_at):
                await asyncio.sleep(_LOOK_EVERY)
            else:
                await asyncio.to_thread(self._poll)
        return session

    def cancel(self) -> None:
        """Ends it, and every wait for it; what has come of it already stays."""
        self._error = self._error or InteractionRequiredError(
            "this sign-in was cancelled: begin_device_code() again"
        )

    @property
    def _is_over(self) -> bool:
        return self._session is not None or self._error is not None or self._is_closed()

    def _end_of(self, timeout: float | None) -> float:
        return float("inf") if timeout is None else self._clock.elapsed() + timeout

    def _due_at(self, give_up_at: float) -> float:
        """Says until when there is nothing to do for somebody who waits.

        Raises:
            TokenManagerError: There will be nothing.
        """
        if self._error is not None:
            raise self._error.with_traceback(None)
        if self._is_closed():
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")
        if self._clock.elapsed() >= give_up_at:
            raise TokenTimeoutError(
                "nobody has entered the device's code yet: wait again, until it has ended"
            )
        return min(self._code.due_at, self._code.ends_at, give_up_at)

    def _poll(self) -> None:
        """Asks once whether the user has signed in, unless another one asks just now."""
        asking = self._asking
        try:
            if asking.acquire(blocking=False):
                self._ask()
            else:
                sleep_unless(lambda: self._is_over, _LOOK_EVERY)
        except TokenManagerError as exc:
            self._error = self._error or exc
        finally:
            with suppress(RuntimeError):  # another one asks
                asking.release()

    def _ask(self) -> None:
        now = self._clock.elapsed()
        if self._is_over or now < min(self._code.due_at, self._code.ends_at):
            return
        signed_in = self._code.poll()
        # Whoever has cancelled it meanwhile wants nothing to be kept.
        if signed_in is not None and self._error is None:
            self._session = self._keep(signed_in)
