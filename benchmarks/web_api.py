"""A protected web API, made with FastAPI: what a request costs that is validated."""

# Without "from __future__ import annotations": FastAPI looks up what its views' annotations name.

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median
from typing import Annotated, Any, cast

from fastapi import FastAPI, Security
from fastapi_azure_auth.auth import AzureAuthorizationCodeBearerBase
from fastapi_azure_auth.user import User

from tokenmgr import AccessTokenManager, TokenRegistry
from tokenmgr.emulator import EntraEmulator
from tokenmgr.web.fastapi import CurrentCaller, OnBehalfOf, init_app

from .figure import Figure, Section
from .made_users import READ
from .service import Service, Settings
from .turns import awaited, in_turns
from .users import sign_in

__all__ = ["added", "keys_asked_for", "section"]

#: The goal: seconds that are added to a request.
_ADDED = 150e-6
#: So many requests at a time, where it is counted how often the keys are asked for.
_SIDE_BY_SIDE = 50

_METHOD = (
    "The application is called as a server calls it (ASGI), in its process, without a socket: the "
    "same view, which gives a small object, with and without what is measured, all warm: the same "
    "caller calls again and again. A bearer that was accepted is known by its digest for five "
    "minutes, and not verified anew for each request. Median of "
    "{rounds} rounds' differences, in each of which everybody has their turn. fastapi-azure-auth "
    "verifies each time, and gets no token on behalf of the caller."
)

#: One request, from its scope to the end of its answer.
_Call = Callable[[], Awaitable[None]]


def added(rounds: int) -> list[Figure]:
    """The figures of what is added. Best asked in a new process."""
    loop = asyncio.new_event_loop()
    with Service() as service, service.registry() as tokens:
        (token,) = service.ask(partial(sign_in, 1))
        apps = {
            "plain": _plain(),
            "validated": _validated(tokens),
            "on behalf": _on_behalf(tokens),
            "first": _on_behalf(tokens),
            "peer": _of_azure_auth(service.settings),
        }
        calls = {name: awaited(loop, _call(app, token)) for name, app in apps.items()}
        calls["first"] = awaited(loop, _forgetting(apps["first"], token))
        costs = in_turns(calls, rounds=rounds, turn=0.02)
    loop.close()
    return _told(costs)


def keys_asked_for(count: int) -> Figure:
    """How often the authority is asked for its keys, in so many first requests of a process."""
    loop = asyncio.new_event_loop()
    with Service() as service, service.registry() as tokens:
        texts = service.ask(partial(sign_in, 10))
        app = _validated(tokens)
        calls = [_call(app, texts[number % len(texts)]) for number in range(count)]
        for start in range(0, count, _SIDE_BY_SIDE):
            loop.run_until_complete(_all(calls[start : start + _SIDE_BY_SIDE]))
        asked = service.ask(_keys)
    loop.close()
    what = f"requests for keys in {count:,} requests, {_SIDE_BY_SIDE} at a time"
    return Figure(what, f"{asked}", "1", asked == 1)


def section(*, rounds: int = 100, count: int = 1_000) -> Section:
    """The figures. Best asked in a new process."""
    figures = [*added(rounds), keys_asked_for(count)]
    return Section("A protected web API", _METHOD.format(rounds=rounds), figures)


def _plain() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def view() -> dict[str, str]:
        return {"of": "nobody"}

    return app


def _validated(tokens: TokenRegistry) -> FastAPI:
    app = FastAPI()
    init_app(app, tokens)

    @app.get("/")
    async def view(caller: CurrentCaller) -> dict[str, str]:
        return {"of": caller.subject}

    return app


def _on_behalf(tokens: TokenRegistry) -> FastAPI:
    app = FastAPI()
    init_app(app, tokens)

    @app.get("/")
    async def view(
        caller: CurrentCaller, graph: Annotated[AccessTokenManager, OnBehalfOf(READ)]
    ) -> dict[str, str]:
        await graph.aget_access_token()
        return {"of": caller.subject}

    return app


def _of_azure_auth(settings: Settings) -> FastAPI:
    azure = AzureAuthorizationCodeBearerBase(
        app_client_id=settings.client_id,
        tenant_id=settings.tenant_id,
        openid_config_url=f"{settings.authority}/v2.0/.well-known/openid-configuration",
        http_client_config={"verify": ssl.create_default_context(cafile=settings.ca_file)},
    )
    app = FastAPI()

    @app.get("/")
    async def view(caller: Annotated[User, Security(azure)]) -> dict[str, str]:
        return {"of": caller.sub}

    return app


def _call(app: FastAPI, token: str) -> _Call:
    headers = [(b"host", b"api.contoso.com"), (b"authorization", f"Bearer {token}".encode())]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"it was answered with {message['status']}")

    async def call() -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 443),
        }
        await app(scope, receive, send)

    return call


def _forgetting(app: FastAPI, token: str) -> _Call:
    """The same, where no bearer is known from before."""
    call, guard = _call(app, token), cast("Any", app.router.middleware_stack)

    def forget_and_call() -> Awaitable[None]:
        guard._api.open().accepted._entries.clear()  # noqa: SLF001 - what no program does
        return call()

    return forget_and_call


async def _all(calls: list[_Call]) -> None:
    await asyncio.gather(*(call() for call in calls))


def _keys(entra: EntraEmulator) -> int:
    return sum(each.kind == "keys" for each in entra.requests)


def _told(costs: dict[str, list[float]]) -> list[Figure]:
    whole, alone = _over(costs, "on behalf"), _over(costs, "validated")
    first, peers = _over(costs, "first"), _over(costs, "peer")
    times = f"({_time(median(costs['on behalf']))} against {_time(median(costs['plain']))})"
    return [
        Figure(
            "a validated request with an on-behalf-of token, over a plain one",
            f"{_time(whole)} added {times}",
            f"at most {_time(_ADDED)} added",
            whole <= _ADDED,
        ),
        Figure("of that, its validation and its caller alone", f"{_time(alone)} added"),
        Figure("the whole, where its bearer is seen for the first time", f"{_time(first)} added"),
        Figure(
            "fastapi-azure-auth's validation alone, over the same plain one",
            f"{_time(peers)} added, {peers / alone:.1f} times our validation",
            "ahead",
            alone < peers,
        ),
    ]


def _over(costs: dict[str, list[float]], name: str) -> float:
    return median(one - plain for one, plain in zip(costs[name], costs["plain"], strict=True))


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs"
