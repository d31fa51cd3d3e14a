"""A web API with ``Flask``: after :func:`init_app` every view wants a bearer.

A view that anybody may call is marked :func:`anonymous`, where whoever sends a bearer that is
accepted is the caller nonetheless; one that is for some callers alone is marked :func:`required`.
:func:`caller` says who calls, and :func:`on_behalf_of` has another API called for them.

    >>> from flask import Flask
    >>> from tokenmgr.web import flask as bearers
    >>> app = Flask(__name__)
    >>> bearers.init_app(app)
    >>> @app.get("/orders")
    ... @bearers.required(scopes="Orders.Read", roles="Orders.Read.All")
    ... def orders():
    ...     return {"of": bearers.caller().subject}
    >>> app.add_url_rule("/ready", view_func=bearers.ready)

So does all else: files of the static folder, and addresses that do not exist, so that nobody learns
of these who is not let in. An ``OPTIONS`` that Flask answers by itself needs none, as a browser has
none when it asks for permission (CORS): it tells which addresses there are.

Errors of tokenmgr that come out of a view become answers that tell callers what to do: 401 (with
the claims to sign in with), 403, and 503 with ``Retry-After``. An application's own handlers of
these errors come first.

A generator that goes on after its view finds the caller by ``flask.stream_with_context``, a thread
by ``flask.copy_current_request_context`` or ``contextvars.copy_context()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Token
from typing import Any, ParamSpec, TypeVar

try:
    import flask
    from flask.views import MethodView
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.web.flask needs Flask: pip install 'tokenmgr[flask]'", name=_missing.name
    ) from _missing

from ..errors import ConfigurationError, TokenManagerError
from ..registry import TokenRegistry
from . import current
from ._answers import answer_to
from ._api import Api, Call, RegistryGiven, elsewhere, under_way
from ._marks import Needs, anonymous, is_anonymous, mark_needs, needs, needs_of
from ._settings import api_of
from .current import caller, on_behalf_of, require

__all__ = [
    "anonymous",
    "caller",
    "init_app",
    "on_behalf_of",
    "ready",
    "registry",
    "require",
    "required",
]

#: Where an app has its Api, by Flask's custom.
_KEY = "tokenmgr"
#: Where a request has its call, as threads find it that copy Flask's context alone.
_CALL = "tokenmgr.call"
#: Where ``flask.g``, which is not copied, has what undoes the context variable.
_UNDO = "_tokenmgr_undo"
#: What every view needs that is not anonymous: a caller.
_ANYBODY = Needs((), ())

P = ParamSpec("P")
T = TypeVar("T")


def init_app(
    app: flask.Flask,
    registry: RegistryGiven = None,
    *,
    audience: str | Iterable[str] | None = None,
    tenants: Iterable[str] | None = None,
    leeway: float | None = None,
    apps_without_roles: bool | None = None,
) -> None:
    """Has every view of an app want a bearer. Nobody is asked for anything yet.

    What is left out here, ``app.config["TOKENMGR"]`` says: a dict with these names.

    Args:
        app: The app; ``app.extensions["tokenmgr"]`` is what it has of tokenmgr.
        registry: The app's own registry, or what makes it when it is first needed, once for a
            process; left out, :meth:`TokenRegistry.from_env() <tokenmgr.TokenRegistry.from_env>`
            does. In the settings it may also be the dotted path of either. One that is made here
            ends with the program, as Flask has no end of an app.
        audience: For whom bearers have to be; left out, the app's client id and ``api://`` with it.
            See :class:`~tokenmgr.web.bearer.BearerValidator`, also for what follows.
        tenants: Whose callers are let in, where the authority stands for many tenants.
        leeway: Seconds by which the authority's clock and this one may differ; 60 if left out.
        apps_without_roles: Whether apps are let in that have no app role of this API; not if left
            out.

    Raises:
        ConfigurationError: A setting is not one, or the app has been here before.
    """
    if _KEY in app.extensions:
        raise ConfigurationError("init_app() has been called for this app: once is enough")
    app.extensions[_KEY] = api_of(
        app.config.get("TOKENMGR"),
        'app.config["TOKENMGR"]',
        registry=registry,
        audience=audience,
        tenants=tenants,
        leeway=leeway,
        apps_without_roles=apps_without_roles,
    )
    app.before_request(_admit)
    before = app.before_request_funcs[None]
    before.insert(0, before.pop())  # whatever else comes before a view knows who calls
    app.teardown_request(_forget)
    app.teardown_appcontext(_forget)  # which comes though another teardown_request() has failed
    elsewhere.add(_call)
    handlers = app.error_handler_spec[None][None]
    if TokenManagerError not in handlers:
        app.register_error_handler(TokenManagerError, _refuse)


def registry() -> TokenRegistry:
    """Gives the registry of the current app, in a request or in ``app.app_context()``.

    Raises:
        ConfigurationError: It cannot be made, or the app has not been given to :func:`init_app`.
    """
    return _api().registry


def required(
    scopes: str | Iterable[str] = (), roles: str | Iterable[str] = ()
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a view, sync or async, which only some callers may see: those of :func:`require`.

    It stands below the decorator of the route or above it, and is for methods of class-based views,
    and for their ``decorators``, too. Where there are several, each has to be met. It counts for
    all routes of the function that it decorates.

    Args:
        scopes: Delegated permissions, such as ``"Orders.Read"``.
        roles: App roles, such as ``"Orders.Read.All"``.

    Raises:
        ConfigurationError: The view is anonymous, or it is no text that was given.
    """
    needed = needs(scopes, roles)
    decorate = current.required(*needed)

    def decorate_both(view: Callable[P, T]) -> Callable[P, T]:
        checked = decorate(view)
        # Where the decorator of the route is below, Flask has the function as it is.
        mark_needs(view, needed)
        return checked

    return decorate_both


