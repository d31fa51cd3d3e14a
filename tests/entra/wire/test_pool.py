"""Connections that registries have in common, and when they are closed."""

from __future__ import annotations

import gc
import socket
import threading
from pathlib import Path

import pytest
from entra_calls import failure, fetch
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from support import SCOPE
from waiting import until

from tokenmgr import AuthorityError, ConfigurationError, ServiceUnavailableError, TokenRegistry
from tokenmgr.entra.wire import adapter
from tokenmgr.entra.wire import pool as module


@pytest.fixture
def rough(make_rough):
    """One that keeps its connections, and counts those that its clients close."""
    server = make_rough("HTTP/1.1")
    server.closed = 0

    def follow(handler):
        finish = handler.finish

        def note() -> None:
            server.closed += 1
            finish()

        handler.finish = note

    server.on_connect = follow
    return server


def pool(tokens):
    return tokens._own.app.connection._transport._pool.thing


def test_registries_with_the_same_settings_use_the_same_connection(rough, registry):
    together = [registry(client_id=f"app-{number}") for number in range(5)]
    for tokens in together:
        assert fetch(tokens) == "a-token"

    assert rough.connections == 1
    assert len({pool(tokens) for tokens in together}) == 1


def test_who_finds_all_connections_in_use_waits_for_one_within_his_own_time(
    rough, registry, monkeypatch
):
    monkeypatch.setattr(module, "_most_at_once", lambda: 1)
    gate, answer = threading.Event(), rough.on_post
    arrived = threading.Semaphore(0)

    def hold(handler):
        arrived.release()
        assert gate.wait(30)
        answer(handler)

    rough.on_post = hold
    patient, other = registry(timeout=20.0), registry(timeout=2.0)
    patient.manager(SCOPE).prefetch()
    assert arrived.acquire(timeout=10)
    error = failure(other, ServiceUnavailableError, match="as many requests as there may be")
    assert "open" in str(error)
    gate.set()
    assert fetch(other) == patient.get_access_token(SCOPE) == "a-token"
    assert rough.connections == 1


def test_the_time_that_a_request_has_waited_for_a_connection_is_taken_off_its_answers(rough):
    pool = adapter._Pool("localhost", maxsize=1, block=True)
    used, deadline = pool._get_conn(), adapter.Deadline(connect=5.0, total=10.0)
    left = pool._get_timeout(deadline)
    put_back = threading.Timer(0.2, pool._put_conn, [used])
    put_back.start()
    assert pool._get_conn() is used
    sent_with = pool._get_timeout(left)
    assert sent_with.total <= left.total - 0.1
    assert sent_with.connect_timeout == 5.0
    put_back.join()


def test_a_connection_that_was_begun_is_closed_where_there_are_as_many_as_there_may_be():
    pool, (begun, other) = adapter._Pool("localhost", maxsize=1, block=True), socket.socketpair()
    used = pool._get_conn()
    pool.take(begun)
    assert begun.fileno() == -1
    pool._put_conn(used)
    other.close()


def test_a_socks_proxys_connections_are_as_many_as_are_asked_for():
    manager = adapter.DeadlineAdapter(pool_block=True).proxy_manager_for("socks5://127.0.0.1:1")
    assert manager.connection_pool_kw["block"] is False


def test_registries_with_other_settings_share_none(rough, proxy, registry, tmp_path):
    copy = tmp_path / "ca.pem"
    copy.write_bytes(Path(rough.ca_file).read_bytes())
    apart = [
        registry(),
        registry(verify=str(copy)),
        registry(proxies={"https": proxy.url}),
        registry(proxies={"https": proxy.url.replace("//", "//user:hunter2@")}),
    ]
    for tokens in apart:
        assert fetch(tokens) == "a-token"

    assert len({pool(tokens) for tokens in apart}) == rough.connections == 4
    assert len(proxy.tunnels) == 2


def test_a_registry_that_trusts_another_authority_gets_no_connection_of_one_that_trusts_this(
    rough, make_rough, registry
):
    fetch(registry())
    stranger = registry(verify=make_rough().ca_file)

    failure(stranger, AuthorityError, match="certificate")
    assert rough.posts == 1


def test_the_last_registry_that_closes_closes_the_connections(rough, registry):
    one, other = registry(), registry()
    fetch(one)
    fetch(other)
    one.close()

    failure(one, ConfigurationError)
    assert fetch(other) == "a-token"
    assert (rough.connections, rough.closed) == (1, 0)

    other.close()
    until(lambda: rough.closed == 1, "the end of the connection")


