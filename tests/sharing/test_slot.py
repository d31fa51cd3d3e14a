"""What lies in a store for one key, and what of it is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import KEY, STORE_KEY, FakeClock, make_context, make_sealed

from tokenmgr import (
    AccessToken,
    ConfigurationError,
    InteractionRequiredError,
    ThrottledError,
    TokenKey,
    TokenManagerError,
)
from tokenmgr._sharing import seal
from tokenmgr._sharing.record import Verdict, name_of, record_from_bytes, record_to_bytes
from tokenmgr._sharing.seal import SealingKey
from tokenmgr._sharing.slot import Lease, SealedStore, Slot
from tokenmgr.events import Event, RecordRefused
from tokenmgr.identity.proofs import SecretText
from tokenmgr.stores import MemoryStore
from tokenmgr.token import Record

ANOTHER_KEY = replace(KEY, subject="another")
OWNER = name_of(KEY)
RECORD = Record(
    AccessToken("eyJ0", 1_800_003_600.0, 1_800_002_880.0, ("a", "b"), "Bearer"),
    obtained_at=1_800_000_000.0,
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


def serves(record: Record) -> bool:
    return True


class Shelf:
    """A store, the slots in it, and what was refused there."""

    def __init__(self, clock: FakeClock) -> None:
        self.store = MemoryStore(clock)
        self.events: list[Event] = []
        self._context = replace(make_context(clock), emit=self.events.append)

    def sealed(self, *keys: str) -> SealedStore:
        """A worker's part in the store; without keys, one that derives them."""
        return make_sealed(self.store, self._context, keys)

    def slot(self, key: TokenKey = KEY, *keys: str) -> Slot:
        return Slot(self.sealed(*(keys or (STORE_KEY,))), key)

    def lease(self) -> Lease:
        return self.slot().lease()

    @property
    def refused(self) -> list[str]:
        assert {type(event) for event in self.events} <= {RecordRefused}
        return [event.reason for event in self.events]


def at(slot: Slot) -> str:
    """Under which name a slot's record is written."""
    return slot._places()[0][1]


def put(shelf: Shelf, slot: Slot, content: bytes) -> None:
    """Seals a content as a record is."""
    sealing, name = slot._places()[0]
    shelf.store.put(name, sealing.seal(content, name), 60.0)


@pytest.fixture
def shelf(clock: FakeClock) -> Shelf:
    return Shelf(clock)


def test_a_record_comes_back_as_it_was(shelf):
    shelf.slot().write(RECORD, 60.0)
    assert shelf.slot().read(serves) == RECORD
    assert not shelf.refused


def test_a_bound_token_s_record_lies_elsewhere_and_says_what_it_is_bound_to(shelf):
    bound = replace(KEY, token_type="mtls_pop", binding_key_id="thumbprint")
    record = RECORD._replace(
        token=replace(RECORD.token, token_type="mtls_pop", binding_key_id="thumbprint")
    )
    shelf.slot().write(RECORD, 60.0)
    shelf.slot(bound).write(record, 60.0)
    for other in (
        replace(bound, token_type="Bearer"),
        replace(bound, binding_key_id="another"),
        replace(bound, binding_key_id=""),
    ):
        assert shelf.slot(other).read(serves) is None
    assert shelf.slot(bound).read(serves) == record
    assert shelf.slot().read(serves) == RECORD
    assert not shelf.refused


def test_a_record_of_the_version_before_bindings_is_read(shelf):
    """By its name, its owner and its content, as they were written then."""
    owner = json.dumps(
        [KEY.authority, KEY.client_id, KEY.grant, list(KEY.scopes), "", "", False, "", []]
    )
    old = {
        "owner": owner,
        "secret": "eyJ0",
        "token_type": "Bearer",
        "expires_at": 1_800_003_600.0,
        "refresh_at": 1_800_002_880.0,
        "scopes": ["a", "b"],
        "obtained_at": 1_800_000_000.0,
    }
    slot = Slot(shelf.sealed(STORE_KEY), KEY, owner)
    put(shelf, slot, json.dumps(old).encode())
    assert shelf.slot().read(serves) == RECORD
    assert not shelf.refused


@pytest.mark.parametrize("value", [5, None, ["thumbprint"], {}])
def test_a_record_whose_binding_is_no_text_is_refused(shelf, value):
    slot = shelf.slot()
    said = json.loads(record_to_bytes(RECORD, OWNER)) | {"binding_key_id": value}
    put(shelf, slot, json.dumps(said).encode())
    assert slot.read(serves) is None
    assert shelf.refused == ["not what this version writes"]


def test_a_record_that_does_not_serve_is_none(shelf):
    shelf.slot().write(RECORD, 60.0)
    assert shelf.slot().read(lambda record: record.token.secret != "eyJ0") is None
    assert not shelf.refused


