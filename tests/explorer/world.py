"""The store and the workers of a round, and all that goes wrong with them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from support import KEY, STORE_KEY

from explorer import simulated
from explorer.patches import Patches
from explorer.scene import FETCH_TIMEOUT, Scene
from explorer.schedule import Schedule
from explorer.service import LONGEST_FLIGHT, Clock, Demand, Service
from tokenmgr import AccessToken, AccessTokenManager, ClientSecret, TokenKey
from tokenmgr._context import new_context
from tokenmgr._engine import cell
from tokenmgr._runtime.workers import Workers
from tokenmgr._sharing.keys import SealingKeys
from tokenmgr._sharing.slot import SealedStore
from tokenmgr.entra.breaker import Breaker
from tokenmgr.events import Event, Hook
from tokenmgr.identity.proofs import Proof
from tokenmgr.manager import manager_of
from tokenmgr.stores import MemoryStore

__all__ = ["Worker", "World"]


class Source:
    """Where a worker's tokens of a key come from."""

    def __init__(self, worker: Worker, key: TokenKey) -> None:
        self._worker = worker
        self._key = key
        if worker.credential is not None:
            self.read_proof: Callable[[], Proof] = worker.credential.read

    def fetch_token(self, *, claims: str | None = None, proof: Proof | None = None) -> AccessToken:
        key = self._key._replace(claims=claims or "")
        with self._worker.breaker.watching(key):
            return self._worker.world.service.fetch(self._worker.number, key)