def test_a_registry_that_closes_while_it_waits_to_try_again_leaves_the_other_one_waiting(
    rough, registry
):
    one, other = registry(timeout=60), registry(timeout=60)
    came = threading.Semaphore(0)

    def throttle_twice(handler):
        if rough.posts <= 2:
            handler.answer(503, "{}", retry_after="2")
            came.release()
        else:
            handler.token()

    rough.on_post = throttle_twice
    managers = [tokens.manager("api://orders/.default") for tokens in (one, other)]
    for manager in managers:
        manager.prefetch()
    for _ in managers:
        assert came.acquire(timeout=15)

    one.close()

    assert managers[1].get_access_token() == "a-token"
    assert rough.posts == 3


def test_what_a_registry_that_is_dropped_had_is_closed(rough):
    tokens = TokenRegistry(
        client_id="app", credential="secret", authority=rough.authority, verify=rough.ca_file
    )
    assert tokens.get_access_token(SCOPE) == "a-token"
    del tokens
    until(lambda: gc.collect() >= 0 and rough.closed == 1, "the end of the connection")


def test_a_connection_that_nobody_uses_is_closed_though_nothing_is_asked_any_more(
    rough, registry, monkeypatch
):
    monkeypatch.setattr(module, "_IDLE", 0.02)
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.01)
    tokens = registry()
    fetch(tokens)

    until(lambda: rough.closed == 1, "the end of the connection")
    until(lambda: not pool(tokens)._plan.live, "the last look")
    assert fetch(tokens) == "a-token"
    assert rough.connections == 2
    until(lambda: rough.closed == 2, "the end of the other connection")


def test_a_connection_that_was_used_of_late_stays_open(rough, registry):
    tokens = registry()
    fetch(tokens)
    assert pool(tokens).adapter.close_unused(60.0)
    fetch(tokens)
    assert rough.connections == 1
    assert not pool(tokens).adapter.close_unused(0.0)
    assert not pool(tokens).adapter.close_unused(0.0)
    until(lambda: rough.closed == 1, "the end of the connection")


def test_a_connection_that_carries_a_request_is_none_that_nobody_uses(rough, registry):
    tokens, come, go_on = registry(), threading.Event(), threading.Event()

    def answer_late(handler):
        come.set()
        assert go_on.wait(15)
        handler.token()

    rough.on_post = answer_late
    manager = tokens.manager("api://orders/.default")
    manager.prefetch()
    assert come.wait(15)

    assert pool(tokens).adapter.close_unused(0.0)  # there is one left, to look for later
    go_on.set()

    assert manager.get_access_token() == "a-token"
    assert rough.connections == 1


def test_a_look_that_meets_one_in_use_is_not_the_last(rough, registry, monkeypatch):
    monkeypatch.setattr(module, "_IDLE", 0.02)
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.01)
    tokens, looks = registry(), threading.Semaphore(0)
    close_unused = module.DeadlineAdapter.close_unused

    def counted(self, seconds):
        looks.release()
        return close_unused(self, seconds)

    def answer_late(handler):
        for _ in range(4):
            assert looks.acquire(timeout=15)
        handler.token()

    monkeypatch.setattr(module.DeadlineAdapter, "close_unused", counted)
    rough.on_post = answer_late
    fetch(tokens)

    until(lambda: rough.closed == 1, "the end of the connection")


def test_an_answer_leaves_no_cookie(rough, registry):
    rough.on_post = lambda handler: handler.answer(
        200,
        '{"access_token": "a-token", "expires_in": 3600}',
        set_cookie="fpc=who-it-was; path=/; secure",
    )
    tokens = registry()
    fetch(tokens)
    fetch(tokens)

    assert not list(pool(tokens).session.cookies)
    assert not any("cookie" in map(str.lower, each.headers) for each in rough.received)


def test_a_proxy_s_password_is_in_nothing_that_is_shown(rough, proxy, registry):
    tokens = registry(proxies={"https": proxy.url.replace("//", "//user:hunter2@")})
    fetch(tokens)

    for shown in (pool(tokens), module._POOLS, vars(module._POOLS), *module._POOLS._things.items()):
        assert "hunter2" not in repr(shown)


@needs_fork
@unwarned_forks
def test_a_child_opens_connections_of_its_own_and_leaves_its_parent_s_alone(rough, registry):
    one, other = registry(), registry()
    fetch(one)

    assert in_child(lambda: [fetch(one), fetch(other)]) == ["a-token"] * 2
    assert rough.connections == 2
    assert fetch(other) == "a-token"
    assert rough.connections == 2
