"""The authority's keys: how often it is asked for them, and what serves while it does not tell."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import line_by_line
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from forgeries import ANN, Forger, encoded, own_key
from fork_marks import needs_fork
from forking import in_child
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey
from line_by_line import AtLine
from support import HandWorkers, in_threads, make_context
from waiting import until

import tokenmgr.web
from tokenmgr import (
    Authority,
    AuthorityError,
    BearerRefusedError,
    ServiceUnavailableError,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.entra.signing_keys import Metadata
from tokenmgr.web._jwt import keys_of
from tokenmgr.web._keys import Keys
from tokenmgr.web.bearer import BearerValidator, Caller

MINUTE, DAY = 60, 86_400


@pytest.fixture
def tokens(entra, clock):
    with TokenRegistry(
        client_id=entra.client_id,
        authority=entra.authority(),
        verify=entra.ca_file,
        clock=clock,
        timeout=30,
    ) as registry:
        yield registry


@pytest.fixture
def api(tokens):
    return BearerValidator(tokens)


@pytest.fixture
def ann(entra):
    """The header of a good caller, whose token is signed by the first key."""
    return f"Bearer {entra.sign_in(ANN, lifetime=DAY)}"


@pytest.fixture
def gate(entra, monkeypatch):
    """What has to be set before the authority tells its keys."""
    opened, tell = threading.Event(), entra._state.signer.public_keys

    def wait(*issuer):
        assert opened.wait(60), "nobody opened the gate"
        return tell(*issuer)

    monkeypatch.setattr(entra._state.signer, "public_keys", wait)
    yield opened
    opened.set()


def asked(entra, kind="keys"):
    return sum(request.kind == kind for request in entra.requests)


def unknown(entra):
    """A bearer that is signed by a key that nobody has heard of."""
    return f"Bearer {Forger(entra).foreign(kid=secrets.token_hex(8))}"


def refused(api, bearer):
    with pytest.raises(BearerRefusedError) as caught:
        api.validate(bearer)
    return str(caught.value)


def settled(tokens):
    """Waits until nothing is asked any more."""
    tokens._own.app.context.settle(30)


# How often


def test_making_one_asks_nobody_and_a_thousand_calls_ask_once(entra, api, ann):
    assert entra.requests == ()
    for _ in range(1_000):
        api.validate(ann)
    assert (asked(entra, "discovery"), asked(entra)) == (1, 1)


def test_threads_and_event_loops_ask_together(entra, tokens, api, ann, gate):
    def in_a_loop():
        async def several():
            return await asyncio.gather(*(api.avalidate(ann) for _ in range(5)))

        return asyncio.run(several())[0]

    turns = iter([lambda: api.validate(ann), in_a_loop] * 10)

    def take_a_turn():
        return next(turns)()

    opener = threading.Timer(0, gate.set)
    opener.start()
    callers = in_threads(20, take_a_turn, timeout=60)
    opener.join()
    assert all(isinstance(each, Caller) for each in callers)
    assert (asked(entra, "discovery"), asked(entra)) == (1, 1)


def test_a_key_that_nobody_knows_is_asked_for_once_a_minute(entra, clock, api, ann):
    api.validate(ann)
    for minute in range(1, 4):
        clock.advance(MINUTE)
        for _ in range(5):
            assert "does not have" in refused(api, unknown(entra))
        assert asked(entra) == 1 + minute
    assert asked(entra, "discovery") == 1


def test_a_flood_costs_two_requests_and_valid_callers_are_served(entra, clock, api, ann):
    api.validate(ann)
    clock.advance(MINUTE)
    rest = unknown(entra).partition(".")[2]
    served = []

    def flood():
        for _ in range(200):
            header = encoded(json.dumps({"alg": "RS256", "kid": secrets.token_hex(8)}))
            with pytest.raises(BearerRefusedError):
                api.validate(f"Bearer {header}.{rest}")
        return served.append(api.validate(ann))

    entra.clear()
    in_threads(50, flood, timeout=240)
    assert len(served) == 50
    assert asked(entra) <= 2
    assert len(entra.requests) <= 2


def test_who_has_a_key_waits_for_nobody_who_has_none(entra, clock, api, ann, gate):
    gate.set()
    api.validate(ann)
    gate.clear()
    clock.advance(MINUTE)
    waiting = threading.Thread(target=refused, args=(api, unknown(entra)))
    waiting.start()
    until(lambda: asked(entra) == 2, "the request for a key that is not known")
    for _ in range(100):
        assert api.validate(ann)
    assert waiting.is_alive(), "nobody has opened the gate"
    gate.set()
    waiting.join(30)


def test_a_new_key_is_taken_at_once(entra, clock, api, ann):
    api.validate(ann)
    clock.advance(MINUTE)
    entra.roll_keys()
    newer = f"Bearer {entra.sign_in(ANN)}"
    assert api.validate(newer)
    assert api.validate(ann)
    assert asked(entra) == 2


def test_a_key_that_was_withdrawn_is_none_after_a_day(entra, clock, tokens, api, ann):
    api.validate(ann)
    entra.roll_keys(keep=False)
    clock.advance(DAY / 2 - 1)
    assert api.validate(ann)
    clock.advance(DAY / 2 + 1)
    assert "does not have" in refused(api, ann)
    assert api.validate(f"Bearer {entra.sign_in(ANN)}")
    assert (asked(entra, "discovery"), asked(entra)) == (2, 2)


def test_keys_of_half_a_day_are_asked_for_behind_a_caller(entra, clock, tokens, api, ann, gate):
    gate.set()
    api.validate(ann)
    gate.clear()
    clock.advance(DAY / 2)
    assert api.validate(ann)  # who waited would wait for the gate
    gate.set()
    settled(tokens)
    assert asked(entra) == 2
    api.validate(ann)
    assert asked(entra) == 2


# The authority is away


def test_the_old_keys_serve_while_the_authority_is_away(entra, clock, tokens, api, ann):
    api.validate(ann)
    entra.fail_next(10_000, path="keys", status=503)
    entra.fail_next(10_000, path="discovery", status=503)
    for _ in range(3):
        clock.advance(DAY)
        for _ in range(10):
            assert api.validate(ann)
            settled(tokens)
    entra.recover()
    clock.advance(MINUTE)
    assert api.validate(ann)
    settled(tokens)
    entra.roll_keys()
    clock.advance(MINUTE)
    assert api.validate(f"Bearer {entra.sign_in(ANN)}")


def test_an_authority_that_is_away_is_asked_once_a_minute(entra, clock, tokens, api, ann):
    api.validate(ann)
    entra.clear()
    entra.fail_next(10_000, path="keys", status=400)
    for minute in range(1, 4):
        clock.advance(MINUTE)
        for _ in range(5):
            refused(api, unknown(entra))
            settled(tokens)
            assert api.validate(ann)
        assert asked(entra) == minute


def test_without_any_keys_it_cannot_be_told_and_soon_is_asked_again(entra, clock, tokens, api, ann):
    entra.fail_next(4, path="keys", status=503)
    with pytest.raises(ServiceUnavailableError):
        api.validate(ann)
    entra.clear()
    for _ in range(5):
        with pytest.raises(ServiceUnavailableError):
            api.validate(ann)
    assert entra.requests == ()
    clock.advance(12)
    assert api.validate(ann)


def test_the_log_has_why_no_keys_are_had_once_for_each_attempt(
    entra, clock, tokens, api, ann, caplog
):
    entra.fail_next(4, path="keys", status=503)
    for _ in range(5):
        with pytest.raises(ServiceUnavailableError):
            api.validate(ann)
    (line,) = caplog.messages
    assert line.startswith(f"no new keys of {urlsplit(entra.url).netloc}, ")
    assert "ServiceUnavailableError: " in line
    assert "no token can be accepted; asked again in " in line
    clock.advance(12)
    assert api.validate(ann)
    assert len(caplog.messages) == 1


def test_a_throttled_authority_says_when_to_come_back(entra, clock, api, ann):
    entra.fail_next(path="keys", status=429, retry_after=120)
    with pytest.raises(ServiceUnavailableError) as caught:
        api.validate(ann)
    assert caught.value.retry_after == 120
    clock.advance(119)
    with pytest.raises(ServiceUnavailableError):
        api.validate(ann)
    clock.advance(1)
    assert api.validate(ann)


def test_each_waiter_has_an_error_of_its_own(entra, api, ann):
    entra.fail_next(4, path="keys", status=503)
    errors = in_threads(10, lambda: api.validate(ann))
    assert {type(each) for each in errors} == {ServiceUnavailableError}
    assert len({id(each) for each in errors}) == 10


def test_a_waiter_does_not_wait_for_ever(entra, ann, gate):
    with TokenRegistry(
        client_id=entra.client_id,
        authority=entra.authority(),
        verify=entra.ca_file,
        timeout=0.2,
    ) as tokens:
        api = BearerValidator(tokens)
        with pytest.raises(ServiceUnavailableError):
            api.validate(ann)
        with pytest.raises(ServiceUnavailableError):
            asyncio.run(api.avalidate(ann))
        gate.set()


async def test_the_event_loop_turns_while_a_caller_waits(entra, api, ann, gate):
    asyncio.get_running_loop().call_soon(gate.set)  # which a loop that is blocked never calls
    assert await api.avalidate(ann)


def test_version_1_is_asked_for_once_whatever_comes_of_it(entra, clock, tokens, api, ann):
    api.validate(ann)
    older = f"Bearer {entra.sign_in(ANN, version='1.0')}"
    entra.fail_next(1, path="discovery", status=404)
    for _ in range(5):
        assert "another authority" in refused(api, older)
    assert asked(entra, "discovery") == 2


def test_version_1_is_asked_for_again_where_it_could_not_be_told(entra, clock, tokens, api, ann):
    api.validate(ann)
    older = f"Bearer {entra.sign_in(ANN, version='1.0')}"
    entra.fail_next(4, path="discovery", status=503)
    for _ in range(3):
        with pytest.raises(ServiceUnavailableError, match=r"version 1\.0"):
            api.validate(older)
    assert asked(entra, "discovery") == 1 + 4  # those that a fetch repeats
    assert api.validate(ann)
    clock.advance(MINUTE)
    assert api.validate(older)
    assert api.validate(ann)


def test_a_forged_token_of_version_1_asks_for_nothing(entra, clock, api, ann):
    api.validate(ann)
    forger = Forger(entra)
    payload = forger.token(ver="1.0").split(".")[1]
    forged = forger.raw(json.dumps(forger.header()), payload, own_key())
    refused(api, f"Bearer {forged}")
    assert asked(entra, "discovery") == 1


# What it answers


@pytest.mark.parametrize(
    "body",
    [
        '{"keys": []}',
        '{"keys": {}}',
        '{"keys": [1, null, "a", [], {}]}',
        '{"keys": [{"kty": "RSA"}]}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"}]}',
        "[]",
        "{}",
        "nonsense",
        b"\xff\xfe",
        '{"keys": [' + '{"kty": "RSA"},' * 100_000 + "{}]}",
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_nonsense_is_no_key_and_takes_none_away(entra, clock, tokens, api, ann, body, known):
    if known:
        api.validate(ann)
        clock.advance(MINUTE)
    entra.fail_next(4, path="keys", status=200, body=body)
    if known:
        refused(api, unknown(entra))
        assert api.validate(ann)
    else:
        with pytest.raises((AuthorityError, ServiceUnavailableError)):
            api.validate(ann)


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"issuer": "https://a"}',
        '{"jwks_uri": "https://a"}',
        '{"issuer": 7, "jwks_uri": []}',
        '{"issuer": "https://a", "jwks_uri": "https://evil.example/keys"}',
        '{"issuer": "https://a", "jwks_uri": "http://127.0.0.1/keys"}',
        '{"issuer": "https://a", "jwks_uri": "file:///etc/passwd"}',
    ],
)
def test_the_authoritys_metadata_names_its_own_keys_or_none(entra, api, ann, body):
    entra.fail_next(1, path="discovery", status=200, body=body)
    with pytest.raises(AuthorityError):
        api.validate(ann)
    assert asked(entra) == 0


WORDS = st.sampled_from(
    ["RSA", "EC", "OKP", "oct", "RS256", "HS256", "none", "sig", "enc", "P-256", "Ed25519", "AQAB"]
)
VALUES = st.one_of(WORDS, st.none(), st.integers(), st.text(max_size=9), st.lists(WORDS))
NAMES = st.sampled_from(["kty", "alg", "use", "kid", "n", "e", "crv", "x", "y", "k", "key_ops"])


@given(st.lists(st.dictionaries(NAMES, VALUES), max_size=3))
def test_whatever_is_published_gives_keys_or_an_error_of_ours(written):
    try:
        keys = keys_of(Metadata(("https://a",), "https://a/keys"), tuple(written))
    except TokenManagerError:
        return
    assert all(
        not algorithm.startswith(("HS", "none")) for key in keys.values() for algorithm in key[1]
    )


def published(**changes):
    key = own_key().as_dict(private=True) | changes
    return {name: value for name, value in key.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "stated", "algorithms"),
    [
        ({}, (), ("RS256",)),
        ({}, ("RS256", "PS256", "HS256", "none"), ("RS256", "PS256")),
        ({"alg": "PS384"}, ("RS256",), ("PS384",)),
        ({"alg": "HS256"}, ("HS256",), None),
        ({"alg": "none"}, (), None),
        ({"alg": ["RS256"]}, (), None),
        ({"use": "sig"}, (), ("RS256",)),
        ({"use": "enc"}, (), None),
        ({"key_ops": ["verify"]}, (), ("RS256",)),
        ({"key_ops": ["sign"]}, (), None),
        ({"kid": 7}, (), None),
        ({"n": "AQAB"}, (), None),
    ],
)
def test_a_key_says_what_may_be_signed_by_it(changes, stated, algorithms):
    metadata = Metadata(("https://a",), "https://a/keys", stated)
    if algorithms is None:
        with pytest.raises(AuthorityError):
            keys_of(metadata, (published(**changes),))
        return
    (key,) = keys_of(metadata, (published(**changes),)).values()
    assert key.algorithms == algorithms
    assert not hasattr(key.key, "private_numbers")


@pytest.mark.parametrize("bits", [1_024, 2_048])
def test_a_short_key_is_none(bits):
    key = rsa.generate_private_key(65_537, bits).public_key()
    written = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key)) | {"kid": "a"}
    metadata = Metadata(("https://a",), "https://a/keys")
    if bits >= 2_048:
        assert set(keys_of(metadata, (written,))) == {"a"}
    else:
        with pytest.raises(AuthorityError):
            keys_of(metadata, (written,))


def test_keys_of_other_kinds():
    metadata = Metadata(("https://a",), "https://a/keys")
    for curve, algorithm in (("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512")):
        written = ECKey.generate_key(curve, auto_kid=True).as_dict(private=False)
        assert [key.algorithms for key in keys_of(metadata, (written,)).values()] == [(algorithm,)]
    written = OKPKey.generate_key("Ed25519", auto_kid=True).as_dict(private=False)
    assert [key.algorithms for key in keys_of(metadata, (written,)).values()] == [("EdDSA",)]


def test_a_key_without_a_name_is_the_only_one(entra):
    metadata = Metadata(("https://a",), "https://a/keys")
    nameless = published(kid=None)
    assert set(keys_of(metadata, (nameless,))) == {None}
    assert set(keys_of(metadata, (nameless, published()))) == {published()["kid"]}


# Threads and forks


@needs_fork
def test_a_child_has_its_parents_keys(entra, api, ann):
    api.validate(ann)
    assert in_child(lambda: api.validate(ann).claims["preferred_username"]) == ANN
    assert asked(entra) == 1


@needs_fork
def test_a_child_that_was_forked_in_the_middle_asks_for_itself(entra, api, ann, gate):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.validate, ann)
        while api._keys._flight is None:
            pass

        # Its own one begins, and does not land, as the gate is closed for it too.
        assert in_child(lambda: api._keys.ask("a key") is not None)
        gate.set()
        assert waiting.result(60)


class Asking:
    """Opens requests that fail, are broken off, or never were."""

    def __init__(self):
        self.error: BaseException = ServiceUnavailableError("away")
        self.times = 0

    def __call__(self):
        self.times += 1
        raise self.error


def made(clock, asking, workers):
    authority = Authority.entra("contoso.com")
    return Keys(authority, asking, make_context(clock, workers=workers))


def test_where_no_thread_runs_the_caller_asks(clock):
    workers, asking = HandWorkers(), Asking()
    workers.can_start = False
    keys = made(clock, asking, workers)
    flight = keys.ask("a")
    assert flight is not None
    assert flight.landed
    with pytest.raises(ServiceUnavailableError, match="away"):
        keys.ask("a")


def test_what_nobody_has_foreseen_is_an_error_of_the_authority_and_backs_off(clock):
    workers, asking = HandWorkers(), Asking()
    asking.error = KeyError("a member")
    keys = made(clock, asking, workers)
    flight = keys.ask("a")
    workers.run()
    assert flight is not None
    assert flight.landed
    for _ in range(3):
        with pytest.raises(AuthorityError, match="makes no sense"):
            keys.ask("a")
    assert asking.times == 1


def test_who_asks_and_is_interrupted_has_the_next_one_ask(clock):
    workers, asking = HandWorkers(), Asking()
    asking.error = SystemExit()
    keys = made(clock, asking, workers)
    first = keys.ask("a")
    assert keys.ask("b") is first
    with pytest.raises(SystemExit):
        workers.run()
    assert first.landed
    again = keys.ask("a")
    assert again is not None
    assert not again.landed


def test_a_worker_that_ends_without_a_word_is_given_up(clock):
    workers, asking = HandWorkers(), Asking()
    keys = made(clock, asking, workers)
    first = keys.ask("a")
    clock.advance(10 + 5 - 1)
    assert keys.ask("a") is first
    clock.advance(1)
    second = keys.ask("a")
    assert second is not None
    assert second is not first
    assert len(workers.given) == 2
    workers.run()  # the first one has been slow, and no more
    with pytest.raises(ServiceUnavailableError, match="away"):
        keys.ask("a")


def test_a_caller_who_is_interrupted_leaves_no_flight_behind(clock):
    class Struck(HandWorkers):
        def do(self, work):
            raise KeyboardInterrupt

    keys = made(clock, Asking(), Struck())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            keys.ask("a")
    assert keys._flight is None


class NoThreads(HandWorkers):
    """Workers where no thread runs, so that callers ask by themselves."""

    def __init__(self):
        super().__init__()
        self.can_start = False


class Interruption(BaseException):
    """Out of a signal's handler."""


