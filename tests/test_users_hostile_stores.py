"""A store that swaps, replays and rolls back the records of two users gives neither the other's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from emulator_clients import claims_of
from waiting import until

from tokenmgr import TokenRegistry
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import Event, RecordRefused, TokenAdopted
from tokenmgr.stores import MemoryStore

SCOPE = "https://graph.microsoft.com/User.Read"
NAMES = ("ann@contoso.com", "ben@contoso.com")


class Fleet:
    """Workers of one app with one store, and two users."""

    def __init__(self, entra: EntraEmulator) -> None:
        self.entra = entra
        self.store = MemoryStore()
        self.told: list[Event] = []
        self.stack = ExitStack()
        for name in NAMES:
            entra.add_user(name)
        self.users = {name: entra.sign_in(name) for name in NAMES}

    def worker(self) -> TokenRegistry:
        """One that knows nothing as yet."""
        return self.stack.enter_context(
            self.entra.registry(store=self.store, on_event=self.told.append)
        )

    def serve(self, worker: TokenRegistry) -> dict[str, str]:
        """Each user's token, checked to be theirs."""
        tokens = {}
        for name, assertion in self.users.items():
            tokens[name] = worker.on_behalf_of(assertion, SCOPE).get_access_token()
            assert claims_of(tokens[name])["oid"] == claims_of(assertion)["oid"], name
        return tokens

    def records(self) -> dict[str, bytes]:
        """What lies in the store."""
        names = list(self.store._records)
        return {each: self.store.get(each) or b"" for each in names}

    def put(self, records: dict[str, bytes]) -> None:
        """Has the store hold these, whatever is there."""
        for name, record in records.items():
            self.store.put(name, record, 3600.0)


@pytest.fixture
def fleet(entra: EntraEmulator) -> Iterator[Fleet]:
    fleet = Fleet(entra)
    with fleet.stack:
        yield fleet


def test_swapped_records_are_a_miss_and_an_event_for_both(fleet: Fleet) -> None:
    theirs = fleet.serve(fleet.worker())
    (one, first), (other, second) = fleet.records().items()
    fleet.put({one: second, other: first})
    again = fleet.serve(fleet.worker())
    assert fleet.entra.count() == 4
    assert set(again.values()).isdisjoint(theirs.values())
    until(lambda: sum(isinstance(each, RecordRefused) for each in fleet.told) >= 2, "the events")


def test_one_users_record_in_all_places_serves_that_user_alone(fleet: Fleet) -> None:
    theirs = fleet.serve(fleet.worker())
    names = list(fleet.records())
    first = fleet.records()[names[0]]
    fleet.put(dict.fromkeys(names, first))
    again = fleet.serve(fleet.worker())
    assert fleet.entra.count() == 3
    assert len(set(again.values()) & set(theirs.values())) == 1


def test_a_record_of_before_is_not_taken_by_a_worker_that_has_a_newer_token(fleet: Fleet) -> None:
    warm = fleet.worker()
    fleet.serve(warm)
    older = fleet.records()
    newer = {
        name: warm.on_behalf_of(assertion, SCOPE).refresh_access_token()
        for name, assertion in fleet.users.items()
    }
    fleet.put(older)
    for assertion in fleet.users.values():
        warm.on_behalf_of(assertion, SCOPE)._cell.look()  # as it does once in a while
    assert fleet.serve(warm) == newer
    assert not any(isinstance(each, TokenAdopted) for each in fleet.told)
    assert fleet.entra.count() == 4


def test_a_record_of_the_same_user_elsewhere_is_a_miss(fleet: Fleet) -> None:
    """At another authority, with the same secret and thus the same key."""
    fleet.serve(fleet.worker())
    elsewhere = fleet.stack.enter_context(
        fleet.entra.registry(
            store=fleet.store,
            authority=fleet.entra.authority("common"),
            on_event=fleet.told.append,
        )
    )
    fleet.serve(elsewhere)
    assert len(fleet.records()) == 4
    names, records = list(fleet.records()), list(fleet.records().values())
    fleet.put(dict(zip(names, [*records[2:], *records[:2]], strict=True)))
    fleet.serve(fleet.worker())
    assert fleet.entra.count() == 6
