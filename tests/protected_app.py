"""An API that is protected, and calls another one on behalf of its callers; real servers serve it.

``protected_app:app`` makes its registry when a worker starts; ``protected_app:preloaded()`` has one
before its server forks, with a token and the authority's keys in it.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import FastAPI
from support import SCOPE

from tokenmgr import AccessTokenManager, TokenRegistry
from tokenmgr.web.fastapi import CurrentCaller, OnBehalfOf, init_app, ready, registry

READ = "https://graph.microsoft.com/User.Read"

#: Which process has made a registry, once for each.
made: list[int] = []


def _make() -> TokenRegistry:
    made.append(os.getpid())
    return TokenRegistry.from_env()


def protect(registry_or_factory: Any) -> FastAPI:
    """The application, over what ``init_app`` takes."""
    app = FastAPI()
    init_app(app, registry_or_factory)
    app.add_api_route("/ready", ready)

    @app.get("/who")
    async def who(caller: CurrentCaller) -> str | None:
        return caller.object_id

    @app.get("/")
    async def root(
        caller: CurrentCaller, graph: Annotated[AccessTokenManager, OnBehalfOf(READ)]
    ) -> dict[str, Any]:
        token = await graph.aget_access_token()
        known = [each.expires_in for each in registry().status()]
        return {
            "pid": os.getpid(),
            "oid": caller.object_id,
            "token": f"{made} {len(known)} {token}",
        }

    return app


app = protect(_make)


def preloaded() -> FastAPI:
    """The application with a registry of before the fork."""
    tokens = _make()
    tokens.get_access_token(SCOPE)
    return protect(tokens)
