"""Users sign in on another device: each outcome, how often the service is asked, and who waits."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import suppress

import pytest
from reporting import told_of
from sign_ins import ANN, ORDERS
from support import FakeClock, RecordingStore
from waiting import until

from tokenmgr import (
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    ServiceUnavailableError,
    StoreError,
    TokenManagerError,
    TokenTimeoutError,
)

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
def clock():
    return FakeClock(wall=time.time())


@pytest.fixture
def tokens(entra, public, clock):
    entra.device_code_interval = 0
    return public(clock=clock)


def in_thread(work):
    """Runs it; gives what ends the wait for it, and brings what came of it."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except Exception as exc:  # noqa: BLE001 - it is the outcome
            outcome.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end():
        thread.join(30)
        assert outcome, "nothing has come of it"
        return outcome[0]

    return end


def patiently(call):
    """Asks again while the store is away: another thread looks whether it is back."""
    outcome = []

    def came():
        with suppress(StoreError):
            outcome.append(call())
        return outcome

    until(came)
    return outcome[0]


def next_poll(flow, clock, seconds=5.0):
    """Time goes by until the service has been asked once more, and has answered."""
    before = flow._code.due_at
    clock.advance(seconds)
    until(lambda: flow._code.due_at != before)


def test_a_user_signs_in_on_another_device(entra, tokens, clock, kept):
    flow = tokens.begin_device_code(ORDERS, "offline_access")
    assert flow.user_code in flow.message
    assert flow.verification_uri.startswith(entra.url)
    assert flow.expires_in == 900
    assert flow.user_code not in repr(flow)
    wait = in_thread(flow.wait)
    next_poll(flow, clock)
    entra.enter_device_code(flow.user_code, ANN)
    clock.advance(5.0)

    got = wait()

    assert got.account.username == ANN
    assert got.refresh_token.cell_contents
    assert kept.scopes == [(ORDERS,)]
    assert flow.wait() is got
    assert flow.wait(timeout=0) is got
    assert len(kept.signed_in) == 1


@pytest.mark.parametrize("answer", ["authorization_declined", "access_denied"])
def test_a_user_who_says_no_is_told_apart(entra, tokens, clock, kept, answer):
    flow = tokens.begin_device_code(ORDERS)
    if answer == "access_denied":  # as RFC 8628 has it
        entra.fail_next(status=400, body=json.dumps({"error": answer}))
    else:
        entra.enter_device_code(flow.user_code, ANN, accept=False)
    clock.advance(5.0)
    for _ in range(2):
        with pytest.raises(ConsentRequiredError, match="said no") as caught:
            flow.wait()
        assert caught.value.error == answer
    assert kept.signed_in == []
    assert entra.count(grant_type=GRANT) == 1


def test_a_code_that_nobody_enters_ends_without_asking_on(entra, tokens, clock, kept):
    flow = tokens.begin_device_code(ORDERS)
    clock.advance(900.0)
    with pytest.raises(InteractionRequiredError, match="begin_device_code"):
        flow.wait()
    assert entra.count(grant_type=GRANT) == 0


def test_a_code_that_has_ended_for_the_service_is_told(entra, tokens, clock, kept):
    flow = tokens.begin_device_code(ORDERS)
    entra.expire_codes()
    clock.advance(5.0)
    with pytest.raises(InteractionRequiredError, match="begin another") as caught:
        flow.wait()
    assert caught.value.error == "expired_token"


def test_a_caller_may_wait_again(entra, tokens, clock, kept):
    flow = tokens.begin_device_code(ORDERS)
    with pytest.raises(TokenTimeoutError, match="wait again"):
        flow.wait(timeout=0)
    wait = in_thread(lambda: flow.wait(timeout=0.5))
    clock.advance(0.75)
    assert isinstance(wait(), TokenTimeoutError)
    assert entra.count(grant_type=GRANT) == 0
    entra.enter_device_code(flow.user_code, ANN)
    clock.advance(1.0)
    assert flow.wait().account.username == ANN