class Store(MemoryStore):
    """A store with moods."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self._world = world
        self.mood = "well"
        #: All that was ever put there.
        self._kept: list[tuple[str, bytes]] = []

    def _pass(self, operation: str) -> None:
        """What may happen before an operation."""
        chance, schedule = self._world.chance, self._world.schedule
        if self.mood == "failing" or (self.mood == "flaky" and chance.random() < 0.3):
            schedule.tell(f"the store fails to {operation}")
            raise OSError("the store is away")
        if self.mood == "slow":
            schedule.sleep(chance.choice((0.01, 0.2)))
        if self.mood == "hanging" and chance.random() < 0.3:
            schedule.sleep(chance.choice((3.0, 20.0)))

    def _loses(self) -> None:
        """What may happen to its answer."""
        if self.mood == "losing answers" and self._world.chance.random() < 0.3:
            self._world.schedule.tell("the store's answer is lost")
            raise OSError("the connection is lost")

    def _do(self, operation: str, *given: Any) -> Any:
        self._pass(operation)
        done = getattr(super(), operation)(*given)
        self._loses()
        return done

    def get(self, key: str) -> bytes | None:
        return self._do("get", key)

    def put(self, key: str, value: bytes, ttl: float) -> None:
        self._kept.append((key, value))
        if self.mood != "forgetting":
            self._do("put", key, value, ttl)

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        return self._do("lease", key, owner, ttl)

    def delete(self, key: str, value: bytes) -> bool:
        return self._do("delete", key, value)

    def put_back(self) -> None:
        """Somebody puts back what lay there, and for ever."""
        for key, value in self._world.chance.sample(self._kept, min(2, len(self._kept))):
            self._world.schedule.tell(f"the store has old {key[-20:]}")
            super().put(key, value, math.inf)


class Worker:
    """What a registry is in a process of a fleet."""

    def __init__(self, world: World, number: int) -> None:
        scene = world.scene
        self.world = world
        self.number = number
        self.credential = ClientSecret(lambda: world.secret) if scene.derives else None
        context = new_context(
            policy=scene.policy,
            clock=world.clock,
            on_event=self._on_event if scene.hook else None,
            fetch_timeout=FETCH_TIMEOUT,
        )
        workers = Workers(scene.most_fetches, name=f"fetch-{number}")
        self.hook: Hook = context.emit.__self__  # type: ignore[attr-defined]

        def settle(seconds: float) -> None:
            workers.settle(seconds)
            self.hook.settle(seconds)

        self.context = context._replace(workers=workers, settle=settle)
        self.sealed: SealedStore | None = None
        if world.store is not None:
            keys = SealingKeys(
                None if scene.derives else STORE_KEY, self.credential or ClientSecret("secret")
            )
            self.sealed = SealedStore(world.store, keys, namespace="test", context=self.context)
        self.breaker = Breaker("https://login", self.context)
        self.managers = [
            manager_of(cell.Cell(Source(self, key), key, self.context, self.sealed))
            for key in world.keys
        ]
        #: Whether somebody has begun to close it.
        self.closing = False

    def _on_event(self, event: Event) -> None:
        world = self.world
        if world.scene.hook == "slow":
            world.schedule.sleep(world.chance.choice((0.0, 0.5)))
        if world.scene.hook == "raises":
            raise ValueError("a bug of the hook's")

    def cells(self) -> Iterator[cell.Cell]:
        """Every cell of its managers."""
        for manager in self.managers:
            yield manager._plain
            yield from manager._by_claims.values()

    def shut(self) -> None:
        """Lets its tokens go."""
        self.closing = True
        self.world.service.closing.add(self.number)
        if self.sealed is not None:
            self.sealed.closed = True
        for manager in self.managers:
            manager.close()

    def close(self) -> None:
        """Does as a registry does, which waits a moment for what is under way."""
        self.shut()
        self.context.settle(1.0)
        if self.sealed is not None:
            self.sealed.leases.give_back_all(1.0)


class World:
    """A round's, made in its first thread."""

    def __init__(
        self,
        schedule: Schedule,
        threads: simulated.Threading,
        patches: Patches,
        scene: Scene,
        chance: random.Random,
    ) -> None:
        self.schedule = schedule
        self.threads = threads
        self.scene = scene
        self.chance = chance
        self.clock = Clock(schedule)
        self.secret = "secret-0"
        #: Whether the storm is over, and all is well.
        self.is_calm = False
        #: Whether a caller was interrupted, who may have left work that nobody waits for.
        self.forgiven = False
        #: How many are in a signal's handler, and go on with what they were doing after it.
        self.handling = 0
        #: The calls under way.
        self.calls: list[Any] = []
        self.flights, self.led = patches.flights, patches.led
        self.keys = [KEY._replace(subject=name) for name in ("alice", "bob")[: scene.keys]]
        self.service = Service(schedule, scene, self.clock, chance)
        self.store = Store(self) if scene.shares else None
        self.workers = [Worker(self, number) for number in range(1, scene.workers + 1)]

    def forgive(self) -> None:
        """Allows what an interrupted caller leaves behind: a fetch that nobody waits for."""
        self.forgiven = True
        self.demand("")

    def demand(self, subject: str) -> None:
        """Allows a fetch for as long as one may take that is under way."""
        self.service.demands.append(Demand(subject, until=self.clock.elapsed() + LONGEST_FLIGHT))

    def worker_of(self, manager: AccessTokenManager) -> Worker:
        return next(worker for worker in self.workers if manager in worker.managers)

    def drift(self) -> None:
        """Changes the moods, over and over, until it is calm."""
        scene, chance = self.scene, self.chance
        while not self.is_calm:
            self.service.mood = chance.choice(scene.moods)
            if self.store is not None:
                self.store.mood = chance.choice(scene.store_moods)
                if self.store.mood == "putting back":
                    self.store.put_back()
            if scene.rotates and chance.random() < 0.3:
                self.secret = f"secret-{chance.randrange(3)}"
            if scene.threads == "refused":
                self.threads.refused = chance.choice((0.0, 0.3, 1.0))
            self.schedule.tell(f"the service is {self.service.mood}")
            self.schedule.sleep(chance.choice((0.05, 0.5, 3.0, 20.0, 100.0)))

    def calm(self) -> None:
        """Ends all troubles."""
        self.is_calm = self.service.is_calm = True
        self.schedule.patience = 0.0
        self.service.mood = "well"
        if self.store is not None:
            self.store.mood = "well"
        if self.scene.threads == "refused":
            self.threads.refused = 0.0
