"""Known bugs, planted into the core: what the explorer has to find."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from tokenmgr._engine import flight as flights
from tokenmgr._engine.cell import Cell
from tokenmgr._engine.failures import Failures
from tokenmgr._engine.flight import Flight
from tokenmgr._runtime import workers as threads
from tokenmgr._runtime.refresher import Refresher
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr._runtime.workers import Workers
from tokenmgr._sharing import keys
from tokenmgr._sharing.fetch_once import SharedToken
from tokenmgr._sharing.keys import SealingKeys
from tokenmgr._sharing.seal import SealingKey
from tokenmgr._sharing.slot import Lease
from tokenmgr.events import Hook

__all__ = ["PLANTS", "Plant"]


def _say_first_what_keys_are_made_of(self: Any, proof: Any) -> Any:
    """There are none yet: others go past the store meanwhile."""
    secret = b"" if proof is None else proof.text.encode()
    if proof is not None and self._made[0].cell_contents == ():
        self._made = Hidden((secret,)), ()
        stretched = keys._stretched(secret, self._salt)
        self._made = Hidden((secret,)), (SealingKey(stretched.cell_contents),)
    return _keys_of(self, proof)


_keys_of = SealingKeys.of


def _search_and_look_no_more(self: Any, lease: Any, wanted: Any) -> Any:
    """Takes the lease, and does not look again for what its last holder has put."""
    record = self._slot.read(self._is_valid)
    if self._will_do(record, wanted):
        return record
    return None if lease.take() else _search(self, lease, wanted)


_search = SharedToken._search


def _look_before_waiting(self: Any, timeout: float) -> bool:
    """Looks whether it has landed, and then leaves its waker."""
    if self.landed:
        return True
    alarm = flights.threading.Lock()
    alarm.acquire()
    wake = alarm.release
    self._wakers.add(wake)
    alarm.acquire(timeout=max(0.0, timeout))
    self._wakers.discard(wake)
    return self.landed


async def _swallow_cancellation(self: Any, timeout: float) -> bool:
    """Takes a cancellation for the end of the waiting."""
    try:
        return await _join(self, timeout)
    except asyncio.CancelledError:
        return self.landed


_join = Flight.join


def _look_before_leaving(self: Any) -> None:
    """Looks for work, and then leaves the set of the threads that work."""
    self._have_run, me = True, threads.current_thread()
    while self._waiting:
        with contextlib.suppress(BaseException):
            work = self._waiting.popleft()
            getattr(work, "taken", threads._nothing)()
            work()
    self._threads.discard(me)


def _take_what_was_given_up_for_nothing(self: Any, flight: Any, current: Any, _: Any) -> None:
    """Throws a token away that came late."""
    with self._lock:
        takes = self._ends(flight) and not self._closed
        if takes:
            self._take(current, 0.0)
    if takes:
        self._follow()
    flight.land(current)


def _answer_under_a_lock_of_its_own(self: Any, *args: Any, **named: Any) -> Any:
    """Does not release the lock where it is interrupted."""
    self._lock.acquire()
    answer = _answer(self, *args, **named)
    self._lock.release()
    return answer


_answer = Cell._answer


def _emit_without_care(self: Any, event: Any) -> None:
    """Notes that events are being delivered, and is interrupted before they are."""
    if self._on_event is None:
        return
    with self._lock:
        self._waiting.append(event)
        if self._delivering:
            return
        self._delivering = True
    try:
        self._worker.do(self._deliver)
    except RuntimeError:
        self._delivering = False


def _plan_under_the_lock(self: Any, *args: Any, **named: Any) -> Any:
    """Takes the refresher's lock under the cell's."""
    plan = _plan(self, *args, **named)
    self.add(plan)
    return plan


_plan = Refresher.plan


def _renew_under_the_lock(self: Any) -> Any:
    """Takes the cell's lock under the refresher's."""
    with self._lock:
        return _step(self)


_step = Refresher.step


def _never_asked(self: Any, *, serves: bool, renew: bool = False) -> float:
    """Does not wait for as long as the service asked."""
    asked, self.asked = self.asked, {}
    try:
        return _stands_until(self, serves=serves, renew=renew)
    finally:
        self.asked = asked


_stands_until = Failures.stands_until


class Plant(NamedTuple):
    """A bug, and where it is found."""

    #: What it takes the place of.
    room: type
    bugs: dict[str, Callable[..., Any]]
    #: Words of what is told of it.
    words: str
    #: The world in which it matters; the rest is left to the seed.
    likes: dict[str, object]
    #: The seed from which on it is looked for, not far from one that finds it.
    start: int = 0

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Has it in the core meanwhile."""
        with mock.patch.multiple(self.room, **self.bugs):
            yield


_WELL: dict[str, object] = {
    "moods": ("well",),
    "store_moods": ("well",),
    "threads": "well",
    "patience": 0.4,
    "rotates": False,
}
_SHARED = _WELL | {
    "shares": True,
    "workers": 3,
    "keys": 2,
    "durations": (0.0,),
    "lives": (3600.0,),
    "interrupts": False,
    "hook": "",
}
_QUICK = _WELL | {
    "shares": False,
    "workers": 1,
    "keys": 1,
    "durations": (0.0,),
    "lives": (1.0, 4.0),
    "interrupts": False,
}
_INTERRUPTED = _WELL | {"interrupts": True, "hook": "quick", "shares": False, "workers": 1}

#: By their names.
PLANTS = {
    "keys that are said to be there before they are": Plant(
        SealingKeys,
        {"of": _say_first_what_keys_are_made_of},
        "asks for",
        _SHARED | {"derives": True},
    ),
    "no look after the lease": Plant(
        SharedToken, {"_search": _search_and_look_no_more}, "asks for a token", _SHARED
    ),
    "a lease that is not given back": Plant(
        Lease, {"give_back": lambda self: None}, "a lease is kept", _SHARED
    ),
    "a verdict that is believed for ever": Plant(
        SharedToken,
        {"_counts": lambda self, verdict, now: True},
        "all is well",
        {"shares": True, "store_moods": ("putting back",), "moods": ("down", "throttling")},
    ),
    "a look before the waker": Plant(Flight, {"wait": _look_before_waiting}, "has landed", _QUICK),
    "a swallowed cancellation": Plant(Flight, {"join": _swallow_cancellation}, "swallowed", {}),
    "a look before leaving": Plant(
        Workers,
        {"_work": _look_before_leaving},
        "nobody",
        _QUICK | {"most_fetches": 1, "hook": "quick"},
    ),
    "a flight that nobody leads": Plant(
        Cell, {"abandon": lambda self, flight: None}, "nobody leads", _INTERRUPTED
    ),
    "a late token that is thrown away": Plant(
        Cell,
        {"land": _take_what_was_given_up_for_nothing},
        "is thrown away",
        _WELL | {"durations": (14.0, 70.0), "shares": False},
    ),
    "a lock that an interruption keeps": Plant(
        Cell, {"_answer": _answer_under_a_lock_of_its_own}, "", _INTERRUPTED
    ),
    "an event before its delivery": Plant(
        Hook, {"emit": _emit_without_care}, "events wait", _INTERRUPTED
    ),
    "locks in both orders": Plant(
        Refresher,
        {"plan": _plan_under_the_lock, "step": _renew_under_the_lock},
        "a deadlock",
        _WELL,
    ),
    "a Retry-After that is passed over": Plant(
        Failures, {"stands_until": _never_asked}, "and may at", {"moods": ("throttling",)}
    ),
}
