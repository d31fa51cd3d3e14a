"""The way to the service: deadlines, repeats, trust, proxies, and what never leaves or enters."""

from __future__ import annotations

import gzip
import http.server
import json
import logging
import os
import socket
import ssl
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path

import msal
import pytest
import requests
from entra_calls import VAULT, failure, fetch
from fork_marks import needs_fork
from support import EXACT, SCOPE
from urllib3.exceptions import InsecureRequestWarning

from tokenmgr import (
    Authority,
    AuthorityError,
    ConfigurationError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
)
from tokenmgr.entra.wire.adapter import Deadline, DeadlineAdapter
from tokenmgr.entra.wire.connection import Connection
from tokenmgr.identity.clouds import CLOUDS

JWT = "eyJ0eXAiOiJKV1Qi.eyJhdWQiOiJhcGk6Ly9h.c2lnbmF0dXJl"


def requested(entra, kind):
    return [request for request in entra.requests if request.kind == kind]


# Repeats


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503, "body": "<html>Service Unavailable</html>"},
        {"status": 504, "body": b""},
        {"status": 429},
        {"status": 200, "body": "<html>Welcome to the captive portal</html>"},
        {"status": 200, "body": '{"access_token": "cut o'},
        {"disconnect": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["token", "discovery"])
def test_trouble_that_passes_is_not_noticed(entra, path, fault):
    with entra.registry(policy=EXACT) as tokens:
        entra.fail_next(2, path=path, **fault)

        assert fetch(tokens).startswith("eyJ")

    assert len(requested(entra, path)) == 3


def test_trouble_that_stays_is_asked_four_times_and_no_more(entra):
    with entra.registry(policy=EXACT, timeout=60) as tokens:
        entra.fail_next(100, status=502)

        raised = failure(tokens, ServiceUnavailableError)

    assert raised.retryable
    assert entra.count() == 4


@pytest.mark.parametrize("seconds", ["1", " 1 ", 1])
def test_a_repeat_comes_no_earlier_than_the_service_says(entra, seconds):
    with entra.registry(policy=EXACT) as tokens:
        entra.fail_next(status=429, retry_after=seconds)
        fetch(tokens)

    first, second = requested(entra, "token")
    assert second.at - first.at >= 0.99


@pytest.mark.parametrize(
    ("status", "kind"), [(429, ThrottledError), (503, ServiceUnavailableError)]
)
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_there_is_no_repeat_when_the_service_asks_for_more_than_there_is(
    entra, status, kind, as_date
):
    retry_after = formatdate(time.time() + 300, usegmt=True) if as_date else 300
    with entra.registry(policy=EXACT) as tokens:
        entra.fail_next(status=status, retry_after=retry_after)

        raised = failure(tokens, kind)

    assert raised.retry_after == pytest.approx(300, abs=30)
    assert entra.count() == 1


@pytest.mark.parametrize(
    "retry_after", ["soon", "", "-5", "1e9999", "Mon, 01 Jan 1990 00:00:00 GMT", "\u0663", "nan"]
)
def test_a_retry_after_that_says_nothing_delays_nothing(rough, registry, retry_after):
    def throttle_once(handler):
        if rough.posts == 1:
            handler.answer(429, "{}", retry_after=retry_after.encode().decode("latin-1"))
        else:
            handler.token()

    rough.on_post = throttle_once

    assert fetch(registry()) == "a-token"
    assert rough.posts == 2


def test_a_refusal_is_not_repeated(entra):
    with entra.registry(policy=EXACT) as tokens:
        entra.fail_next(status=400, error="invalid_scope")
        failure(tokens, InvalidScopeError)

    assert entra.count() == 1


def test_a_body_that_breaks_off_is_asked_for_again(rough, registry):
    def break_off_once(handler):
        if rough.posts == 1:
            handler.answer(200, '{"access_token": "half', content_length="1000")
        else:
            handler.token()

    rough.on_post = break_off_once

    assert fetch(registry()) == "a-token"
    assert rough.posts == 2


def test_throttling_of_one_scope_does_not_stop_another(entra):
    with entra.registry(policy=EXACT) as tokens:
        entra.fail_next(status=429, retry_after=3600, scope=SCOPE)
        raised = failure(tokens, ThrottledError)

        assert fetch(tokens, VAULT).startswith("eyJ")

    assert raised.retry_after == 3600


