"""BearerAuth for requests, against a real HTTPS server."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
import requests
import trustme
from aiohttp import web
from requests.adapters import HTTPAdapter
from support import in_threads

from tokenmgr import (
    AccessToken,
    AccessTokenManager,
    Authority,
    ConfigurationError,
    HostNotAllowedError,
    InvalidCredentialError,
    ServiceUnavailableError,
    TokenKey,
    TokenRegistry,
)
from tokenmgr.emulator.serving import HttpsServer, listen
from tokenmgr.http.requests import BearerAuth

# ── An API over TLS, which any HTTP client could be tested with ─────────────────────────────


@dataclass(frozen=True)
class Asked:
    """A request as the API got it."""

    method: str
    path: str
    #: The header as it is; None when there was none.
    authorization: str | None
    cookie: str | None
    body: bytes
    #: Which connection it came by.
    connection: object


class Api:
    """Answers 200 to a token, and 401 to none and to those that it was told to refuse."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[Asked] = []
        self.refused: set[str] = set()
        #: Paths that redirect, each with its status and its location.
        self.redirects: dict[str, tuple[int, str]] = {}
        self.before_answer: Callable[[Asked], Awaitable[None]] | None = None

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}{path}"

    @property
    def tokens(self) -> list[str | None]:
        """What came in the requests' Authorization headers, in order."""
        return [asked.authorization for asked in self.asked]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(
            method=request.method,
            path=request.path,
            authorization=request.headers.get("Authorization"),
            cookie=request.headers.get("Cookie"),
            body=await request.read(),
            connection=request.transport,
        )
        self.asked.append(asked)
        if self.before_answer is not None:
            await self.before_answer(asked)
        if asked.path in self.redirects and asked.authorization not in self.refused:
            status, location = self.redirects[asked.path]
            return web.Response(status=status, headers={"Location": location})
        if asked.authorization is None or asked.authorization in self.refused:
            # Long enough that a connection with it unread does not serve another request.
            refusal = web.Response(status=401, text="refused " * 20_000)
            refusal.set_cookie("affinity", "node-7")
            return refusal
        return web.Response(text="served " * 20_000, headers={"X-Served": "yes"})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA) -> Iterator[str]:
    with authority.cert_pem.tempfile() as path:
        yield path


@pytest.fixture
def api(authority: trustme.CA) -> Iterator[Api]:
    api = Api()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    listener = listen("127.0.0.1", 0)
    api.port = listener.getsockname()[1]
    server = HttpsServer(app, listener=listener, context=context)
    server.start()
    yield api
    server.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def session(ca_file: str) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.verify = ca_file
        yield session


@pytest.fixture
def auth(manager: AccessTokenManager) -> BearerAuth:
    """Bound to 127.0.0.1, and not to localhost, which is the same server."""
    return BearerAuth(manager, hosts="127.0.0.1")


# ── The token goes where it may, and nowhere else ───────────────────────────────────────────


def test_a_single_request_carries_the_token(api, auth, ca_file):
    answer = requests.get(api.url(), auth=auth, verify=ca_file, timeout=30)
    assert answer.status_code == 200
    assert answer.history == []
    assert api.tokens == ["Bearer token-1"]


def test_a_session_carries_the_token_with_every_request_and_fetches_it_once(
    api, auth, session, source
):
    session.auth = auth
    for _ in range(3):
        assert session.get(api.url()).status_code == 200
    assert api.tokens == ["Bearer token-1"] * 3
    assert source.fetches == 1


def test_the_token_goes_to_the_host_that_its_scope_names(manager, source):
    request = requests.Request("GET", "https://graph.microsoft.com/v1.0", auth=BearerAuth(manager))
    assert request.prepare().headers["Authorization"] == "Bearer token-1"


