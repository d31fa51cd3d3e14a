"""What every HTTP client's BearerAuth does: one suite, inherited for each of them.

A client's test file has a driver, which sends by that client, and a class that inherits
:class:`Compliance`, and :class:`AsyncCompliance` where the client is asynchronous.
"""

from __future__ import annotations

import abc
import asyncio
import base64
import contextlib
import io
import logging
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from http_api import BOMB, ENDLESS, Api, Asked, Refusal, Server, bomb
from reporting import PACKAGE
from support import SCOPE, FakeSource, in_threads, make_manager

from tokenmgr import (
    AccessToken,
    AccessTokenManager,
    ConfigurationError,
    HostNotAllowedError,
    InsufficientScopeError,
    InteractionRequiredError,
    InvalidCredentialError,
    ServiceUnavailableError,
    TokenKey,
    TokenRegistry,
)
from tokenmgr.emulator import EntraEmulator

CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"},"x":{"value":"~?>~?>"}}}'
STANDARD = base64.b64encode(CLAIMS.encode()).decode()
URL_SAFE = base64.urlsafe_b64encode(CLAIMS.encode()).decode()


def challenge(encoded: str = STANDARD, error: str = "insufficient_claims") -> str:
    return f'Bearer realm="", authorization_uri="https://x/y", error="{error}", claims="{encoded}"'


#: Ways to ask for the same claims.
CHALLENGES: dict[str, tuple[str, ...]] = {
    "padded": (challenge(),),
    "unpadded": (challenge(STANDARD.rstrip("=")),),
    "URL-safe": (challenge(URL_SAFE.rstrip("=")),),
    "unquoted": (f"bearer error=insufficient_claims,claims={STANDARD}",),
    "without commas": (f'Bearer error="insufficient_claims" claims="{STANDARD}"',),
    "of a revoked session": (challenge(error="invalid_token"),),
    "behind another scheme": (f'Negotiate abc/d==, Basic realm="a, b", {challenge()}, PoP',),
    "behind another bearer": (f'Bearer realm="a", {challenge()}',),
    "in a second header": ('Basic realm="\\"Bearer claims=e30\\""', challenge()),
}
UNREADABLE: dict[str, tuple[str, ...]] = {
    "no base64": (challenge("%%%"),),
    "no JSON": (challenge(base64.b64encode(b"claims").decode()),),
    "no object": (challenge(base64.b64encode(b"[1]").decode()),),
    "nothing": (challenge(""),),
    "no text": (challenge(base64.b64encode(b"\xff\xfe{}").decode()),),
    "too deep": (challenge(base64.b64encode(b"[" * 3_000).decode()),),
    "cut off": (challenge()[:-1],),
    "left out": ('Bearer error="insufficient_claims"',),
}
MISSING = 'Bearer error="insufficient_scope", scope="Mail.Read Mail.Send"'


@dataclass(frozen=True)
class Reply:
    """What a client gave for an answer."""

    status: int
    body: bytes


class Driver(abc.ABC):
    """Sends by a client, as its users do."""

    #: Its class of the client's auth.
    auth: ClassVar[Callable[..., Any]]
    #: Bodies that can be sent again, each made anew, with what arrives of them.
    repeatable: ClassVar[dict[str, tuple[Callable[[], object], bytes]]]
    #: Bodies that cannot.
    once: ClassVar[dict[str, Callable[[], object]]]
    #: The variables that it takes a proxy from.
    proxy_variable: ClassVar[dict[str, str]] = {
        "HTTP_PROXY": "HTTP_PROXY",
        "http_proxy": "http_proxy",
        "ALL_PROXY": "ALL_PROXY",
    }

    def __init__(self, ca_file: str) -> None:
        self.ca_file = ca_file

    @abc.abstractmethod
    def send(
        self,
        auth: Any,
        url: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: object = None,
        redirects: bool = True,
    ) -> Reply:
        """Sends a request, and reads its answer."""

    @abc.abstractmethod
    def streaming(self, auth: Any, url: str) -> AbstractContextManager[Callable[[], bytes]]:
        """Sends a request whose answer is read piece by piece, by what it gives."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends what it keeps."""


