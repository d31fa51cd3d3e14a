"""A Flask application with the routes of ``web_compliance``; ``web_flask:make_app()`` serves it."""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import Any

import flask
from web_compliance import GRAPH, READ, READ_ALL, break_down, told_of, told_of_anybody

from tokenmgr.web import current
from tokenmgr.web import flask as bearers


def deep_inside() -> str:
    """What knows nothing of any framework."""
    return current.on_behalf_of(GRAPH).get_access_token()


async def deep_inside_async() -> str:
    """The same in a task of its own."""

    async def ask() -> str:
        return await current.on_behalf_of(GRAPH).aget_access_token()

    return await asyncio.create_task(ask())


views = flask.Blueprint("views", __name__)
async_views = flask.Blueprint("async_views", __name__, url_prefix="/async")


@views.get("/me")
def me() -> Any:
    return told_of(bearers.caller())


@views.route("/orders", methods=["GET", "POST"])
@bearers.required(READ, READ_ALL)
def orders() -> Any:
    return told_of(bearers.caller())


@views.get("/graph")
def graph() -> Any:
    return {"token": deep_inside()}


@views.get("/open")
@bearers.anonymous
def everybody() -> Any:
    return told_of_anybody(bearers.caller)


@views.get("/broken")
def broken() -> Any:
    break_down()


@async_views.get("/me")
async def async_me() -> Any:
    return told_of(bearers.caller())


@async_views.route("/orders", methods=["GET", "POST"])
@bearers.required(READ, READ_ALL)
async def async_orders() -> Any:
    return told_of(bearers.caller())


@async_views.get("/graph")
async def async_graph() -> Any:
    return {"token": await deep_inside_async()}


@async_views.get("/open")
@bearers.anonymous
async def async_everybody() -> Any:
    return told_of_anybody(bearers.caller)


@async_views.get("/broken")
async def async_broken() -> Any:
    break_down()


def make_app(registry: Any = None, **settings: Any) -> flask.Flask:
    """An application factory. Without a registry it is made of the environment."""
    app = flask.Flask(__name__)
    bearers.init_app(app, registry, **settings)
    app.register_blueprint(views)
    app.register_blueprint(async_views)
    app.add_url_rule("/ready", view_func=bearers.ready)
    return app


def in_thread(work: Any) -> Any:
    """What ``work`` gives in a thread of its own."""
    found: list[Any] = []
    thread = Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]
