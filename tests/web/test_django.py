"""Django: what every framework's module does, and what is its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import web_django
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from web_compliance import READ, Answer, Ask, WebCompliance, bearer, told_of
from web_django_classes import ClassesOfViews

from tokenmgr import ConfigurationError, InteractionRequiredError, TokenRegistry
from tokenmgr.emulator import EntraEmulator
from tokenmgr.web import _django_settings
from tokenmgr.web import django as bearers
from tokenmgr.web._api import Api

ANN = "ann@contoso.com"
#: Django REST framework's settings, for a project without users of its own.
REST = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
}


def _answer(response: Any) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content.decode())


def ask(route: str, *authorizations: str, method: str = "GET") -> Answer:
    """Asks by Django's test client, with checks against forged requests, as a server has them."""
    headers = {"Authorization": ",".join(authorizations)} if authorizations else {}
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    return _answer(client.generic(method, route, headers=headers))


def ask_async(route: str, *authorizations: str, method: str = "GET") -> Answer:
    """Asks by Django's asynchronous test client."""
    headers = {"Authorization": ",".join(authorizations)} if authorizations else {}
    client = AsyncClient(enforce_csrf_checks=True, raise_request_exception=False)
    return _answer(asyncio.run(client.generic(method, route, headers=headers)))


class InProcess(ClassesOfViews, WebCompliance):
    @pytest.fixture(autouse=True)
    def registry(self, entra: EntraEmulator) -> Iterator[TokenRegistry]:
        with entra.registry() as registry, override_settings(TOKENMGR={"registry": registry}):
            yield registry


class TestByItsTestClient(InProcess):
    @pytest.fixture
    def ask(self) -> Ask:
        return ask


class TestByItsAsyncTestClient(InProcess):
    @pytest.fixture
    def ask(self) -> Ask:
        return ask_async


# What is its own


@pytest.fixture
def registry(entra: EntraEmulator) -> Iterator[TokenRegistry]:
    with entra.registry() as tokens, override_settings(TOKENMGR={"registry": tokens}):
        yield tokens


class Urls:
    """A URLconf of a test's own."""

    def __init__(self, **views: Any) -> None:
        self.urlpatterns = [path(name, view) for name, view in views.items()]


def told(_: HttpRequest) -> HttpResponse:
    return JsonResponse(told_of(bearers.caller()))


def a_view() -> Callable[[HttpRequest], HttpResponse]:
    """Gives a view, which a test may mark."""

    def view(request: HttpRequest) -> HttpResponse:
        return told(request)

    return view


def test_a_mixin_that_comes_too_late_is_told():
    with pytest.raises(ImproperlyConfigured, match="before View"):
        type("Orders", (View, bearers.BearerRequiredMixin), {})
    type("Fine", (type("Own", (bearers.BearerRequiredMixin,), {}), View), {})


