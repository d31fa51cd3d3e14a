"""Renewals of a fleet whose processes are killed all the time."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenmgr.events import Event, LeaseOutlived, RecordRefused, StoreFailed

from .figure import Figure, Section
from .service import Service
from .workers import FORK, warm_up

__all__ = ["Outcome", "churn", "damage_of", "section"]

_LIFETIME = 5.0
_LATENCY = 0.05
_TIMEOUT = 2.0
#: Seconds between two calls of a worker.
_PAUSE = 0.02
_SCOPES = [f"api://shared-{number}/.default" for number in range(4)]
#: What a worker without a store asks for, that nobody kills.
_ALONE = [f"api://alone-{number}/.default" for number in range(4)]
#: The goal: token requests over those of a worker alone.
_GOAL = 1.2

_METHOD = (
    "Each of {workers} processes asks for {keys} tokens in turn, one every {pause:.0f} ms, for "
    "{lasts:g} s; tokens live {lifetime:g} s, and are due for renewal after half of that, less up "
    "to 10 % jitter. Every {every:.0f} ms one of them, any, is ended with `kill -9`, and another "
    "one is forked in its place from a parent that has everything imported; it makes its registry "
    "after the fork, as gunicorn's workers do. A fetch may take {timeout:g} s, and takes "
    "{latency:g} s; a killed worker's lease lasts {lease:g} s. The ideal is what one more process "
    "makes, in the same time and with the same settings, that has no store, that nobody kills, and "
    "that asks for as many tokens of its own."
)


@dataclass
class Outcome:
    """What came of it."""

    #: Token requests of all workers, and of the one alone.
    requests: int
    ideal: int
    kills: int = 0
    calls: int = 0
    #: Seconds of the longest call.
    longest: float = 0.0
    #: What callers were told instead of a token, and what is wrong with the file.
    errors: list[str] = field(default_factory=list)
    damage: str = ""
    #: The events that tell of trouble, by name.
    events: Counter[str] = field(default_factory=Counter)


class _Board:
    """What workers tell, in memory that they share: no lock, which a killed one would hold."""

    def __init__(self, slots: int) -> None:
        self.calls: Any = RawArray("Q", slots)
        self.longest: Any = RawArray("d", slots)
        self._said, self._saying = os.pipe()
        os.set_blocking(self._said, False)

    def say(self, kind: str, what: str) -> None:
        """Passes one line on. It is written at once or not at all, whenever its writer dies."""
        os.write(self._saying, json.dumps([kind, what[:500]]).encode() + b"\n")

    def said(self) -> list[tuple[str, str]]:
        """What was passed on since the last time."""
        text = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                text += os.read(self._said, 65_536)
        return [tuple(json.loads(line)) for line in text.splitlines()]

    def close(self) -> None:
        os.close(self._said)
        os.close(self._saying)


class _Fleet:
    """The workers, of which any may be killed.

    Args:
        service: What they ask.
        store: The store that they share.
        size: How many there are.
    """

    def __init__(self, service: Service, store: str, size: int) -> None:
        self.board = _Board(size + 1)
        self._service = service
        self._store = store
        self._workers = [self._fork(slot) for slot in range(size)]
        self._alone = FORK.Process(
            target=_work, args=(service, None, _ALONE, size, self.board), daemon=True
        )
        self._alone.start()

    def _fork(self, slot: int) -> BaseProcess:
        worker = FORK.Process(
            target=_work, args=(self._service, self._store, _SCOPES, slot, self.board), daemon=True
        )
        worker.start()
        return worker

    def replace_one(self) -> None:
        """Kills one of them, and forks another in its place."""
        slot = random.randrange(len(self._workers))  # noqa: S311 - guards nothing
        _kill(self._workers[slot])
        self._workers[slot] = self._fork(slot)

    def end(self) -> None:
        """Kills all of them."""
        for worker in (*self._workers, self._alone):
            _kill(worker)


def churn(service: Service, file: str, *, workers: int, lasts: float, kill_every: float) -> Outcome:
    """Lets them renew, and kills them.

    Args:
        service: What they ask.
        file: The path of the store's file.
        workers: How many there are at any time.
        lasts: For how many seconds.
        kill_every: Seconds between two kills.
    """
    service.ask(methodcaller("clear"))
    fleet = _Fleet(service, f"sqlite:///{file}", workers)
    board = fleet.board
    while not all(_requests(service, scopes) for scopes in (_SCOPES, _ALONE)):
        time.sleep(_PAUSE)  # until both are at work
    said, kills = [], 0
    next_kill = ends_at = time.monotonic()
    ends_at += lasts
    while (next_kill := next_kill + kill_every) < ends_at:
        time.sleep(max(0.0, next_kill - time.monotonic()))
        fleet.replace_one()
        said += board.said()
        kills += 1
    outcome = Outcome(_requests(service, _SCOPES), _requests(service, _ALONE), kills)
    fleet.end()
    said += board.said()
    outcome.calls = sum(board.calls[:workers])
    outcome.longest = max(board.longest[:workers])
    outcome.errors = [what for kind, what in said if kind == "error"]
    outcome.events = Counter(what for kind, what in said if kind == "event")
    outcome.damage = damage_of(file)
    board.close()
    return outcome


def damage_of(file: str) -> str:
    """Says what is wrong with a store's file, or was; nothing if it is whole."""
    if Path(f"{file}-broken").exists():
        return "it was put aside"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        try:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as exc:
            found = [str(exc)]
    return "" if found == ["ok"] else "; ".join(found)


