"""Sign-ins that have begun, and wait for their user."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypedDict

from ._engine.flight import bare
from ._runtime.clock import Clock, sleep_unless
from ._runtime.forks import renew_in_child
from ._runtime.loops import running_loop
from ._runtime.secrecy import Unpicklable
from ._runtime.values import Value
from .errors import (
    ConfigurationError,
    InteractionRequiredError,
    StoreError,
    TokenTimeoutError,
)

if TYPE_CHECKING:
    from ._runtime.workers import Workers
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
        workers: Workers,
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
        self._workers = workers
        self._is_closed = is_closed
        #: What has come of it; and what the service has given, while the store cannot keep it.
        self._session: UserSession | None = None
        self._error: Exception | None = None
        self._signed_in: SignedIn | None = None
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew; the parent's workers ask for the parent."""
        #: Held by the one of the workers that asks the service.
        self._asking = threading.RLock()
        #: Whether one of them does.
        self._is_asked = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def wait(self, timeout: float | None = None) -> UserSession:
        """Waits until the user has signed in. A coroutine awaits :meth:`await_`.

        Whoever is interrupted loses nothing: what the service answers meanwhile is there for who
        waits next.

        Args:
            timeout: Seconds to wait; for as long as the code is good when left out.

        Raises:
            TokenTimeoutError: The user has not signed in yet: it may be waited for again.
            StoreError: The user has, and the store cannot keep the session: wait again later, and
                it is tried again, without the user.
            ConsentRequiredError: The user has said no.
            InteractionRequiredError: The code has ended, or the sign-in was cancelled: begin again.
            ConfigurationError: The registry is closed.
            TokenManagerError: The service refuses.
        """
        give_up_at = self._begin_to_wait(timeout)
        while (session := self._session) is None:
            self._check(give_up_at)
            sleep_unless(
                lambda: self._is_over or self._is_due or self._clock.elapsed() >= give_up_at,
                float("inf"),
            )
            if self._is_due:
                self._have_it_asked()
        return session

    async def await_(self, timeout: float | None = None) -> UserSession:
        """Does as :meth:`wait`, and never blocks the event loop."""
        running_loop()
        import asyncio

        give_up_at = self._begin_to_wait(timeout)
        while (session := self._session) is None:
            self._check(give_up_at)
            if self._is_due:
                await asyncio.to_thread(self._have_it_asked)
            else:
                await asyncio.sleep(_LOOK_EVERY)
        return session

    def cancel(self) -> None:
        """Ends it, and every wait for it; a session that has come of it stays."""
        self._try_again()
        self._signed_in = None
        self._error = self._error or InteractionRequiredError(
            "this sign-in was cancelled: begin_device_code() again"
        )

    @property
    def _is_over(self) -> bool:
        return self._session is not None or self._error is not None or self._is_closed()

    @property
    def _is_due(self) -> bool:
        """Whether there is something to do, and nobody does it."""
        return not (self._is_over or self._is_asked) and self._is_time

    @property
    def _is_time(self) -> bool:
        waits_for_the_store = self._signed_in is not None
        due_at = min(self._code.due_at, self._code.ends_at)
        return waits_for_the_store or self._clock.elapsed() >= due_at

    def _try_again(self) -> None:
        """Has what the store could not keep be tried again."""
        if self._signed_in is not None and isinstance(self._error, StoreError):
            self._error = None

    def _begin_to_wait(self, timeout: float | None) -> float:
        """Begins to wait, and says until when that is."""
        self._try_again()
        return float("inf") if timeout is None else self._clock.elapsed() + timeout

    def _check(self, give_up_at: float) -> None:
        """Tells somebody who waits that there will be nothing, or nothing in time.

        Raises:
            TokenManagerError: That is so.
        """
        if self._error is not None:
            raise self._error.with_traceback(None)
        if self._is_closed():
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")
        if self._clock.elapsed() >= give_up_at:
            raise TokenTimeoutError(
                "nobody has entered the device's code yet: wait again, until it has ended"
            )

    def _have_it_asked(self) -> None:
        """Has a worker ask, whom nobody interrupts, and gives it a moment to begin."""
        self._workers.do_or_here(self._ask)
        sleep_unless(lambda: not self._is_due, _LOOK_EVERY)

    def _ask(self) -> None:
        """Asks once whether the user has signed in, unless another one asks just now."""
        asking = self._asking
        try:
            if asking.acquire(blocking=False):
                self._is_asked = True
                self._go_on()
        except Exception as exc:  # noqa: BLE001 - whoever waits is told
            self._error = self._error or bare(exc)
        finally:
            with suppress(RuntimeError):  # another one asks
                asking.release()
                self._is_asked = False

    def _go_on(self) -> None:
        if self._is_over or not self._is_time:
            return
        signed_in = self._code.poll() if self._signed_in is None else self._signed_in
        # Whoever has cancelled it meanwhile wants nothing to be kept.
        if signed_in is None or self._error is not None:
            return
        self._signed_in = signed_in
        self._session = self._keep(signed_in)
        self._signed_in = None
