"""A Django project with the routes of ``web_compliance``, in one module.

``web_django:wsgi`` and ``web_django:asgi`` are served; with ``DJANGO_BEARERS=views`` the views are
protected one by one, without the middleware.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views import View
from web_compliance import GRAPH, READ, READ_ALL, break_down, told_of, told_of_anybody

from tokenmgr.web import current
from tokenmgr.web import django as bearers

MIDDLEWARE = "tokenmgr.web.django.middleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
BY_VIEWS = os.environ.get("DJANGO_BEARERS") == "views"

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["tokenmgr.web.django"],
        MIDDLEWARE=[CSRF] if BY_VIEWS else [MIDDLEWARE, CSRF],
        ROOT_URLCONF="web_django",
        SECRET_KEY="what Django's own cookies are signed with",
        USE_TZ=True,
    )
    django.setup()

#: What protects a view where the middleware does not.
guarded: Any = bearers.required() if BY_VIEWS else lambda view: view


def deep_inside() -> str:
    """What knows nothing of any framework."""
    return current.on_behalf_of(GRAPH).get_access_token()


async def deep_inside_async() -> str:
    """The same in a task of its own, and in a thread of its own."""

    async def ask() -> str:
        return await current.on_behalf_of(GRAPH).aget_access_token()

    token = await asyncio.create_task(ask())
    assert token == await sync_to_async(deep_inside)()
    return token


@guarded
def me(_: HttpRequest) -> JsonResponse:
    return JsonResponse(told_of(bearers.caller()))


@bearers.required(READ, READ_ALL)
def orders(_: HttpRequest) -> JsonResponse:
    return JsonResponse(told_of(bearers.caller()))


@guarded
def graph(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"token": deep_inside()})


@bearers.anonymous
def everybody(_: HttpRequest) -> JsonResponse:
    return JsonResponse(told_of_anybody(bearers.caller))


@guarded
def broken(_: HttpRequest) -> JsonResponse:
    break_down()
    return JsonResponse({})


@guarded
async def async_me(_: HttpRequest) -> JsonResponse:
    return JsonResponse(told_of(bearers.caller()))


@bearers.required(READ, READ_ALL)
async def async_orders(_: HttpRequest) -> JsonResponse:
    return JsonResponse(told_of(bearers.caller()))


@guarded
async def async_graph(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"token": await deep_inside_async()})


@bearers.anonymous
async def async_everybody(_: HttpRequest) -> JsonResponse:
    return JsonResponse(told_of_anybody(bearers.caller))


@guarded
async def async_broken(_: HttpRequest) -> JsonResponse:
    break_down()
    return JsonResponse({})


class Orders(bearers.BearerRequiredMixin, View):
    """A class-based view whose methods need different scopes."""

    required_scopes = READ

    def get(self, _: HttpRequest) -> JsonResponse:
        return JsonResponse(told_of(bearers.caller()))

    @bearers.required("Orders.Write")
    def post(self, _: HttpRequest) -> JsonResponse:
        return JsonResponse(told_of(bearers.caller()))


class AsyncOrders(bearers.BearerRequiredMixin, View):
    """The same on an event loop."""

    required_scopes = READ

    async def get(self, _: HttpRequest) -> JsonResponse:
        return JsonResponse(told_of(bearers.caller()))

    @bearers.required("Orders.Write")
    async def post(self, _: HttpRequest) -> JsonResponse:
        return JsonResponse(told_of(bearers.caller()))


urlpatterns = [
    path("me", me),
    path("orders", orders),
    path("graph", graph),
    path("open", everybody),
    path("broken", broken),
    path("class", Orders.as_view()),
    path("async/me", async_me),
    path("async/orders", async_orders),
    path("async/graph", async_graph),
    path("async/open", async_everybody),
    path("async/broken", async_broken),
    path("async/class", AsyncOrders.as_view()),
    path("ready", bearers.ready),
]


def __getattr__(name: str) -> Any:
    """Gives the application for a server. A test has none, as its client makes one."""
    if name not in ("wsgi", "asgi"):
        raise AttributeError(name)
    made = globals()[name] = {"wsgi": get_wsgi_application, "asgi": get_asgi_application}[name]()
    return made