@anonymous
def ready() -> flask.Response:
    """Tells a probe whether the app could serve calls, without asking anybody: 200 or 503.

    It is a view, to be given a route: ``app.add_url_rule("/ready", view_func=ready)``.
    """
    status, body = _api().ready()
    return _response(status, [], body)


def _api() -> Api:
    found: Api | None = flask.current_app.extensions.get(_KEY)
    if found is None:
        raise ConfigurationError(
            "this app is not known here: call init_app(app) of tokenmgr.web.flask"
        )
    return found


def _call() -> Call | None:
    """The call of the request that is under way, as Flask's own context has it."""
    return flask.request.environ.get(_CALL) if flask.has_request_context() else None


def _admit() -> None:
    """Says who calls, and refuses it to those who may not, before anything else is done."""
    environ = flask.request.environ
    # Where there are several headers, servers give them with commas between (PEP 3333).
    call = environ[_CALL] = _api().receive(environ.get("HTTP_AUTHORIZATION"))
    setattr(flask.g, _UNDO, under_way.set(call))
    if _is_answered_by_flask():
        return
    marked = _marked()
    if not is_anonymous(*marked):
        for needed in (_ANYBODY, *needs_of(*marked)):
            call.meet(needed)


def _is_answered_by_flask() -> bool:
    rule = flask.request.url_rule
    automatic = rule is not None and bool(getattr(rule, "provide_automatic_options", False))
    return automatic and flask.request.method == "OPTIONS"


def _marked() -> tuple[object, ...]:
    """Whatever may be marked of the view to be called; nothing, where there is none."""
    request, app = flask.request, flask.current_app
    if request.url_rule is None:
        return ()
    view = app.view_functions[request.url_rule.endpoint]
    kind, method = getattr(view, "view_class", None), None
    if isinstance(kind, type) and issubclass(kind, MethodView):  # others choose no method by this
        method = getattr(kind, request.method.lower(), None)
        if method is None and request.method == "HEAD":
            method = getattr(kind, "get", None)
    return (view, kind, method, *(app.blueprints[name] for name in request.blueprints))


def _forget(_: BaseException | None = None) -> None:
    undo: Token[Call | None] | None = flask.g.pop(_UNDO, None)
    if undo is not None:  # a copy of the request's context ends too, and so does a stream
        under_way.reset(undo)


def _refuse(error: TokenManagerError) -> Any:
    answer = answer_to(error)
    if answer is not None:
        return _response(answer.status, answer.headers, answer.body)
    # It is for whatever handler the app has of all errors; where it has none, this is a 500.
    others = flask.current_app.error_handler_spec[None][None]
    for kind in type(error).__mro__:
        if issubclass(kind, Exception) and others.get(kind, _refuse) is not _refuse:
            return flask.current_app.ensure_sync(others[kind])(error)
    raise error


def _response(status: int, headers: list[tuple[str, str]], body: dict[str, str]) -> flask.Response:
    response = flask.jsonify(body)
    response.status_code = status
    response.headers.extend(headers)
    return response
