"""What has to hold whenever nobody can go on, and in the end."""

from __future__ import annotations

from typing import Any

from explorer.calls import Call
from explorer.patches import LOOK_EVERY
from explorer.simulated import Thread
from explorer.world import Worker, World
from tokenmgr import AccessTokenManager, TokenManagerError
from tokenmgr._engine.cell import Cell
from tokenmgr._engine.flight import Flight
from tokenmgr._runtime.refresher import Refresher, _is_live
from tokenmgr._runtime.workers import Workers
from tokenmgr.events import Hook

__all__ = ["Promises", "recover"]

#: Seconds for which a lock may be held in a sleep.
_MOMENT = LOOK_EVERY + 0.01
#: Seconds in which a caller finds out, for a flight and for its event, that no thread runs.
_BEFORE_LEADING = 3.0
#: Seconds by which a renewal may be late, as they are spread, and rounding.
_SPREAD = 0.26
#: Seconds after which all is well again: what a back-off, a breaker, a store's rest and a flight
#: that hangs take at most.
_RECOVERY = 200.0
#: Seconds after which no thread is left, once all is closed.
_LAST = 200


class Promises:
    """What is looked at in a round."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._fail = world.schedule.fail

    def look_at_calls(self) -> None:
        """Looks for calls that have gone on for too long; whenever time has gone on."""
        for call in tuple(self._world.calls):
            call.check_time()

    def look_at_rest(self) -> None:
        """Looks for what is left behind; whenever nobody can go on."""
        self._check_flights()
        self._check_locks()
        if self._world.handling:
            return
        for worker in self._world.workers:
            self._check_work(worker.context.workers)
            self._check_hook(worker.hook)
            self._check_refresher(worker.context.refresher)
            self._check_leases(worker)
            for cell in worker.cells():
                self._check_leader(cell)

    def _check_flights(self) -> None:
        """Whoever waits for a flight that has landed is awake."""
        if any(flight.landed and flight._wakers for flight in self._world.flights):
            self._fail("somebody waits for a flight that has landed")

    def _check_locks(self) -> None:
        """Nobody holds a lock while he waits for anything else than a lock."""
        if self._world.scene.threads != "well":
            return  # whether threads run is looked at under the cell's lock, and handlers may lead
        stores = [each.sealed.store for each in self._world.workers if each.sealed is not None]
        probing = [store._probing for store in stores]  # for which nobody waits
        for lock in self._world.threads.guards:
            if lock in probing:
                continue
            # Whoever has just started the first thread looks after a moment whether it runs.
            if lock.owner and lock.owner.deadline > self._world.schedule.now + _MOMENT:
                self._fail(f"{lock!r} is held while nobody can go on")

    def _check_work(self, workers: Workers) -> None:
        """Work that waits has somebody who does it."""
        if workers._waiting and not _lives(workers) and not self._world.forgiven:
            self._fail(f"work waits in {workers._name}, and nobody does it")

    def _check_hook(self, hook: Hook) -> None:
        if hook._delivering and not _lives(hook._worker):
            self._fail("events wait for a delivery that nobody makes")

    def _check_leases(self, worker: Worker) -> None:
        """Who fetches nothing has no lease, but for what he gives back later."""
        if worker.sealed is None or worker.closing or self._world.scene.threads != "well":
            return
        leases = worker.sealed.leases
        if leases._mine - leases._owed and not worker.context.workers._threads:
            self._fail("a lease is kept by a worker that fetches nothing")

    def _check_refresher(self, refresher: Refresher) -> None:
        """What is planned is not slept over."""
        plans = [entry for entry in refresher._queue if _is_live(entry[2])]
        thread = refresher._thread
        if not plans or not isinstance(thread, Thread) or thread.strand is None:
            return
        if self._world.forgiven:  # who plans one and is interrupted may wake nobody: see its naps
            return
        due = max(min(entry[0] for entry in plans), self._world.clock.elapsed()) + _SPREAD
        wakes = thread.strand.deadline - self._world.schedule.now + self._world.clock.elapsed()
        # It may have stood still after it had looked at the clock.
        over = wakes - due - self._world.schedule.paused
        if thread.strand.blocked_on is refresher._alarm and over > 0:
            self._fail(f"the refresher sleeps for {over:.3f} s past what is due")

    def _check_leader(self, cell: Cell) -> None:
        """A flight under way has somebody who leads it."""
        for flight in (cell._flight, cell._looking):
            if flight is not None:
                self._check_is_led(cell, flight)

    def _check_is_led(self, cell: Cell, flight: Flight[Any]) -> None:
        world = self._world
        if flight.landed or flight in world.led:
            return
        if world.scene.threads != "well":
            # Whoever is about to lead it looks first whether threads run; should he be
            # interrupted, it is waited for, for as long as a fetch may take.
            since = world.clock.elapsed() - flight.started_at - world.schedule.paused
            if world.forgiven or since < _BEFORE_LEADING:
                return
        waiting = cell.context.workers._waiting
        if not any(flight is getattr(work, "flight", None) for work in waiting):
            self._fail("nobody leads a flight that is under way")

    def look_at_the_end(self) -> None:
        """Looks for what is left after everything is closed."""
        self._check_locks()
        self._check_flights()
        for worker in self._world.workers:
            for workers in (worker.context.workers, worker.hook._worker):
                if workers._threads or (workers._waiting and not self._world.forgiven):
                    self._fail(f"{workers._name} has threads or work left")
            if worker.sealed is not None and worker.sealed.store._probing.owner:
                self._fail("a probe is left")
            if worker.sealed is not None and worker.sealed.leases._mine:
                self._fail("a lease is left")


def _lives(workers: Workers) -> bool:
    return any(thread.may_run for thread in tuple(workers._threads))


def recover(world: World, promises: Promises) -> None:
    """Ends the storm: all is well, the next call works, and nothing is left in the end."""
    schedule = world.schedule
    world.calm()
    schedule.tell("all is well again")
    schedule.sleep(_RECOVERY)
    for worker in world.workers:
        for manager in () if worker.closing else worker.managers:
            _get(world, manager)
    for worker in world.workers:
        worker.close()
    for _ in range(_LAST):
        if len(schedule.strands()) == 1:
            break
        schedule.sleep(1.0)
    else:
        schedule.fail("threads are left after everything is closed")
    promises.look_at_the_end()


def _get(world: World, manager: AccessTokenManager) -> None:
    worker = world.worker_of(manager)
    call = Call(world, worker, "the last get_token()", cell=manager._cell, seconds=60.0)
    with call:
        try:
            call.returned = manager.get_token().secret
        except TokenManagerError as exc:
            world.schedule.fail(f"all is well, and the next call raises {exc!r}")
