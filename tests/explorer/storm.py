"""What callers do to the workers of a round."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from explorer.calls import Call, InterruptedCallerError
from explorer.simulated import Loop
from explorer.world import Worker, World
from tokenmgr import AccessTokenManager
from tokenmgr.token import Record

__all__ = ["Caller", "LoopCaller"]

#: Seconds that a worker's end may take: what is under way, the hook, and leases have one each.
CLOSING = 3.0
#: Seconds that one more takes where the store hangs.
HANGING = 25.0
CLAIMS = ('{"a":1}', '{"b":2}')


class _Moves:
    """What both kinds of callers have in common."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.schedule = world.schedule
        self.chance = random.Random(world.chance.random())
        self.number = number
        self._last: dict[AccessTokenManager, str] = {}
        #: For a token's end it waits no longer than so many seconds.
        self._longest = self.chance.choice((100.0, 100.0, 700.0, 4_000.0))

    def any_manager(self) -> tuple[Worker, AccessTokenManager]:
        worker = self.chance.choice(self.world.workers)
        return worker, self.chance.choice(worker.managers)

    def any_call(self, *, often: float) -> tuple[Call, str, dict[str, Any]]:
        """Draws a call, the name of the method that is called, and its arguments."""
        chance, (worker, manager) = self.chance, self.any_manager()
        timeout = chance.choice((None, None, None, 0.0, 0.05, 1.0, 8.0, 30.0))
        min_ttl = chance.choice((None, None, None, 0.0, 2.0, 20.0, 400.0))
        claims, renew = chance.choice((None, None, *CLAIMS)), chance.random() < often
        given = {"claims": claims} if renew else {"min_ttl": min_ttl}
        call = Call(
            self.world,
            worker,
            f"{'refresh' if renew else 'get'}({given}, {timeout})",
            manager,
            manager._cell_of(claims) if renew else manager._cell,
            seconds=self.world.scene.policy.max_wait if timeout is None else timeout,
            min_ttl=None if renew else min_ttl,
            renew=renew,
            claims=claims if renew else None,
        )
        name = "refresh_access_token" if renew else "get_access_token"
        return call, name, {**given, "timeout": timeout}

    def some_time(self) -> float:
        """Seconds to let go by: a few, or until something is due."""
        chance, now = self.chance, self.world.clock.elapsed()
        choices = [0.0, 0.0, 0.1, 0.1, 0.3, 1.0, 2.0, 9.0, 12.0, 35.0, 70.0]
        current = self.any_manager()[1]._cell.current
        for moment in (current.fresh_until, current.valid_until, current.valid_until - 0.05):
            if 0 < moment - now < self._longest:
                choices += [moment - now] * 3
        return chance.choice(choices)

    def invalidate(self, worker: Worker, manager: AccessTokenManager) -> None:
        secret = self._last.get(manager)
        if secret is None:
            return
        self.world.service.issued[secret].refused = True
        with Call(self.world, worker, f"invalidate({secret})"):
            manager.invalidate(secret)

    def look(self, worker: Worker, manager: AccessTokenManager) -> None:
        with Call(self.world, worker, "status()"):
            manager.status()

    def prefetch(self, worker: Worker, manager: AccessTokenManager) -> None:
        with Call(self.world, worker, "prefetch()", cell=manager._cell):
            manager.prefetch()

    def adopt(self, worker: Worker, manager: AccessTokenManager) -> None:
        """As an imported cache does."""
        newest = self.world.service.newest.get(manager.key)
        if newest is not None:
            with Call(self.world, worker, "import_cache()"):
                # A flight that begins just now takes it for the one that will not do.
                self.world.demand(manager.key.subject)
                # A token ends a back-off, wherever it comes from.
                self.world.service.may_be_asked(worker.number, manager.key.subject)
                obtained_at = newest.asked_at - self.world.clock.elapsed() + self.world.clock.wall()
                manager._plain.adopt(Record(newest.token, obtained_at))

    def close(self, worker: Worker) -> None:
        hangs = HANGING if "hanging" in self.world.scene.store_moods else 0.0
        with Call(self.world, worker, "close()", seconds=CLOSING + hangs):
            worker.close()


