"""BearerAuth for requests: what every client's does, and what is requests' own."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from http_compliance import (
    ClosedAtItsEnd,
    Compliance,
    Driver,
    Reply,
    file_at,
    generator,
)
from requests.adapters import HTTPAdapter

from tokenmgr import AccessTokenManager, HostNotAllowedError
from tokenmgr.http.requests import BearerAuth


class Readable:
    """A body that is read and sought, and not iterated: requests keeps no position of it."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell


def pipe() -> io.BufferedReader:
    end, start = os.pipe()
    os.write(start, b"one two")
    os.close(start)
    return open(end, "rb")  # noqa: PTH123 - the driver closes it


class Unseekable(io.BytesIO):
    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("seek")


class SessionDriver(Driver):
    auth = BearerAuth
    repeatable = {
        "bytes": (lambda: b"bytes", b"bytes"),
        "text": (lambda: "text", b"text"),
        "bytearray": (lambda: bytearray(b"bytes"), b"bytes"),
        "form": (lambda: {"a": "1"}, b"a=1"),
        "file": (lambda: io.BytesIO(b"file"), b"file"),
        "file from where it stands": (lambda: file_at(b"skipped file", 8), b"file"),
        "readable": (lambda: Readable(b"file"), b"file"),
        "nothing": (lambda: None, b""),
    }
    once = {
        "generator": generator,
        "pipe": pipe,
        "unseekable": lambda: Unseekable(b"one two"),
        "closed": lambda: ClosedAtItsEnd(b"one two"),
    }

    def __init__(self, ca_file: str) -> None:
        super().__init__(ca_file)
        self._session = requests.Session()
        self._session.verify = ca_file

    def request(self, method: str, url: str, **request: Any) -> requests.Response:
        return self._session.request(method, url, timeout=30, **request)

    def send(
        self,
        auth: BearerAuth,
        url: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: Any = None,
        redirects: bool = True,
    ) -> Reply:
        with contextlib.closing(body) if hasattr(body, "close") else contextlib.nullcontext():
            answer = self.request(
                method, url, auth=auth, headers=headers, data=body, allow_redirects=redirects
            )
        return Reply(answer.status_code, answer.content)

    @contextlib.contextmanager
    def streaming(self, auth: BearerAuth, url: str) -> Iterator[Callable[[], bytes]]:
        with self.request("GET", url, auth=auth, stream=True) as answer:
            pieces = answer.iter_content(None)
            yield lambda: next(pieces)

    def close(self) -> None:
        self._session.close()


class CallDriver(SessionDriver):
    """Sends each request by a session of its own."""

    def request(self, method: str, url: str, **request: Any) -> requests.Response:
        return requests.request(method, url, timeout=30, verify=self.ca_file, **request)


class TestSessions(Compliance):
    driver_class = SessionDriver


class TestCalls(Compliance):
    driver_class = CallDriver


@pytest.fixture
def session(ca_file: str) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.verify = ca_file
        yield session


@pytest.fixture
def auth(manager: AccessTokenManager) -> BearerAuth:
    """Bound to 127.0.0.1, and not to localhost, which is the same server."""
    return BearerAuth(manager, hosts="127.0.0.1")


def test_the_token_goes_to_the_host_that_its_scope_names(manager, source):
    request = requests.Request("GET", "https://graph.microsoft.com/v1.0", auth=BearerAuth(manager))
    assert request.prepare().headers["Authorization"] == "Bearer token-1"


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
        "<tokenmgr.http.requests.BearerAuth of https://graph.microsoft.com/.default "
        "for graph.microsoft.com>"
    )


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


def test_uploaded_files_are_sent_again(api, auth, session):
    api.refused = {"Bearer token-1"}
    upload = {"file": ("name.txt", io.BytesIO(b"content"))}
    assert session.post(api.url(), auth=auth, files=upload).status_code == 200
    first, again = (asked.body for asked in api.asked)
    assert b"content" in first
    assert again == first


def test_a_file_that_two_requests_of_one_thread_prepare_is_rewound_for_each(api, auth, session):
    # HTTPDigestAuth keeps one position per thread, that of the request prepared last.
    first = requests.Request("PUT", api.url("/1"), data=file_at(b"skipped one", 8), auth=auth)
    other = requests.Request("PUT", api.url("/2"), data=file_at(b"two", 0), auth=auth)
    prepared = [session.prepare_request(request) for request in (first, other)]
    api.refused = {"Bearer token-1"}
    assert [session.send(request).status_code for request in prepared] == [200, 200]
    assert [asked.body for asked in api.asked] == [b"one", b"one", b"two", b"two"]


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
    with session.post(api.url(), data=generator(), auth=auth, stream=True) as answer:
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


def test_bearers_are_compared_by_identity(manager):
    one, other = BearerAuth(manager), BearerAuth(manager)
    assert one != other
    assert len({one, other, one}) == 2
