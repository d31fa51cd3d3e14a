"""What is on a connection beside the answer: no key is ever given what was meant for another."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from entra_calls import VAULT, fetch
from support import SCOPE
from waiting import until

from tokenmgr import TokenManagerError
from tokenmgr.entra.wire.transport import Transport

EARLY = b"HTTP/1.1 102 Processing\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
def rough(make_rough):
    """One that keeps its connections, and gives each scope a token of its own."""
    server = make_rough("HTTP/1.1")
    server.on_post = lambda handler: handler.wfile.write(whole(token_of(handler)))
    server.on_get = lambda handler: handler.wfile.write(whole(server.metadata))
    return server


def token_of(handler):
    return {"access_token": f"token-for-{handler.form['scope']}", "expires_in": 3600}


def whole(answer, *, length=None, **headers):
    body = json.dumps(answer).encode()
    lines = [f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode() + body


def once(rough, make):
    """Has the first token request answered with what ``make`` says, and all others as they are."""
    usual = rough.on_post

    def answer(handler):
        if rough.posts == 1:
            handler.wfile.write(make(token_of(handler)))
        else:
            usual(handler)

    rough.on_post = answer


@pytest.mark.parametrize(
    "before", [EARLY, HINTS, EARLY * 2, HINTS + EARLY, CONTINUE + HINTS, EARLY + CONTINUE]
)
@pytest.mark.parametrize("path", ["metadata", "token"])
def test_what_comes_ahead_of_an_answer_is_read_past(rough, registry, before, path):
    if path == "metadata":
        rough.on_get = lambda handler: handler.wfile.write(before + whole(rough.metadata))
    else:
        rough.on_post = lambda handler: handler.wfile.write(before + whole(token_of(handler)))
    tokens = registry()

    for scope in (SCOPE, VAULT, SCOPE):
        assert fetch(tokens, scope) == f"token-for-{scope}"

    assert rough.connections == 1, "it is accounted for, and serves on"
    assert len(rough.received) == 4


def test_what_comes_ahead_in_pieces_is_read_past_too(rough, registry):
    def answer(handler):
        for piece in (EARLY[:9], EARLY[9:], HINTS, whole(token_of(handler))):
            handler.wfile.write(piece)
            rough.stopping.wait(0.01)

    rough.on_post = answer
    tokens = registry()

    for scope in (SCOPE, VAULT):
        assert fetch(tokens, scope) == f"token-for-{scope}"


STRAY = whole({"access_token": "a-stray-token", "expires_in": 3600})

ODD = {
    "a second answer": lambda answer: whole(answer) + STRAY,
    "bytes behind the body": lambda answer: whole(answer) + b"\r\n\r\n",
    "an interim answer behind it": lambda answer: whole(answer) + EARLY,
    "a body without one": lambda answer: b"HTTP/1.1 204 No Content\r\n\r\n" + whole(answer),
    "a length of nothing": lambda answer: whole(answer, length=0) + STRAY,
    "another protocol": lambda answer: (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + whole(answer)
    ),
    "behind chunks": lambda answer: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(json.dumps(answer)), json.dumps(answer).encode())
        + STRAY
    ),
    "more than is read": lambda answer: whole({**answer, "x": "y" * (1 << 20)}) + STRAY,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("pause", [0, 0.05], ids=["at once", "later"])
def test_a_connection_with_more_on_it_than_an_answer_is_never_used_again(
    rough, registry, odd, pause
):
    once(rough, ODD[odd])
    tokens = registry()

    with suppress(TokenManagerError):
        assert fetch(tokens, SCOPE) in (f"token-for-{SCOPE}", "a-stray-token")
    rough.stopping.wait(pause)

    for scope in (VAULT, SCOPE, VAULT):
        assert fetch(tokens, scope) == f"token-for-{scope}"
    ports = [each.port for each in rough.received if each.method == "POST"]
    assert ports.count(ports[0]) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"content_length": 3},
        {"transfer_encoding": "identity"},
        {"Transfer_Encoding": "gzip, chunked"},
    ],
    ids=str,
)
def test_an_answer_whose_end_is_doubtful_ends_its_connection(rough, registry, headers):
    once(rough, lambda answer: whole(answer, **headers))
    tokens = registry()

    with suppress(TokenManagerError):
        fetch(tokens, SCOPE)

    assert fetch(tokens, VAULT) == f"token-for-{VAULT}"
    ports = [each.port for each in rough.received if each.method == "POST"]
    assert ports.count(ports[0]) == 1


def test_what_a_server_says_before_it_is_asked_is_nobodys_answer(rough, registry):
    said, answered = [], []

    def speak_first(handler):
        if not said:
            said.append(handler.wfile.write(STRAY))

    def answer(handler):
        handler.wfile.write(whole(rough.metadata))
        answered.append(handler)

    rough.on_connect, rough.on_get = speak_first, answer
    tokens = registry()

    # Nobody can tell what came before the first request from the answer to it; but that answer is
    # then left over, and no other's.
    with suppress(TokenManagerError):
        assert fetch(tokens, SCOPE) == f"token-for-{SCOPE}"
    until(lambda: answered)

    for scope in (VAULT, SCOPE):
        assert fetch(tokens, scope) == f"token-for-{scope}"
    assert rough.connections == 2


def test_a_connection_that_was_opened_ahead_and_has_been_spoken_on_is_not_used(
    rough, registry, monkeypatch
):
    spoken = []

    def speak_first(handler):
        if not spoken:
            handler.wfile.write(STRAY)
            spoken.append(handler.client_address[1])

    def taking(self, *args):
        take(self, *args)
        until(lambda: spoken)

    take, rough.on_connect = Transport.take, speak_first
    monkeypatch.setattr("tokenmgr.entra.wire.connection.is_first_fetch", lambda: True)
    monkeypatch.setattr(Transport, "take", taking)

    assert fetch(registry(), VAULT) == f"token-for-{VAULT}"

    assert spoken
    assert spoken[0] not in [each.port for each in rough.received]