def test_a_view_of_its_own_class_may_say_what_it_needs(registry, entra):
    class Orders(bearers.BearerRequiredMixin, View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return told(request)

    views = Urls(any=Orders.as_view(), some=Orders.as_view(required_scopes=[READ]))
    with override_settings(ROOT_URLCONF=views):
        ann = bearer(entra.sign_in(ANN))
        assert [ask(each, ann).status for each in ("/any", "/some")] == [200, 403]


def test_a_class_takes_the_decorator_by_method_decorator(registry, entra):
    @method_decorator(bearers.required(READ), name="dispatch")
    class Orders(View):
        def post(self, request: HttpRequest) -> HttpResponse:
            return told(request)

    with override_settings(ROOT_URLCONF=Urls(orders=Orders.as_view())):
        for middleware in ([web_django.CSRF], [web_django.MIDDLEWARE, web_django.CSRF]):
            with override_settings(MIDDLEWARE=middleware):
                assert ask("/orders", method="POST").status == 401
                reader = bearer(entra.sign_in(ANN, scopes=[READ]))
                assert ask("/orders", reader, method="POST").status == 200
                assert ask("/orders", bearer(entra.sign_in(ANN)), method="POST").status == 403


def test_a_class_that_is_async_has_the_mixin_instead(registry, entra):
    @method_decorator(bearers.required(), name="dispatch")
    class Orders(View):
        async def get(self, request: HttpRequest) -> HttpResponse:
            raise AssertionError

    with (
        override_settings(ROOT_URLCONF=Urls(orders=Orders.as_view())),
        pytest.raises(ConfigurationError, match="BearerRequiredMixin"),
    ):
        Client().get("/orders", headers={"Authorization": bearer(entra.sign_in(ANN))})


@pytest.mark.parametrize("middleware", [[], [web_django.MIDDLEWARE]], ids=["views", "middleware"])
def test_views_of_django_rest_framework_are_protected_alike(registry, entra, middleware):
    from rest_framework.decorators import api_view
    from rest_framework.response import Response
    from rest_framework.views import APIView
    from rest_framework.viewsets import ViewSet

    class Orders(bearers.BearerRequiredMixin, APIView):
        def get(self, _: Any) -> Response:
            raise InteractionRequiredError("sign in again", claims="{}")

        @bearers.required(READ)
        def post(self, _: Any) -> Response:
            return Response(told_of(bearers.caller()))

    class Set(bearers.BearerRequiredMixin, ViewSet):
        required_scopes = READ

        def create(self, _: Any) -> Response:
            return Response(told_of(bearers.caller()))

    @bearers.required(READ)
    @api_view(["POST"])
    def function(_: Any) -> Response:
        return Response(told_of(bearers.caller()))

    views = Urls(a=Orders.as_view(), b=Set.as_view({"post": "create"}), c=function)
    ann, reader = (bearer(entra.sign_in(ANN, scopes=[each])) for each in ("another", READ))
    with override_settings(
        ROOT_URLCONF=views, MIDDLEWARE=[*middleware, web_django.CSRF], REST_FRAMEWORK=REST
    ):
        for route in ("/a", "/b", "/c"):
            asked = [ask(route, *each, method="POST").status for each in ((), (ann,), (reader,))]
            assert asked == [401, 403, 200]
        assert 'error="insufficient_claims"' in ask("/a", ann).challenge


def test_a_class_may_be_open(registry):
    @bearers.anonymous
    class Open(View):
        def get(self, _: HttpRequest) -> HttpResponse:
            return HttpResponse("open")

    class Derived(Open):
        def post(self, _: HttpRequest) -> HttpResponse:
            return HttpResponse("closed")

    with override_settings(ROOT_URLCONF=Urls(open=Open.as_view(), closed=Derived.as_view())):
        assert (ask("/open").text, ask_async("/open").text) == ("open", "open")
        assert (ask("/closed").status, ask_async("/closed").status) == (401, 401)


def test_required_is_for_views():
    with pytest.raises(TypeError, match="first argument is the request"):
        bearers.required()(lambda: None)()
    with pytest.raises(ConfigurationError, match="cannot be anonymous"):
        bearers.required()(bearers.anonymous(a_view()))


def test_a_log_in_that_is_not_required_leaves_a_bearer_required(registry, entra):
    from django.contrib.auth.decorators import login_not_required

    with override_settings(ROOT_URLCONF=Urls(page=login_not_required(a_view()))):
        assert ask("/page").status == 401
        assert ask("/page", bearer(entra.sign_in(ANN))).status == 200


def test_who_has_a_bearer_needs_no_log_in(registry, entra):
    class Login:
        """As LoginRequiredMiddleware, for which there would have to be users."""

        def __init__(self, get_response: Any) -> None:
            self.get_response = get_response

        def __call__(self, request: HttpRequest) -> Any:
            return self.get_response(request)

        def process_view(self, request: HttpRequest, view: Any, *_: Any) -> Any:
            return HttpResponse(status=302) if getattr(view, "login_required", True) else None

    web_django.Login = Login
    views = Urls(page=lambda _: HttpResponse(), orders=bearers.required()(told))
    with override_settings(ROOT_URLCONF=views, MIDDLEWARE=["web_django.Login"]):
        assert ask("/page").status == 302
        assert ask("/orders").status == 401
        assert ask("/orders", bearer(entra.sign_in(ANN))).status == 200


def test_no_token_against_forgery_is_wanted_of_who_has_a_bearer(registry, entra):
    with override_settings(ROOT_URLCONF=Urls(both=told, open=bearers.anonymous(lambda _: None))):
        assert ask("/both", method="POST").status == 401
        assert ask("/both", bearer(entra.sign_in(ANN)), method="POST").status == 200
        # Nothing has changed for who comes without one.
        answer = ask("/open", bearer("opaque"), method="POST")
        assert (answer.status, "CSRF" in answer.text) == (403, True)


@pytest.mark.parametrize("middleware", [[], [web_django.MIDDLEWARE]], ids=["views", "middleware"])
def test_what_a_failing_view_has_written_is_rolled_back(registry, entra, tmp_path, middleware):
    @bearers.required()
    def write(_: HttpRequest) -> HttpResponse:
        with connections["default"].cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (1)")
        raise InteractionRequiredError("sign in again")

    file = tmp_path / "orders.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE orders (number)")
    database.close()
    default = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file), "ATOMIC_REQUESTS": True}
    given = connections.configure_settings({"default": default})
    before, connections.settings = connections.settings, given
    try:
        with override_settings(ROOT_URLCONF=Urls(write=write), MIDDLEWARE=middleware):
            assert ask("/write", bearer(entra.sign_in(ANN))).status == 401
        with connections["default"].cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    finally:
        connections["default"].close()
        del connections["default"]
        connections.settings = before


