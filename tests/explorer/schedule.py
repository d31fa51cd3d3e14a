"""Who runs, and what time it is: one thread at a time, switched where a seed says."""

from __future__ import annotations

import _thread
import contextlib
import math
import random
import sys
import traceback
import zlib
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

from explorer.strands import BLOCKED, ENDED, NEW, READY, Strand, stacks, where
from explorer.strategies import Strategy

__all__ = ["BrokenPromiseError", "KilledError", "Schedule"]

#: So many lines may be run in a second of the round's time. One that has more turns in circles.
_MOST_LINES = 200_000
#: Seconds of real time in which a thread comes back here, or hangs in something that is not
#: simulated.
_REAL_PATIENCE = 60.0
#: Stands for the lines of functions that are not watched.
_FOREIGN = frozenset((0,))


class BrokenPromiseError(Exception):
    """What a round has found."""


class KilledError(BaseException):
    """The round is over, and whoever is still under way ends."""


class Schedule:
    """The threads of a round, its clock, and the seed's decisions.

    Threads are switched at the lines of the ``watched`` source files. ``on_event`` is told what
    happens, for a replay.
    """

    def __init__(
        self,
        seed: object,
        watched: Iterable[str],
        *,
        patience: float = 0.4,
        on_event: Callable[[str], object] | None = None,
    ) -> None:
        self.chance = random.Random(f"{seed} schedule")
        self.now = 0.0
        #: Seconds for which threads that could have run stood still.
        self.paused = 0.0
        #: Called when nobody can run, and before time goes on.
        self.on_idle: Callable[[], object] = lambda: None
        #: Called when time has gone on.
        self.on_time: Callable[[], object] = lambda: None
        self.failure: BrokenPromiseError | None = None
        #: Whether the round is over, and all who are left are to end.
        self.over = False
        #: Changes with every decision: equal for two runs that went alike.
        self.digest = 0
        self.lines = 0
        #: When a second of the round's began, and how many lines had been run then.
        self._second, self._lines_before = 0.0, 0
        #: Seconds for which time may go on while all who could run are held up; at a time, a
        #: quarter of that.
        self.patience, self._longest_rest = patience, patience / 4
        self._on_event = on_event
        self._watched = frozenset(watched)
        self.strategy = Strategy(self.chance)
        self._strands: list[Strand] = []
        self._numbers = 0
        self._current: Strand | None = None
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self._gap = self._left = self.strategy.gap()
        self._line_hook = self._on_line
        #: Which lines of a function threads are held up at.
        self._places: dict[CodeType, frozenset[int]] = {}
        #: Whether promises are being looked at, at whose lines nobody is switched.
        self._looking = False

    # From the outside:

    def play(self, main: Callable[[], object]) -> None:
        """Runs ``main`` in a thread of the round, and all that it starts, until it returns.

        Raises:
            BrokenPromiseError: What went wrong.
        """
        director = self.spawn("director", lambda: self._direct(main))
        self._current = director
        director.state = READY
        director.baton.release()
        if not self._done.acquire(timeout=_REAL_PATIENCE):
            self.over = True
            raise BrokenPromiseError(
                f"a thread hangs in something that is not simulated\n{self.stacks()}"
            )
        self._bury()
        if self.failure is not None:
            raise self.failure

    def _direct(self, main: Callable[[], object]) -> None:
        main()
        self.over = True
        self._done.release()

    def _bury(self) -> None:
        last = self.current  # it ends by itself, and the others one after another
        for strand in [last, *(each for each in self._strands if each is not last)]:
            if strand is not last:
                self._current = strand
                strand.baton.release()
            if not strand.gone.acquire(timeout=_REAL_PATIENCE):
                raise BrokenPromiseError(f"{strand!r} does not end\n{self.stacks()}")

    # From the threads of the round:

    @property
    def current(self) -> Strand:
        """The thread that runs."""
        assert self._current is not None
        return self._current

    def is_mine(self) -> bool:
        """Whether the caller is the thread that runs, and none from outside of the round."""
        return self._current is not None and self._current.ident == _thread.get_ident()

    def spawn(self, name: str, run: Callable[[], object], that: object = None) -> Strand:
        """Makes a thread, which does not run yet; ``that`` is whose method it seems to run."""
        self._numbers += 1
        strand = Strand(self._numbers, name, run)
        self._strands.append(strand)
        _thread.start_new_thread(_run_as, (that, self._live, strand))
        return strand

    def block(self, on: object, seconds: float = math.inf) -> None:
        """Has the others run until :meth:`wake`, or until so many seconds have gone by."""
        me = self.current
        if self.over:
            raise KilledError
        me.state, me.blocked_on, me.deadline = BLOCKED, on, self.now + seconds
        try:
            self._hand_over(me)
        finally:
            me.state, me.blocked_on, me.deadline = READY, None, math.inf
        self.smoulder(me)

    def sleep(self, seconds: float) -> None:
        """Has the time go by; with no seconds at all it lets another one run."""
        until = self.now + seconds
        if seconds <= 0:
            if self.over:
                raise KilledError
            self._hand_over(self.current)
        while self.now < until:
            self.block("sleep", until - self.now)

    def join(self, strand: Strand) -> None:
        """Waits for the end of a thread."""
        while strand.state is not ENDED:
            strand.joining.append(self.current)
            self.block(f"the end of {strand!r}")

    def wake(self, strand: Strand) -> None:
        """Has a thread go on that waits."""
        if strand.state is BLOCKED or strand.state is NEW:
            strand.state = READY

    def tell(self, text: str) -> None:
        """Notes what happens, for a replay."""
        if self._on_event is not None:
            self._on_event(f"{self.now:10.3f}  {self._current!r:24} {text}")

    def fail(self, message: str) -> None:
        """Ends the round: it has found something."""
        if self.over:
            raise KilledError
        self.failure = BrokenPromiseError(f"{message}\n{self.stacks()}")
        self.over = True
        self._done.release()
        raise KilledError

    def smoulder(self, me: Strand) -> None:
        """Burns the fuse of an interruption."""
        if me.fuse is not None and not self._looking:
            me.fuse -= 1
            if me.fuse <= 0:
                me.fuse = None
                self.tell("is interrupted")
                holds, me.holds = me.holds, []
                try:
                    me.spark()
                finally:
                    me.holds = holds

    def watch(self) -> None:
        """Watches the lines of this thread, also after an exception out of the watching."""
        sys.settrace(self._on_call)

    def strands(self) -> list[Strand]:
        """The threads that have not ended."""
        return list(self._strands)

    # Inside:

    def _live(self, strand: Strand) -> None:
        strand.baton.acquire()
        strand.ident = _thread.get_ident()
        try:
            if not self.over:
                self.watch()
                strand.run()
        except KilledError:
            pass
        except BaseException:  # noqa: BLE001 - told with the round
            if not self.over:
                self.failure = BrokenPromiseError(
                    f"{strand!r} ended with an exception\n{traceback.format_exc()}"
                )
                self.over = True
                self._done.release()
        finally:
            sys.settrace(None)
        self._leave(strand)

    def _leave(self, strand: Strand) -> None:
        strand.state = ENDED
        for other in strand.joining:
            self.wake(other)
        target = None
        if not self.over:
            self._strands.remove(strand)
            with contextlib.suppress(KilledError):
                target = self._next()
        strand.gone.release()
        if target is not None:
            self._current = target
            target.baton.release()

    def _hand_over(self, me: Strand) -> None:
        target = self._next()
        if target is me:
            return
        if self._on_event is not None:
            self.tell(f"-> {target!r}  ({where(sys._getframe(1))})")
        self._current = target
        target.baton.release()
        me.baton.acquire()
        if self.over:
            raise KilledError

    def _next(self) -> Strand:
        while True:
            ready = [strand for strand in self._strands if strand.state is READY]
            if ready and not (self.strategy.holds_up(ready) and self._rest()):
                target = self.strategy.pick(ready)
                said = b"%d %d" % (target.number, self.lines + self._gap - self._left)
                self.digest = zlib.crc32(said, self.digest)
                return target
            if ready:
                continue
            self._look(self.on_idle)
            self._go_on(min((each.deadline for each in self._strands), default=math.inf))

    def _go_on(self, moment: float) -> None:
        """Lets the time go on."""
        if moment == math.inf:
            self.fail("a deadlock: nobody can go on, and no timeout is left")
        self.now = max(self.now, moment)
        for strand in self._strands:
            if strand.state is BLOCKED and strand.deadline <= self.now:
                strand.state = READY
        self._look(self.on_time)

    def _look(self, at: Callable[[], object]) -> None:
        self._looking = True
        try:
            at()
        finally:
            self._looking = False

    def _rest(self) -> bool:
        """Lets a little time go on although threads could run that are held up."""
        moment = min((each.deadline for each in self._strands), default=math.inf)
        pause = moment - self.now
        if pause > min(self.patience, self._longest_rest) or self.chance.random() < 0.5:
            return False
        self.patience -= pause
        self.paused += pause
        self._go_on(moment)
        return True

    def _on_call(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        places = self._places.get(code)
        if places is None:
            if code.co_filename not in self._watched:
                self._places[code] = _FOREIGN
                return None
            places = self._places[code] = self.strategy.places(code)
        if places is _FOREIGN:
            return None
        me = self._current
        if me is not None and me.fuse is not None:
            self.smoulder(me)
        return self._line_hook

    def _on_line(self, frame: FrameType, event: str, arg: object) -> Any:
        if event != "exception":  # where a function returns another one may run, too
            self._left -= 1
            held_up = event == "line" and frame.f_lineno in self._places[frame.f_code]
            if held_up and not self._looking and self.strategy.reaches(self.current):
                self._gap -= self._left  # this is the gap's last line
                self._left = 0
            if self._left <= 0:
                self._switch()
        return self._line_hook

    def _switch(self) -> None:
        if self._looking:
            return
        self.lines += self._gap - self._left
        self._gap = self._left = self.strategy.gap()
        if self.over:
            raise KilledError
        if self.now > self._second + 1.0:
            self._second, self._lines_before = self.now, self.lines
        if self.lines > self._lines_before + _MOST_LINES:
            self.fail("the round turns in circles")
        self._hand_over(self.current)

    def stacks(self) -> str:
        """Says where each thread is."""
        return stacks(self._strands)


def _run_as(self: object, live: Callable[[Strand], object], strand: Strand) -> None:
    """Is a thread's outermost frame, and as the core looks there: it has a ``self``."""
    live(strand)
