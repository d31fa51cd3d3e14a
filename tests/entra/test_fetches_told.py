"""Wherever a fetch breaks, an error reporter that shows variables is told no secret."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from reporting import Struck, told_at_every_line
from support import SCOPE

from tokenmgr import Authority, Certificate, ClientAssertion, ClientSecret, TokenRegistry
from tokenmgr._runtime.workers import Workers
from tokenmgr.emulator.certificates import client_certificate
from tokenmgr.entra.client import Client
from tokenmgr.entra.grants.client_credentials import ClientCredentialsSource
from tokenmgr.entra.wire.connection import Connection
from tokenmgr.stores import MemoryStore

# What is broken off leaves its connection to the collector.
pytestmark = [
    pytest.mark.traces,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SECRET = "kept-Between~us.8Q"
TOKEN = "the-token-itself"
PROXY_PASSWORD = "hunter2-of-the-proxy"
KEY = "0123456789-the-key-of-all-records"
ASSERTION = "the-assertion-of-the-pod"


#: Where the kinds of credentials differ.
OF_CREDENTIALS = ("identity/", "entra/client", "entra/grants/", "_runtime/values")


@pytest.fixture(scope="module")
def certificate():
    return client_certificate(password="the-password")


@pytest.fixture
def rough(make_rough):
    server = make_rough("HTTP/1.1")
    server.RequestHandlerClass.timeout = 1  # some clients never come back
    server.on_post = lambda handler: handler.token(access_token=TOKEN)
    return server


@pytest.mark.parametrize("credential", ["secret", "rotating", "assertion", "certificate"])
def test_a_fetch_tells_neither_what_it_proves_itself_with_nor_its_token(
    rough, make_source, certificate, credential
):
    source = make_source(
        {
            "secret": lambda: ClientSecret(SECRET),
            "rotating": lambda: ClientSecret(lambda: SECRET),
            "assertion": lambda: ClientAssertion(lambda: ASSERTION),
            "certificate": lambda: Certificate(certificate.pem, password="the-password"),
        }[credential]()
    )
    lines = certificate.pem.decode().splitlines()

    secrets = (SECRET, ASSERTION, TOKEN, "the-password", lines[10])
    rooms = ("identity/", "entra/", "_runtime/") if credential == "secret" else OF_CREDENTIALS
    told = told_at_every_line(source.fetch_token, secrets, (Struck,), rooms)

    assert told == []


def test_a_certificate_that_is_read_anew_tells_nothing(rough, certificate):
    lines = certificate.pem.decode().splitlines()

    def read():
        Certificate(certificate.pem, password="the-password").read()

    assert told_at_every_line(read, ("the-password", "BEGIN ENCRYPTED", lines[10]), (Struck,)) == []


@pytest.mark.parametrize("answer", ["refused", "throttled", "redirected", "nonsense"])
def test_a_fetch_that_fails_tells_nothing_either(rough, make_source, answer):
    says = {"error": "invalid_client", "error_description": f"AADSTS7000215: {SECRET} {TOKEN}?"}
    rough.on_post = {
        "refused": lambda handler: handler.answer(401, json.dumps(says)),
        "throttled": lambda handler: handler.answer(429, json.dumps(says), retry_after="1000"),
        "redirected": lambda handler: handler.answer(302, SECRET, location=f"/{SECRET}"),
        "nonsense": lambda handler: handler.answer(403, f"<html>{SECRET}"),
    }[answer]
    source = make_source(ClientSecret(SECRET))

    assert told_at_every_line(source.fetch_token, (SECRET,), (Struck,)) == []


def test_a_fetch_through_a_proxy_does_not_tell_its_password(rough, proxy):
    way = proxy.url.replace("http://", f"http://bob:{PROXY_PASSWORD}@")

    def fetch():
        with closing(Connection(verify=rough.ca_file, proxies={"https": way})) as connection:
            client = Client(
                Authority.parse(rough.authority),
                "an-app",
                ClientSecret(SECRET),
                connection=connection,
            )
            ClientCredentialsSource(client, (SCOPE,)).fetch_token()

    told = told_at_every_line(fetch, (SECRET, PROXY_PASSWORD), (Struck,), ("entra/wire/",))

    assert told == []
    assert proxy.tunnels


@pytest.mark.parametrize("key", [None, KEY])
def test_a_fetch_for_all_workers_tells_neither_the_key_nor_the_token(
    rough, registry, monkeypatch, key
):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Workers, "do", refuse)

    def fetch():
        with TokenRegistry(
            client_id="an-app",
            credential=SECRET,
            authority=rough.authority,
            verify=rough.ca_file,
            store=MemoryStore(),
            encryption_key=key,
        ) as tokens:
            tokens.get_access_token(SCOPE)

    rooms = ("_sharing/", "identity/")
    assert told_at_every_line(fetch, (SECRET, KEY), (Struck,), rooms) == []
