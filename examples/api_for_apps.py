"""A web API (FastAPI) that apps call by themselves, with nobody signed in, and such an app.

The API takes the tokens of one tenant, of several, or of a user flow of Azure AD B2C: that is its
authority, and nothing else is different. It needs no credential, as it calls nobody. See README.md
next to it.

    pip install 'tokenmgr[fastapi]' uvicorn
    export API_CLIENT_ID=…  API_AUTHORITY=https://login.microsoftonline.com/contoso.onmicrosoft.com
    uvicorn --app-dir examples api_for_apps:app

Of several tenants: API_AUTHORITY=https://login.microsoftonline.com/organizations, and API_TENANTS
with their ids. Of B2C: API_AUTHORITY=https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_in.

The app finds itself in the environment, as the other examples do (its tenant, id and secret; for
B2C TOKENMGR_AUTHORITY, with the same user flow):

    python examples/api_for_apps.py --url http://127.0.0.1:8000 --scope api://…/.default
"""

from __future__ import annotations

import argparse
import os
from typing import Annotated
from urllib.parse import urlsplit

import requests
from fastapi import FastAPI

from tokenmgr import InsufficientScopeError, TokenRegistry
from tokenmgr.http.requests import BearerAuth
from tokenmgr.web.fastapi import Caller, Required, init_app

app = FastAPI()


def registry() -> TokenRegistry:
    """Says whose tokens the API takes; called with the first request."""
    return TokenRegistry(
        client_id=os.environ["API_CLIENT_ID"], authority=os.environ["API_AUTHORITY"]
    )


# Every route needs a bearer from now on. Without API_TENANTS those of the authority alone do.
init_app(app, registry, tenants=os.environ.get("API_TENANTS", "").split() or None)


# Any app of the tenant gets a token for this API: what it may do, its role says. An administrator
# assigns that. B2C writes the roles of an app where it writes the scopes of a user.
READ = "Orders.Read.All"


@app.get("/orders")
async def orders(caller: Annotated[Caller, Required(scopes=[READ], roles=[READ])]) -> object:
    """Gives all orders to an app that may read them."""
    return {"orders": [], "for": caller.client_id, "of": caller.tenant}


def main() -> None:
    """Calls the API, as an app."""
    parser = argparse.ArgumentParser(description="Call an API as an app.")
    parser.add_argument("--url", required=True, help="where the API is")
    parser.add_argument("--scope", required=True, help="its App ID URI, and /.default behind it")
    parser.add_argument("--count", type=int, default=3)
    options = parser.parse_args()

    with TokenRegistry.from_env() as tokens, requests.Session() as session:
        # One token for all calls; another one in time, or where the API wants one.
        manager = tokens.manager(options.scope)
        session.auth = BearerAuth(manager, hosts=[urlsplit(options.url).netloc])
        for _ in range(options.count):
            print(call(session, f"{options.url}/orders"))


def call(session: requests.Session, url: str) -> str:
    """Calls a route, and says what came of it."""
    try:
        answer = session.get(url, timeout=10)
    except InsufficientScopeError as error:  # the API has answered 403, and said what it wants
        return str(error)
    return f"{answer.status_code} {answer.text}"


if __name__ == "__main__":
    main()