def test_records_of_other_keys_and_of_other_secrets_lie_elsewhere(shelf):
    shelf.slot().write(RECORD, 60.0)
    assert shelf.slot(ANOTHER_KEY).read(serves) is None
    assert shelf.slot(replace(KEY, claims="{}")).read(serves) is None
    assert shelf.slot(KEY, "another key " * 3).read(serves) is None
    assert not shelf.refused


def test_the_store_is_told_nothing(shelf):
    shelf.slot().write(RECORD, 60.0)
    ((name, (sealed, _)),) = shelf.store._records.items()
    for known in (*KEY.scopes, KEY.client_id, KEY.authority, "eyJ0", "Bearer"):
        assert known not in name
        assert known.encode() not in sealed


def test_a_record_that_was_moved_is_refused(shelf):
    slot, other = shelf.slot(), shelf.slot(ANOTHER_KEY)
    slot.write(RECORD, 60.0)
    shelf.store.put(at(other), shelf.store.get(at(slot)), 60.0)
    assert other.read(serves) is None
    assert [event.key for event in shelf.events] == [ANOTHER_KEY]


def test_a_record_that_names_another_owner_inside_of_its_seal_is_refused(shelf):
    slot = shelf.slot()
    put(shelf, slot, record_to_bytes(RECORD, name_of(ANOTHER_KEY)))
    assert slot.read(serves) is None
    assert shelf.refused == ["another key's"]


def test_plain_text_in_the_store_is_refused(shelf):
    slot = shelf.slot()
    shelf.store.put(at(slot), record_to_bytes(RECORD, OWNER), 60.0)
    assert slot.read(serves) is None
    assert shelf.refused == ["no sealed record of this version"]


def test_a_record_is_written_under_the_first_key_and_found_and_removed_under_each(shelf):
    one, other = "one of the keys " * 2, "another key " * 3
    both = (other, one)
    shelf.slot(KEY, one).write(RECORD, 60.0)
    assert shelf.slot(KEY, *both).read(serves) == RECORD
    newer = RECORD._replace(obtained_at=RECORD.obtained_at + 1)
    shelf.slot(KEY, *both).write(newer, 60.0)
    assert shelf.slot(KEY, other).read(serves) == shelf.slot(KEY, *both).read(serves) == newer
    assert shelf.slot(KEY, *both).read(lambda record: record != newer) == RECORD
    shelf.slot(KEY, *both).remove("eyJ0")
    assert shelf.slot(KEY, one).read(serves) is shelf.slot(KEY, other).read(serves) is None
    assert shelf.slot(KEY, *both).lease().take()
    assert not shelf.slot(KEY, other).lease().take()


def test_nothing_is_derived_or_named_anew_at_each_look(shelf, monkeypatch):
    done: list[str] = []

    class Noted(SealingKey):
        def __init__(self, material: bytes) -> None:
            done.append("derived")
            super().__init__(material)

        def name(self, text: str) -> str:
            done.append("named")
            return super().name(text)

    def use(slot: Slot, proof: SecretText) -> None:
        for _ in range(10):
            assert slot.opens_with(proof)
            slot.write(RECORD, 60.0)
            slot.read(serves)
            slot.lease().take()
            slot.remove("eyJ0")

    monkeypatch.setattr(seal, "SealingKey", Noted)
    sealed = shelf.sealed()
    one, other = Slot(sealed, KEY), Slot(sealed, ANOTHER_KEY)
    for slot in (one, other, one):
        use(slot, SecretText("first"))
    assert done == ["derived", "named", "named"]
    done.clear()
    for slot in (one, other, one):
        use(slot, SecretText("second"))
    assert done == ["derived", "named", "named"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 60_000,
        b'{"secret": ""}',
        b'{"secret": "eyJ0", "token_type": "Bearer"}',
        *(
            json.dumps(json.loads(record_to_bytes(RECORD, OWNER)) | {name: value}).encode()
            for name, value in [
                ("secret", 5),
                ("token_type", None),
                ("expires_at", "soon"),
                ("expires_at", True),
                ("refresh_at", "soon"),
                ("obtained_at", None),
                ("scopes", 5),
            ]
        ),
    ],
)
def test_what_opens_and_is_no_record_is_refused(shelf, content):
    slot = shelf.slot()
    put(shelf, slot, content)
    assert slot.read(serves) is None
    assert shelf.refused == ["not what this version writes"]


def test_what_a_later_version_adds_is_passed_over(shelf):
    slot = shelf.slot()
    content = json.dumps(
        json.loads(record_to_bytes(RECORD, OWNER)) | {"state": {"refresh": 1}}
    ).encode()
    put(shelf, slot, content)
    assert slot.read(serves) == RECORD