def test_a_failure_does_not_outlive_its_reason(entra):
    # MSAL by itself repeats a refusal from memory for a minute.
    with entra.registry(policy=EXACT) as tokens:
        entra.unknown_resources = {"https://graph.microsoft.com"}
        for _ in range(2):
            failure(tokens, InvalidScopeError, match="AADSTS500011")
        entra.unknown_resources = set()

        assert fetch(tokens).startswith("eyJ")

    assert entra.count() == 3


# Deadlines


def test_a_server_that_accepts_and_never_answers_is_given_up(rough, registry):
    rough.on_post = lambda handler: handler.keep_waiting()

    # Long enough to ask in, however slow this machine is.
    raised = failure(registry(timeout=1.5), ServiceUnavailableError, match="in time")

    assert raised.retryable
    assert rough.posts == 1


def test_a_server_that_never_says_hello_is_given_up(rough, registry):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        authority = f"https://127.0.0.1:{mute.getsockname()[1]}/contoso.onmicrosoft.com"

        failure(registry(authority=authority, timeout=0.3), ServiceUnavailableError)


def test_nobody_there_is_told_apart_from_a_slow_service(rough, registry):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    authority = f"https://127.0.0.1:{port}/contoso.onmicrosoft.com"

    raised = failure(registry(authority=authority), ServiceUnavailableError, match="connection")

    assert f"127.0.0.1:{port}" in str(raised)
    assert raised.retryable


HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (HEAD + b"\r\n", b" "),
        (HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1"),
        (HEAD + b"X-Padding: ", b"x"),
        (HEAD, b"X: y\r\n"),
        (b"", b"H"),
    ],
    ids=["body", "sized", "chunks", "chunk-size", "header", "headers", "status"],
)
def test_an_answer_that_drips_ends_with_the_deadline(rough, registry, begin, piece):
    # Each byte is in time for a socket's timeout; all of them together never are.
    rough.on_post = lambda handler: handler.drip(begin, piece)

    failure(registry(timeout=0.4), ServiceUnavailableError)


