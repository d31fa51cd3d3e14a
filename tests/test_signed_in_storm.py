"""Many users who are signed in, and all workers of a fleet who renew their tokens at once."""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from emulator_clients import claims_of
from fleet_worker import FORK
from fork_marks import unwarned_forks
from later import Later
from redis_servers import BINARIES, running_server
from support import SCOPE

from tokenmgr import StoreError, TokenRegistry
from tokenmgr.emulator import EntraEmulator

if not hasattr(os, "fork"):
    pytest.skip("this system does not fork", allow_module_level=True)

pytestmark = unwarned_forks

#: So many users are signed in; TOKENMGR_TEST_USERS=1000 has more of them.
USERS = int(os.environ.get("TOKENMGR_TEST_USERS", "100"))
WORKERS, ROUNDS = 8, 2
#: Seconds for which workers wait for each other: whoever has failed does not come.
PATIENCE = 60.0 + USERS / 2
KEY = "what the records of the tests are sealed with"
T = TypeVar("T")
READ = "https://graph.microsoft.com/User.Read"
REFRESH = "refresh_token"


@pytest.fixture(params=["sqlite", *list(BINARIES)[:1]])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/tokens.db"
    else:
        with running_server(BINARIES[request.param]) as server:
            yield server.url


def patiently(call: Callable[[], T]) -> T:
    """Asks again where that is what to do, as a store that is slow on a machine that is busy."""
    answer: list[T] = []
    while not answer:
        with suppress(StoreError):
            answer.append(call())
    return answer[0]


def signed_in(tokens: TokenRegistry, name: str, password: str) -> str:
    """Signs a user in; gives what their account is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that passwords are no way to do that
        return tokens.sign_in_with_password(name, password, READ).home_account_id


class Worker:
    """A worker: it signs its part of the users in, and serves all of them from then on."""

    def __init__(self, entra: EntraEmulator, url: str, folder: Path) -> None:
        self.entra, self.url, self.folder = entra, url, folder
        names = [f"user{number}@contoso.com" for number in range(USERS)]
        self.users = {name: entra.add_user(name) for name in names}
        self.passwords = {name: entra.password(name) for name in names}
        self.barrier = FORK.Barrier(WORKERS)

    def live(self, number: int) -> None:
        random.seed(number)
        self.barrier.wait(PATIENCE)  # lest the emulator be at work while others are forked
        clock = Later()
        settings: dict[str, Any] = {"store": self.url, "encryption_key": KEY, "timeout": 60.0}
        with self.entra.registry(clock=clock, **settings) as tokens:
            for name in list(self.users)[number::WORKERS]:
                home = patiently(lambda name=name: self.sign_in(tokens, name))
            self.barrier.wait(PATIENCE)
            tenant = home.partition(".")[2]
            homes = {name: f"{user}.{tenant}" for name, user in self.users.items()}
            listed = {each.username for each in patiently(tokens.users)}
            assert listed.issuperset(list(self.users)[number::WORKERS])
            for _ in range(ROUNDS):
                clock.by += 3_600
                self.serve(tokens, homes)
                self.barrier.wait(PATIENCE)
        (self.folder / f"done-{number}").touch()

    def sign_in(self, tokens: TokenRegistry, name: str) -> str:
        return signed_in(tokens, name, self.passwords[name])

    def serve(self, tokens: TokenRegistry, homes: dict[str, str]) -> None:
        for name in random.sample(sorted(homes), len(homes)):
            user = patiently(lambda name=name: tokens.user(homes[name]))
            token = patiently(user.manager(READ).get_access_token)
            assert claims_of(token)["oid"] == self.users[name]
            assert user.username == name


@pytest.mark.timeout(120 + USERS)
def test_workers_redeem_each_refresh_token_once_and_no_more_than_are_due(
    entra: EntraEmulator, url: str, tmp_path: Path
) -> None:
    with entra.registry() as tokens:  # so that the children have all imports
        tokens.get_access_token(SCOPE)
    worker = Worker(entra, url, tmp_path)
    children = [FORK.Process(target=worker.live, args=(number,)) for number in range(WORKERS)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert len(list(tmp_path.glob("done-*"))) == WORKERS, "each has seen its users' tokens alone"
    asked = Counter(request.form.get(REFRESH) for request in entra.requests)
    del asked[None]
    assert len(asked) == USERS * ROUNDS
    assert set(asked.values()) == {1}
    assert {request.status for request in entra.requests if REFRESH in request.form} == {200}


def test_the_first_token_by_a_refresh_token_in_the_store_is_one_request(
    entra: EntraEmulator, url: str
) -> None:
    settings = {"store": url, "encryption_key": KEY}
    entra.add_user("ann@contoso.com")
    with entra.registry(**settings) as tokens:
        home = signed_in(tokens, "ann@contoso.com", entra.password("ann@contoso.com"))
    asked = len(entra.requests)
    with entra.registry(**settings) as tokens:
        tokens.user(home).manager(READ).get_access_token()
        assert len(entra.requests) == asked, "its token is in the store"
        tokens.user(home).manager("api://orders/read").get_access_token()
    # What is not documented, as of an emulator, is asked for first.
    kinds = [(request.kind, request.grant_type) for request in entra.requests[asked:]]
    assert kinds == [("discovery", None), ("token", REFRESH)]