def test_the_service_is_asked_as_often_as_it_says(entra, public, clock, kept):
    entra.device_code_interval = 7
    flow = public(clock=clock).begin_device_code(ORDERS)
    code = flow._code
    assert code.interval == 7
    wait = in_thread(flow.wait)
    clock.advance(6.5)
    next_poll(flow, clock, 0.5)
    assert entra.count(grant_type=GRANT) == 1
    assert code.due_at == clock.elapsed() + 7
    # For the emulator no time has gone by since.
    next_poll(flow, clock, 7.0)
    assert entra.count(grant_type=GRANT) == 2
    assert code.interval == 12
    assert code.due_at == clock.elapsed() + 12
    flow.cancel()
    assert isinstance(wait(), InteractionRequiredError)


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_in_trouble_is_asked_less_often_and_the_code_goes_on(
    entra, tokens, clock, kept, status
):
    flow = tokens.begin_device_code(ORDERS)
    entra.fail_next(20, status=status, retry_after=40, grant_type=GRANT)
    wait = in_thread(flow.wait)
    next_poll(flow, clock)
    assert flow._code.due_at == pytest.approx(clock.elapsed() + 40)
    assert flow._code.interval == 2
    entra.recover()
    entra.enter_device_code(flow.user_code, ANN)
    clock.advance(41.0)
    assert wait().account.username == ANN


def test_another_thread_cancels_it(entra, tokens, kept):
    flow = tokens.begin_device_code(ORDERS)
    wait = in_thread(flow.wait)
    flow.cancel()
    assert "cancelled" in str(wait())
    with pytest.raises(InteractionRequiredError, match="cancelled"):
        flow.wait()


def test_what_is_cancelled_as_it_comes_is_not_kept(entra, tokens, clock, kept, monkeypatch):
    flow = tokens.begin_device_code(ORDERS)
    entra.enter_device_code(flow.user_code, ANN)
    poll = flow._code.poll
    monkeypatch.setattr(flow._code, "poll", lambda: (poll(), flow.cancel())[0])
    clock.advance(5.0)
    with pytest.raises(InteractionRequiredError, match="cancelled"):
        flow.wait()
    assert kept.signed_in == []


def test_an_interrupted_wait_loses_nothing_of_what_the_service_answers(
    entra, tokens, clock, kept, monkeypatch
):
    flow = tokens.begin_device_code(ORDERS)
    entra.enter_device_code(flow.user_code, ANN)
    poll, asked, goes_on = flow._code.poll, threading.Event(), threading.Event()

    def slowly():
        signed_in = poll()
        asked.set()
        assert goes_on.wait(30)
        return signed_in

    monkeypatch.setattr(flow._code, "poll", slowly)
    clock.advance(5.0)

    def interrupted(*_):
        until(asked.is_set)  # the service has answered, and its answer is on its way
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tokenmgr.flows.sleep_unless", interrupted)
        with pytest.raises(KeyboardInterrupt):
            flow._have_it_asked()
    goes_on.set()

    assert flow.wait().account.username == ANN
    assert entra.count(grant_type=GRANT) == 1
    assert len(kept.signed_in) == 1


async def test_a_cancelled_coroutine_loses_nothing_of_what_the_service_answers(
    entra, tokens, clock, kept
):
    flow = await tokens.abegin_device_code(ORDERS)
    entra.enter_device_code(flow.user_code, ANN)
    with entra.paused():
        clock.advance(5.0)
        task = asyncio.ensure_future(flow.await_())
        while entra.count(grant_type=GRANT) == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await flow.await_()).account.username == ANN
    assert entra.count(grant_type=GRANT) == 1


def test_a_wait_ends_in_time_whatever_the_service_does(entra, tokens, clock, kept):
    flow = tokens.begin_device_code(ORDERS)
    entra.enter_device_code(flow.user_code, ANN)
    with entra.paused():
        clock.advance(5.0)
        wait = in_thread(lambda: flow.wait(timeout=1.0))
        until(lambda: entra.count(grant_type=GRANT) == 1)
        clock.advance(1.0)
        assert isinstance(wait(), TokenTimeoutError)
    assert flow.wait().account.username == ANN


