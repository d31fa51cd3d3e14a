"""A store that fails is left alone for a while, and told of without its secrets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import held, in_child
from support import FakeClock, HandWorkers, RecordingStore, make_context

from tokenmgr import StoreError
from tokenmgr._sharing.guarded import GuardedStore, StoreAwayError
from tokenmgr.events import Event, StoreFailed, StoreRecovered


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def flaky(clock: FakeClock) -> RecordingStore:
    return RecordingStore(clock)


@pytest.fixture
def workers() -> HandWorkers:
    return HandWorkers()


@pytest.fixture
def store(
    flaky: RecordingStore, clock: FakeClock, events: list[Event], workers: HandWorkers
) -> GuardedStore:
    context = replace(make_context(clock, workers=workers), emit=events.append)
    return GuardedStore(flaky, context, probe_key="test:probe")


def away(store: GuardedStore) -> None:
    with pytest.raises(StoreAwayError):
        store.get("key")


def test_it_passes_on_what_the_store_does(store):
    store.put("key", b"value", 30.0)
    assert store.get("key") == b"value"
    assert not store.lease("key", b"owner", 30.0)
    assert store.delete("key", b"value")
    assert store.lease("key", b"owner", 30.0)


def test_after_a_failure_the_store_is_left_alone_for_one_to_two_seconds(
    store, flaky, clock, workers
):
    flaky.error = OSError("gone")
    away(store)
    for _ in range(100):
        with pytest.raises(StoreAwayError):
            store.lease("key", b"owner", 30.0)
    clock.advance(0.99)
    away(store)
    assert not workers.given
    clock.advance(1.01)
    away(store)
    assert len(workers.given) == 1
    assert flaky.asked == ["get"]


def test_no_call_waits_for_the_probe(store, flaky, clock, events, workers):
    flaky.error = OSError("gone")
    away(store)
    flaky.error = None
    clock.advance(2.0)
    for _ in range(3):
        away(store)
    assert flaky.asked == ["get"]
    workers.run()
    assert flaky.asked == ["get", "lease", "put", "get", "delete"], "one probe, that does it all"
    assert isinstance(events[-1], StoreRecovered)
    assert len(events) == 2
    store.put("key", b"value", 30.0)
    assert store.get("key") == b"value"
    assert flaky.get("test:probe") is None


def test_after_it_was_well_its_failures_are_counted_anew(store, flaky, clock, events, workers):
    for _ in range(3):
        flaky.error = OSError("gone")
        away(store)
        flaky.error = None
        clock.advance(2.0)
        away(store)
        workers.run()
    assert [event.seconds <= 2.0 for event in events if isinstance(event, StoreFailed)] == [
        True
    ] * 3


@pytest.mark.parametrize("failing", ["get", "put", "lease", "delete"])
def test_a_store_that_does_not_do_all_of_it_is_left_alone_for_longer_each_time(
    store, flaky, clock, events, workers, failing
):
    flaky.error, flaky.failing = OSError("full"), (failing,)
    with pytest.raises(StoreAwayError):
        (
            store.get("key"),
            store.put("key", b"", 1.0),
            store.lease("lease", b"", 1.0),
            store.delete("key", b""),
        )
    for _ in range(9):
        clock.advance(30.0)
        away(store)
        workers.run()
    assert [event.operation for event in events] == [failing] * 10
    seconds = [event.seconds for event in events]
    longest = [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0]
    assert all(most / 2 <= each <= most for each, most in zip(seconds, longest, strict=True))


def test_a_probe_takes_nonsense_for_a_failure(store, flaky, clock, events, workers):
    flaky.error = OSError("gone")
    away(store)
    flaky.error, flaky.get = None, lambda key: "text"
    clock.advance(2.0)
    away(store)
    workers.run()
    assert "mend the store" in events[-1].error


def test_calls_that_fail_together_are_one_failure(store, flaky, events):
    def fail_while_another_one_fails(key: str) -> None:
        flaky.get = lambda key: 1 / 0
        away(store)
        raise OSError

    flaky.get = fail_while_another_one_fails
    away(store)
    assert [(event.error, event.seconds <= 2.0) for event in events] == [
        ("ZeroDivisionError", True)
    ]


def test_what_began_before_a_failure_and_ends_well_ends_nothing(store, flaky, clock, workers):
    def fail_meanwhile(key: str) -> bytes:
        flaky.get = lambda key: 1 / 0
        away(store)
        return b"value"

    flaky.get = fail_meanwhile
    assert store.get("key") == b"value"
    away(store)
    assert flaky.asked == []


def test_a_lease_is_given_back_and_put_over_although_the_store_is_away(store, flaky):
    assert store.lease("lease", b"owner", 30.0)
    flaky.error = OSError("gone")
    away(store)
    flaky.error = None
    store.put_over("lease", b"verdict", 30.0)
    assert flaky.get("lease") == b"verdict"
    store.give_back("lease", b"verdict")
    assert flaky.get("lease") is None
    away(store)


def test_a_probe_that_hangs_keeps_one_thread_and_no_call(store, flaky, clock, workers):
    flaky.error = OSError("gone")
    away(store)
    flaky.error = None
    with held(store._probing):  # the one that hangs
        for _ in range(10):
            clock.advance(30.0)
            away(store)
            workers.run()
        assert flaky.asked == ["get"]
    clock.advance(30.0)
    away(store)
    workers.run()
    assert store.get("key") is None


def test_where_no_thread_can_be_started_the_call_probes(store, flaky, clock, workers):
    flaky.error = OSError("gone")
    away(store)
    flaky.error, workers.can_start = None, False
    clock.advance(2.0)
    assert store.get("key") is None


def test_a_probe_that_begins_late_asks_a_store_that_is_well_nothing(
    store, flaky, clock, events, workers
):
    flaky.error = OSError("gone")
    away(store)
    flaky.error = None
    clock.advance(2.0)
    away(store)
    clock.advance(29.9)
    away(store)
    assert len(workers.given) == 1
    clock.advance(0.1)
    away(store)
    assert len(workers.given) == 2, "the first may never begin"
    workers.run()
    assert flaky.asked == ["get", "lease", "put", "get", "delete"]
    assert [type(event) for event in events] == [StoreFailed, StoreRecovered]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("redis://:hunter2@host"), "OSError"),
        (StoreError("the disk is full: make room"), "StoreError: the disk is full: make room"),
    ],
)
def test_only_the_text_of_our_own_errors_is_told(store, flaky, clock, events, error, told):
    flaky.error = error
    with pytest.raises(StoreAwayError) as caught:
        store.get("key")
    assert events == [StoreFailed(clock.wall(), "get", told, events[0].seconds)]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_interruption_is_no_failure_of_the_store(store, flaky, events):
    flaky.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        store.get("key")
    flaky.error = None
    assert store.get("key") is None
    assert not events


@needs_fork
@unwarned_forks
def test_a_child_asks_although_its_parent_was_just_asking(store):
    store.put("key", b"value", 30.0)
    with held(store._lock):
        assert in_child(lambda: store.get("key") == b"value")


@needs_fork
@unwarned_forks
def test_a_child_probes_although_its_parent_was_just_probing(store, flaky, clock, workers):
    flaky.error = OSError("gone")
    away(store)
    flaky.error = None
    clock.advance(2.0)
    away(store)

    workers.given.clear()  # a thread of the parent has taken it

    def probe() -> bool:
        away(store)
        workers.given.pop()()
        return store.get("key") is None

    with held(store._probing):
        assert in_child(probe)
