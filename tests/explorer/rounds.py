"""A round, from its seed to its end."""

from __future__ import annotations

import gc
import logging
import random
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from explorer.patches import Patches, watched_files
from explorer.promises import Promises, recover
from explorer.scene import Scene
from explorer.schedule import BrokenPromiseError, Schedule
from explorer.service import InterruptedWorkerError
from explorer.simulated import Threading
from explorer.storm import Caller, LoopCaller
from explorer.world import World

__all__ = ["Played", "play"]


@dataclass(frozen=True)
class Played:
    """What a round came to."""

    digest: int
    failure: str | None


def play(
    seed: int,
    *,
    watch: Iterable[str] = (),
    likes: Mapping[str, object] | None = None,
    on_event: Callable[[str], object] | None = None,
) -> Played:
    """Plays the round of a seed.

    It may have further files to ``watch``, at whose lines threads are switched, and ``likes``:
    what of the scene is not left to the seed.
    """
    chance = random.Random(f"{seed} world")
    scene = replace(Scene.of(chance), **(likes or {}))  # type: ignore[arg-type]
    schedule = Schedule(
        seed, [*watched_files(), *watch], patience=scene.patience, on_event=on_event
    )
    threads = Threading(schedule)
    schedule.tell(f"{scene}")
    patches = Patches(schedule, threads, random.Random(f"{seed} jitter"), Caller._raise)
    failure = None

    def main() -> None:
        _storm(World(schedule, threads, patches, scene, chance))

    with _in_peace(), patches:
        try:
            schedule.play(main)
        except BrokenPromiseError as exc:
            failure = f"{exc}\n\nReplay: cd tests && python -m explorer --seed {seed}\n"
    return Played(schedule.digest, failure)


def _storm(world: World) -> None:
    schedule, chance, threads = world.schedule, world.chance, world.threads
    promises = Promises(world)
    schedule.on_idle, schedule.on_time = promises.look_at_rest, promises.look_at_calls

    def on_exception(exc: BaseException) -> None:
        if not isinstance(exc, (InterruptedWorkerError, SystemExit)):
            schedule.fail(f"a worker's work raised {exc!r}")

    threads.on_exception = on_exception
    if world.scene.threads == "late":
        threads.late = lambda: 0.0 if world.is_calm else chance.choice((0.0, 0.5, 2.0, 100.0))
    if world.scene.threads == "always refused":
        threads.refused = 1.0
    schedule.wake(schedule.spawn("weather", world.drift))
    callers = [
        (LoopCaller if chance.random() < 0.3 else Caller)(world, number)
        for number in range(chance.randint(2, 6))
    ]
    strands = [schedule.spawn(type(each).__name__, each.run) for each in callers]
    threads.main = strands[0]  # the first caller handles signals
    for strand in strands:
        schedule.wake(strand)
    for strand in strands:
        schedule.join(strand)
    recover(world, promises)


@contextmanager
def _in_peace():
    """Keeps what is not a round's out of it: the collector, logging, and warnings of dead loops."""
    logger = logging.getLogger("tokenmgr")
    collects, logger.disabled, disabled = gc.isenabled(), True, logger.disabled
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled
        gc.collect(1)  # what the round has left, which is young
        if collects:
            gc.enable()