def test_where_no_thread_runs_whoever_waits_asks(entra, tokens, clock, kept, monkeypatch):
    def no_thread(work):
        raise RuntimeError("no thread runs here")

    flow = tokens.begin_device_code(ORDERS)
    entra.enter_device_code(flow.user_code, ANN)
    monkeypatch.setattr(tokens._own.app.context.workers, "do", no_thread)
    clock.advance(5.0)
    assert flow.wait().account.username == ANN


def test_what_is_wrong_in_a_worker_is_told_to_who_waits(tokens, clock, kept, monkeypatch):
    flow = tokens.begin_device_code(ORDERS)
    monkeypatch.setattr(flow._code, "poll", lambda: 1 / 0)
    clock.advance(5.0)
    with pytest.raises(ZeroDivisionError):
        flow.wait()


def test_what_the_store_cannot_keep_is_kept_when_it_is_back(entra, public, clock):
    entra.device_code_interval = 0
    store = RecordingStore(clock)
    tokens = public(clock=clock, store=store, encryption_key="what the records are sealed with, 1")
    flow = tokens.begin_device_code(ORDERS)
    entra.enter_device_code(flow.user_code, ANN)
    store.error = OSError("away")
    clock.advance(5.0)
    for _ in range(2):
        with pytest.raises(StoreError):
            flow.wait()
    store.error = None
    clock.advance(60.0)  # by then it is asked again
    assert patiently(flow.wait).username == ANN
    assert [each.username for each in tokens.users()] == [ANN]
    assert entra.count(grant_type=GRANT) == 1

    other = tokens.begin_device_code(ORDERS)
    entra.enter_device_code(other.user_code, ANN)
    store.error = OSError("away")
    clock.advance(5.0)
    with pytest.raises(StoreError):
        other.wait()
    other.cancel()
    with pytest.raises(InteractionRequiredError, match="cancelled"):
        other.wait()


def test_nobody_waits_where_the_registry_is_closed(entra, tokens, kept):
    flow = tokens.begin_device_code(ORDERS)
    wait = in_thread(flow.wait)
    tokens.close()
    assert isinstance(wait(), ConfigurationError)
    with pytest.raises(ConfigurationError, match="closed"):
        flow.wait()
    with pytest.raises(ConfigurationError, match="closed"):
        tokens.begin_device_code(ORDERS)
    assert entra.count(grant_type=GRANT) == 0


def test_many_threads_wait_and_one_asks(entra, tokens, clock, kept):
    flow = tokens.begin_device_code(ORDERS)
    entra.enter_device_code(flow.user_code, ANN)
    waits = [in_thread(flow.wait) for _ in range(8)]
    clock.advance(5.0)
    assert len({id(wait()) for wait in waits}) == 1
    assert entra.count(grant_type=GRANT) == 1
    assert len(kept.signed_in) == 1


async def test_coroutines_wait_and_the_loop_turns(entra, tokens, clock, kept):
    flow = await tokens.abegin_device_code(ORDERS)
    waits = [asyncio.ensure_future(flow.await_()) for _ in range(2)]
    entra.enter_device_code(flow.user_code, ANN)
    await asyncio.sleep(0)
    clock.advance(5.0)
    one, two = await asyncio.gather(*waits)
    assert one is two
    assert one.account.username == ANN
    assert await flow.await_() is one


async def test_a_coroutine_times_out_is_cancelled_and_awaits_again(entra, tokens, clock, kept):
    flow = await tokens.abegin_device_code(ORDERS)
    with pytest.raises(TokenTimeoutError):
        await flow.await_(timeout=0)
    task = asyncio.ensure_future(flow.await_())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    entra.enter_device_code(flow.user_code, ANN)
    clock.advance(5.0)
    assert (await flow.await_()).account.username == ANN
    flow.cancel()
    assert (await flow.await_()).account.username == ANN


