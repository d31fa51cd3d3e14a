"""An API (FastAPI) that calls Microsoft Graph for its callers, through the AgentID sidecar.

The app has no credential and asks Entra for nothing: the sidecar next to it does, as a container of
the same pod. Its callers send an access token for the app that the sidecar runs as, which has a
downstream API by the name of ``Graph``. See README.md next to it.

    pip install 'tokenmgr[httpx]' fastapi uvicorn
    export SIDECAR_URL=http://localhost:5000
    uvicorn --app-dir examples sidecar_fastapi:app
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tokenmgr import (
    BearerRefusedError,
    ConsentRequiredError,
    InteractionRequiredError,
    TokenManagerError,
)
from tokenmgr.sidecar import AsyncSidecarClient

log = logging.getLogger("uvicorn.error")
# For the whole program: all requests share its connections.
sidecar = AsyncSidecarClient()
#: What the caller has sent, whatever it is: the sidecar says what it is worth.
Authorization = Annotated[str | None, Header()]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Waits for the sidecar, which starts along with the app, and closes the connections."""
    await sidecar.wait_until_ready(60)
    yield
    await sidecar.aclose()


app = FastAPI(lifespan=lifespan)


class Message(BaseModel):
    """A message to send."""

    to: str
    subject: str
    body: str


async def graph(
    token: str | None, path: str, method: str = "GET", body: object = None, **query: str
) -> Any:
    """Has the sidecar call Graph for whoever calls here; gives what it says."""
    answer = await sidecar.call_downstream_api(
        token, "Graph", path, method, body, extra_query=query
    )
    if not answer.ok:
        log.error("Graph answered HTTP %s", answer.status)
        raise HTTPException(502, "Graph has refused the call")
    return answer.json() if answer.text else None


@app.get("/api/profile")
async def profile(authorization: Authorization = None) -> Any:
    """Says who calls."""
    return await graph(authorization, "me")


@app.get("/api/messages")
async def messages(authorization: Authorization = None) -> Any:
    """Shows the caller's last messages."""
    shown = {"$top": "10", "$select": "subject,from,receivedDateTime"}
    return await graph(authorization, "me/messages", **shown)


@app.post("/api/messages/send", status_code=202)
async def send(message: Message, authorization: Authorization = None) -> dict[str, str]:
    """Sends a message as the caller."""
    said = {
        "subject": message.subject,
        "body": {"contentType": "Text", "content": message.body},
        "toRecipients": [{"emailAddress": {"address": message.to}}],
    }
    await graph(authorization, "me/sendMail", "POST", {"message": said})
    return {"status": "sent"}


@app.exception_handler(BearerRefusedError)
async def refuse(_: Request, error: BearerRefusedError) -> JSONResponse:
    """Tells a caller without a token that is accepted what is missing (RFC 6750, section 3)."""
    challenge = "Bearer" if error.error is None else f'Bearer error="{error.error}"'
    return JSONResponse({"error": str(error)}, error.status, {"WWW-Authenticate": challenge})


@app.exception_handler(InteractionRequiredError)
async def ask_for_another(_: Request, __: InteractionRequiredError) -> JSONResponse:
    """Has the caller sign its user in again."""
    challenge = 'Bearer error="invalid_token"'
    return JSONResponse({"error": "sign in again"}, 401, {"WWW-Authenticate": challenge})


@app.exception_handler(ConsentRequiredError)
async def say_that_consent_is_missing(_: Request, __: ConsentRequiredError) -> JSONResponse:
    """Tells the caller what no sign-in of its user's mends."""
    return JSONResponse({"error": "consent is missing"}, 403)


@app.exception_handler(TokenManagerError)
async def say_when_to_come_back(_: Request, error: TokenManagerError) -> JSONResponse:
    """Tells the caller of trouble that is none of its own, and the log what it is."""
    log.error("%s: %s", type(error).__name__, error)
    headers = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.0f}"}
    status = 503 if error.retryable else 500
    return JSONResponse({"error": "Graph cannot be called"}, status, headers)