def test_the_scheme_of_the_token_is_its_own(manager, source, clock):
    def fetch_token(*, claims: str | None = None) -> AccessToken:
        return AccessToken("token-1", clock.wall() + 3600, token_type="Custom")

    source.fetch_token = fetch_token
    request = requests.Request("GET", "https://graph.microsoft.com/v1.0", auth=BearerAuth(manager))
    assert request.prepare().headers["Authorization"] == "Custom token-1"


def test_a_header_set_by_hand_is_replaced(api, auth, session):
    session.get(api.url(), auth=auth, headers={"authorization": "Bearer by-hand"})
    assert api.tokens == ["Bearer token-1"]


@pytest.mark.parametrize("port", [1, None])
def test_a_host_that_is_not_bound_gets_neither_a_request_nor_a_fetch(
    api, manager, session, source, port
):
    auth = BearerAuth(manager, hosts=f"127.0.0.1:{port}" if port else "graph.microsoft.com")
    with pytest.raises(HostNotAllowedError) as caught:
        session.get(api.url("/?secret=1"), auth=auth)
    assert f'hosts="127.0.0.1:{api.port}"' in str(caught.value)
    assert "secret" not in str(caught.value)
    assert api.asked == []
    assert source.fetches == 0


def test_a_bound_host_without_tls_gets_neither_a_request_nor_a_fetch(manager, source):
    with pytest.raises(HostNotAllowedError, match="use https"):
        requests.get("http://graph.microsoft.com/", auth=BearerAuth(manager), timeout=30)
    assert source.fetches == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://graph.microsoft.com@evil.example/",
        r"https://evil.example\@graph.microsoft.com/",
        "https://graph.microsoft.com.evil.example/",
    ],
)
def test_a_url_that_hides_its_host_is_refused_as_requests_prepares_it(manager, source, url):
    with pytest.raises((HostNotAllowedError, requests.exceptions.InvalidURL)):
        requests.Request("GET", url, auth=BearerAuth(manager)).prepare()
    assert source.fetches == 0


def test_a_url_set_by_hand_is_checked_as_the_adapter_reads_it(manager, source):
    prepared = requests.Request("GET", "https://graph.microsoft.com/").prepare()
    prepared.url = r"https://graph.microsoft.com\@evil.example/"
    with pytest.raises(HostNotAllowedError):
        prepared.prepare_auth(BearerAuth(manager))
    assert source.fetches == 0


def test_the_token_is_in_no_refusal_and_no_repr(manager):
    manager.get_token()
    auth = BearerAuth(manager)
    with pytest.raises(HostNotAllowedError) as caught:
        requests.get("https://evil.example/", auth=auth, timeout=30)
    assert "token-1" not in str(caught.value)
    prepared = requests.Request("GET", "https://graph.microsoft.com/", auth=auth).prepare()
    assert prepared.headers["Authorization"] == "Bearer token-1"
    assert "token-1" not in f"{auth!r} {prepared.hooks!r}"
    assert repr(auth) == (
        "<BearerAuth of https://graph.microsoft.com/.default for graph.microsoft.com>"
    )


def test_a_scope_that_names_no_host_asks_for_one(clock, source):
    key = TokenKey(
        "https://login.example/tenant", "app", "client_credentials", ("api://x/.default",)
    )
    manager = AccessTokenManager(source, key, clock=clock)
    with pytest.raises(ConfigurationError, match="hosts="):
        BearerAuth(manager)


@pytest.mark.parametrize("given", [TokenRegistry, "a-token", None])
def test_what_is_no_manager_is_told_what_to_pass(given):
    if given is TokenRegistry:
        authority = Authority.entra("contoso.com")
        given = TokenRegistry(client_id="app", credential="secret", authority=authority)
    with pytest.raises(ConfigurationError) as told:
        BearerAuth(given)
    assert "BearerAuth(registry.manager(scope))" in str(told.value)
    assert type(given).__name__ in str(told.value)
    assert "a-token" not in str(told.value)