def strike():
    raise Interruption


@pytest.mark.traces
@pytest.mark.parametrize("workers", [None, NoThreads])
def test_who_is_interrupted_anywhere_leaves_the_next_one_keys(tokens, ann, monkeypatch, workers):
    monkeypatch.setattr(line_by_line, "_PACKAGE", str(Path(tokenmgr.web.__file__).parent))
    for line in itertools.count(1):
        api = BearerValidator(tokens)
        if workers is not None:
            api._keys._context = api._keys._context._replace(workers=workers())
        with suppress(Interruption), AtLine(line, strike) as interrupted:
            api.validate(ann)
        if interrupted.where is None:
            break
        assert api.validate(ann).tenant, interrupted.where
    assert line > 50
    settled(tokens)


def test_a_storm_of_callers_and_failures_ends_with_everybody_served(
    entra, clock, tokens, api, ann, threads_take_turns
):
    over = threading.Event()

    def trouble():
        while not over.is_set():
            entra.fail_next(path="keys", status=503)
            entra.fail_next(path="discovery", body="nonsense", status=200)
            clock.advance(DAY / 3)
            over.wait(0.01)

    def outcome():
        try:
            return type(api.validate(ann))
        except TokenManagerError as error:
            return type(error)

    def call():
        return [outcome() for _ in range(50)]

    troublemaker = threading.Thread(target=trouble)
    troublemaker.start()
    try:
        told = {kind for each in in_threads(8, call, timeout=240) for kind in each}
    finally:
        over.set()
        troublemaker.join()
    assert told <= {Caller, ServiceUnavailableError, AuthorityError}
    entra.recover()
    clock.advance(DAY)
    settled(tokens)
    clock.advance(MINUTE)
    assert api.validate(ann)