class Dripping(http.server.BaseHTTPRequestHandler):
    """A service in plain HTTP, such as a machine has one, that never comes to an end."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while not self.server.stopping.wait(0.02):
                self.wfile.write(b"x")

    def log_message(self, *args):
        pass


def test_an_answer_in_plain_http_that_drips_ends_with_the_deadline_too():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    server.stopping = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", DeadlineAdapter())
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            with pytest.raises(requests.ConnectionError, match=r"timed out|in time"):
                session.get(url, timeout=Deadline(connect=1.0, total=0.3))
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_answer_that_drips_through_a_proxy_ends_with_the_deadline(rough, registry, proxy):
    rough.on_post = lambda handler: handler.drip(HEAD + b"X-Padding: ", b"x")

    tokens = registry(timeout=0.4, proxies={"https": proxy.url})

    failure(tokens, ServiceUnavailableError, match="in time")
    assert proxy.tunnels


def test_an_answer_without_end_is_given_up(rough, registry):
    sent = []

    def flood(handler):
        handler.wfile.write(HEAD + b"\r\n")
        while not rough.stopping.is_set():
            sent.append(handler.wfile.write(b" " * 65_536))

    rough.on_post = flood

    failure(registry(timeout=20), ServiceUnavailableError)
    assert sum(sent) < 4 * (8 << 20), "the deadline ended it, not the limit"


def test_a_compressed_answer_is_read(rough, registry):
    body = gzip.compress(json.dumps({"access_token": "a-token", "expires_in": 3600}).encode())
    rough.on_post = lambda handler: handler.answer(200, body, content_encoding="gzip")

    assert fetch(registry()) == "a-token"


def test_a_compressed_answer_that_grows_without_end_is_given_up(rough, registry):
    body = gzip.compress(b" " * (20 << 20) + b'{"access_token":"a-token","expires_in":3600}')
    rough.on_post = lambda handler: handler.answer(200, body, content_encoding="gzip")

    failure(registry(timeout=20), ServiceUnavailableError)


# Answers that are none


def test_broken_json_shows_in_no_error_and_no_log(rough, registry, caplog):
    caplog.set_level(logging.DEBUG)
    rough.on_post = lambda handler: handler.answer(200, f'{{"access_token": "{JWT}", oops')

    raised = failure(registry(), ServiceUnavailableError)

    assert rough.posts == 4
    for text in (str(raised), repr(raised), caplog.text):
        assert "eyJ" not in text
        assert "oops" not in text
        assert rough.secret not in text


@pytest.mark.parametrize("body", ["[]", '"a"', "null", "[" * 100_000, ""])
def test_json_that_is_no_object_is_no_answer(rough, registry, body):
    rough.on_post = lambda handler: handler.answer(200, body)

    failure(registry(), ServiceUnavailableError, match="not a JSON object")
    assert rough.posts == 4


def test_no_secret_and_no_token_is_ever_logged(entra, caplog):
    caplog.set_level(logging.DEBUG)
    with entra.registry(policy=EXACT) as tokens:
        token = fetch(tokens)
        entra.fail_next(2, status=500)
        other = fetch(tokens)
        entra.fail_next(status=400, error="invalid_client")
        failure(tokens, InvalidCredentialError)

    assert any(record.name.startswith("msal") for record in caplog.records)
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    logged = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    for secret in (entra.client_secret, token, other):
        assert secret not in logged


def test_html_from_a_proxy_is_an_authority_that_cannot_be_used(entra):
    with entra.registry(policy=EXACT) as tokens:
        entra.fail_next(status=403, body="<html>Blocked by policy, user bob</html>")

        raised = failure(tokens, AuthorityError, match="HTTP 403")

    assert "bob" not in str(raised)
    assert not raised.retryable
    assert entra.count() == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(rough, make_rough, registry, status):
    target = make_rough()
    location = f"{target.authority}/oauth2/v2.0/token"
    rough.on_post = lambda handler: handler.answer(status, "", location=location)

    failure(registry(), AuthorityError, match="redirect")

    assert rough.posts == 1
    assert target.received == []
    assert target.connections == 0


def test_a_redirect_of_the_metadata_is_not_followed(rough, make_rough, registry):
    target = make_rough()
    rough.on_get = lambda handler: handler.answer(302, "", location=target.authority)

    failure(registry(), AuthorityError, match="redirect")

    assert target.connections == 0


def test_a_token_endpoint_without_tls_gets_no_credential(rough, registry):
    with socket.create_server(("127.0.0.1", 0)) as plain:
        plain.settimeout(0)
        port = plain.getsockname()[1]
        rough.metadata["token_endpoint"] = f"http://127.0.0.1:{port}/contoso/oauth2/v2.0/token"

        raised = failure(registry(), AuthorityError, match="without https")

        with pytest.raises(BlockingIOError):
            plain.accept()
    assert not raised.retryable


@pytest.mark.parametrize("send", ["get", "post"])
def test_nothing_is_ever_sent_without_tls(send):
    # Metadata name more endpoints than the one for tokens.
    exchange = Connection().exchange(Authority.oidc("https://127.0.0.1:9/contoso"))

    with pytest.raises(AuthorityError, match="without https"):
        getattr(exchange, send)("http://127.0.0.1:9/contoso", data={"client_secret": "hunter2"})


@pytest.mark.parametrize("name", ["issuer", "token_endpoint", "authorization_endpoint"])
def test_metadata_that_is_not_whole_is_refused_by_name(rough, registry, name):
    del rough.metadata[name]

    failure(registry(), AuthorityError, match=f"has no {name}")
    assert rough.posts == 0


def test_an_authority_without_metadata_is_not_one(rough, registry):
    rough.on_get = lambda handler: handler.answer(404, "<html>nothing here</html>")

    failure(registry(), AuthorityError, match="no OpenID metadata")
    assert len(rough.received) == 1


# Trust


def test_a_certificate_that_is_not_trusted_names_verify_and_is_not_tried_again(
    rough, make_rough, registry
):
    other = make_rough().ca_file

    raised = failure(registry(verify=other), AuthorityError, match="verify=")

    assert not raised.retryable
    assert rough.connections == 1
    assert rough.received == []


def test_without_verify_the_authorities_of_the_machine_decide(rough, registry):
    failure(registry(verify=None), AuthorityError, match="verify=")
    failure(registry(verify=True), AuthorityError, match="verify=")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_verify_wins_over_the_environment(rough, make_rough, registry, monkeypatch, name):
    monkeypatch.setenv(name, make_rough().ca_file)

    assert fetch(registry()) == "a-token"
    failure(registry(verify=None), AuthorityError, match="verify=")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_is_asked_when_verify_is_left_out(rough, registry, monkeypatch, name):
    monkeypatch.setenv(name, rough.ca_file)

    assert fetch(registry(verify=None)) == "a-token"
    # True says: those that requests ships, whatever the environment has.
    failure(registry(verify=True), AuthorityError, match="verify=")


def test_no_check_at_all_is_warned_of(rough, registry):
    with pytest.warns(InsecureRequestWarning):
        assert fetch(registry(verify=False)) == "a-token"


def test_a_bundle_of_the_environment_that_is_missing_is_named(
    rough, registry, monkeypatch, tmp_path
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))

    failure(registry(verify=None), ConfigurationError, match="REQUESTS_CA_BUNDLE")


def test_a_path_to_verify_with_that_does_not_exist_is_refused_at_once(rough, registry, tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        registry(verify=str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        registry(verify=tmp_path / "missing.pem")


def test_a_path_object_can_be_verified_with(rough, registry):
    assert fetch(registry(verify=Path(rough.ca_file))) == "a-token"


@pytest.mark.parametrize("timeout", [0, -1, "10", None, True, float("nan")])
def test_a_timeout_that_is_none_is_refused_at_once(rough, registry, timeout):
    with pytest.raises(ConfigurationError, match="timeout="):
        registry(timeout=timeout)


# Proxies


def test_the_proxy_is_used(rough, registry, proxy):
    assert fetch(registry(proxies={"https": proxy.url})) == "a-token"

    assert set(proxy.tunnels) == {rough.url.removeprefix("https://")}


def test_the_proxy_of_the_environment_is_used(rough, registry, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    assert fetch(registry()) == "a-token"
    assert proxy.tunnels


@pytest.mark.parametrize("scheme", ["https", "all"])
def test_the_proxy_that_is_given_wins_over_the_environment(
    rough, registry, proxy, monkeypatch, scheme
):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")

    assert fetch(registry(proxies={scheme: proxy.url})) == "a-token"
    assert proxy.tunnels


def test_a_proxy_that_is_not_there_is_named(rough, registry):
    raised = failure(
        registry(proxies={"https": "http://bob:hunter2@127.0.0.1:9"}), ServiceUnavailableError
    )

    assert "proxies=" in str(raised)
    assert "hunter2" not in str(raised)
    assert rough.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://login.private.example/contoso.onmicrosoft.com",
        "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_signin",
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/b2c_1_signin",
        "https://contoso.ciamlogin.com",
    ],
)
def test_nobody_but_the_authority_is_asked(rough, registry, proxy, url):
    # MSAL by itself asks login.microsoftonline.com about a host that it does not know.
    proxy.leads_to = rough.server_address
    authority = Authority.parse(url)
    rough.stand_in_for(authority)
    tokens = registry(authority=authority, proxies={"https": proxy.url})

    assert fetch(tokens) == "a-token"
    assert fetch(tokens, VAULT) == "a-token"

    assert set(proxy.tunnels) == {f"{authority.host}:443"}
    path = authority.url.removeprefix(f"https://{authority.host}")
    assert [(each.method, each.path) for each in rough.received] == [
        ("GET", f"{path}/v2.0/.well-known/openid-configuration"),
        ("POST", f"{path}/oauth2/v2.0/token"),
        ("POST", f"{path}/oauth2/v2.0/token"),
    ]


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
def test_a_cloud_is_asked_for_nothing_but_tokens(rough, registry, proxy, cloud):
    proxy.leads_to = rough.server_address
    for host in (cloud.host, *cloud.aliases):
        rough.received.clear()
        tokens = registry(authority=f"https://{host}/contoso.com", proxies={"https": proxy.url})

        assert fetch(tokens) == "a-token"

        posted = [(each.method, each.path) for each in rough.received]
        assert posted == [("POST", "/contoso.com/oauth2/v2.0/token")]
    assert set(proxy.tunnels) == {f"{cloud.host}:443"}


@pytest.mark.parametrize(
    "authority",
    [
        Authority.entra("contoso.com", cloud="login.microsoftonline.com:8443"),
        Authority.oidc("https://login.microsoftonline.com/contoso.com/v2.0"),
        Authority.adfs("https://login.microsoftonline.com"),
    ],
    ids=str,
)
def test_what_is_not_documented_is_asked_for(rough, registry, proxy, authority):
    proxy.leads_to = rough.server_address
    rough.stand_in_for(authority)

    assert fetch(registry(authority=authority, proxies={"https": proxy.url})) == "a-token"

    assert [each.method for each in rough.received] == ["GET", "POST"]


def test_a_tenant_that_is_not_there_is_told_by_the_token_endpoint(rough, registry, proxy):
    proxy.leads_to = rough.server_address
    text = "AADSTS90002: Tenant 'contoso.com' not found."
    body = {"error": "invalid_request", "error_description": text, "error_codes": [90002]}
    rough.on_post = lambda handler: handler.answer(400, json.dumps(body))
    tokens = registry(authority=Authority.entra("contoso.com"), proxies={"https": proxy.url})

    assert "tenant" in str(failure(tokens, ConfigurationError))


def test_the_endpoints_are_those_that_microsoft_documents():
    for name in ("contoso.com", "11111111-2222-3333-4444-555555555555", "organizations"):
        exchange = Connection().exchange(Authority.entra(name))
        application = msal.PublicClientApplication(
            "an-app",
            authority=f"https://login.microsoftonline.com/{name}",
            http_client=exchange,
            instance_discovery=False,
        )
        found = application.authority

        endpoints = f"https://login.microsoftonline.com/{name}/oauth2/v2.0"
        assert found.token_endpoint == f"{endpoints}/token"
        assert found.authorization_endpoint == f"{endpoints}/authorize"
        assert found.device_authorization_endpoint == f"{endpoints}/devicecode"


# What is not sent


def test_the_passwords_of_netrc_are_not_sent(entra, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login bob password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    requests.get(f"{entra.authority()}/v2.0/.well-known/openid-configuration", verify=entra.ca_file)
    assert "Authorization" in entra.requests[0].headers, "requests itself does not read the file"
    entra.clear()

    with entra.registry(policy=EXACT) as tokens:
        fetch(tokens)

    assert [request.kind for request in entra.requests] == ["discovery", "token"]
    assert not any("Authorization" in request.headers for request in entra.requests)


def test_cookies_are_not_sent_back(rough, registry):
    rough.on_post = lambda handler: handler.answer(
        200,
        '{"access_token": "a-token", "expires_in": 3600}',
        set_cookie="session=sticky; Path=/; Secure",
    )
    rough.on_get = lambda handler: handler.answer(
        200, json.dumps(rough.metadata), set_cookie="fpc=sticky; Path=/; Secure"
    )
    tokens = registry()
    fetch(tokens)
    fetch(tokens)

    assert len(rough.received) == 3
    assert not any("Cookie" in request.headers for request in rough.received)


# The end, and forks


@pytest.fixture
def pending(entra):
    """A fetch that waits for its second attempt, in a thread; gives what became of it."""
    outcome = []
    tokens = entra.registry(policy=EXACT, timeout=100)
    manager = tokens.manager(SCOPE)
    entra.fail_next(10, status=503, retry_after=60)

    def run():
        try:
            outcome.append(manager.get_access_token())
        except TokenManagerError as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    entra.wait_for_requests(1)
    return tokens, thread, outcome


def test_closing_ends_a_wait_between_two_attempts(entra, pending):
    tokens, thread, outcome = pending

    tokens.close()
    thread.join(30)

    assert not thread.is_alive()
    assert type(outcome[0]) is ServiceUnavailableError
    assert entra.count() == 1


def test_a_fetch_that_is_overtaken_by_the_end_opens_no_connection(rough, registry):
    tokens = registry()

    def close_meanwhile(handler):
        tokens.close()
        handler.answer(200, json.dumps(rough.metadata))

    rough.on_get = close_meanwhile

    failure(tokens, ConfigurationError, match="closed")
    assert rough.posts == 0


def test_after_the_end_nothing_is_fetched(entra):
    tokens = entra.registry(policy=EXACT)
    manager = tokens.manager(SCOPE)
    manager.get_access_token()
    tokens.close()
    tokens.close()

    with pytest.raises(ConfigurationError, match="closed"):
        manager.get_access_token()
    with pytest.raises(ConfigurationError, match="closed"):
        tokens.manager(SCOPE)
    assert entra.count() == 1


def test_a_closed_connection_opens_no_more():
    connection = Connection()
    connection.close()

    with pytest.raises(ConfigurationError, match="closed"):
        connection.exchange(Authority.entra("contoso.com"))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_a_connection_of_its_own(make_rough, registry):
    rough = make_rough("HTTP/1.1")
    tokens = registry(rough)
    fetch(tokens)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, fetch(tokens).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        assert answer.read() == "a-token"
    assert fetch(tokens) == "a-token"

    _, parent, childs, parent_again = rough.received
    assert childs.method == "POST"
    assert childs.port != parent.port
    assert parent_again.port == parent.port, "the child closed, or spoke on, its parent's"


def test_one_connection_serves_many_fetches(make_rough, registry):
    rough = make_rough("HTTP/1.1")
    tokens = registry(rough)

    for _ in range(3):
        fetch(tokens)

    assert rough.connections == 1


def test_tls_that_is_too_old_is_not_spoken(make_rough, registry):
    rough = make_rough()
    rough.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    rough.tls.set_ciphers("AES128-SHA:@SECLEVEL=0")

    failure(registry(rough), ServiceUnavailableError, match="TLS")