def test_only_the_refused_token_is_removed(shelf):
    slot = shelf.slot()
    slot.write(RECORD, 60.0)
    slot.remove("another")
    assert slot.read(serves) == RECORD
    slot.remove("eyJ0")
    assert slot.read(serves) is None
    slot.remove("eyJ0")


def test_a_lease_is_one_worker_s_at_a_time(shelf):
    one, other = shelf.lease(), shelf.lease()
    assert one.take()
    assert not other.take()
    assert one.take(), "asked again, after an answer that was lost"
    other.give_back()
    assert not other.take()
    assert one.taken
    one.give_back()
    assert not one.taken
    assert other.take()
    one.give_back()
    assert not one.take()
    assert not one.taken


def test_a_lease_ends_with_its_time(shelf, clock):
    one, other = shelf.lease(), shelf.lease()
    assert one.take()
    clock.advance(12.0)
    assert other.take()
    one.give_back()
    assert other.look() is not None


def test_a_verdict_stands_where_the_lease_was(shelf, clock):
    lease, other = shelf.lease(), shelf.lease()
    assert other.verdict() is None, "nobody has it"
    lease.take()
    assert not other.take()
    assert other.verdict() is None, "its holder fetches still"
    lease.leave(Verdict(ERROR, clock.wall(), clock.wall() + 30.0))
    assert not lease.taken, "there is nothing to give back"
    lease.give_back()
    assert not other.take()
    verdict = other.verdict()
    assert verdict is not None
    assert (verdict.at, verdict.until) == (clock.wall(), clock.wall() + 30.0)
    assert verdict.error is not None
    assert told(verdict.error) == told(ERROR)
    clock.advance(30.0)
    assert other.take()
    assert not shelf.refused


@pytest.mark.parametrize("late", [0.0, 11.5, 13.0])
def test_a_verdict_does_not_take_another_worker_s_lease_away(shelf, clock, late):
    one, other = shelf.lease(), shelf.lease()
    if late:
        one.take()
        clock.advance(late)
    other.take()
    holder = other.look()
    one.leave(Verdict(None, 0.0, 30.0))
    assert other.look() == holder


def test_a_verdict_that_was_tampered_with_is_none(shelf, clock):
    lease = shelf.lease()
    lease.take()
    lease.leave(Verdict(ERROR, clock.wall(), clock.wall() + 30.0))
    content = lease.look()
    assert lease.verdict() is not None
    for spoiled in (content[:-1], b"{}", b"\0" * 17):
        shelf.store.put(lease._name, spoiled, 30.0)
        lease.look()
        assert lease.verdict() is None
    assert len(shelf.refused) == 3


def test_a_lease_lasts_longer_than_a_fetch(shelf):
    sealed = shelf.sealed()
    assert Slot(sealed, KEY).lease().ttl == sealed.lease_ttl == sealed.context.fetch_timeout + 2.0


@pytest.mark.parametrize(
    "error", [ERROR, ConfigurationError("no"), InteractionRequiredError("sign in", claims="{}")]
)
def test_an_error_is_the_same_for_every_worker(error):
    found = Verdict.from_bytes(Verdict(error, 5.0, 7.0).to_bytes()).error
    assert found is not None
    assert told(found) == told(error)
    assert Verdict.from_bytes(Verdict(None, 5.0, 7.0).to_bytes()) == Verdict(None, 5.0, 7.0)


@pytest.mark.parametrize("change", [{"kind": "OSError"}, {"kind": "annotations"}, {"new": 1}])
def test_an_error_of_a_later_version_is_no_verdict(change):
    content = json.dumps(json.loads(Verdict(ERROR, 5.0, 7.0).to_bytes()) | change).encode()
    with pytest.raises(ValueError, match="later version"):
        Verdict.from_bytes(content)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_nothing_but_a_value_error_comes_of_any_json(content):
    for read in (partial(record_from_bytes, owner=OWNER), Verdict.from_bytes):
        with pytest.raises(ValueError):  # noqa: PT011 - each says what it misses
            read(content.encode())


def test_a_record_that_is_changed_at_any_byte_is_a_miss_and_told(shelf):
    slot = shelf.slot()
    slot.write(RECORD, 60.0)
    sealed = shelf.store.get(at(slot))
    for number in range(len(sealed)):
        for changed in (
            sealed[:number],
            sealed[:number] + bytes([sealed[number] ^ 0x80]) + sealed[number + 1 :],
            sealed[:number] + sealed[number + 1 :],
        ):
            shelf.store.put(at(slot), changed, 60.0)
            assert slot.read(serves) is None
    assert len(shelf.refused) == 3 * len(sealed)