def test_an_error_of_ours_in_a_deferred_template_is_answered(registry, entra):
    from django.template import engines
    from django.template.response import SimpleTemplateResponse

    def page(_: HttpRequest) -> HttpResponse:
        def render() -> str:
            raise InteractionRequiredError("sign in again")

        template = engines["django"].from_string("{{ render }}")
        return SimpleTemplateResponse(template, {"render": render})

    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates"}
    with override_settings(ROOT_URLCONF=Urls(page=page), TEMPLATES=[engine]):
        assert ask("/page", bearer(entra.sign_in(ANN))).status == 401
        assert ask_async("/page", bearer(entra.sign_in(ANN))).status == 401


@pytest.mark.parametrize("middleware", [[], [web_django.MIDDLEWARE]], ids=["views", "middleware"])
def test_a_request_within_a_request_has_its_own_caller(registry, entra, middleware):
    bob = bearer(entra.sign_in("bob@contoso.com"))

    @bearers.required()
    def outer(_: HttpRequest) -> HttpResponse:
        seen = [bearers.caller().object_id]
        seen.append(ask("/inner", bob).body["object_id"])
        return JsonResponse({"seen": [*seen, bearers.caller().object_id]})

    views = Urls(outer=outer, inner=bearers.required()(told))
    with override_settings(ROOT_URLCONF=views, MIDDLEWARE=middleware):
        seen = ask("/outer", bearer(entra.sign_in(ANN))).body["seen"]
    ann, bob = entra.add_user(ANN), entra.add_user("bob@contoso.com")
    assert seen == [ann, bob, ann]


def test_other_middleware_may_stand_around_it(registry, entra):
    """Such as works with threads alone, which Django runs beside its event loop."""

    def in_threads(get_response: Any) -> Any:
        def answer(request: HttpRequest) -> Any:
            return get_response(request)

        return answer

    web_django.in_threads = in_threads
    both, alone = "django.middleware.common.CommonMiddleware", "web_django.in_threads"
    ann = bearer(entra.sign_in(ANN))
    for around in ([both], [alone]):
        for middleware in ([*around, web_django.MIDDLEWARE], [web_django.MIDDLEWARE, *around]):
            with override_settings(MIDDLEWARE=middleware):
                for asking in (ask, ask_async):
                    for kind in ("", "/async"):
                        assert asking(f"{kind}/me").status == 401
                        assert asking(f"{kind}/me", ann).status == 200
                        assert asking(f"{kind}/graph", ann).status == 200


def test_a_registry_that_was_closed_is_no_caller_s_business(registry, entra):
    registry.close()
    ann = bearer(entra.sign_in(ANN))
    for asking in (ask, ask_async):
        statuses = [asking(each, ann).status for each in ("/me", "/orders", "/ready")]
        assert statuses == [500, 500, 503]


def test_a_bearer_is_looked_at_once_however_often_it_is_required(registry, entra, monkeypatch):
    looked: list[str] = []
    for name in ("receive", "areceive"):
        own = getattr(Api, name)

        def receive(self: Api, given: Any, own: Any = own, name: str = name) -> Any:
            looked.append(name)
            return own(self, given)

        monkeypatch.setattr(Api, name, receive)
    ann = bearer(entra.sign_in(ANN, scopes=[READ, "Orders.Write"]))
    for asking, route in ((ask, "/class"), (ask_async, "/async/class"), (ask, "/orders")):
        assert asking(route, ann, method="POST").status == 200
    assert looked == ["receive", "areceive", "receive"]


