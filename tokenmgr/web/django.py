"""A web API with ``Django``, on WSGI or ASGI: views want a bearer.

Either all of them do, by the middleware, but for those that are marked :func:`anonymous`; or those
do that are decorated with :func:`required`, or are classes with :class:`BearerRequiredMixin`, as in
a site that has pages too. Both go together. With the middleware whoever sends a bearer that is
accepted is the caller of an anonymous view too. In the settings::

    INSTALLED_APPS = [..., "tokenmgr.web.django"]  # for its checks
    MIDDLEWARE = ["tokenmgr.web.django.middleware", ...]  # before CsrfViewMiddleware
    TOKENMGR = {"tenants": ["…"]}  # may be left out, as may each of its names

``registry`` is a :class:`~tokenmgr.TokenRegistry`, what makes one, or the dotted path of either;
left out, ``TokenRegistry.from_env()`` makes it, when it is first needed, once for a process.
``audience``, ``tenants``, ``leeway`` and ``apps_without_roles`` are those of
:class:`~tokenmgr.web.bearer.BearerValidator`.

Errors of tokenmgr that come out of a view become answers that tell callers what to do: 401 (with
the claims to sign in with), 403, and 503 with ``Retry-After``.

No browser sends a bearer by itself. So who sends one that is accepted needs no token against forged
requests (CSRF), and a view that is decorated needs no log-in: ``LoginRequiredMiddleware`` lets it
pass. ``login_not_required`` does not make a view anonymous: it says that there is no log-in, and
that may be so because there is a bearer.

Views of Django REST framework are protected in the same ways, and need no authentication class of
their own: ``authentication_classes = []``.

What Django answers before a view, as for an unknown address, needs no bearer; nor does what another
middleware answers first, as one for CORS does. A body that streams on after its view finds no
caller: ask before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

try:
    from django.core.exceptions import ImproperlyConfigured
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.web.django needs Django: pip install 'tokenmgr[django]'", name=_missing.name
    ) from _missing

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from ..errors import ConfigurationError, TokenManagerError
from ..registry import TokenRegistry
from ._answers import answer_to
from ._api import Call, under_way
from ._django_settings import api
from ._marks import Needs, anonymous, is_anonymous, mark_needs, needs
from .current import caller, on_behalf_of, require

if TYPE_CHECKING:
    from django.views.generic import View as _View
else:
    _View = object

__all__ = [
    "BearerRequiredMixin",
    "anonymous",
    "caller",
    "middleware",
    "on_behalf_of",
    "ready",
    "registry",
    "require",
    "required",
]

#: Where a request has its call, so that it is received once.
_CALL = "tokenmgr.call"

View = TypeVar("View", bound=Callable[..., Any])
_GetResponse = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def middleware(get_response: _GetResponse) -> _GetResponse:
    """Has every view of a project want a bearer, but those that are marked :func:`anonymous`.

    Name it in ``MIDDLEWARE``, before ``CsrfViewMiddleware``. The registry is made with it, as the
    server loads the project.

    Raises:
        ConfigurationError: A setting is missing, or cannot be right.
    """
    kind = _AsyncMiddleware if iscoroutinefunction(get_response) else _Middleware
    return kind(get_response)


def registry() -> TokenRegistry:
    """Gives the registry of the settings, in a request or outside of any.

    Raises:
        ConfigurationError: A setting is missing, or cannot be right.
    """
    return api().registry


def required(
    scopes: str | Iterable[str] = (), roles: str | Iterable[str] = ()
) -> Callable[[View], View]:
    """Decorates a view, sync or async, which only some callers may see: those of :func:`require`.

    It needs no middleware. Methods of class-based views take it as functions do; a class as a whole
    has :class:`BearerRequiredMixin`. Where there are several, each has to be met.

    Args:
        scopes: Delegated permissions, such as ``"Orders.Read"``.
        roles: App roles, such as ``"Orders.Read.All"``.

    Raises:
        ConfigurationError: The view is anonymous, or it is no text that was given.
    """
    needed = needs(scopes, roles)

    def decorate(view: View) -> View:
        guarded: Any = (_guard_async if iscoroutinefunction(view) else _guard)(view, needed)
        mark_needs(guarded, needed)
        guarded.csrf_exempt = True  # no browser sends a bearer by itself
        guarded.login_required = False  # LoginRequiredMiddleware is for those who have none
        return cast("View", guarded)

    return decorate


class BearerRequiredMixin(_View):
    """Has a class-based view want a bearer, with ``async`` methods or without.

    It stands before ``View`` among the bases. Methods may need more, by :func:`required`.

    Example:
        >>> from django.views import View
        >>> from tokenmgr.web.django import BearerRequiredMixin, required
        >>> class Orders(BearerRequiredMixin, View):
        ...     required_scopes = "Orders.Read"
        ...     def get(self, request): ...
        ...     @required(scopes="Orders.Write")
        ...     def post(self, request): ...
    """

    #: Delegated permissions, of which a user needs one.
    required_scopes: str | Iterable[str] = ()
    #: App roles, of which an app that calls by itself needs one.
    required_roles: str | Iterable[str] = ()

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        first = next(each for each in cls.__mro__ if "as_view" in vars(each))
        if not issubclass(first, BearerRequiredMixin):
            raise ImproperlyConfigured(
                f"{cls.__name__} would answer without a bearer: put BearerRequiredMixin before "
                f"{first.__name__}"
            )

    @classmethod
    def as_view(cls, *args: Any, **initkwargs: Any) -> Any:
        """Gives the view for a route, as ``View.as_view()`` does."""
        scopes = initkwargs.get("required_scopes", cls.required_scopes)
        roles = initkwargs.get("required_roles", cls.required_roles)
        return required(scopes, roles)(super().as_view(*args, **initkwargs))


@anonymous
def ready(request: HttpRequest) -> HttpResponseBase:  # noqa: ARG001 - what every view is given
    """Tells a probe whether the process could serve calls, without asking anybody: 200 or 503.

    It is a view, to be given a route: ``path("ready", tokenmgr.web.django.ready)``.
    """
    status, body = api().ready()
    return JsonResponse(body, status=status)


class _Middleware:
    """What :func:`middleware` makes where views are called without an event loop."""

    def __init__(self, get_response: _GetResponse) -> None:
        self._get_response = get_response
        api().open()

    def __call__(self, request: HttpRequest) -> Any:
        with _begun(request, api().receive(_bearer_of(request))):
            return self._get_response(request)

    def process_view(self, request: HttpRequest, view: object, *_: object) -> Any:
        return _refused(request, view)

    def process_exception(self, _: HttpRequest, error: Exception) -> Any:
        """Answers an error of ours that has come out of a view. Django calls it in a thread."""
        return _answer(error)


class _AsyncMiddleware(_Middleware):
    """The same on an event loop."""

    def __init__(self, get_response: _GetResponse) -> None:
        super().__init__(get_response)
        markcoroutinefunction(cast("Any", self))

    async def __call__(self, request: HttpRequest) -> Any:
        with _begun(request, await api().areceive(_bearer_of(request))):
            return await self._get_response(request)

    # Django would call one that is none in a thread.
    async def process_view(self, request: HttpRequest, view: object, *_: object) -> Any:
        return _refused(request, view)


def _guard(view: Callable[..., Any], needed: Needs) -> Callable[..., Any]:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        request = _request_of(args)
        try:
            with _begun(request, _call_of(request) or api().receive(_bearer_of(request))) as call:
                call.meet(needed)
                return _whole(view(*args, **kwargs))
        except TokenManagerError as error:
            answer = _answer(error)
            if answer is None:
                raise
            _roll_back()
            return answer

    return guarded


def _guard_async(
    view: Callable[..., Awaitable[Any]], needed: Needs
) -> Callable[..., Awaitable[Any]]:
    @wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        request = _request_of(args)
        try:
            call = _call_of(request) or await api().areceive(_bearer_of(request))
            with _begun(request, call):
                call.meet(needed)
                return await view(*args, **kwargs)
        except TokenManagerError as error:
            answer = _answer(error)
            if answer is None:
                raise
            return answer

    return guarded


def _whole(answer: Any) -> Any:
    """Refuses what is still to be awaited, with nobody left to say who calls."""
    if iscoroutine(answer):
        answer.close()
        raise ConfigurationError(
            "required() decorates this class's dispatch(), which cannot be awaited here: give the "
            "class BearerRequiredMixin"
        )
    return answer


def _roll_back() -> None:
    """Has nothing kept of a view that has raised, though Django is not told (ATOMIC_REQUESTS)."""
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["ATOMIC_REQUESTS"] and connection.in_atomic_block:
            connection.set_rollback(True)


def _request_of(args: tuple[Any, ...]) -> HttpRequest:
    """The request among a view's arguments, of which a method's first is its object."""
    for each in args[:2]:
        if isinstance(getattr(each, "META", None), dict):  # that of Django REST framework, too
            request: HttpRequest = each
            return request
    raise TypeError("required() decorates views: their first argument is the request")


def _bearer_of(request: HttpRequest) -> str | None:
    # Where there are several headers, servers and Django give them with commas between.
    found: str | None = request.META.get("HTTP_AUTHORIZATION")
    return found


def _call_of(request: HttpRequest) -> Call | None:
    found: Call | None = request.META.get(_CALL)
    return found


@contextmanager
def _begun(request: HttpRequest, call: Call) -> Iterator[Call]:
    """Has a call be the one that is under way, as long as the block runs."""
    request.META[_CALL] = call
    if call.refusal is None:
        # As no browser sends a bearer by itself, nobody has made one send this.
        setattr(request, "csrf_processing_done", True)  # noqa: B010 - Django's own, without a type
    undo = under_way.set(call)
    try:
        yield call
    finally:
        under_way.reset(undo)


def _refused(request: HttpRequest, view: object) -> HttpResponseBase | None:
    """The answer to a call without a caller, unless the view is anonymous."""
    call: Call = request.META[_CALL]
    if call.refusal is None or is_anonymous(view, getattr(view, "view_class", None)):
        return None
    answer = _answer(call.refusal)
    if answer is None:
        raise call.refusal
    return answer


def _answer(error: BaseException) -> HttpResponseBase | None:
    answer = answer_to(error)
    if answer is None:
        return None
    return JsonResponse(answer.body, status=answer.status, headers=dict(answer.headers))