class Caller(_Moves):
    """A thread that makes calls. The first one is the main thread, which handles signals."""

    def run(self) -> None:
        if self.chance.random() < 0.3:
            worker, _ = self.any_manager()
            for manager in worker.managers:
                self.prefetch(worker, manager)
        for _ in range(self.chance.randint(1, 7)):
            worker, manager = self.any_manager()
            kind = self.chance.random()
            if kind < 0.55:
                self._call()
            elif kind < 0.72:
                self.schedule.sleep(self.some_time())
            elif kind < 0.98:
                move = self.chance.choice((self.invalidate, self.invalidate, self.look, self.adopt))
                (self.prefetch if self.chance.random() < 0.25 else move)(worker, manager)
            else:
                self.close(worker)

    def _call(self) -> None:
        me, (call, name, given) = self.schedule.current, self.any_call(often=0.27)
        with call:
            if self.world.scene.interrupts and self.chance.random() < 0.7:
                call.may_be_interrupted = True
                # One thread handles signals; two that handle some, each with a lock of the other's,
                # would wait for ever.
                me.spark = self.chance.choice(
                    (self._raise, self._handle if self.number == 0 else self._raise)
                )
                me.fuse = self.chance.randint(1, self.chance.choice((10, 30, 80)))
            try:
                call.returned = self._last[call.manager] = getattr(call.manager, name)(**given)
            finally:
                me.fuse = None
                self.schedule.watch()  # which an exception out of a hook ends

    def _raise(self) -> None:
        """The handler of a signal raises."""
        self.world.forgive()
        raise InterruptedCallerError

    def _handle(self) -> None:
        """The handler of a signal, or the end of an object, uses the library itself."""
        worker, manager = self.any_manager()
        self.world.handling += 1
        self.chance.choice((self.look, self.invalidate, self.prefetch))(worker, manager)
        if self.chance.random() < 0.1:
            with Call(self.world, worker, "closing of the managers"):
                worker.shut()
        self.world.handling -= 1


class LoopCaller(_Moves):
    """An event loop whose tasks make calls; some are cancelled, and some die with their loop."""

    def run(self) -> None:
        for _ in range(self.chance.randint(1, 2)):
            self._calls: list[Call] = []
            loop = Loop(self.schedule)
            try:
                loop.run_until_complete(self._script(loop))
            except RuntimeError as exc:
                if "stopped before" not in str(exc):
                    raise
                self.schedule.tell("its loop dies")
            finally:
                for call in self._calls:
                    call.abandon()
                loop.close()

    async def _script(self, loop: Loop) -> None:
        for _ in range(self.chance.randint(1, 3)):
            tasks = [loop.create_task(self._one()) for _ in range(self.chance.randint(1, 3))]
            for task in tasks:
                if self.chance.random() < 0.3:
                    loop.call_later(self._soon(), self._cancel, task)
            if self.chance.random() < 0.08:
                loop.call_later(self._soon(), loop.stop)
            await asyncio.wait(tasks)
            if self.chance.random() < 0.4:
                await asyncio.sleep(self.some_time())
            worker, manager = self.any_manager()
            if self.chance.random() < 0.3:
                self.invalidate(worker, manager)
            if self.chance.random() < 0.1:
                self.prefetch(worker, manager)

    def _soon(self) -> float:
        return self.chance.choice((0.0, 0.0001, 0.1, 0.1, 1.0, 2.0))

    def _cancel(self, task: asyncio.Task[None]) -> None:
        call = next((call for call in self._calls if call.task is task), None)
        if task.cancel() and call is not None:
            self.schedule.tell(f"cancels {call.what}")
            call.cancelled = True

    async def _one(self) -> None:
        call, name, given = self.any_call(often=0.25)
        call.task = asyncio.current_task()
        self._calls.append(call)
        with call:
            secret = await getattr(call.manager, f"a{name}")(**given)
            call.returned = self._last[call.manager] = secret
