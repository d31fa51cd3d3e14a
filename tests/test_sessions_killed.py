"""Workers that are killed between an answer and its writing, again and again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_worker import FORK, Watched
from fork_marks import unwarned_forks
from redis_servers import BINARIES, store_url
from support import SCOPE

from tokenmgr import InteractionRequiredError, TokenManagerError, TokenRegistry
from tokenmgr.emulator import EntraEmulator

if not hasattr(os, "fork"):
    pytest.skip("this system does not fork", allow_module_level=True)

pytestmark = unwarned_forks

#: So many workers are killed over each kind of store; TOKENMGR_TEST_KILLS=200 has more of them.
KILLS = {"sqlite": 40, **dict.fromkeys(list(BINARIES)[:1], 60)}
WORKERS, SESSIONS = 8, 100
#: Seconds that a lease lasts: more than it takes to redeem one on a machine that is busy.
TTL = 3.0
KEY = "what the records of the tests are sealed with"
READ = "https://graph.microsoft.com/User.Read"


class Worker:
    """A worker's whole life: it carries sessions on, until it is killed with an answer in hand."""

    def __init__(self, entra: EntraEmulator, url: str, folder: Path) -> None:
        self.entra = entra
        self.url = url
        self.folder = folder
        self.assertions = {n: entra.sign_in(f"user{n}@contoso.com") for n in range(SESSIONS)}
        #: When each session's lease ends that a killed worker has left.
        self.blocked = FORK.Array("d", SESSIONS)
        self.number = 0
        self.dies = False

    def note(self, file: str, *what: object) -> None:
        with (self.folder / file).open("a") as log:
            log.write(" ".join(map(str, what)) + "\n")

    def noted(self, file: str) -> list[list[str]]:
        path = self.folder / file
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def may_die(self) -> None:
        """Dies where it is to, with an answer of the service's that nobody else knows of."""
        if self.dies:
            self.note("kills", self.number, time.time())
            self.blocked[self.number] = time.time() + TTL
            os.kill(os.getpid(), signal.SIGKILL)

    def live(self) -> None:
        random.seed()
        store = Dying(self.url, self.may_die)
        with self.entra.registry(store=store, encryption_key=KEY) as tokens:
            tokens._own.begin_sessions()._sealed.lease_ttl = TTL
            while not (self.folder / "enough").exists():
                self.choose()
                try:
                    self.carry_on(tokens, f"job {self.number}")
                except InteractionRequiredError as lost:
                    self.dies = False
                    self.note("losses", "begin" in str(lost), *lost.error_codes)
                    self.begin(tokens, f"job {self.number}")
                except TokenManagerError as error:
                    self.note("errors", error.retryable, repr(error))
        store.close()

    def choose(self) -> None:
        """Mostly one whose lease nobody has to wait for."""
        self.number = random.randrange(SESSIONS)
        while time.time() < self.blocked[self.number] and random.random() < 0.95:
            self.number = random.randrange(SESSIONS)

    def carry_on(self, tokens: TokenRegistry, name: str) -> None:
        self.dies = random.random() < 0.5
        tokens.session(name).manager(READ).refresh_access_token()

    def begin(self, tokens: TokenRegistry, name: str) -> None:
        tokens.on_behalf_of(self.assertions[self.number], READ, session=name).get_access_token()


class Dying(Watched):
    """A store whose worker may die before it writes a record."""

    def __init__(self, url: str, may_die: Callable[[], None]) -> None:
        super().__init__(url)
        self.may_die = may_die

    def put(self, key: str, value: bytes, ttl: float) -> None:
        if not key.endswith(":lease"):
            self.may_die()
        super().put(key, value, ttl)


@pytest.fixture(params=KILLS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def url(kind: str, tmp_path: Path) -> Iterator[str]:
    with store_url(kind, tmp_path) as url:
        yield url


def kill_workers(worker: Worker, kills: int) -> None:
    """Has so many workers live, and be killed."""
    with contextlib.ExitStack() as stack:
        children: list[Any] = []
        while len(worker.noted("kills")) < kills:
            children = [each for each in children if each.is_alive()]
            while len(children) < WORKERS:
                child = FORK.Process(target=worker.live)
                child.start()
                stack.callback(child.join)
                children.append(child)
            children[0].join(0.01)
        (worker.folder / "enough").touch()


def test_killed_workers_cost_their_sessions_alone_and_no_refresh_token_is_redeemed_twice(
    entra: EntraEmulator, kind: str, url: str, tmp_path: Path
):
    with entra.registry() as tokens:  # so that the children have all imports
        tokens.get_access_token(SCOPE)
    worker = Worker(entra, url, tmp_path)

    kill_workers(worker, int(os.environ.get("TOKENMGR_TEST_KILLS", KILLS[kind])))

    kills = defaultdict(list)
    for number, at in worker.noted("kills"):
        kills[f"user{number}@contoso.com"].append(float(at))
    shown = defaultdict(list)
    for request in entra.requests:
        if request.grant_type == "refresh_token":
            shown[request.form["refresh_token"]].append(request)
    lost = 0
    for first, *others in shown.values():
        lost += bool(others)
        for other in others:
            assert any(first.at <= at <= other.at for at in kills[first.username])
    assert lost > 0
    # Each of them is told as such, and so is whoever finds nothing yet.
    told = worker.noted("losses")
    assert {said for said, *_ in told} == {"True"}
    assert {tuple(codes) for _, *codes in told} <= {(), ("70000",)}
    assert sum(codes == ["70000"] for _, *codes in told) >= lost
    assert {retryable for retryable, *_ in worker.noted("errors")} <= {"True"}
