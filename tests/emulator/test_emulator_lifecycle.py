"""The emulator's start and end, its TLS, and what it shows of itself."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import requests
from aiohttp import web
from emulator_clients import ask_for_token, trusting

from tokenmgr.emulator import EntraEmulator
from tokenmgr.emulator.serving import HttpsServer, _Connections, listen


def test_closing_frees_the_port_the_thread_and_the_files():
    before = set(threading.enumerate())
    emulator = EntraEmulator().start()
    port = int(emulator.url.rpartition(":")[2])
    ca_file = Path(emulator.ca_file)
    assert ca_file.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")

    emulator.close()
    emulator.close()

    assert set(threading.enumerate()) == before
    assert not ca_file.parent.exists()
    with EntraEmulator(port=port) as next_one:
        assert next_one.url.endswith(f":{port}")


def test_closing_leaves_no_warning_of_clients_that_are_still_connected():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with EntraEmulator() as emulator:
            address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
            context = ssl.create_default_context(cafile=emulator.ca_file)
            silent = socket.create_connection(address)
            secured = context.wrap_socket(
                socket.create_connection(address), server_hostname="127.0.0.1"
            )
            idle = trusting(emulator)
            idle.get(f"{emulator.url}/x")
        gc.collect()

    assert [str(warning.message) for warning in caught] == []
    for client in (silent, secured, idle):
        client.close()


# Connections are accepted in each other turn: in the one that stops the server, or in the next.
@pytest.mark.parametrize("last_turns", [3, 4])
def test_closing_leaves_no_warning_of_clients_that_are_just_being_accepted(last_turns):
    clients = []

    def connect_in_each_turn_of_the_loop(turns):
        if turns == last_turns:
            stop.set()
        if turns:
            loop.call_soon(connect_in_each_turn_of_the_loop, turns - 1)
        clients.append(socket.create_connection(address))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        listener = listen("127.0.0.1", 0)
        address = listener.getsockname()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server = HttpsServer(web.Application(), listener=listener, context=context)
        server.start()
        loop, stop = server._ready.result()
        loop.call_soon_threadsafe(connect_in_each_turn_of_the_loop, 6)
        server._thread.join()
        gc.collect()

    for client in clients:
        client.close()
    assert len(clients) > 2
    assert [str(warning.message) for warning in caught] == []


def test_closing_leaves_no_warning_of_a_handshake_that_ends_too_late(monkeypatch):
    cut = _Connections.cut

    async def cut_before_the_handshake_ends(connections):
        await cut(connections)
        with contextlib.suppress(OSError):
            client.sendall(finished)

    monkeypatch.setattr(_Connections, "cut", cut_before_the_handshake_ends)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with EntraEmulator() as emulator:
            client = socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2])))
            context = ssl.create_default_context(cafile=emulator.ca_file)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            client.sendall(outgoing.read())
            while True:
                incoming.write(client.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    break
            finished = outgoing.read()
        gc.collect()

    client.close()
    assert [str(warning.message) for warning in caught] == []


def test_closing_answers_the_requests_that_are_paused(emulator, http, ask):
    answers = []
    emulator.pause()
    asking = threading.Thread(target=lambda: answers.append(ask().status_code))
    asking.start()
    emulator.wait_for_requests(1)

    emulator.close()
    asking.join()

    assert answers == [200]


def test_a_closed_emulator_is_not_started_again():
    emulator = EntraEmulator()
    emulator.close()

    with pytest.raises(RuntimeError, match="make another one"):
        emulator.start()


def test_starting_twice_is_starting_once(emulator):
    url = emulator.url

    assert emulator.start() is emulator
    assert emulator.url == url


def test_a_port_that_is_taken_is_an_error(emulator):
    port = int(emulator.url.rpartition(":")[2])

    with pytest.raises(OSError, match="in use"):
        EntraEmulator(port=port).start()


def test_there_is_no_address_before_the_start():
    emulator = EntraEmulator()

    for ask in (lambda: emulator.url, emulator.authority, lambda: emulator.ca_file):
        with pytest.raises(RuntimeError, match="emulator has no"):
            ask()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])
def test_only_loopback_addresses_are_served(host):
    with pytest.raises(ValueError, match="loopback"):
        EntraEmulator(host=host)


def test_the_certificate_is_valid_for_localhost_too(emulator, http):
    port = emulator.url.rpartition(":")[2]

    assert http.get(f"https://localhost:{port}/x").status_code == 404


def test_the_certificate_is_trusted_by_nobody_else(emulator, http):
    with pytest.raises(requests.exceptions.SSLError):
        http.get(f"{emulator.url}/x", verify=True)


def test_connections_are_kept_alive(emulator):
    context = ssl.create_default_context(cafile=emulator.ca_file)
    address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    raw = socket.create_connection(address)
    with context.wrap_socket(raw, server_hostname="localhost") as client:
        for _ in range(3):
            client.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 404")


def test_a_client_that_says_nothing_keeps_nobody_waiting(emulator, ask):
    address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    with socket.create_connection(address):
        assert ask().status_code == 200


def test_the_repr_shows_the_address_and_no_secret(emulator):
    assert emulator.url in repr(emulator)
    assert emulator.client_secret not in repr(emulator)
    assert emulator.client_secret not in repr(emulator._state)


def test_certificates_show_no_key():
    certificate = EntraEmulator.make_certificate(password="open sesame")

    assert "PRIVATE" not in repr(certificate)
    assert "sesame" not in repr(certificate)
    assert certificate.thumbprint in repr(certificate)


def test_the_environment_names_what_programs_look_for(emulator, http):
    environment = emulator.environment()

    assert environment["AZURE_AUTHORITY_HOST"] == emulator.url
    assert environment["REQUESTS_CA_BUNDLE"] == emulator.ca_file
    answer = http.post(
        f"{environment['AZURE_AUTHORITY_HOST']}/{environment['AZURE_TENANT_ID']}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": environment["AZURE_CLIENT_ID"],
            "client_secret": environment["AZURE_CLIENT_SECRET"],
            "scope": "https://graph.microsoft.com/.default",
        },
    )
    assert answer.status_code == 200


def test_the_app_may_be_chosen():
    with EntraEmulator(client_id="an-app", client_secret="a-secret") as emulator:
        assert emulator.environment()["AZURE_CLIENT_ID"] == "an-app"
        assert emulator.environment()["AZURE_CLIENT_SECRET"] == "a-secret"


def test_nothing_is_printed_or_logged(capfd, caplog):
    caplog.set_level("DEBUG")
    with EntraEmulator() as emulator, trusting(emulator) as session:
        token = ask_for_token(session, emulator).json()["access_token"]
        with pytest.raises(requests.exceptions.SSLError):
            session.get(emulator.url, verify=True)

    assert capfd.readouterr() == ("", "")
    assert token not in caplog.text
    assert emulator.client_secret not in caplog.text


@pytest.mark.parametrize("missing", ["aiohttp", "authlib", "joserfc", "trustme"])
def test_a_missing_library_is_named_with_the_extra_that_has_it(missing):
    program = f"import sys; sys.modules[{missing!r}] = None; import tokenmgr.emulator"

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert ran.returncode != 0
    assert f"tokenmgr.emulator needs {missing}: pip install 'tokenmgr[emulator]'" in ran.stderr
