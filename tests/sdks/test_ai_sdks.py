"""Clients of models: a callable gives the token, and a 401 is answered by ``http_client=``."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
from sdk_scenarios import Cost, Scenarios, Sdk, Way, in_a_loop

from tokenmgr import AccessTokenManager
from tokenmgr.http.httpx2 import BearerAuth

SDKS = ("openai", "anthropic", "langchain_openai")
SCOPE = "https://cognitiveservices.azure.com/.default"
QUESTION: Any = [{"role": "user", "content": "?"}]
AZURE = {"api_version": "2024-10-21"}

Call = Callable[[], str]
AsyncCall = Callable[[], Coroutine[Any, Any, str]]


def manager_of(way: Way) -> AccessTokenManager:
    return way.tokens.manager(SCOPE)


def transport(way: Way, kind: type[Any], *, handled: bool) -> Any:
    """The HTTP client; with 401 handling where that is wanted."""
    auth = BearerAuth(manager_of(way), hosts="127.0.0.1", replace_header=True)
    context = ssl.create_default_context(cafile=way.ca_file)
    return kind(verify=context, **({"auth": auth} if handled else {}))


def chat(client: Any) -> str:
    answer = client.chat.completions.create(model="gpt", messages=QUESTION)
    text: str = answer.choices[0].message.content
    return text


async def achat(client: Any) -> str:
    answer = await client.chat.completions.create(model="gpt", messages=QUESTION)
    text: str = answer.choices[0].message.content
    return text


def message(client: Any) -> str:
    answer = client.messages.create(model="claude", max_tokens=9, messages=QUESTION)
    text: str = answer.content[0].text
    return text


async def amessage(client: Any) -> str:
    answer = await client.messages.create(model="claude", max_tokens=9, messages=QUESTION)
    text: str = answer.content[0].text
    return text


@contextmanager
def azure_openai(way: Way, *, handled: bool) -> Iterator[Call]:
    import openai

    with openai.AzureOpenAI(
        azure_endpoint=way.api.url(""),
        azure_ad_token_provider=manager_of(way).get_access_token,
        http_client=transport(way, openai.DefaultHttpxClient, handled=handled),
        **AZURE,
    ) as client:
        yield partial(chat, client)


@asynccontextmanager
async def async_azure_openai(way: Way, *, handled: bool) -> AsyncIterator[AsyncCall]:
    import openai

    async with openai.AsyncAzureOpenAI(
        azure_endpoint=way.api.url(""),
        azure_ad_token_provider=manager_of(way).aget_access_token,
        http_client=transport(way, openai.DefaultAsyncHttpxClient, handled=handled),
        **AZURE,
    ) as client:
        yield partial(achat, client)


@contextmanager
def openai_v1(way: Way, *, handled: bool) -> Iterator[Call]:
    import openai

    with openai.OpenAI(
        base_url=way.api.url("/openai/v1"),
        api_key=manager_of(way).get_access_token,
        http_client=transport(way, openai.DefaultHttpxClient, handled=handled),
    ) as client:
        yield partial(chat, client)


@asynccontextmanager
async def async_openai_v1(way: Way, *, handled: bool) -> AsyncIterator[AsyncCall]:
    import openai

    async with openai.AsyncOpenAI(
        base_url=way.api.url("/openai/v1"),
        api_key=manager_of(way).aget_access_token,
        http_client=transport(way, openai.DefaultAsyncHttpxClient, handled=handled),
    ) as client:
        yield partial(achat, client)


@contextmanager
def foundry(way: Way, *, handled: bool) -> Iterator[Call]:
    import anthropic

    with anthropic.AnthropicFoundry(
        base_url=way.api.url("/anthropic"),
        azure_ad_token_provider=manager_of(way).get_access_token,
        http_client=transport(way, anthropic.DefaultHttpxClient, handled=handled),
    ) as client:
        yield partial(message, client)


@asynccontextmanager
async def async_foundry(way: Way, *, handled: bool) -> AsyncIterator[AsyncCall]:
    import anthropic

    async with anthropic.AsyncAnthropicFoundry(
        base_url=way.api.url("/anthropic"),
        azure_ad_token_provider=manager_of(way).aget_access_token,
        http_client=transport(way, anthropic.DefaultAsyncHttpxClient, handled=handled),
    ) as client:
        yield partial(amessage, client)


def chain(way: Way, **given: Any) -> Any:
    from langchain_openai import AzureChatOpenAI

    return AzureChatOpenAI(
        azure_endpoint=way.api.url(""),
        azure_deployment="gpt",
        azure_ad_token_provider=manager_of(way).get_access_token,
        **AZURE,
        **given,
    )


@contextmanager
def langchain(way: Way, *, handled: bool) -> Iterator[Call]:
    import httpx2

    with transport(way, httpx2.Client, handled=handled) as client:
        model = chain(way, http_client=client)
        yield lambda: str(model.invoke("?").content)


@asynccontextmanager
async def async_langchain(way: Way, *, handled: bool) -> AsyncIterator[AsyncCall]:
    import httpx2

    async with transport(way, httpx2.AsyncClient, handled=handled) as client:
        provider = manager_of(way).aget_access_token
        model = chain(way, http_async_client=client, azure_ad_async_token_provider=provider)

        async def call() -> str:
            return str((await model.ainvoke("?")).content)

        yield call


OPENED: dict[str, Any] = {
    "AzureOpenAI": azure_openai,
    "AsyncAzureOpenAI": async_azure_openai,
    "OpenAI": openai_v1,
    "AsyncOpenAI": async_openai_v1,
    "AnthropicFoundry": foundry,
    "AsyncAnthropicFoundry": async_foundry,
    "AzureChatOpenAI": langchain,
    "AzureChatOpenAI in a loop": async_langchain,
}


def sdk(opened: Any, *, handled: bool) -> Sdk:
    given = partial(opened, handled=handled)
    looped = inspect.isasyncgenfunction(inspect.unwrap(opened))
    cost: Cost = "nothing" if handled else "every call"
    return Sdk(
        in_a_loop(given) if looped else given,
        scope=SCOPE,
        error="AuthenticationError",
        refused=cost,
        challenged=cost,
    )


class TestCallables(Scenarios):
    """The token alone: these clients raise a 401, and know nothing of challenges."""

    sdks = {name: sdk(opened, handled=False) for name, opened in OPENED.items()}


class TestHttpClient(Scenarios):
    """The same, with a BearerAuth in the client that sends."""

    sdks = {name: sdk(opened, handled=True) for name, opened in OPENED.items()}


def test_a_chain_without_the_asynchronous_callable_warns_that_it_blocks_the_loop(
    tokens, api, ca_file
):
    import httpx2

    way = Way(tokens, api, ca_file)

    async def ask() -> None:
        async with transport(way, httpx2.AsyncClient, handled=False) as client:
            model = chain(way, http_async_client=client)
            await model.ainvoke("?")

    with pytest.raises(RuntimeWarning, match="aget_access_token"):
        asyncio.run(ask())