def test_what_cannot_be_begun_says_why(entra, public, web):
    for tokens, match in (
        (web(), "without credential="),
        (public(authority=entra.b2c_authority()), "no device code grant"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            tokens.begin_device_code("https://contoso.onmicrosoft.com/api/read")
    with pytest.raises(ConfigurationError, match="claims="):
        public().begin_device_code(ORDERS, claims="{")
    with pytest.raises(ConfigurationError):
        public().begin_device_code()
    with pytest.raises(ConfigurationError) as caught:
        public(client_id="somebody").begin_device_code(ORDERS)
    assert caught.value.error_codes == (700016,)


def test_claims_and_capabilities_go_along(entra, public, clock, kept):
    claims = '{"access_token": {"acrs": {"essential": true, "value": "c1"}}}'
    entra.device_code_interval = 0
    flow = public(clock=clock, cae=True).begin_device_code(ORDERS, claims=claims)
    entra.enter_device_code(flow.user_code, ANN, mfa=True)
    clock.advance(5.0)
    flow.wait()
    request = next(r for r in entra.requests if r.grant_type == GRANT)
    assert json.loads(request.form["claims"])["access_token"]["xms_cc"] == {"values": ["CP1"]}


# Services that answer otherwise

DEVICE = {
    "device_code": "a-device-code",
    "user_code": "AB-CD",
    "verification_uri": "https://idp.example/device",
    "expires_in": "300",
    "interval": "2",
}


@pytest.fixture
def answering(rough, registry, kept, clock):
    """Begins at a server that answers as the test says."""
    rough.metadata["device_authorization_endpoint"] = f"{rough.authority}/device"

    def begin(then=None, status=200, **changes):
        said = {k: v for k, v in (DEVICE | changes).items() if v is not None}

        def answer(handler):
            if "grant_type" in handler.form:
                handler.token(**(then or {}))
            else:
                handler.answer(status, json.dumps(said))

        rough.on_post = answer
        return registry(credential=None, clock=clock).begin_device_code(ORDERS)

    return begin


def test_a_service_may_say_it_in_its_own_way(answering, clock, kept):
    flow = answering()
    assert (flow.expires_in, flow._code.interval) == (300, 2)
    assert "https://idp.example/device" in flow.message
    assert "AB-CD" in flow.message
    clock.advance(2.0)
    got = flow.wait()
    assert got.token.secret == "a-token"
    assert got.account.home_account_id

    flow = answering(verification_uri=None, verification_url="https://x.example/", interval=None)
    assert (flow.verification_uri, flow._code.interval) == ("https://x.example/", 5)
    flow = answering(interval=0, expires_in=1e9, message="Do this.")
    assert (flow._code.interval, flow.expires_in, flow.message) == (1, 86_400, "Do this.")


def test_a_message_tells_a_terminal_nothing(answering):
    assert answering(message="Do this.\nThen that.").message == "Do this.\nThen that."
    for odd in ("\x1b[2JDo this.", "Do this.\rThen that.", "Do \u202ethis"):
        assert answering(message=odd).message.startswith("To sign in, open https://idp.example/")


@pytest.mark.parametrize(
    "changes",
    [
        *({"device_code": code} for code in (None, "", 5, "a b", "x" * 5_000)),
        *({"user_code": code} for code in (None, "", ["x"], "a\nb", "x" * 5_000)),
        *({"verification_uri": uri} for uri in (None, "http://x", "javascript:x", 5)),
        *({"verification_uri": f"https://x/{odd}"} for odd in ("\x1b[2J", "\n", " y")),
        *({"expires_in": seconds} for seconds in (None, 0, -1, "soon", True)),
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_an_answer_that_holds_no_code_is_refused(answering, changes):
    with pytest.raises(ServiceUnavailableError, match="no device code"):
        answering(**changes)


@pytest.mark.parametrize("status", [400, 404, 503])
def test_an_answer_that_refuses_is_an_error(answering, status):
    with pytest.raises(TokenManagerError):
        answering(status=status, error="invalid_client", error_description="no")


def test_no_error_tells_the_device_code(answering, rough, clock):
    flow = answering()
    said = {"error": "invalid_request", "error_description": "I got a-device-code"}
    rough.on_post = lambda handler: handler.answer(400, json.dumps(said))
    clock.advance(2.0)
    with pytest.raises(TokenManagerError) as caught:
        flow.wait()
    assert "a-device-code" not in str(caught.value)
    assert told_of(caught.value, ("a-device-code",)) == []