def test_a_failed_fetch_is_raised_and_nothing_is_sent(api, auth, session, source):
    source.error = InvalidCredentialError("the secret is wrong")
    with pytest.raises(InvalidCredentialError):
        session.get(api.url(), auth=auth)
    assert api.asked == []


# ── A refused token is renewed, once ────────────────────────────────────────────────────────


def test_a_refused_token_is_dropped_and_the_request_repeated_with_a_new_one(
    api, auth, session, manager, source
):
    api.refused = {"Bearer token-1"}
    answer = session.get(api.url(), auth=auth)
    assert answer.status_code == 200
    assert answer.text.startswith("served")
    assert answer.request.headers["Authorization"] == "Bearer token-2"
    assert [first.status_code for first in answer.history] == [401]
    assert api.tokens == ["Bearer token-1", "Bearer token-2"]
    assert manager.get_access_token() == "token-2"
    assert source.fetches == 2


def test_a_second_refusal_is_returned_as_it_is(api, auth, session, source):
    api.refused = {"Bearer token-1", "Bearer token-2"}
    answer = session.get(api.url(), auth=auth)
    assert answer.status_code == 401
    assert answer.text.startswith("refused")
    assert [first.status_code for first in answer.history] == [401]
    assert api.tokens == ["Bearer token-1", "Bearer token-2"]
    assert source.fetches == 2


@pytest.mark.parametrize("status", [307, 301])
def test_other_answers_are_left_alone(api, auth, session, source, status):
    api.redirects = {"/moved": (status, "/here")}
    answer = session.get(api.url("/moved"), auth=auth, allow_redirects=False)
    assert answer.status_code == status
    assert source.fetches == 1


def test_a_token_renewed_meanwhile_is_taken_and_not_dropped(api, auth, session, manager, source):
    async def renew(asked: Asked) -> None:
        if asked.authorization == "Bearer token-1":
            await manager.arefresh_access_token()

    api.refused = {"Bearer token-1"}
    api.before_answer = renew
    assert session.get(api.url(), auth=auth).status_code == 200
    assert source.fetches == 2


def test_the_first_refusal_is_returned_where_no_new_token_is_to_be_had(
    api, auth, session, manager, source
):
    manager.get_token()
    api.refused = {"Bearer token-1"}
    source.error = ServiceUnavailableError("the service is down")
    answer = session.get(api.url(), auth=auth)
    assert answer.status_code == 401
    assert answer.text.startswith("refused")
    assert answer.history == []
    assert api.tokens == ["Bearer token-1"]
    with pytest.raises(ServiceUnavailableError, match="the service is down"):
        session.get(api.url(), auth=auth)


def test_the_refused_token_is_not_sent_again_where_the_source_repeats_it(
    api, auth, session, source, clock
):
    def fetch_token(*, claims: str | None = None) -> AccessToken:
        source.fetches += 1
        return AccessToken("the-same", clock.wall() + 3600)

    source.fetch_token = fetch_token
    api.refused = {"Bearer the-same"}
    answer = session.get(api.url(), auth=auth)
    assert answer.status_code == 401
    assert answer.text.startswith("refused")
    assert api.tokens == ["Bearer the-same"]
    assert source.fetches == 2


def test_twenty_refusals_at_once_cost_one_renewal_and_all_are_served(
    api, auth, session, ca_file, source
):
    all_there = asyncio.Event()

    async def wait_for_all(asked: Asked) -> None:
        if asked.authorization == "Bearer token-1":
            if api.tokens.count("Bearer token-1") == 20:
                all_there.set()
            await asyncio.wait_for(all_there.wait(), 30)

    api.refused = {"Bearer token-1"}
    api.before_answer = wait_for_all
    outcomes = in_threads(
        20, lambda: requests.get(api.url(), auth=auth, verify=ca_file, timeout=30).status_code
    )
    assert outcomes == [200] * 20
    assert source.fetches == 2
    assert sorted(map(str, api.tokens)) == ["Bearer token-1"] * 20 + ["Bearer token-2"] * 20


