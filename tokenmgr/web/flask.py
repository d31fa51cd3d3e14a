"""A web API with ``Flask``: after :func:`init_app` every view wants a bearer.

A view that anybody may call is marked :func:`anonymous`, and one that is for some callers alone
:func:`required`. :func:`caller` says who calls, and :func:`on_behalf_of` calls another API for them.

    >>> from flask import Flask
    >>> from tokenmgr.web import flask as bearers
    >>> app = Flask(__name__)
    >>> bearers.init_app(app)
    >>> @app.get("/orders")
    ... @bearers.required(scopes="Orders.Read", roles="Orders.Read.All")
    ... def orders():
    ...     return {"of": bearers.caller().subject}
    >>> app.add_url_rule("/ready", view_func=bearers.ready)

What Flask answers by itself needs none: an unknown address, a method that a view does not have, and
the ``OPTIONS`` by which a browser asks for permission (CORS). Files of the static folder do.

Errors of tokenmgr that come out of a view become the answers that callers know what to do with:
see :func:`~tokenmgr.web.refusal_of`. An application's own error handlers come before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Token
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar, cast

try:
    import flask
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.web.flask needs Flask: pip install 'tokenmgr[flask]'", name=_missing.name
    ) from _missing

from ..errors import ConfigurationError
from ._api import REFUSED, Api, current, current_caller, refusal_of
from ._marks import anonymous, is_anonymous, mark_needs, needs, needs_of
from ._settings import api_of
from .caller import Caller

if TYPE_CHECKING:
    from ..manager import AccessTokenManager
    from ..registry import TokenRegistry

__all__ = [
    "anonymous",
    "caller",
    "init_app",
    "on_behalf_of",
    "ready",
    "registry",
    "required",
]

#: Where an app has its Api, by Flask's custom.
_KEY = "tokenmgr"
#: Where a request has its caller, as threads find it that copy Flask's context (``g`` is not copied).
_CALLER = "tokenmgr.caller"
#: Where ``g`` has what undoes the context variable.
_UNDO = "_tokenmgr_undo"

View = TypeVar("View", bound=Callable[..., Any])


def init_app(
    app: flask.Flask,
    registry: TokenRegistry | Callable[[], TokenRegistry] | None = None,
    *,
    audience: str | Iterable[str] | None = None,
    tenants: Iterable[str] | None = None,
    leeway: float | None = None,
) -> None:
    """Has every view of an app want a bearer. Nobody is asked for anything yet.

    What is left out here, ``app.config["TOKENMGR"]`` says: a dict with these names.

    Args:
        app: The app; ``app.extensions["tokenmgr"]`` is what it has of tokenmgr.
        registry: The app's own registry, or what makes it when it is first needed, once for a
            process; left out, :meth:`TokenRegistry.from_env` is that. In the settings it may also
            be the dotted path of either. One that is made here is closed as the program ends.
        audience: As for :class:`~tokenmgr.web.bearer.BearerValidator`, and so are ``tenants`` and
            ``leeway``.

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
    )
    app.before_request(_admit)
    before = app.before_request_funcs[None]
    before.insert(0, before.pop())  # whatever else comes before a view knows who calls
    app.teardown_request(_forget)
    handlers = app.error_handler_spec[None][None]
    for kind in REFUSED:
        if kind not in handlers:
            app.register_error_handler(kind, _refuse)


def caller() -> Caller:
    """Says who has sent the current request. Threads that copy its context may ask too.

    Raises:
        LookupError: There is no request, or its view is anonymous.
    """
    if flask.has_request_context():
        found: Caller | None = flask.request.environ.get(_CALLER)
        if found is not None:
            return found
    return current()


def on_behalf_of(*scopes: str | Iterable[str]) -> AccessTokenManager:
    """Gives the manager of the caller's token for another API: see :meth:`TokenRegistry.on_behalf_of`.

    Raises:
        BearerRefusedError: An app calls by itself, so there is no user (403).
        LookupError: There is no request, or its view is anonymous.
    """
    return _api().on_behalf_of(*scopes, caller=caller())


def registry() -> TokenRegistry:
    """Gives the registry of the current app."""
    return _api().registry


def required(
    scopes: str | Iterable[str] = (), roles: str | Iterable[str] = ()
) -> Callable[[View], View]:
    """Has a view answer those only who have one of these: see ``BearerValidator.check``.

    It is for functions, with ``async`` or without, for methods of class-based views, and for their
    ``decorators``; above or below the decorator of the route. Several of them all count. It marks
    the function itself, for all of its routes.

    Args:
        scopes: Delegated permissions, of which a user needs one.
        roles: App roles, of which an app that calls by itself needs one.

    Raises:
        ConfigurationError: They are no texts, or the view is anonymous.
    """
    wanted = needs(scopes, roles)

    def decorate(view: View) -> View:
        # Where the route is below, Flask has the view as it is, and finds the mark; where what is
        # between the two hides the mark, the view checks for itself.
        mark_needs(view, wanted)

        def check() -> None:
            _api().validator.check(caller(), **wanted._asdict())

        @wraps(view)
        def checked(*args: Any, **kwargs: Any) -> Any:
            check()
            return view(*args, **kwargs)

        @wraps(view)
        async def checked_async(*args: Any, **kwargs: Any) -> Any:
            check()
            return await view(*args, **kwargs)

        return cast("View", checked_async if iscoroutinefunction(view) else checked)

    return decorate


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
            "this app has no bearers yet: call tokenmgr.web.flask.init_app(app)"
        )
    return found


def _admit() -> None:
    """Says who calls, or refuses it, before anything else is done for a request."""
    marked = _marked()
    known = None
    if marked and not is_anonymous(*marked):
        api = _api()
        known = api.authenticate(flask.request.headers.getlist("Authorization"))
        for wanted in needs_of(*marked):
            api.validator.check(known, **wanted._asdict())
        flask.request.environ[_CALLER] = known
    # Also where there is none: a request inside of another one is not of the other one's caller.
    setattr(flask.g, _UNDO, current_caller.set(known))


def _marked() -> tuple[object, ...]:
    """Whatever may be marked of the view to be called; nothing, where Flask answers by itself."""
    request, app = flask.request, flask.current_app
    rule = request.url_rule
    if rule is None or (request.method == "OPTIONS" and rule.provide_automatic_options):
        return ()
    view = app.view_functions[rule.endpoint]
    kind = getattr(view, "view_class", None)
    method = "get" if request.method == "HEAD" else request.method.lower()
    blueprints = (app.blueprints[name] for name in request.blueprints)
    return (view, kind, getattr(kind, method, None), *blueprints)


def _forget(_: BaseException | None = None) -> None:
    undo: Token[Caller | None] | None = flask.g.pop(_UNDO, None)
    if undo is None:
        return
    try:
        current_caller.reset(undo)
    except ValueError:  # a server that ends a request in another context than it has begun it
        current_caller.set(None)


def _refuse(error: Exception) -> flask.Response:
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    return _response(refusal.status, refusal.headers, refusal.body)


def _response(status: int, headers: list[tuple[str, str]], body: dict[str, Any]) -> flask.Response:
    answer = flask.jsonify(body)
    answer.status_code = status
    answer.headers.extend(headers)
    return answer
