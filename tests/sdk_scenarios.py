"""What every SDK is put through, and a server that each takes for its service, over TLS.

A test file of SDKs has a class that inherits :class:`Scenarios`, with the SDKs by name. It imports
an SDK where that is used, as every process of pytest-xdist imports every test file.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
from aiohttp import web
from http_api import Api, Refusal

from tokenmgr import ServiceUnavailableError, TokenRegistry
from tokenmgr.emulator import EntraEmulator

__all__ = ["CHALLENGE", "Cost", "Scenarios", "Sdk", "SdkApi", "Way", "in_a_loop"]

CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}'
CHALLENGE = (
    'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize"'
    f', error="insufficient_claims", claims="{base64.b64encode(CLAIMS.encode()).decode()}"'
)
_CHAT = {
    "id": "chat-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "served"},
        }
    ],
}
_MESSAGE = {
    "id": "msg-1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "served"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
#: What a service answers, by the end of the path.
_SERVED: dict[str, object] = {
    "/chat/completions": _CHAT,
    "/messages": _MESSAGE,
    "/secrets/name/": {"value": "served", "id": "https://127.0.0.1/secrets/name/1"},
    "/users": {"value": [{"id": "served"}]},
}


class SdkApi(Api):
    """Answers as Key Vault, Blob Storage, Azure OpenAI, Foundry and Graph do, as far as asked."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        answer = await super().answer(request)
        if answer.status != 200:
            return answer
        for end, body in _SERVED.items():
            if request.path.endswith(end):
                return web.json_response(body)
        # A blob of Blob Storage.
        return web.Response(
            status=206,
            body=b"served",
            headers={"Content-Range": "bytes 0-5/6", "x-ms-blob-type": "BlockBlob"},
        )

    def refuse(self, token: str, challenge: str | None = None) -> None:
        """Refuses a token from now on."""
        challenges = () if challenge is None else (challenge,)
        self.refusals[f"Bearer {token}"] = Refusal(401, challenges)


@dataclass(frozen=True)
class Way:
    """Whom an SDK gets its tokens from, and where its service is."""

    tokens: TokenRegistry
    api: SdkApi
    ca_file: str


#: What a refused token costs: nothing, as the request is repeated with another; a call that fails,
#: as the next one has another; or every call until it ends.
Cost = Literal["nothing", "a call", "every call"]


@dataclass(frozen=True)
class Sdk:
    """An SDK, as its users set it up."""

    #: Makes a client, and gives a call that returns ``served``.
    opened: Callable[[Way], AbstractContextManager[Callable[[], str]]]
    #: The scope that it asks for.
    scope: str
    #: Whether it asks for tokens that are refused as soon as they are revoked.
    cae: bool | None = None
    #: The error of its own that a refused token becomes, by its class's name.
    error: str = ""
    refused: Cost = "nothing"
    challenged: Cost = "nothing"
    #: How its service words a 401.
    challenge: str | None = None
    #: How its service asks for claims.
    claims_challenge: str = CHALLENGE


def in_a_loop(
    opened: Callable[[Way], AbstractAsyncContextManager[Callable[[], Coroutine[Any, Any, str]]]],
) -> Callable[[Way], AbstractContextManager[Callable[[], str]]]:
    """Runs an asynchronous SDK in an event loop."""

    @contextmanager
    def run(way: Way) -> Iterator[Callable[[], str]]:
        loop = asyncio.new_event_loop()
        try:
            client = opened(way)
            call = loop.run_until_complete(client.__aenter__())
            yield lambda: loop.run_until_complete(call())
            loop.run_until_complete(client.__aexit__(None, None, None))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


class Scenarios:
    """A plain call, an outage of the authority, a refused token and a claims challenge."""

    sdks: ClassVar[Mapping[str, Sdk]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize("sdk", self.sdks.values(), ids=self.sdks.keys())

    @pytest.fixture
    def way(self, tokens: TokenRegistry, api: SdkApi, ca_file: str, sdk: Sdk) -> Way:
        if sdk.challenge is not None:
            api.refusals[None] = Refusal(401, (sdk.challenge,))
        return Way(tokens, api, ca_file)

    @pytest.fixture
    def call(self, way: Way, sdk: Sdk) -> Iterator[Callable[[], str]]:
        with sdk.opened(way) as call:
            yield call

    def held(self, way: Way, sdk: Sdk) -> str:
        """The token in hand."""
        return way.tokens.manager(sdk.scope, cae=sdk.cae).get_access_token()

    def test_calls_carry_one_token(self, call, way, sdk, entra: EntraEmulator):
        assert [call() for _ in range(3)] == ["served"] * 3
        carried = [token for token in way.api.tokens if token is not None]
        assert carried == [f"Bearer {self.held(way, sdk)}"] * 3
        assert entra.count() == entra.count(scope=sdk.scope) == 1

    def test_an_outage_of_the_authority_is_nobodys_who_has_a_token(self, call, entra):
        call()
        entra.fail_next(10**6, status=503, retry_after=600)
        assert call() == "served"

    def test_an_outage_without_a_token_is_told_as_what_it_is(self, call, way, entra):
        entra.fail_next(10**6, status=503, retry_after=600)
        with pytest.raises(ServiceUnavailableError):
            call()
        assert not any(way.api.tokens)

    def test_a_refused_token_costs_what_is_said(self, call, way, sdk, entra):
        call()
        first = self.held(way, sdk)
        way.api.refuse(first, sdk.challenge)
        self.check(call, sdk, sdk.refused)
        assert (self.held(way, sdk) == first) == (sdk.refused == "every call")
        assert entra.count() == (1 if sdk.refused == "every call" else 2)

    def test_a_claims_challenge_costs_what_is_said(self, call, way, sdk, entra):
        call()
        way.api.refuse(self.held(way, sdk), sdk.claims_challenge)
        self.check(call, sdk, sdk.challenged)
        if sdk.challenged == "nothing":
            asking = [each.form["claims"] for each in entra.requests if "claims" in each.form]
            assert '"1604106651"' in asking[-1]
            assert entra.count() == 2

    def check(self, call: Callable[[], str], sdk: Sdk, cost: Cost) -> None:
        for _ in range({"nothing": 0, "a call": 1, "every call": 3}[cost]):
            with pytest.raises(Exception) as told:  # noqa: PT011 - its class is the SDK's own
                call()
            assert sdk.error in {each.__name__ for each in type(told.value).__mro__}
        if cost != "every call":
            assert [call() for _ in range(2)] == ["served"] * 2
