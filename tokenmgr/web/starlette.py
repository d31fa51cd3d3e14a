"""Protects an API that is made with Starlette: ``init_app(app)``.

After that every request needs a bearer that is accepted, unless its route is :func:`anonymous`.
:func:`caller` says who it is, :func:`required` lets only some of them in, and :func:`on_behalf_of`
has another API called for them. What goes wrong with a token is answered by 401, 403 or 503.

How requests are told apart: before the application's routing, but behind all of its middleware, so
that CORS's preflights are answered first, and a body is not read of whom is not let in. Where no
bearer is accepted, the first route that matches has to be an anonymous one; whoever sends one that
is accepted is the current caller there too. Who is not let in learns of no route whether it is
there: the answer is 401, and no 404 or 405.

* **A mounted application**, as ``StaticFiles``, is protected as a whole, by the bearers of the
  application that it is mounted in, or open as a whole: ``Mount("/static", anonymous(files))``. It
  answers errors by itself: if it has calls of its own on behalf of users, call ``init_app()`` for
  it too; it then asks for a bearer itself.
* **Websockets** bring their bearer in the handshake's ``Authorization`` header, as programs do and
  browsers cannot. Who is refused has the answer that a request would have, or a 403 where the
  server knows no such answers. The caller stays for as long as the socket does; what is done on
  their behalf ends with their token, and if that is not caught, the socket is closed (1008; 1013
  for what may be over soon).
* **The lifespan** of the application, whatever it has of its own, makes the registry at its start
  and closes it at its end, if it was made here. Where none is run, as of a mounted application,
  the first request makes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Match
    from starlette.websockets import WebSocket, WebSocketState
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.web.starlette needs Starlette: pip install 'tokenmgr[starlette]'",
        name=_missing.name,
    ) from _missing

from ..errors import ConfigurationError, TokenManagerError
from ._answers import Answer, answer_to
from ._api import Api, Call, RegistryGiven, under_way
from ._marks import anonymous, is_anonymous
from .caller import Caller
from .current import caller, on_behalf_of, registry, require, required

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = [
    "Caller",
    "anonymous",
    "caller",
    "init_app",
    "on_behalf_of",
    "ready",
    "registry",
    "require",
    "required",
]


def init_app(
    app: Starlette,
    registry: RegistryGiven = None,
    *,
    audience: str | Iterable[str] | None = None,
    tenants: Iterable[str] | None = None,
    leeway: float = 60.0,
    apps_without_roles: bool = False,
) -> None:
    """Protects an application: from now on its routes need a bearer, if they are not anonymous.

    Args:
        app: The application, before its first request.
        registry: The registry of the API's app, which stays open; or what makes one, once in each
            process, which is closed as the application ends. Left out,
            :meth:`TokenRegistry.from_env() <tokenmgr.TokenRegistry.from_env>` does.
        audience: For whom bearers have to be; left out, the app's client id and ``api://`` with it.
            See :class:`~tokenmgr.web.bearer.BearerValidator`, also for what follows.
        tenants: Whose callers are let in, where the authority stands for many tenants.
        leeway: Seconds by which the authority's clock and this one may differ.
        apps_without_roles: Whether apps are let in that have no app role of this API.

    Raises:
        ConfigurationError: It was called for this application before, or too late; or
            ``registry`` is none.
    """
    api = Api(
        registry,
        audience=audience,
        tenants=tenants,
        leeway=leeway,
        apps_without_roles=apps_without_roles,
    )
    protect(app, api, _routes)


async def ready(request: Request) -> Response:  # noqa: ARG001 - what a route is called with
    """Answers probes: 200 if this process can serve, else 503. Anonymous, and asks nobody."""
    # All of it is in the OpenAPI document, where FastAPI is given a route to it.
    call = under_way.get()
    if call is None:
        raise ConfigurationError("this application is not protected: call init_app(app) for it")
    status, body = call.api.ready()
    return JSONResponse(body, status)


anonymous(ready)


# What FastAPI's module has in common with this one.


def protect(app: Starlette, api: Api, routes: Callable[[Any], Iterable[Any]]) -> None:
    """Puts a guard before an application's routing.

    Args:
        app: The application.
        api: What knows who calls.
        routes: Gives all routes of the application in the order in which they are looked at.

    Raises:
        ConfigurationError: It was called for this application before, or too late.
    """
    router = app.router
    if isinstance(router.middleware_stack, _Guard):
        raise ConfigurationError("init_app() was called for this application before")
    if app.middleware_stack is not None:
        raise ConfigurationError("call init_app() before the application's first request")
    router.middleware_stack = _Guard(router.middleware_stack, api, lambda: routes(app))
    app.exception_handlers.setdefault(TokenManagerError, _answer)
    own = router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        api.open()
        mark = under_way.set(Call(api))  # so that registry() is found in the program's own
        try:
            async with own(app) as state:
                yield state
        finally:
            with contextlib.suppress(ValueError):  # it ends in another context, as in a fixture
                under_way.reset(mark)
            await api.aclose()

    router.lifespan_context = lifespan


def _routes(app: Starlette) -> Iterable[Any]:
    return app.routes


class _Guard:
    """Stands before the routing of an application.

    Args:
        inner: The routing.
        api: What knows who calls.
        routes: Gives the routes that the routing looks at, in their order.
    """

    def __init__(self, inner: ASGIApp, api: Api, routes: Callable[[], Iterable[Any]]) -> None:
        self._inner = inner
        self._api = api
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._inner(scope, receive, send)
            return
        call = await self._api.areceive(_bearers_in(scope))
        if call.refusal is not None and not self._is_open(scope):
            raise call.refusal
        mark = under_way.set(call)
        try:
            await self._inner(scope, receive, send)
        finally:
            under_way.reset(mark)

    def _is_open(self, scope: Scope) -> bool:
        """Whether the route that will answer is anonymous. Where that is not told, it is not."""
        for route in self._routes():
            # Of a copy: some of FastAPI's routes note in it what they have found.
            match, found = route.matches(dict(scope))
            if match is Match.FULL:
                return is_anonymous(found.get("endpoint"))
        return False


def _bearers_in(scope: Scope) -> list[str]:
    """The values of all Authorization headers."""
    return [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]


async def _answer(connection: Any, error: Exception) -> Response | None:
    """Tells a caller what there is instead of an answer."""
    answer = answer_to(error)
    if answer is None:
        raise error
    response = JSONResponse(answer.body, answer.status, dict(answer.headers))
    if not isinstance(connection, WebSocket):
        return response
    if connection.application_state is WebSocketState.CONNECTING and _answers(connection):
        await connection.send_denial_response(response)
    elif connection.application_state is not WebSocketState.DISCONNECTED:
        await connection.close(_code_of(answer), answer.body["error"])
    return None


def _answers(connection: WebSocket) -> bool:
    """Whether the server sends answers in the place of a handshake's."""
    return "websocket.http.response" in connection.scope.get("extensions", {})


def _code_of(answer: Answer) -> int:
    """RFC 6455, section 7.4.1, and its registry: policy violation, try again later."""
    return 1013 if answer.status == 503 else 1008