# ── Redirects ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_to_another_host_carries_no_token_and_gets_no_new_one(
    api, auth, session, source, status
):
    api.redirects = {"/moved": (status, api.url("/there", host="localhost"))}
    answer = session.get(api.url("/moved"), auth=auth)
    assert answer.status_code == 401
    assert answer.url == api.url("/there", host="localhost")
    assert [(asked.path, asked.authorization) for asked in api.asked] == [
        ("/moved", "Bearer token-1"),
        ("/there", None),
    ]
    assert source.fetches == 1


def test_a_redirect_after_a_repetition_carries_no_token_to_another_host(api, auth, session, source):
    api.refused = {"Bearer token-1"}
    api.redirects = {"/moved": (307, api.url("/there", host="localhost"))}
    assert session.get(api.url("/moved"), auth=auth).status_code == 401
    assert api.tokens == ["Bearer token-1", "Bearer token-2", None]
    assert source.fetches == 2


def test_a_redirect_to_another_bound_host_carries_no_token_either(api, manager, session, source):
    api.redirects = {"/moved": (302, api.url("/there", host="localhost"))}
    auth = BearerAuth(manager, hosts=["127.0.0.1", "localhost"])
    assert session.get(api.url("/moved"), auth=auth).status_code == 401
    assert api.tokens == ["Bearer token-1", None]
    assert source.fetches == 1


def test_a_token_that_is_not_ours_is_not_renewed_on_another_host(
    api, auth, session, source, tmp_path, monkeypatch
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    api.redirects = {"/moved": (302, api.url("/there", host="localhost"))}
    api.refused = {"Basic bWU6bWluZQ=="}
    assert session.get(api.url("/moved"), auth=auth).status_code == 401
    assert api.tokens == ["Bearer token-1", "Basic bWU6bWluZQ=="]
    assert source.fetches == 1


def test_our_token_on_a_host_that_is_not_bound_is_not_renewed(api, auth, session, source):
    # requests would not bring it there: whoever rewrites a request that is prepared does.
    prepared = session.prepare_request(requests.Request("GET", api.url(), auth=auth))
    prepared.url = api.url("/", host="localhost")
    api.refused = {"Bearer token-1"}
    assert session.send(prepared).status_code == 401
    assert len(api.asked) == 1
    assert source.fetches == 1


def test_a_redirect_on_the_same_host_carries_the_token_and_is_renewed_there(
    api, auth, session, source
):
    async def refuse_from_now_on(asked: Asked) -> None:
        if asked.path == "/there":
            api.refused = {"Bearer token-1"}

    api.before_answer = refuse_from_now_on
    api.redirects = {"/moved": (302, "/there")}
    assert session.get(api.url("/moved"), auth=auth).status_code == 200
    assert [(asked.path, asked.authorization) for asked in api.asked] == [
        ("/moved", "Bearer token-1"),
        ("/there", "Bearer token-1"),
        ("/there", "Bearer token-2"),
    ]
    assert source.fetches == 2


def test_a_redirect_after_a_repetition_carries_the_new_token(api, auth, session, source):
    api.refused = {"Bearer token-1"}
    api.redirects = {"/moved": (302, "/there")}
    assert session.get(api.url("/moved"), auth=auth).status_code == 200
    assert api.tokens == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]
    assert source.fetches == 2


# ── The body is sent again, whole ───────────────────────────────────────────────────────────


