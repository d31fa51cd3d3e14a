"""A web API that calls Microsoft Graph on behalf of whoever calls it.

Its callers send an access token for this API. It is exchanged for one of the same user's for Graph,
once for all calls and workers, and not again until it ends. It finds its app in the environment, as
the other examples do. See README.md next to it.

    pip install tokenmgr fastapi uvicorn
    uvicorn --app-dir examples web_api:app
"""

from __future__ import annotations

import base64
import os
from typing import Annotated, Any

import requests
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

from tokenmgr import (
    ConsentRequiredError,
    InteractionRequiredError,
    TokenManagerError,
    TokenRegistry,
)

GRAPH = os.environ.get("GRAPH_URL", "https://graph.microsoft.com/v1.0")

app = FastAPI()
# For the whole program. With store= its workers share what they have.
tokens = TokenRegistry.from_env()


@app.get("/me")
def me(authorization: Annotated[str, Header()] = "") -> Any:
    """Says what Graph says of the caller."""
    # Nothing of the token is believed here: no answer comes of one that Entra has not accepted.
    user = tokens.on_behalf_of(authorization, "https://graph.microsoft.com/User.Read")
    answer = requests.get(f"{GRAPH}/me", headers=user.headers(), timeout=10)
    answer.raise_for_status()
    return answer.json()


@app.exception_handler(InteractionRequiredError)
def ask_for_another(_: Request, error: InteractionRequiredError) -> JSONResponse:
    """Has the caller sign its user in again, with what Entra wants to see (RFC 6750, section 3)."""
    challenge = 'Bearer error="invalid_token"'
    if error.claims:
        claims = base64.b64encode(error.claims.encode()).decode()
        challenge = f'Bearer error="insufficient_claims", claims="{claims}"'
    return JSONResponse({"detail": "sign in again"}, 401, {"WWW-Authenticate": challenge})


@app.exception_handler(ConsentRequiredError)
def say_that_consent_is_missing(_: Request, __: ConsentRequiredError) -> JSONResponse:
    """Tells the caller what no sign-in of its user's mends."""
    return JSONResponse({"detail": "consent is missing"}, 403)


@app.exception_handler(TokenManagerError)
def say_when_to_come_back(_: Request, error: TokenManagerError) -> JSONResponse:
    """Tells the caller of trouble that is none of its own. The log says what it is."""
    headers = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.0f}"}
    return JSONResponse({"detail": "no token for Graph"}, 503 if error.retryable else 500, headers)
