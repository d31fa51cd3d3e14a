"""A web API (FastAPI) that calls Microsoft Graph on behalf of whoever calls it: three routes.

Its callers send an access token for this API, with the scope ``access_as_user``. It is validated,
and exchanged for one of the same user's for Graph, once for all calls, and not again until it ends.
It finds its app in the environment, as the other examples do. See README.md next to it.

    pip install 'tokenmgr[fastapi,httpx]' uvicorn
    uvicorn --app-dir examples on_behalf_of_fastapi:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from tokenmgr import AccessTokenManager
from tokenmgr.http.httpx import BearerAuth
from tokenmgr.web.fastapi import CurrentCaller, OnBehalfOf, Required, init_app, ready

GRAPH = os.environ.get("GRAPH_URL", "https://graph.microsoft.com/v1.0")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Has one HTTP client for the whole program, and so its connections."""
    async with httpx.AsyncClient(timeout=10) as app.state.http:
        yield


app = FastAPI(lifespan=lifespan, dependencies=[Required("access_as_user")])
# Every route needs a bearer from now on. With TOKENMGR_STORE its workers share the users' tokens.
init_app(app)
app.router.add_route("/ready", ready)


class Graph:
    """Microsoft Graph, as the user of a call."""

    def __init__(self, request: Request) -> None:
        self._http: httpx.AsyncClient = request.app.state.http

    async def call(
        self, user: AccessTokenManager, method: str, path: str, json: object = None
    ) -> Any:
        """Calls it; where it wants claims of the user, so does the answer to whoever has called."""
        auth = BearerAuth(user, hosts=[urlsplit(GRAPH).netloc])
        try:
            answer = await self._http.request(method, f"{GRAPH}{path}", json=json, auth=auth)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise HTTPException(502, "Microsoft Graph has not done it") from error
        return answer.json() if answer.content else None


@app.get("/profile")
async def profile(
    caller: CurrentCaller,
    graph: Annotated[Graph, Depends()],
    user: Annotated[AccessTokenManager, OnBehalfOf("https://graph.microsoft.com/User.Read")],
) -> Any:
    """Says who the caller is, to this API and to Graph."""
    return {"id": caller.object_id, "graph": await graph.call(user, "GET", "/me")}


@app.get("/messages")
async def messages(
    graph: Annotated[Graph, Depends()],
    user: Annotated[AccessTokenManager, OnBehalfOf("https://graph.microsoft.com/Mail.Read")],
) -> Any:
    """Gives the caller's messages."""
    return await graph.call(user, "GET", "/me/messages?$top=10&$select=subject,from")


class Message(BaseModel):
    """A message that is to be sent."""

    to: str
    subject: str
    body: str


@app.post("/send", status_code=202)
async def send(
    message: Message,
    graph: Annotated[Graph, Depends()],
    user: Annotated[AccessTokenManager, OnBehalfOf("https://graph.microsoft.com/Mail.Send")],
) -> None:
    """Sends a message as the caller."""
    mail = {
        "subject": message.subject,
        "body": {"contentType": "Text", "content": message.body},
        "toRecipients": [{"emailAddress": {"address": message.to}}],
    }
    await graph.call(user, "POST", "/me/sendMail", {"message": mail})
