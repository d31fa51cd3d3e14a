"""Sign-ins that were begun, as texts: sealed, bound to a browser, and each of use once."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from typing import Any

from .._context import Context
from .._runtime.forks import renew_in_child
from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import ConfigurationError, InteractionRequiredError
from .guarded import StoreAwayError
from .keys import SealingKeys
from .slot import SealedStore

__all__ = ["SealedFlows"]

#: The longest text that is looked at. What is sealed is a tenth of it, or so.
_LONGEST = 131_072
#: The longest name of a browser, in characters.
_LONGEST_BROWSER = 4_096
#: So many that were used are remembered; each is worth nothing after its time.
_MOST_USED = 10_000
#: So many are held whose sessions the store could not keep; then the first of them go.
_MOST_HELD = 1_000
#: Seconds for which it is remembered beyond its time, as workers' clocks differ.
_MARGIN = 60.0


class SealedFlows(Unpicklable):
    """The sign-ins of an app.

    Args:
        keys: What they are sealed with.
        sealed: The store of all workers, where there is one.
        context: The time.
    """

    def __init__(self, keys: SealingKeys, sealed: SealedStore | None, context: Context) -> None:
        self._keys = keys
        self._sealed = sealed
        self._clock = context.clock
        #: Those that were used, by their state, and when each ends.
        self._used: Hidden = Hidden(dict[str, float]())
        #: What has come of those whose sessions could not be kept, by their state, and when each
        #: ends.
        self._held: Hidden = Hidden(dict[str, tuple[float, Any]]())
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew."""
        #: Guards what was used, and what is held; the store is not called under it.
        self._lock = threading.RLock()

    def seal(self, flow: Hidden, whose: tuple[str, ...], browser: Hidden, seconds: float) -> Hidden:
        """Seals a sign-in that has just been begun; gives its text.

        Args:
            flow: A dict that JSON can say, with a ``state`` that nobody guesses.
            whose: The app and its authority.
            browser: What the program calls the browser.
            seconds: How long it may take.

        Raises:
            ConfigurationError: What the browser is called is no text.
            TokenManagerError: The credential that the key is derived from cannot be read.
        """
        ends_at = self._clock.wall() + seconds
        content = Hidden(json.dumps({**flow.cell_contents, "ends_at": ends_at}).encode())
        described = _described(whose, browser)
        key = self._keys.at_hand()[0]
        sealed = key.seal(content.cell_contents, key.name(described.cell_contents))
        return Hidden(base64.urlsafe_b64encode(sealed).decode().rstrip("="))

    def open(self, text: Hidden, whose: tuple[str, ...], browser: Hidden) -> Hidden:
        """Opens a text, and gives the sign-in that was begun.

        Raises:
            ConfigurationError: What the browser is called is no text.
            InteractionRequiredError: It was not begun here, in this browser; or it took too long.
            TokenManagerError: The credential that the key is derived from cannot be read.
        """
        from .seal import BrokenSealError

        if not text.cell_contents:
            raise InteractionRequiredError(
                "this web session has no sign-in that was begun: none was, it was completed "
                "before, or the browser brought no cookie, as it does where response_mode= is "
                "form_post and the cookie SameSite=Lax; begin another"
            )
        sealed, described = _sealed_of(text), _described(whose, browser)
        content = Hidden(None)
        for key in self._keys.at_hand():
            try:
                name = key.name(described.cell_contents)
                content = Hidden(key.open(sealed, name))
                break
            except BrokenSealError:
                continue
        if content.cell_contents is None:
            raise InteractionRequiredError(
                "this sign-in was begun in another browser, by another app, at another authority "
                "or under another key, or is none: begin another"
            )
        flow: Hidden = Hidden(json.loads(content.cell_contents))
        if self._clock.wall() >= flow.cell_contents["ends_at"]:
            raise InteractionRequiredError(
                "this sign-in took too long, and has ended: begin another"
            )
        return flow

    def use(self, flow: Hidden) -> None:
        """Uses up a sign-in, here and for every worker.

        Raises:
            InteractionRequiredError: It has been used.
        """
        if not (self._use_here(flow) and self._use_everywhere(flow)):
            raise InteractionRequiredError(
                "this sign-in has been completed before: nothing is kept of it a second time; "
                "begin another"
            )

    def hold(self, flow: Hidden, signed_in: Any) -> None:
        """Holds what has come of a sign-in, until it ends: the store could not keep it."""
        state, ends_at = Hidden(flow.cell_contents["state"]), flow.cell_contents["ends_at"]
        held, now = self._held.cell_contents, self._clock.wall()
        with self._lock:
            for old in map(Hidden, [each for each in held if held[each][0] <= now]):
                del held[old.cell_contents]
            while len(held) >= _MOST_HELD:
                del held[next(iter(held))]
            held[state.cell_contents] = ends_at, signed_in

    def unkept(self, flow: Hidden) -> Any:
        """Gives what was held of a sign-in, once; None where nothing was."""
        with self._lock:
            return self._held.cell_contents.pop(flow.cell_contents["state"], (0.0, None))[1]

    def _use_here(self, flow: Hidden) -> bool:
        state, ends_at, now = Hidden(flow.cell_contents["state"]), 0.0, self._clock.wall()
        ends_at = flow.cell_contents["ends_at"] + _MARGIN
        used: dict[Any, float] = self._used.cell_contents
        with self._lock:
            if state.cell_contents in used:
                return False
            if len(used) >= _MOST_USED:
                for old in map(Hidden, [each for each, ends in used.items() if ends <= now]):
                    del used[old.cell_contents]
            while len(used) >= _MOST_USED:
                del used[next(iter(used))]
            used[state.cell_contents] = ends_at
            return True

    def _use_everywhere(self, flow: Hidden) -> bool:
        """Leaves a mark in the store where there is none.

        A store that is away is gone on without: the service takes a code but once, and this
        process has its own mark.
        """
        if self._sealed is None:
            return True
        store, namespace = self._sealed.store, self._sealed.namespace
        seconds = flow.cell_contents["ends_at"] + _MARGIN - self._clock.wall()
        what = Hidden(f"sign-in that was used, 1\n{flow.cell_contents['state']}")
        owner = secrets.token_bytes(16)
        try:
            marks = [f"{namespace}:{key.name(what.cell_contents)}" for key in self._keys.at_hand()]
            # In one order, whichever of the keys a worker seals with. A store that was asked twice,
            # as its first answer was lost, says that there is one: a look tells whose.
            return all(
                store.lease(mark, owner, seconds) or store.get(mark) == owner
                for mark in sorted(marks)
            )
        except StoreAwayError:
            return True


def _described(whose: tuple[str, ...], browser: Hidden) -> Hidden:
    named = isinstance(browser.cell_contents, str)
    if not named or len(browser.cell_contents) > _LONGEST_BROWSER:
        raise ConfigurationError(
            "browser= is a text that tells one browser from all others, such as the id of its "
            f"session, of up to {_LONGEST_BROWSER} characters"
        )
    return Hidden(json.dumps(["sign-in, 1", *whose, browser.cell_contents]))


def _sealed_of(text: Hidden) -> bytes:
    whole = isinstance(text.cell_contents, str) and len(text.cell_contents) <= _LONGEST
    given = Hidden(text.cell_contents if whole else "")
    padding = "=" * (-len(given.cell_contents) % 4)
    try:
        return base64.b64decode(given.cell_contents + padding, b"-_", validate=True)
    except ValueError:
        return b""
