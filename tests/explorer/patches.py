"""Gives the core what is simulated, for as long as a round lasts."""

from __future__ import annotations

import builtins
import functools
import importlib
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import tokenmgr
from explorer import simulated
from explorer.schedule import Schedule
from tokenmgr._engine import cell, fetch, flight
from tokenmgr._runtime import refresher, stack, workers
from tokenmgr._runtime import threads as starting
from tokenmgr._runtime.workers import Workers
from tokenmgr._sharing import keys, leases, slot

__all__ = ["LOOK_EVERY", "Patches", "watched_files"]

#: The rooms whose lines are watched, and whose locks, threads and time are simulated.
_ROOMS = ("_engine", "_runtime", "_sharing", "entra/breaker", "stores/memory", "manager", "events")
#: Seconds between two looks whether threads run, or have ended.
LOOK_EVERY = 0.01
#: What locks that a module has for itself are.
_LOCKS = (type(threading.Lock()), type(threading.RLock()))


@functools.cache
def _modules() -> list[ModuleType]:
    """The core's, but for what forks have to do with: no round has one."""
    root = Path(tokenmgr.__file__).parent
    found = [path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("[!_]*.py")]
    names = [name.replace("/", ".") for name in sorted(found) if name.startswith(_ROOMS)]
    # All of them now: nothing is imported in the middle of a round.
    return [importlib.import_module(f"tokenmgr.{name}") for name in names if "forks" not in name]


def watched_files() -> list[str]:
    """The source files of the core."""
    return [module.__file__ or "" for module in _modules()]


@functools.cache
def _source_of(module: ModuleType) -> CodeType:
    path = module.__file__ or ""
    return compile(Path(path).read_text("utf-8"), path, "exec")


class Patches:
    """Gives the core the locks, threads, time and chance of a round; notes its flights.

    ``handler`` is what handles signals.
    """

    def __init__(
        self,
        schedule: Schedule,
        threads: simulated.Threading,
        chance: random.Random,
        handler: Callable[..., object],
    ) -> None:
        self._schedule = schedule
        self._stands_for: dict[str, Any] = {
            "_thread": threads,
            "threading": threads,
            "signal": SimpleNamespace(getsignal=lambda _: handler, valid_signals=lambda: (1,)),
            "time": simulated.Time(schedule),
            "random": chance,
            "secrets": SimpleNamespace(token_bytes=chance.randbytes),
            # No round is there any more when the process ends.
            "atexit": SimpleNamespace(register=lambda function: function),
        }
        self.flights = weakref.WeakSet[flight.Flight[Any]]()
        #: Those that somebody leads.
        self.led: set[flight.Flight[Any]] = set()

    def __enter__(self):
        self._stack = ExitStack()
        begin, patches = flight.Flight.__init__, self

        def begin_and_note(self: flight.Flight[Any], *args: Any, **named: Any) -> None:
            begin(self, *args, **named)
            self._wakers = simulated.Set(patches._schedule)  # type: ignore[assignment]
            patches.flights.add(self)

        self._patch(flight.Flight, __init__=begin_and_note)
        for kind in (fetch.Fetch, fetch.Look):
            self._patch(kind, __call__=self._noted(kind.__call__))
        for module in _modules():
            self._patch(module, **dict(self._simulated(module)))
        made = self._threads_module()
        for module in (workers, refresher, stack):
            self._patch(module, **{name: made[name] for name in made if name in vars(module)})
        self._patch(flight, _waited_for={})
        # Else the first round of a process would go another way than the same one later.
        self._patch(keys, _remembered={}, _ROUNDS=1)
        # Sets of them are in the same order in each replay.
        self._patch(slot.Lease, __hash__=lambda self: int.from_bytes(self._owner[:7], "big"))
        # Every look is one of the schedule's steps, too.
        self._patch(workers, _LOOK_EVERY=LOOK_EVERY)
        # No round is there any more when the process ends.
        self._patch(leases.Leases, _follow_the_end=lambda self: None)
        self._patch(workers, about_to_end=lambda: None)  # which forks wait for
        return self

    def _noted(self, lead: Callable[[Any], None]) -> Callable[[Any], None]:
        """Has what leads a flight say so, and be watched."""

        def note_and_lead(work: Any) -> None:
            cell, flight = work._cell, work.flight
            self.led.add(flight)
            self.check_count(cell.context.workers)
            try:
                lead(work)
            finally:
                self.led.discard(flight)
            self.check_landing(cell, flight)

        return note_and_lead

    def check_count(self, workers: Workers) -> None:
        """Looks whether there are more threads than are allowed."""
        working = sum(
            thread.is_alive() and thread in workers._threads
            for thread in tuple(self._stands_for["threading"].by_strand.values())
        )
        if working > workers._most + 1:  # for what one of them brings
            self._schedule.fail(f"{working} threads of {workers._name} are under way")

    def check_landing(self, cell: cell.Cell, flight: flight.Flight[Any]) -> None:
        """Looks whether a token that came is in hand, or a newer one, however late it came."""
        try:
            current = flight.result()
        except Exception:  # noqa: BLE001 - it has landed with one
            return
        with cell._lock:
            is_lost = cell._is_newer(current) and not (cell._closed or cell.refused)
        if is_lost:
            self._schedule.fail(f"{current.secret}, which came late, is thrown away")

    def _simulated(self, module: ModuleType) -> Iterator[tuple[str, object]]:
        """Gives what stands for a module's names in a round."""
        for name, value in vars(module).items():
            if isinstance(value, ModuleType) and name in self._stands_for:
                yield name, self._stands_for[name]
            elif isinstance(value, _LOCKS):
                yield name, self._stands_for["threading"].RLock()

    def _threads_module(self) -> dict[str, Any]:
        """Makes what starts threads anew, over what stands for them."""
        names: dict[str, Any] = {"__name__": starting.__name__, "__package__": starting.__package__}
        names["__builtins__"] = vars(builtins) | {"__import__": self._import}
        exec(_source_of(starting), names)
        return {name: names[name] for name in names["__all__"]}

    def _import(self, name: str, *rest: Any) -> Any:
        return self._stands_for.get(name) or __import__(name, *rest)

    def _patch(self, target: object, **values: object) -> None:
        for name, value in values.items():
            self._stack.callback(setattr, target, name, getattr(target, name))
            setattr(target, name, value)

    def __exit__(self, *_: object) -> None:
        self._stack.close()
