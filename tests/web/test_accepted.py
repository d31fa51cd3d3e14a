"""Bearers that were accepted are known for a while, and nothing else is."""

from __future__ import annotations

import threading
import time

import pytest
from forgeries import Forger
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from reporting import told_at_every_line
from support import FakeClock

from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.emulator import EntraEmulator
from tokenmgr.errors import BearerRefusedError
from tokenmgr.web._accepted import Accepted
from tokenmgr.web._api import Api
from tokenmgr.web.caller import Caller

ANN = "ann@contoso.com"


def caller(clock: FakeClock, lifetime: float = 3600.0) -> Caller:
    return Caller({"exp": clock.wall() + lifetime}, Hidden("a"), "ann")


@pytest.fixture
def accepted(clock: FakeClock) -> Accepted:
    return Accepted(clock)


def known(accepted: Accepted, authorization: object) -> Caller | None:
    return accepted.find(accepted.digest(authorization))  # type: ignore[arg-type]


def keep(accepted: Accepted, authorization: object, whose: Caller) -> None:
    accepted.keep(accepted.digest(authorization), whose)  # type: ignore[arg-type]


def test_one_is_known_for_five_minutes_and_to_the_letter(accepted, clock):
    ann = caller(clock)
    keep(accepted, ["Bearer a.b.c"], ann)
    assert known(accepted, ["Bearer a.b.c"]) is ann
    assert known(accepted, "Bearer a.b.c") is ann
    assert known(accepted, ["Bearer a.b.C"]) is None
    clock.advance(299)
    assert known(accepted, ["Bearer a.b.c"]) is ann
    clock.advance(1)
    assert known(accepted, ["Bearer a.b.c"]) is None


def test_none_is_known_beyond_its_end(accepted, clock):
    keep(accepted, "Bearer a", caller(clock, lifetime=10))
    clock.advance(9.9)
    assert known(accepted, "Bearer a")
    clock.advance(0.1)
    assert known(accepted, "Bearer a") is None
    keep(accepted, "Bearer b", Caller({}, Hidden("b"), "ann"))
    assert known(accepted, "Bearer b") is None, "it says no end"


@pytest.mark.parametrize(
    "authorization",
    [None, [], ["Bearer a", "Bearer a"], "Bearer ä", "Bearer \udc80", "a" * 16_385],
)
def test_what_is_odd_is_looked_at_each_time(accepted, clock, authorization):
    keep(accepted, authorization, caller(clock))
    assert known(accepted, authorization) is None


def test_a_thousand_are_known_the_last_ones(accepted, clock):
    for number in range(1_001):
        keep(accepted, f"Bearer {number}", caller(clock))
    assert known(accepted, "Bearer 0") is None
    assert known(accepted, "Bearer 1")
    assert len(accepted._entries) == 1_000


def test_nothing_of_a_bearer_is_kept_to_find_it_by(accepted, clock):
    keep(accepted, "Bearer secret", caller(clock))
    assert "secret" not in repr(accepted._entries)


def test_an_api_verifies_each_once_in_five_minutes(entra: EntraEmulator):
    clock = FakeClock(wall=time.time())
    with entra.registry(clock=clock) as tokens:
        api = Api(tokens)
        bearer = f"Bearer {entra.sign_in(ANN)}"
        first = api.receive([bearer])
        assert api.receive([bearer]).caller is first.caller
        assert isinstance(api.receive([bearer, bearer]).refusal, BearerRefusedError)
        assert isinstance(api.receive([f"{bearer}x"]).refusal, BearerRefusedError)
        clock.advance(301)
        assert api.receive([bearer]).caller is not first.caller


def test_what_one_request_does_with_claims_the_next_does_not_see(entra: EntraEmulator):
    with entra.registry() as tokens:
        api = Api(tokens)
        bearer = f"Bearer {Forger(entra).token(roles=['Orders.Read'])}"
        api.receive(bearer).caller.claims["roles"].append("Orders.Write")
        dict(api.receive(bearer).caller.claims)["roles"].append("Orders.Write")
        assert api.receive(bearer).caller.claims["roles"] == ["Orders.Read"]
        with pytest.raises(TypeError):
            api.receive(bearer).caller.claims["roles"] = []  # type: ignore[index]


async def test_the_same_from_an_event_loop(entra: EntraEmulator):
    with entra.registry() as tokens:
        api = Api(tokens)
        bearer = f"Bearer {entra.sign_in(ANN)}"
        first = await api.areceive([bearer])
        assert (await api.areceive([bearer])).caller is first.caller
        assert isinstance((await api.areceive([bearer, bearer])).refusal, BearerRefusedError)


@pytest.mark.parametrize("known", [False, True], ids=["seen first", "known"])
def test_nothing_that_goes_wrong_tells_the_bearer(entra: EntraEmulator, known: bool):
    token = entra.sign_in(ANN)
    with entra.registry() as tokens:
        api = Api(tokens)
        api.validator.validate(f"Bearer {token}")  # so that the keys are there

        def work() -> None:
            if not known:
                api._opened.accepted._entries.clear()
            call = api.receive([f"Bearer {token}"])
            api.on_behalf_of(call.caller, "https://graph.microsoft.com/User.Read")

        work()
        assert told_at_every_line(work, (token.rpartition(".")[2],), within=("web/_a",)) == []


@needs_fork
@unwarned_forks
def test_an_api_goes_over_a_fork_with_its_lock_held(entra: EntraEmulator):
    with entra.registry() as tokens:
        api = Api(lambda: tokens)
        bearer = f"Bearer {entra.sign_in(ANN)}"
        held, go_on = threading.Event(), threading.Event()

        def make() -> None:
            with api._lock:
                held.set()
                go_on.wait(30)

        thread = threading.Thread(target=make)
        thread.start()
        held.wait(30)
        found = in_child(lambda: api.receive([bearer]).caller.object_id)
        go_on.set()
        thread.join()
        assert found == entra.add_user(ANN)
