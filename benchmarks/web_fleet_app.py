"""The API that :mod:`benchmarks.web_fleet` serves, in two frameworks."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI
from flask import Flask

from tokenmgr import AccessTokenManager
from tokenmgr.web import flask as bearers
from tokenmgr.web.fastapi import OnBehalfOf, init_app

_READ = "https://graph.microsoft.com/User.Read"

asgi = FastAPI()
init_app(asgi)
wsgi = Flask(__name__)
bearers.init_app(wsgi)


@asgi.get("/")
async def with_fastapi(user: Annotated[AccessTokenManager, OnBehalfOf(_READ)]) -> dict[str, int]:
    """Has a token of the caller's, and keeps it to itself."""
    return {"length": len(await user.aget_access_token())}


@wsgi.get("/")
def with_flask() -> dict[str, int]:
    """Does as :func:`with_fastapi`."""
    return {"length": len(bearers.on_behalf_of(_READ).get_access_token())}