class AsyncDriver(Driver):
    """Sends by an asynchronous client, in an event loop of its own, from any thread."""

    def __init__(self, ca_file: str) -> None:
        super().__init__(ca_file)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()
        self._client = self.run(self._stack.enter_async_context(self.client()))

    @abc.abstractmethod
    def client(self) -> AbstractAsyncContextManager[Any]:
        """A new client."""

    @abc.abstractmethod
    async def asend(self, client: Any, auth: Any, url: str, **request: Any) -> Reply:
        """Sends a request by a client."""

    @abc.abstractmethod
    def astreaming(
        self, client: Any, auth: Any, url: str
    ) -> AbstractAsyncContextManager[Callable[[], Coroutine[Any, Any, bytes]]]:
        """Does as :meth:`Driver.streaming`."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def send(self, auth: Any, url: str, **request: Any) -> Reply:
        reply: Reply = self.run(self.asend(self._client, auth, url, **request))
        return reply

    @contextlib.contextmanager
    def streaming(self, auth: Any, url: str) -> Iterator[Callable[[], bytes]]:
        answer = self.astreaming(self._client, auth, url)
        piece = self.run(answer.__aenter__())
        try:
            yield lambda: self.run(piece())
        finally:
            self.run(answer.__aexit__(None, None, None))

    def close(self) -> None:
        self.run(self._stack.aclose())
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ClosedAtItsEnd(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if not content:
            self.close()
        return content


def file_at(content: bytes, position: int) -> io.BytesIO:
    file = io.BytesIO(content)
    file.seek(position)
    return file


def generator() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


async def async_generator() -> Any:
    yield b"one "
    yield b"two"


class Compliance:
    """What every client's BearerAuth does."""

    driver_class: ClassVar[type[Driver]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Has tests run with each of the client's bodies, and of its proxies' variables."""
        for name in ("repeatable", "once", "proxy_variable"):
            if name in metafunc.fixturenames:
                given = getattr(self.driver_class, name)
                metafunc.parametrize(name, given.values(), ids=given.keys())

    @pytest.fixture
    def driver(self, ca_file: str) -> Iterator[Driver]:
        driver = self.driver_class(ca_file)
        yield driver
        driver.close()

    @pytest.fixture
    def auth(self, driver: Driver, manager: AccessTokenManager) -> Any:
        """Bound to 127.0.0.1, and not to localhost, which is the same server."""
        return type(driver).auth(manager, hosts="127.0.0.1")

    # Where the token goes

    def test_the_token_is_fetched_once_and_goes_with_each_request(self, api, auth, driver, source):
        for _ in range(3):
            assert driver.send(auth, api.url()) == Reply(200, b"served " * 20_000)
        assert api.tokens == ["Bearer token-1"] * 3
        assert source.fetches == 1

    def test_a_header_of_the_programs_own_is_left_alone(self, api, auth, driver, source):
        assert driver.send(auth, api.url(), headers={"authorization": "Basic abc"}).status == 200
        api.refused = {"Basic abc"}
        assert driver.send(auth, api.url(), headers={"authorization": "Basic abc"}).status == 401
        assert api.tokens == ["Basic abc"] * 2
        assert source.fetches == 0

    def test_a_header_of_the_programs_own_is_replaced_when_that_is_asked_for(
        self, api, driver, manager
    ):
        auth = type(driver).auth(manager, hosts="127.0.0.1", replace_header=True)
        driver.send(auth, api.url(), headers={"authorization": "Basic abc"})
        api.refused = {"Bearer token-1"}
        driver.send(auth, api.url(), headers={"authorization": "Basic abc"})
        assert api.tokens == ["Bearer token-1"] * 2 + ["Bearer token-2"]

    def test_a_host_that_is_not_bound_gets_neither_a_request_nor_a_fetch(
        self, api, driver, manager, source
    ):
        for hosts in ("graph.microsoft.com", "127.0.0.1:1", "*.blob.core.windows.net"):
            auth = type(driver).auth(manager, hosts=hosts)
            with pytest.raises(HostNotAllowedError) as told:
                driver.send(auth, api.url("/?secret=1"))
            assert f'hosts="127.0.0.1:{api.port}"' in str(told.value)
            assert "secret" not in str(told.value)
        assert api.asked == []
        assert source.fetches == 0

    def test_a_bound_host_without_tls_gets_neither_a_request_nor_a_fetch(
        self, driver, manager, source
    ):
        auth = type(driver).auth(manager)
        with pytest.raises(HostNotAllowedError, match="use https"):
            driver.send(auth, "http://graph.microsoft.com/")
        assert source.fetches == 0

    def test_a_failed_fetch_is_raised_and_nothing_is_sent(self, api, auth, driver, source):
        source.error = InvalidCredentialError("the secret is wrong")
        with pytest.raises(InvalidCredentialError):
            driver.send(auth, api.url())
        assert api.asked == []

    def test_a_closed_manager_is_told_and_nothing_is_sent(self, api, auth, driver, manager):
        driver.send(auth, api.url())
        manager.close()
        with pytest.raises(ConfigurationError, match="closed"):
            driver.send(auth, api.url())
        assert len(api.asked) == 1

    def test_a_token_that_is_no_bearer_is_not_sent(self, api, auth, driver, source, clock):
        source.fetch_token = lambda *, claims=None: AccessToken(
            "token-1", clock.wall() + 3600, token_type="pop"
        )
        with pytest.raises(ConfigurationError, match="'pop'") as told:
            driver.send(auth, api.url())
        assert "token-1" not in str(told.value)
        assert api.asked == []

    @pytest.mark.parametrize("given", [TokenRegistry, "a-token", None])
    def test_what_is_no_manager_is_told_what_to_pass(self, driver, given):
        if given is TokenRegistry:
            given = TokenRegistry(
                client_id="app",
                credential="secret",
                authority="https://login.microsoftonline.com/contoso.com",
            )
        with pytest.raises(ConfigurationError) as told:
            type(driver).auth(given)
        assert "BearerAuth(registry.manager(scope))" in str(told.value)
        assert type(given).__name__ in str(told.value)
        assert "a-token" not in str(told.value)

    def test_a_scope_that_names_no_host_asks_for_one(self, driver, clock, source):
        key = TokenKey(
            "https://login.example/t", "app", "client_credentials", ("api://x/.default",)
        )
        with pytest.raises(ConfigurationError, match="hosts="):
            type(driver).auth(AccessTokenManager(source, key, clock=clock))

    def test_nothing_tells_of_a_token(self, api, auth, driver, caplog):
        api.refused = {"Bearer token-1"}
        with caplog.at_level(logging.DEBUG):
            driver.send(auth, api.url())
        assert "token-" not in caplog.text
        assert "token-" not in repr(auth)
        assert repr(auth).startswith(f"<{type(driver).auth.__module__}.BearerAuth of ")
        assert repr(auth).endswith(" of https://graph.microsoft.com/.default for 127.0.0.1>")

    @pytest.mark.parametrize("outcome", ["broken", "refused", "not allowed"])
    def test_no_variable_of_ours_holds_a_token_where_something_is_raised(
        self, api, driver, manager, outcome
    ):
        async def cut(asked: Asked) -> None:
            asked.connection.close()

        auth = type(driver).auth(manager, hosts="127.0.0.1", replace_header=True)
        api.before_answer = cut if outcome == "broken" else None
        api.refusals = {"Bearer token-1": Refusal(403, (MISSING,))}
        url = api.url(host="localhost" if outcome == "not allowed" else "127.0.0.1")
        with pytest.raises(Exception) as told:  # noqa: PT011 - each client has its own
            driver.send(auth, url, headers={"Authorization": "Bearer token-0"})
        error: BaseException | None = told.value
        shown: list[str] = []
        while error is not None:
            for frame, _ in traceback.walk_tb(error.__traceback__):
                if frame.f_code.co_filename.startswith(f"{PACKAGE}/"):
                    shown += map(repr, frame.f_locals.values())
            error = error.__cause__ or error.__context__
        assert "token-1" not in f"{shown} {told.value!r}"
        assert shown or outcome == "broken"

    # Refused tokens

    @pytest.mark.parametrize(
        "challenges",
        [
            (),
            ('Bearer realm="", error="invalid_token"',),
            ("Negotiate",),
            ("%%,=\"'",),
            # An error's words, a parameter of another scheme and a quotation are no challenge.
            ('Bearer error_description="Bearer claims=\\"e30\\""', f'Basic claims="{STANDARD}"'),
        ],
    )
    def test_a_refused_token_is_dropped_and_the_request_repeated_with_a_new_one(
        self, api, auth, driver, manager, source, challenges
    ):
        api.refusals = {"Bearer token-1": Refusal(challenges=challenges)}
        assert driver.send(auth, api.url()).status == 200
        assert api.tokens == ["Bearer token-1", "Bearer token-2"]
        assert manager.get_access_token() == "token-2"
        assert source.claims == [None, None]

    def test_a_second_refusal_is_returned_as_it_is(self, api, auth, driver, source):
        api.refused = {"Bearer token-1", "Bearer token-2"}
        assert driver.send(auth, api.url()) == Reply(401, b"refused " * 20_000)
        assert api.tokens == ["Bearer token-1", "Bearer token-2"]
        assert source.fetches == 2

    def test_a_token_renewed_meanwhile_is_taken_and_not_dropped(
        self, api, auth, driver, manager, source
    ):
        async def renew(asked: Asked) -> None:
            if asked.authorization == "Bearer token-1":
                await manager.arefresh_access_token()

        api.refused = {"Bearer token-1"}
        api.before_answer = renew
        assert driver.send(auth, api.url()).status == 200
        assert source.fetches == 2

    def test_the_first_refusal_is_returned_where_no_new_token_is_to_be_had(
        self, api, auth, driver, manager, source
    ):
        manager.get_token()
        api.refused = {"Bearer token-1"}
        source.error = ServiceUnavailableError("the service is down")
        assert driver.send(auth, api.url()) == Reply(401, b"refused " * 20_000)
        assert api.tokens == ["Bearer token-1"]
        with pytest.raises(ServiceUnavailableError, match="the service is down"):
            driver.send(auth, api.url())

    def test_the_refused_token_is_not_sent_again_where_the_source_repeats_it(
        self, api, auth, driver, source, clock
    ):
        source.fetch_token = lambda *, claims=None: AccessToken("the-same", clock.wall() + 3600)
        api.refused = {"Bearer the-same"}
        assert driver.send(auth, api.url()).status == 401
        assert api.tokens == ["Bearer the-same"]

    def test_twenty_refusals_at_once_cost_one_renewal_and_all_are_served(
        self, api, auth, driver, source
    ):
        api.refused = {"Bearer token-1"}
        api.before_answer = all_at_once(api, 20)
        assert in_threads(20, lambda: driver.send(auth, api.url()).status) == [200] * 20
        assert source.fetches == 2
        assert sorted(map(str, api.tokens)) == ["Bearer token-1"] * 20 + ["Bearer token-2"] * 20

    def test_a_refused_answer_of_many_megabytes_is_not_held_in_memory(self, api, auth, driver):
        api.refusals = {"Bearer token-1": Refusal(bomb=True)}
        driver.send(auth, api.url(), headers={"authorization": "Basic abc"})  # what it imports
        bomb()
        tracemalloc.start()
        try:
            assert driver.send(auth, api.url()).status == 200
            assert tracemalloc.get_traced_memory()[1] < BOMB / 4
        finally:
            tracemalloc.stop()

    def test_a_refused_answer_without_an_end_is_not_read_to_it(self, api, auth, driver):
        api.refusals = {"Bearer token-1": Refusal(endless=True)}
        assert driver.send(auth, api.url()).status == 200
        assert api.tokens == ["Bearer token-1", "Bearer token-2"]
        assert api.went_on < ENDLESS / 4

    def test_an_outage_of_the_api_is_none_of_the_tokens(self, api, auth, driver, source):
        api.refusals = {"Bearer token-1": Refusal(503, (challenge(),))}
        assert driver.send(auth, api.url()).status == 503
        assert len(api.asked) == source.fetches == 1

    # Claims challenges

    @pytest.mark.parametrize("status", [401, 403])
    @pytest.mark.parametrize("challenges", CHALLENGES.values(), ids=CHALLENGES.keys())
    def test_a_claims_challenge_is_answered_with_a_token_of_these_claims_which_stays(
        self, api, auth, driver, manager, source, challenges, status
    ):
        api.refusals = {"Bearer token-1": Refusal(status, challenges)}
        assert driver.send(auth, api.url()).status == 200
        assert driver.send(auth, api.url()).status == 200
        assert api.tokens == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]
        assert source.claims == [None, CLAIMS]
        assert manager.get_access_token() == "token-2"

    @pytest.mark.parametrize("challenges", UNREADABLE.values(), ids=UNREADABLE.keys())
    def test_a_challenge_that_cannot_be_read_is_ignored_and_the_answer_returned(
        self, api, auth, driver, source, challenges
    ):
        api.refusals = {"Bearer token-1": Refusal(challenges=challenges)}
        assert driver.send(auth, api.url()) == Reply(401, b"refused " * 20_000)
        assert source.fetches == 1

    def test_twenty_who_meet_a_challenge_cost_one_request_also_who_meets_it_late(
        self, api, auth, driver, source
    ):
        async def hold_the_late_one(asked: Asked) -> None:
            await (api.hold() if asked.path == "/late" else together(asked))

        together = all_at_once(api, 21)
        api.before_answer = hold_the_late_one
        api.refusals = {"Bearer token-1": Refusal(challenges=(challenge(),))}
        api.let_go.clear()
        late: list[Reply] = []
        thread = threading.Thread(target=lambda: late.append(driver.send(auth, api.url("/late"))))
        thread.start()
        assert api.held.wait(30)
        assert in_threads(20, lambda: driver.send(auth, api.url()).status) == [200] * 20
        api.let_go.set()
        thread.join()
        assert late[0].status == 200
        assert source.claims == [None, CLAIMS]

    def test_a_challenge_that_returns_is_repeated_once_and_then_returned(
        self, api, auth, driver, source
    ):
        refusal = Refusal(challenges=(challenge(),))
        api.refusals = {f"Bearer token-{number}": refusal for number in range(1, 9)}
        assert driver.send(auth, api.url()) == Reply(401, b"refused " * 20_000)
        assert api.tokens == ["Bearer token-1", "Bearer token-2"]
        # The one in hand has these claims, and is refused for them: a new one.
        assert driver.send(auth, api.url()).status == 401
        assert api.tokens[2:] == ["Bearer token-2", "Bearer token-3"]
        assert source.claims == [None, CLAIMS, CLAIMS]

    def test_the_challenge_is_returned_where_no_token_of_these_claims_is_to_be_had(
        self, api, auth, driver, manager, source
    ):
        manager.get_token()
        api.refusals = {"Bearer token-1": Refusal(challenges=(challenge(),))}
        source.error = ServiceUnavailableError("the service is down")
        assert driver.send(auth, api.url()) == Reply(401, b"refused " * 20_000)
        assert manager.get_access_token() == "token-1"  # which others may take

    def test_a_challenge_that_a_person_has_to_meet_is_raised(
        self, api, auth, driver, manager, source
    ):
        manager.get_token()
        api.refusals = {"Bearer token-1": Refusal(challenges=(challenge(),))}
        source.error = InteractionRequiredError("sign in", claims="{}")
        with pytest.raises(InteractionRequiredError):
            driver.send(auth, api.url())

    # Scopes

    def test_missing_scopes_are_raised_and_the_token_is_kept(self, api, auth, driver, source):
        api.refusals = {"Bearer token-1": Refusal(403, (MISSING,))}
        with pytest.raises(InsufficientScopeError, match=r"Mail\.Read Mail\.Send") as told:
            driver.send(auth, api.url())
        assert told.value.scopes == ("Mail.Read", "Mail.Send")
        assert (told.value.status, told.value.error) == (403, "insufficient_scope")
        assert len(api.asked) == source.fetches == 1
        api.refusals = {}
        assert driver.send(auth, api.url()).status == 200

    def test_missing_scopes_are_an_answer_where_that_is_preferred(self, api, driver, manager):
        auth = type(driver).auth(manager, hosts="127.0.0.1", raise_for_scope=False)
        api.refusals = {"Bearer token-1": Refusal(403, (MISSING,))}
        assert driver.send(auth, api.url()) == Reply(403, b"refused " * 20_000)

    def test_another_403_is_returned_as_it_is(self, api, auth, driver, source):
        api.refusals = {"Bearer token-1": Refusal(403, ('Bearer error="x", scope="Mail.Read"',))}
        assert driver.send(auth, api.url()).status == 403
        assert len(api.asked) == source.fetches == 1

    # Redirects

    @pytest.mark.parametrize("status", [302, 307])
    @pytest.mark.parametrize("hosts", ["127.0.0.1", ["127.0.0.1", "localhost"]])
    def test_a_redirect_to_another_host_carries_no_token_and_its_challenge_is_ignored(
        self, api, driver, manager, source, status, hosts
    ):
        auth = type(driver).auth(manager, hosts=hosts)
        api.redirects = {"/moved": (status, api.url("/there", host="localhost"))}
        api.refusals = {None: Refusal(challenges=(challenge(),))}
        assert driver.send(auth, api.url("/moved")).status == 401
        assert [(asked.path, asked.authorization) for asked in api.asked] == [
            ("/moved", "Bearer token-1"),
            ("/there", None),
        ]
        assert source.fetches == 1

    def test_a_redirect_after_a_repetition_carries_no_token_to_another_host(
        self, api, auth, driver, source
    ):
        api.refused = {"Bearer token-1"}
        api.redirects = {"/moved": (307, api.url("/there", host="localhost"))}
        assert driver.send(auth, api.url("/moved")).status == 401
        assert api.tokens == ["Bearer token-1", "Bearer token-2", None]
        assert source.fetches == 2

    def test_a_redirect_that_comes_back_carries_no_token(self, api, driver, manager):
        auth = type(driver).auth(manager, hosts=["127.0.0.1", "localhost"])
        there = api.url("/there", host="localhost")
        api.redirects = {"/moved": (302, there), "/there": (302, api.url("/back"))}
        assert driver.send(auth, api.url("/moved")).status == 401
        assert api.tokens == ["Bearer token-1", None, None]

    def test_a_redirect_to_http_carries_no_token(self, api, auth, driver, plain):
        api.redirects = {"/moved": (302, f"{plain.url}/there")}
        assert driver.send(auth, api.url("/moved")).status == 200
        assert plain.asked == [("/there", None)]

    def test_a_redirect_on_the_same_host_carries_the_token_and_is_renewed_there_alone(
        self, api, auth, driver, source
    ):
        async def refuse_from_now_on(asked: Asked) -> None:
            if asked.path == "/there":
                api.refused = {"Bearer token-1"}

        api.before_answer = refuse_from_now_on
        api.redirects = {"/made": (303, "/there")}
        assert driver.send(auth, api.url("/made"), method="POST", body=b"once").status == 200
        assert [(asked.method, asked.path, asked.authorization) for asked in api.asked] == [
            ("POST", "/made", "Bearer token-1"),
            ("GET", "/there", "Bearer token-1"),
            ("GET", "/there", "Bearer token-2"),
        ]
        assert source.fetches == 2

    def test_a_redirect_after_a_repetition_carries_the_new_token(self, api, auth, driver, source):
        api.refused = {"Bearer token-1"}
        api.redirects = {"/moved": (302, "/there")}
        assert driver.send(auth, api.url("/moved")).status == 200
        assert api.tokens == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]
        assert source.fetches == 2

    def test_a_redirect_that_is_not_to_be_followed_is_returned(self, api, auth, driver):
        api.redirects = {"/moved": (302, "/there")}
        assert driver.send(auth, api.url("/moved"), redirects=False).status == 302
        assert len(api.asked) == 1

    # This machine, without TLS

    def test_this_machine_gets_its_token_without_tls_and_on_its_redirects(
        self, driver, manager, plain
    ):
        auth = type(driver).auth(manager, hosts="127.0.0.1")
        assert driver.send(auth, f"{plain.url}/moved").status == 200
        assert plain.asked == [("/moved", "Bearer token-1"), ("/there", "Bearer token-1")]

    def test_the_proxy_of_the_environment_gets_no_token(
        self, ca_file, manager, plain, proxy, source, monkeypatch, proxy_variable
    ):
        monkeypatch.setenv(proxy_variable, proxy.url)
        driver = self.driver_class(ca_file)
        auth = type(driver).auth(manager, hosts="127.0.0.1")
        try:
            self.sends_nothing_to_a_proxy(driver, auth, plain, proxy, source)
        finally:
            driver.close()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        driver = self.driver_class(ca_file)
        try:
            assert driver.send(auth, plain.url).status == 200
        finally:
            driver.close()
        assert plain.asked[-1] == ("/", "Bearer token-1")

    @staticmethod
    def sends_nothing_to_a_proxy(
        driver: Driver, auth: Any, plain: Server, proxy: Server, source: FakeSource
    ) -> None:
        with pytest.raises(HostNotAllowedError, match="proxy"):
            driver.send(auth, plain.url)
        assert proxy.asked == plain.asked == []
        assert source.fetches == 0

    # Bodies

    def test_a_body_that_can_be_sent_again_is(self, api, auth, driver, repeatable):
        make, sent = repeatable
        api.refused = {"Bearer token-1"}
        assert driver.send(auth, api.url(), method="POST", body=make()).status == 200
        assert [asked.body for asked in api.asked] == [sent, sent]
        assert {asked.method for asked in api.asked} == {"POST"}

    @pytest.mark.parametrize("challenges", [(), (challenge(),)])
    def test_a_body_that_cannot_is_sent_once_and_the_next_request_has_the_new_token(
        self, api, auth, driver, source, once, challenges
    ):
        api.refusals = {"Bearer token-1": Refusal(challenges=challenges)}
        refused = driver.send(auth, api.url(), method="POST", body=once())
        assert refused == Reply(401, b"refused " * 20_000)
        assert [asked.body for asked in api.asked] == [b"one two"]
        assert driver.send(auth, api.url(), method="POST", body=once()).status == 200
        assert api.tokens == ["Bearer token-1", "Bearer token-2"]
        assert source.claims == [None, CLAIMS if challenges else None]

    def test_cookies_of_the_refusal_go_with_the_repetition(self, api, auth, driver):
        api.refused = {"Bearer token-1"}
        driver.send(auth, api.url())
        assert [asked.cookie for asked in api.asked] == [None, "affinity=node-7"]

    # Nobody waits for another

    def test_an_answer_is_streamed_also_after_a_repetition(self, api, auth, driver):
        api.let_go.clear()
        api.refused = {"Bearer token-1"}
        with driver.streaming(auth, api.url("/stream")) as piece:
            assert piece() == b"first "
            api.let_go.set()
            assert piece() == b"last"

    def test_a_refusal_that_is_returned_can_be_streamed(self, api, auth, driver):
        api.refused = {"Bearer token-1", "Bearer token-2"}
        with driver.streaming(auth, api.url("/stream")) as piece:
            assert piece().startswith(b"refuse")

    def test_a_request_is_answered_while_the_server_holds_another_one(self, api, auth, driver):
        api.let_go.clear()
        held: list[Reply] = []
        slow = threading.Thread(target=lambda: held.append(driver.send(auth, api.url("/held"))))
        slow.start()
        assert api.held.wait(30)
        assert driver.send(auth, api.url()).status == 200
        api.refused = {"Bearer token-1"}
        assert driver.send(auth, api.url()).status == 200  # a repetition too
        assert held == []
        api.let_go.set()
        slow.join()
        assert held[0].status == 200

    def test_many_threads_share_one_each_with_a_body_of_its_own(self, api, auth, driver, source):
        numbers = iter(range(20))
        lock = threading.Lock()

        def send() -> bool:
            with lock:
                number = next(numbers)
            content = f"{number} ".encode() * 100
            reply = driver.send(auth, api.url(f"/{number}"), method="PUT", body=content)
            bodies = {asked.body for asked in api.asked if asked.path == f"/{number}"}
            return reply.status == 200 and bodies == {content}

        api.refused = {"Bearer token-1"}
        assert in_threads(20, send) == [True] * 20
        assert source.fetches == 2

    # The whole way

    @pytest.mark.parametrize("cae", [False, True])
    def test_a_session_that_ends_and_an_outage_of_entras_are_not_noticed(self, cae):
        with EntraEmulator() as entra, entra.registry(cae=cae) as tokens:
            graph = tokens.manager(SCOPE)
            driver = self.driver_class(entra.ca_file)
            auth = type(driver).auth(graph, hosts=entra.url.removeprefix("https://"))
            url = f"{entra.url}/graph/v1.0/me"
            try:
                assert driver.send(auth, url).status == 200
                entra.revoke_tokens()
                assert driver.send(auth, url).status == 200
                entra.fail_next(9, status=503, retry_after=60)
                assert driver.send(auth, url).status == 200
                entra.revoke_tokens()
                assert driver.send(auth, url).status == 401
            finally:
                driver.close()
            claims = [str(each.form.get("claims")) for each in entra.requests[:9] if each.form]
        assert ["CP1" in each for each in claims[:2]] == [cae, cae]
        assert ["nbf" in each for each in claims[:2]] == [False, cae]


class AsyncCompliance(Compliance):
    """What an asynchronous client's BearerAuth does besides."""

    driver_class: ClassVar[type[AsyncDriver]]  # type: ignore[misc]

    def test_the_loop_turns_while_a_token_is_fetched(self, api, auth, driver, source):
        source.gate.clear()

        async def turn() -> int:
            sending = asyncio.create_task(driver.asend(driver._client, auth, api.url()))
            turns = 0
            while not source.entered.acquire(blocking=False):
                await asyncio.sleep(0.001)
            for _ in range(20):  # which would not be counted by a loop that waits for the gate
                await asyncio.sleep(0)
                turns += 1
            source.gate.set()
            assert (await sending).status == 200
            return turns

        assert driver.run(turn()) == 20

    def test_one_serves_event_loops_in_a_row_and_side_by_side(self, api, driver, source, clock):
        auth = type(driver).auth(make_manager(clock, source), hosts="127.0.0.1")

        async def send() -> int:
            async with driver.client() as client:
                return (await driver.asend(client, auth, api.url())).status

        assert [asyncio.run(send()) for _ in range(2)] == [200, 200]
        api.refused = {"Bearer token-1"}
        assert in_threads(4, lambda: asyncio.run(send())) == [200] * 4
        assert source.fetches == 2

    def test_a_cancelled_request_leaves_the_fetch_to_others(self, api, auth, driver, source):
        source.gate.clear()

        async def cancel() -> None:
            sending = asyncio.create_task(driver.asend(driver._client, auth, api.url()))
            while not source.entered.acquire(blocking=False):
                await asyncio.sleep(0.001)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending

        driver.run(cancel())
        source.gate.set()
        assert driver.send(auth, api.url()).status == 200
        assert source.fetches == 1


def all_at_once(api: Api, count: int) -> Callable[[Asked], Any]:
    """Has so many requests with the first token be there before one is answered."""
    all_there = asyncio.Event()

    async def wait_for_all(asked: Asked) -> None:
        if asked.authorization == "Bearer token-1":
            if api.tokens.count("Bearer token-1") >= count:
                all_there.set()
            await asyncio.wait_for(all_there.wait(), 30)

    return wait_for_all