def test_outside_of_a_request_there_is_no_caller_and_there_is_a_registry(registry):
    with pytest.raises(ConfigurationError, match="no call under way"):
        bearers.caller()
    assert bearers.registry() is registry


def test_a_request_that_was_made_by_hand_is_received(registry, entra):
    request = RequestFactory().get("/", headers={"Authorization": bearer(entra.sign_in(ANN))})
    assert bearers.required()(told)(request).status_code == 200
    assert bearers.required()(told)(RequestFactory().get("/")).status_code == 401


# Settings and their checks


def found() -> list[tuple[str, str]]:
    """What the checks find: ids and hints."""
    return [(each.id, each.hint) for each in checks.run_checks(tags=["tokenmgr"])]


def test_good_settings_pass(registry):
    assert found() == []
    with override_settings(TOKENMGR={"registry": "web_compliance.READ"}):
        assert [name for name, _ in found()] == ["tokenmgr.E004"]


def test_settings_that_are_wrong_are_not_said_to_be_the_environments(monkeypatch, entra):
    for name, value in entra.environment().items():
        monkeypatch.setenv(name, value)
    with override_settings(TOKENMGR={"tenants": ["contoso.com"]}):
        assert [name for name, _ in found()] == ["tokenmgr.E004"]


@pytest.mark.parametrize(
    ("settings", "name", "hint"),
    [
        ("api://orders", "tokenmgr.E001", "Make it a dictionary with 'registry', "),
        ({"audienec": "api://orders"}, "tokenmgr.E002", "Did you mean 'audience'?"),
        ({"audience": 7}, "tokenmgr.E003", "Make it a text, or several in a list."),
        ({"registry": "nowhere.registry"}, "tokenmgr.E004", "See settings.TOKENMGR['registry']"),
        (None, "tokenmgr.W001", "Set it where the API runs, or name a registry in "),
    ],
)
def test_wrong_settings_are_told_by_checks_and_where_they_are_needed(
    monkeypatch, settings, name, hint
):
    monkeypatch.delenv("AZURE_CLIENT_ID", raising=False)
    with override_settings(TOKENMGR=settings):
        ((named, advice),) = found()
        assert named == name
        assert advice.startswith(hint)
        with pytest.raises(ConfigurationError):
            bearers.registry()
        with pytest.raises(ConfigurationError):
            Client().get("/ready")


def test_tenants_that_are_wanted_are_told_by_checks(entra):
    with entra.registry(authority=entra.authority("organizations")) as registry:
        with override_settings(TOKENMGR={"registry": registry}):
            assert [name for name, _ in found()] == ["tokenmgr.E004"]
        with override_settings(TOKENMGR={"registry": registry, "tenants": "*"}):
            assert found() == []


def test_a_middleware_that_comes_late_is_told(registry):
    with override_settings(MIDDLEWARE=[web_django.CSRF, web_django.MIDDLEWARE]):
        assert found() == [("tokenmgr.W002", "Put it first.")]
    with override_settings(MIDDLEWARE=[web_django.CSRF]):
        assert found() == []


def test_a_registry_is_found_by_its_path_once(registry, entra):
    made = []

    def make() -> TokenRegistry:
        made.append(1)
        return entra.registry()

    for given in (registry, make):
        web_django.given = given
        with override_settings(TOKENMGR={"registry": "web_django.given"}):
            held = [bearers.registry() for _ in range(3)]
            assert ask("/me", bearer(entra.sign_in(ANN))).status == 200
            assert set(map(id, held)) == {id(bearers.registry())}
            assert (held[0] is registry) == (given is registry)
    assert made == [1]
    with pytest.raises(ConfigurationError, match="closed"):
        held[0].manager("https://graph.microsoft.com/.default")  # as its settings are gone
    registry.manager("https://graph.microsoft.com/.default")


def test_two_threads_that_come_first_get_the_same(registry):
    _django_settings._apis.clear()
    from support import in_threads

    assert len(set(map(id, in_threads(8, _django_settings.api)))) == 1
