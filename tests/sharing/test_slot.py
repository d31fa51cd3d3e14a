"""What lies in a store for one key, and what of it is believed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FakeClock

from tokenmgr import (
    AccessToken,
    ConfigurationError,
    InteractionRequiredError,
    ThrottledError,
    TokenManagerError,
)
from tokenmgr._runtime import forks
from tokenmgr._sharing.guarded import GuardedStore
from tokenmgr._sharing.record import Failure, record_from_bytes, record_to_bytes
from tokenmgr._sharing.seal import SealingKey
from tokenmgr._sharing.slot import Lease, Place
from tokenmgr.stores import MemoryStore
from tokenmgr.token import Record

RECORD = Record(
    AccessToken("eyJ0", 1_800_003_600.0, 1_800_002_880.0, ("a", "b"), "Bearer"),
    obtained_at=1_800_000_000.0,
    claims='{"access_token":{}}',
)
ERROR = ThrottledError(
    "slow down",
    error="temporarily_unavailable",
    error_codes=(90033,),
    correlation_id="c",
    trace_id="t",
    claims="{}",
    retry_after=30.0,
    status=429,
)


def told(error: TokenManagerError) -> dict[str, object]:
    """All that an error says."""
    return vars(error) | {"kind": type(error), "text": str(error), "retryable": error.retryable}


class Shelf:
    """A store, the places in it, and what was refused there."""

    def __init__(self, clock: FakeClock) -> None:
        self.store = MemoryStore(clock)
        self.clock = clock
        self.guarded = GuardedStore(self.store, clock, lambda event: None, probe_key="test:probe")
        self.refused: list[str] = []

    def place(self, described: str = "a key", material: bytes = b"secret") -> Place:
        sealing = SealingKey(material)
        return Place(self.guarded, sealing, "test", described, self.refused.append)

    def lease(self) -> Lease:
        return self.place().lease(12.0, self.clock)


@pytest.fixture
def shelf(clock: FakeClock) -> Shelf:
    return Shelf(clock)


def test_a_record_comes_back_as_it_was(shelf):
    shelf.place().write(RECORD, 60.0)
    assert shelf.place().read() == RECORD
    assert not shelf.refused


def test_records_of_other_keys_and_of_other_secrets_lie_elsewhere(shelf):
    shelf.place().write(RECORD, 60.0)
    assert shelf.place("another key").read() is None
    assert shelf.place(material=b"another secret").read() is None
    assert not shelf.refused


def test_the_store_is_told_nothing(shelf):
    shelf.place().write(RECORD, 60.0)
    ((name, (sealed, _)),) = shelf.store._records.items()
    for known in ("a key", "eyJ0", "access_token"):
        assert known not in name
        assert known.encode() not in sealed


def test_a_record_that_was_moved_is_refused(shelf):
    place, other = shelf.place(), shelf.place("another key")
    place.write(RECORD, 60.0)
    shelf.store.put(other._name, shelf.store.get(place._name), 60.0)
    assert other.read() is None
    assert len(shelf.refused) == 1


def test_plain_text_in_the_store_is_refused(shelf):
    place = shelf.place()
    shelf.store.put(place._name, record_to_bytes(RECORD), 60.0)
    assert place.read() is None
    assert shelf.refused == ["no sealed record of this version"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"secret": ""}',
        b'{"secret": "eyJ0", "token_type": "Bearer"}',
        *(
            json.dumps(json.loads(record_to_bytes(RECORD)) | {name: value}).encode()
            for name, value in [
                ("secret", 5),
                ("token_type", None),
                ("expires_at", "soon"),
                ("expires_at", True),
                ("refresh_at", "soon"),
                ("obtained_at", None),
                ("claims", 5),
                ("scopes", 5),
            ]
        ),
    ],
)
def test_what_opens_and_is_no_record_is_refused(shelf, content):
    place = shelf.place()
    shelf.store.put(place._name, place._sealing.seal(content, place._name), 60.0)
    assert place.read() is None
    assert shelf.refused == ["not what this version writes"]


def test_what_a_later_version_adds_is_passed_over(shelf):
    place = shelf.place()
    content = json.dumps(json.loads(record_to_bytes(RECORD)) | {"state": {"refresh": 1}}).encode()
    shelf.store.put(place._name, place._sealing.seal(content, place._name), 60.0)
    assert place.read() == RECORD


def test_only_the_refused_token_is_removed(shelf):
    place = shelf.place()
    place.write(RECORD, 60.0)
    place.remove("another")
    assert place.read() == RECORD
    place.remove("eyJ0")
    assert place.read() is None
    place.remove("eyJ0")


def test_a_lease_is_one_worker_s_at_a_time(shelf):
    one, other = shelf.lease(), shelf.lease()
    assert one.take()
    assert not other.take()
    assert one.take(), "asked again, after an answer that was lost"
    other.give_back()
    assert not other.take()
    one.give_back()
    assert other.take()
    one.give_back()
    assert not one.take()


def test_a_lease_ends_with_its_time(shelf, clock):
    one, other = shelf.lease(), shelf.lease()
    assert one.take()
    clock.advance(12.0)
    assert other.take()
    one.give_back()
    assert other.look() is not None


def test_word_of_a_failure_stands_where_the_lease_was(shelf, clock):
    place, lease, other = shelf.place(), shelf.lease(), shelf.lease()
    lease.take()
    assert place.word_of(lease.look() or b"") is None
    lease.leave_word(Failure(ERROR, clock.wall()), 30.0)
    lease.give_back()
    assert not other.take()
    word = place.word_of(other.holder or b"")
    assert word is not None
    assert word.at == clock.wall()
    assert word.error is not None
    assert told(word.error) == told(ERROR)
    clock.advance(30.0)
    assert other.take()


@pytest.mark.parametrize("late", [0.0, 11.5, 13.0])
def test_word_does_not_take_another_worker_s_lease_away(shelf, clock, late):
    one, other = shelf.lease(), shelf.lease()
    if late:
        one.take()
        clock.advance(late)
    other.take()
    held = other.look()
    one.leave_word(Failure(None, 0.0), 30.0)
    assert other.look() == held


def test_a_word_that_was_tampered_with_is_none(shelf, clock):
    place, lease = shelf.place(), shelf.lease()
    lease.take()
    lease.leave_word(Failure(ERROR, clock.wall()), 30.0)
    word = lease.look() or b""
    assert place.word_of(word[:-1]) is None
    assert place.word_of(b"{}") is None
    assert len(shelf.refused) == 2


@pytest.mark.parametrize(
    "error", [ERROR, ConfigurationError("no"), InteractionRequiredError("sign in", claims="{}")]
)
def test_an_error_is_the_same_for_every_worker(error):
    found = Failure.from_bytes(Failure(error, 5.0).to_bytes()).error
    assert found is not None
    assert told(found) == told(error)
    assert Failure.from_bytes(Failure(None, 5.0).to_bytes()) == Failure(None, 5.0)


@pytest.mark.parametrize("change", [{"kind": "OSError"}, {"kind": "annotations"}, {"new": 1}])
def test_an_error_of_a_later_version_is_no_word(change):
    content = json.dumps(json.loads(Failure(ERROR, 5.0).to_bytes()) | change).encode()
    with pytest.raises(ValueError, match="later version"):
        Failure.from_bytes(content)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_nothing_but_a_value_error_comes_of_any_json(content):
    for read in (record_from_bytes, Failure.from_bytes):
        with pytest.raises(ValueError):  # noqa: PT011 - each says what it misses
            read(content.encode())


def test_a_record_that_is_changed_at_any_byte_is_a_miss_and_told(shelf):
    place = shelf.place()
    place.write(RECORD, 60.0)
    sealed = shelf.store.get(place._name)
    for at in range(len(sealed)):
        for changed in (
            sealed[:at],
            sealed[:at] + bytes([sealed[at] ^ 0x80]) + sealed[at + 1 :],
            sealed[:at] + sealed[at + 1 :],
        ):
            shelf.store.put(place._name, changed, 60.0)
            assert place.read() is None
    assert len(shelf.refused) == 3 * len(sealed)


def test_no_fork_hits_the_middle_of_a_seal(shelf, monkeypatch):
    depths: list[int] = []
    for name in ("name", "seal", "open"):
        call = getattr(SealingKey, name)

        def noted(*args: object, call: Callable[..., object] = call) -> object:
            depths.append(forks._mine.depth)
            return call(*args)

        monkeypatch.setattr(SealingKey, name, noted)
    shelf.place().write(RECORD, 30.0)
    assert shelf.place().read() == RECORD
    lease = shelf.lease()
    assert lease.take()
    lease.leave_word(Failure(ERROR, RECORD.obtained_at), 30.0)
    assert shelf.place().word_of(lease.look()) is not None
    assert len(depths) >= 7
    assert set(depths) == {1}