class Readable:
    """A body that is read and sought, and not iterated: requests keeps no position of it."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell


def _file_at(content: bytes, position: int) -> io.BytesIO:
    file = io.BytesIO(content)
    file.seek(position)
    return file


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"data": b"bytes"}, b"bytes"),
        ({"data": "text"}, b"text"),
        ({"data": bytearray(b"bytes")}, b"bytes"),
        ({"data": {"a": "1"}}, b"a=1"),
        ({"json": {"a": 1}}, b'{"a": 1}'),
        ({"data": io.BytesIO(b"file")}, b"file"),
        ({"data": _file_at(b"skipped file", 8)}, b"file"),
        ({"data": Readable(b"file")}, b"file"),
        ({}, b""),
    ],
)
def test_a_body_that_can_be_sent_again_is(api, auth, session, body, sent):
    api.refused = {"Bearer token-1"}
    assert session.post(api.url(), auth=auth, **body).status_code == 200
    assert [asked.body for asked in api.asked] == [sent, sent]
    assert {asked.method for asked in api.asked} == {"POST"}


def test_uploaded_files_are_sent_again(api, auth, session):
    api.refused = {"Bearer token-1"}
    upload = {"file": ("name.txt", io.BytesIO(b"content"))}
    assert session.post(api.url(), auth=auth, files=upload).status_code == 200
    first, again = (asked.body for asked in api.asked)
    assert b"content" in first
    assert again == first


def test_a_file_that_two_requests_of_one_thread_prepare_is_rewound_for_each(api, auth, session):
    # HTTPDigestAuth keeps one position per thread, that of the request prepared last.
    first = requests.Request("PUT", api.url("/1"), data=_file_at(b"skipped one", 8), auth=auth)
    other = requests.Request("PUT", api.url("/2"), data=_file_at(b"two", 0), auth=auth)
    prepared = [session.prepare_request(request) for request in (first, other)]
    api.refused = {"Bearer token-1"}
    assert [session.send(request).status_code for request in prepared] == [200, 200]
    assert [asked.body for asked in api.asked] == [b"one", b"one", b"two", b"two"]


def _generator() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


def _pipe() -> io.BufferedReader:
    end, start = os.pipe()
    os.write(start, b"one two")
    os.close(start)
    return open(end, "rb")  # noqa: PTH123 - the test closes it


class Unseekable(io.BytesIO):
    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("seek")


class ClosedAtItsEnd(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if not content:
            self.close()
        return content


@pytest.mark.parametrize(
    "make",
    [_generator, _pipe, lambda: Unseekable(b"one two"), lambda: ClosedAtItsEnd(b"one two")],
    ids=["generator", "pipe", "unseekable", "closed"],
)
def test_a_body_that_cannot_be_sent_again_gets_the_refusal_and_the_next_request_a_new_token(
    api, auth, session, source, make
):
    api.refused = {"Bearer token-1"}
    body = make()
    answer = session.post(api.url(), data=body, auth=auth)
    body.close()
    assert answer.status_code == 401
    assert answer.text.startswith("refused")
    assert [asked.body for asked in api.asked] == [b"one two"]
    assert source.fetches == 1
    assert session.post(api.url(), data=_generator(), auth=auth).status_code == 200
    assert source.fetches == 2


# ── How requests sends it ───────────────────────────────────────────────────────────────────


def test_the_repetition_takes_the_connection_of_the_first(api, auth, session):
    # One connection, and whoever wants another waits: unread, the first would never be free.
    session.mount("https://", HTTPAdapter(pool_maxsize=1, pool_block=True))
    api.refused = {"Bearer token-1"}
    assert session.get(api.url(), auth=auth, stream=True).status_code == 200
    assert len({asked.connection for asked in api.asked}) == 1


def test_a_streamed_answer_is_not_read_by_us(api, auth, session):
    api.refused = {"Bearer token-1"}
    with session.get(api.url(), auth=auth, stream=True) as answer:
        assert answer._content_consumed is False
        assert b"".join(answer.iter_content(1000)) == b"served " * 20_000


def test_a_refusal_that_is_returned_can_still_be_streamed(api, auth, session):
    api.refused = {"Bearer token-1"}
    with session.post(api.url(), data=_generator(), auth=auth, stream=True) as answer:
        assert answer._content_consumed is False
        assert next(answer.iter_content(8)) == b"refused "


def test_the_repetition_is_sent_as_the_first_was(api, auth, session):
    class Noting(HTTPAdapter):
        def send(self, request, **kwargs):
            noted.append(kwargs)
            return super().send(request, **kwargs)

    noted: list[dict[str, object]] = []
    session.mount("https://", Noting())
    api.refused = {"Bearer token-1"}
    session.get(api.url(), auth=auth, timeout=(7, 30), stream=True).close()
    assert noted[0] == noted[1]
    assert noted[1]["timeout"] == (7, 30)
    assert noted[1]["verify"] == session.verify


def test_cookies_of_the_refusal_go_with_the_repetition_and_into_the_session(api, auth, session):
    api.refused = {"Bearer token-1"}
    session.get(api.url(), auth=auth)
    assert [asked.cookie for asked in api.asked] == [None, "affinity=node-7"]
    assert session.cookies.get_dict() == {"affinity": "node-7"}


def test_a_request_that_passes_the_auth_again_is_still_repeated_once(api, auth, session, source):
    prepared = session.prepare_request(requests.Request("GET", api.url(), auth=auth))
    prepared.prepare_auth(auth)
    prepared.prepare_auth(auth)
    assert len(prepared.hooks["response"]) == 1
    api.refused = {"Bearer token-1", "Bearer token-2"}
    assert session.send(prepared).status_code == 401
    assert api.tokens == ["Bearer token-1", "Bearer token-2"]
    assert source.fetches == 2


def test_a_hook_of_the_program_is_kept_and_sees_what_the_program_gets(api, auth, session):
    seen: list[int] = []
    request = requests.Request(
        "GET", api.url(), auth=auth, hooks={"response": lambda r, **_: seen.append(r.status_code)}
    )
    prepared = session.prepare_request(request)
    prepared.prepare_auth(auth)
    api.refused = {"Bearer token-1"}
    session.send(prepared)
    assert seen == [200]


def test_a_copy_that_passes_the_auth_leaves_the_original_its_own_token(api, auth, session, manager):
    original = session.prepare_request(requests.Request("GET", api.url(), auth=auth))
    manager.refresh_access_token()
    original.copy().prepare_auth(auth)
    api.refused = {"Bearer token-1"}
    assert session.send(original).status_code == 200
    assert api.tokens == ["Bearer token-1", "Bearer token-2"]


def test_a_prepared_request_can_be_sent_again_and_is_renewed_again(api, auth, session, source):
    prepared = session.prepare_request(requests.Request("GET", api.url(), auth=auth))
    api.refused = {"Bearer token-1"}
    assert session.send(prepared).status_code == 200
    api.refused = {"Bearer token-2"}
    assert session.send(prepared).status_code == 200
    assert api.tokens == [f"Bearer token-{number}" for number in (1, 2, 2, 3)]
    assert source.fetches == 3


def test_one_bearer_serves_many_threads_each_with_a_body_of_its_own(api, auth, ca_file, source):
    numbers = iter(range(20))
    lock = threading.Lock()

    def send() -> bool:
        with lock:
            number = next(numbers)
        with requests.Session() as session:
            session.verify = ca_file
            session.auth = auth
            content = f"{number} ".encode() * 100
            answer = session.put(api.url(f"/{number}"), data=io.BytesIO(content), timeout=30)
            bodies = [asked.body for asked in api.asked if asked.path == f"/{number}"]
            return answer.status_code == 200 and set(bodies) == {content}

    api.refused = {"Bearer token-1"}
    assert in_threads(20, send) == [True] * 20
    assert source.fetches == 2


def test_bearers_are_compared_by_identity(manager):
    one, other = BearerAuth(manager), BearerAuth(manager)
    assert one != other
    assert len({one, other, one}) == 2


def test_nothing_is_logged_of_a_token(api, auth, session, caplog):
    api.refused = {"Bearer token-1"}
    with caplog.at_level(logging.DEBUG):
        session.get(api.url(), auth=auth)
    assert caplog.records
    assert "token-" not in caplog.text