def section(*, workers: int = 32, lasts: float = 30.0, kill_every: float = 0.2) -> Section:
    """The figures. To be asked in a process of its own."""
    with (
        TemporaryDirectory() as folder,
        Service(token_lifetime=_LIFETIME, latency=_LATENCY) as service,
    ):
        warm_up(service, f"sqlite:///{folder}/warm-up.db")
        outcome = churn(
            service, f"{folder}/tokens.db", workers=workers, lasts=lasts, kill_every=kill_every
        )
    method = _METHOD.format(
        workers=workers,
        keys=len(_SCOPES),
        pause=_PAUSE * 1000,
        lasts=lasts,
        lifetime=_LIFETIME,
        every=kill_every * 1000,
        timeout=_TIMEOUT,
        latency=_LATENCY,
        lease=_TIMEOUT + 2,
    )
    return Section(f"{workers} workers that renew and are killed", method, _figures(outcome))


def _figures(outcome: Outcome) -> list[Figure]:
    share = outcome.requests / outcome.ideal
    first = f"; the first: {outcome.errors[0]}" if outcome.errors else ""
    told = ", ".join(f"{name} {count} times" for name, count in sorted(outcome.events.items()))
    return [
        Figure(
            "errors to callers",
            f"{len(outcome.errors)} of {outcome.calls:,} calls, {outcome.kills} kills{first}",
            "0",
            not outcome.errors,
        ),
        Figure("the store's file", outcome.damage or "whole", "not corrupt", not outcome.damage),
        Figure(
            "token requests over the ideal",
            f"{share:.2f} times ({outcome.requests} against {outcome.ideal})",
            f"at most {_GOAL} times",
            share <= _GOAL,
        ),
        Figure("longest call", f"{outcome.longest:.2f} s"),
        Figure("events that tell of trouble", told or "none"),
    ]


def _requests(service: Service, scopes: Sequence[str]) -> int:
    return sum(service.ask(methodcaller("count", scope=scope)) for scope in scopes)


def _kill(worker: BaseProcess) -> None:
    worker.kill()
    worker.join()
    if worker.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"a worker ended by itself, with {worker.exitcode}")
    worker.close()


def _work(
    service: Service, store: str | None, scopes: Sequence[str], slot: int, board: _Board
) -> None:
    """A worker's life, which only a kill ends."""

    def note(event: Event) -> None:
        if isinstance(event, (LeaseOutlived, RecordRefused, StoreFailed)):
            board.say("event", type(event).__name__)

    tokens = service.registry(store=store, timeout=_TIMEOUT, on_event=note)
    number = slot  # so that they do not all begin with the same one
    while True:
        began = time.perf_counter()
        try:
            token = tokens.manager(scopes[number % len(scopes)]).get_token()
            if token.expires_at <= time.time():
                board.say("error", "an expired token")
        except Exception as exc:  # noqa: BLE001 - it is what is counted
            board.say("error", f"{type(exc).__name__}: {exc}")
        board.longest[slot] = max(board.longest[slot], time.perf_counter() - began)
        board.calls[slot] += 1
        number += 1
        time.sleep(_PAUSE)
