"""Flask: what every framework's module does, and what is its own."""

from __future__ import annotations

import contextvars
import re
from collections.abc import Callable, Iterator
from typing import Any

import flask
import flask.views
import pytest
from web_compliance import READ, Answer, Ask, WebCompliance, bearer, told_of
from web_flask import in_thread, make_app

from tokenmgr import (
    BearerRefusedError,
    ConfigurationError,
    ConsentRequiredError,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.emulator import EntraEmulator
from tokenmgr.web import current
from tokenmgr.web import flask as bearers

ANN = "ann@contoso.com"


def a_view() -> Callable[[], Any]:
    """Gives a view, which a test may mark."""

    def empty() -> Any:
        return {}

    return empty


def by_client(app: flask.Flask) -> Ask:
    """Asks by Flask's test client."""

    def ask(path: str, *authorizations: str, method: str = "GET") -> Answer:
        headers = [("Authorization", each) for each in authorizations]
        answer = app.test_client().open(path, method=method, headers=headers)
        return Answer(
            answer.status_code,
            {name.lower(): value for name, value in answer.headers},
            answer.get_data(as_text=True),
        )

    return ask


class TestByItsTestClient(WebCompliance):
    @pytest.fixture
    def ask(self, entra: EntraEmulator) -> Iterator[Ask]:
        with entra.registry() as registry:
            yield by_client(make_app(registry))


@pytest.fixture
def app(registry: TokenRegistry) -> flask.Flask:
    """An application without a view."""
    app = flask.Flask(__name__)
    bearers.init_app(app, registry)
    return app


@pytest.fixture
def ask(app: flask.Flask) -> Ask:
    return by_client(app)


# Decorators


def test_required_may_stand_above_the_route(app, ask, entra):
    @bearers.required(READ)
    @app.get("/orders")
    def orders() -> Any:
        return {}

    assert ask("/orders", bearer(entra.sign_in(ANN))).status == 403
    assert ask("/orders", bearer(entra.sign_in(ANN, scopes=[READ]))).status == 200


def test_anonymous_may_stand_above_the_route(app, ask):
    @bearers.anonymous
    @app.get("/open")
    def everybody() -> Any:
        return {}

    assert ask("/open").status == 200


def test_a_decorator_that_hides_what_is_below_takes_nothing_away(app, ask, entra):
    def hiding(view: Callable[[], Any]) -> Callable[[], Any]:
        def hidden() -> Any:
            return view()

        return hidden

    app.add_url_rule("/orders", "orders", hiding(bearers.required(READ)(a_view())))
    app.add_url_rule("/open", "open", hiding(bearers.anonymous(a_view())))
    assert ask("/orders", bearer(entra.sign_in(ANN))).status == 403
    assert ask("/open").status == 401


def test_several_marks_all_count(app, ask, entra):
    view = bearers.required("Orders.Write")(bearers.required(READ)(a_view()))
    app.add_url_rule("/orders", view_func=view, endpoint="orders")
    for one in (READ, "Orders.Write"):
        assert ask("/orders", bearer(entra.sign_in(ANN, scopes=[one]))).status == 403
    both = entra.sign_in(ANN, scopes=["Orders.Write", READ])
    assert ask("/orders", bearer(both)).status == 200


def test_methods_of_a_class_have_marks_of_their_own(app, ask, entra):
    class Orders(flask.views.MethodView):
        @bearers.anonymous
        def get(self) -> Any:
            return {"method": flask.request.method}

        @bearers.required("Orders.Write")
        async def post(self) -> Any:
            return told_of(bearers.caller())

        def delete(self) -> Any:
            return {}

    app.add_url_rule("/orders", view_func=Orders.as_view("orders"))
    assert [ask("/orders", method=each).status for each in ("GET", "HEAD")] == [200, 200]
    assert [ask("/orders", method=each).status for each in ("POST", "DELETE")] == [401, 401]
    reader, writer = entra.sign_in(ANN), entra.sign_in(ANN, scopes=["Orders.Write"])
    assert ask("/orders", bearer(reader), method="POST").status == 403
    assert ask("/orders", bearer(writer), method="POST").status == 200
    assert ask("/orders", bearer(reader), method="DELETE").status == 200


def test_a_class_that_is_derived_from_an_open_one_is_not_open(app, ask):
    @bearers.anonymous
    class Open(flask.views.MethodView):
        def get(self) -> Any:
            return {}

    class Orders(Open):
        def post(self) -> Any:
            return {}

    app.add_url_rule("/open", view_func=Open.as_view("open"))
    app.add_url_rule("/orders", view_func=Orders.as_view("orders"))
    asked = (("/open", "GET"), ("/orders", "GET"), ("/orders", "POST"))
    assert [ask(path, method=each).status for path, each in asked] == [200, 401, 401]


def test_a_method_that_does_not_answer_opens_nothing(app, ask):
    class Orders(flask.views.View):
        @bearers.anonymous
        def get(self) -> Any:
            return {}

        def dispatch_request(self) -> Any:
            return {"orders": []}

    app.add_url_rule("/orders", view_func=Orders.as_view("orders"))
    assert ask("/orders").status == 401


def test_what_one_method_requires_wins_over_an_open_class(app, ask):
    @bearers.anonymous
    class Orders(flask.views.MethodView):
        def get(self) -> Any:
            return {}

        @bearers.required(READ)
        def post(self) -> Any:
            return {}

    app.add_url_rule("/orders", view_func=Orders.as_view("orders"))
    assert (ask("/orders").status, ask("/orders", method="POST").status) == (200, 401)


def test_what_a_view_requires_wins_over_an_open_blueprint(app, ask, entra):
    site = bearers.anonymous(flask.Blueprint("site", __name__))
    site.add_url_rule("/page", "page", a_view())
    bearers.required(READ)(site.get("/orders")(a_view()))
    app.register_blueprint(site)
    assert (ask("/page").status, ask("/orders").status) == (200, 401)
    assert ask("/orders", bearer(entra.sign_in(ANN, scopes=[READ]))).status == 200


def test_a_class_takes_them_as_its_decorators(app, ask, entra):
    class Orders(flask.views.View):
        decorators = [bearers.required(READ)]

        def dispatch_request(self) -> Any:
            return {}

    app.add_url_rule("/orders", view_func=Orders.as_view("orders"))
    assert ask("/orders", bearer(entra.sign_in(ANN))).status == 403
    assert ask("/orders", bearer(entra.sign_in(ANN, scopes=[READ]))).status == 200


def test_a_blueprint_may_be_open_or_for_some_alone(app, ask, entra):
    site, admin = flask.Blueprint("site", __name__), flask.Blueprint("admin", __name__)
    site.add_url_rule("/page", "page", a_view())
    admin.add_url_rule("/admin", "admin", a_view())
    admin.before_request(bearers.required("Orders.Admin")(lambda: None))
    app.register_blueprint(bearers.anonymous(site))
    app.register_blueprint(admin)
    assert ask("/page").status == 200
    assert ask("/admin", bearer(entra.sign_in(ANN))).status == 403
    assert ask("/admin", bearer(entra.sign_in(ANN, scopes=["Orders.Admin"]))).status == 200


def test_a_view_is_anonymous_or_requires_a_caller():
    with pytest.raises(ConfigurationError, match="cannot be anonymous"):
        bearers.anonymous(bearers.required(READ)(a_view()))
    with pytest.raises(ConfigurationError, match="cannot be anonymous"):
        bearers.required(READ)(bearers.anonymous(a_view()))


@pytest.mark.parametrize("wrong", [a_view(), [1], [""], 7])
def test_required_takes_texts(wrong):
    with pytest.raises(ConfigurationError, match="required"):
        bearers.required(wrong)


def test_a_view_may_look_closer(app, ask, entra):
    @app.get("/orders")
    def orders() -> Any:
        return told_of(bearers.require(READ))

    assert ask("/orders", bearer(entra.sign_in(ANN))).status == 403
    assert ask("/orders", bearer(entra.sign_in(ANN, scopes=[READ]))).status == 200


# What else is asked for


def test_whatever_has_no_mark_is_closed(app, ask, entra):
    @app.errorhandler(404)
    def nothing(_: Exception) -> Any:
        return told_of(bearers.caller()), 404

    app.before_request(lambda: a_view()() if flask.request.args else None)  # as early as it can
    for path in ("/nowhere", "/static/secrets.txt", "/nowhere?early=yes"):
        assert ask(path).status == 401
    assert ask("/nowhere", bearer(entra.sign_in(ANN))).body["object_id"]


def test_what_comes_before_the_application_comes_after_the_bearer(registry, entra):
    app, known = flask.Flask(__name__), []
    app.before_request(lambda: known.append(bearers.caller()))
    bearers.init_app(app, registry)
    app.add_url_rule("/", view_func=a_view(), endpoint="home")
    ask = by_client(app)
    assert (ask("/").status, len(known)) == (401, 0)
    assert (ask("/", bearer(entra.sign_in(ANN))).status, len(known)) == (200, 1)


def test_a_browser_may_ask_for_permission_without_a_bearer(app, ask):
    app.add_url_rule("/orders", "orders", a_view(), methods=["GET", "POST"])
    app.add_url_rule("/own", "own", a_view(), methods=["OPTIONS"])
    answer = ask("/orders", method="OPTIONS")
    assert (answer.status, answer.text) == (200, "")
    assert ask("/own", method="OPTIONS").status == 401


# The current caller


def test_threads_find_the_caller_by_either_context(app, ask, entra):
    def subject() -> str:
        return bearers.caller().subject

    def token() -> str:
        return bearers.on_behalf_of("https://graph.microsoft.com/User.Read").get_access_token()

    @app.get("/threads")
    def threads() -> Any:
        copied = contextvars.copy_context()
        return {
            "own": subject(),
            "flask's": in_thread(flask.copy_current_request_context(subject)),
            "deep inside": in_thread(
                flask.copy_current_request_context(lambda: current.caller().subject)
            ),
            "python's": in_thread(lambda: copied.run(lambda: current.caller().subject)),
            "token": token() == in_thread(flask.copy_current_request_context(token)),
            "left": bearers.caller().subject == current.caller().subject,
        }

    body = ask("/threads", bearer(entra.sign_in(ANN))).body
    assert body["own"] == body["flask's"] == body["deep inside"] == body["python's"]
    assert body["token"] is body["left"] is True


def test_no_caller_is_left_where_what_ends_a_request_fails(app, entra):
    @app.teardown_request
    def fail(_: BaseException | None) -> None:
        raise RuntimeError("here")

    @app.get("/me")
    def me() -> Any:
        return told_of(bearers.caller())

    with pytest.raises(RuntimeError, match="here"):
        app.test_client().get("/me", headers={"Authorization": bearer(entra.sign_in(ANN))})
    with pytest.raises(ConfigurationError, match="no call under way"):
        current.caller()


def test_a_stream_finds_the_caller(app, ask, entra):
    @app.get("/stream")
    def stream() -> Any:
        def parts() -> Iterator[str]:
            yield f"{bearers.caller().object_id} "
            yield bearers.require("access_as_user").object_id or ""

        return flask.Response(flask.stream_with_context(parts()))

    entra.add_user(ANN)
    first, second = ask("/stream", bearer(entra.sign_in(ANN))).text.split()
    assert first == second


def test_a_request_within_a_request_has_its_own_caller(registry, entra):
    inner, outer = make_app(registry), flask.Flask(__name__)
    bearers.init_app(outer, registry)

    @outer.get("/")
    def both() -> Any:
        asked = by_client(inner)
        return {
            "before": bearers.caller().object_id,
            "nobody": asked("/open").body["subject"],
            "other": asked("/me", bearer(entra.sign_in("bob@contoso.com"))).body["object_id"],
            "after": current.caller().object_id,
        }

    body = by_client(outer)("/", bearer(entra.sign_in(ANN))).body
    assert body["before"] == body["after"] == entra.add_user(ANN)
    assert (body["nobody"], body["other"]) == (None, entra.add_user("bob@contoso.com"))


def test_outside_of_a_request_there_is_no_caller(app):
    for place in (app.app_context(), app.test_request_context("/")):
        with place, pytest.raises(ConfigurationError, match="no call under way"):
            bearers.caller()
    with app.app_context():
        assert bearers.registry() is app.extensions["tokenmgr"].registry


def test_an_app_that_was_not_made_one_says_so():
    with flask.Flask(__name__).app_context(), pytest.raises(ConfigurationError, match="init_app"):
        bearers.registry()


# Settings


def test_several_apps_of_a_process_have_their_own_registries(entra):
    other = entra.add_client(secret="another app's secret")
    with (
        entra.registry() as first,
        entra.registry(client_id=other, credential="another app's secret") as second,
    ):
        apps = [make_app(first), make_app(second)]
        tokens = [entra.sign_in(ANN), entra.sign_in(ANN, client_id=other)]
        statuses = [[by_client(app)("/me", bearer(each)).status for each in tokens] for app in apps]
        assert statuses == [[200, 401], [401, 200]]
        assert by_client(apps[1])("/graph", bearer(tokens[1])).status == 200
        assert entra.requests[-1].form["client_id"] == other


def test_settings_come_from_the_config_where_they_are_not_given(entra, registry):
    def statuses(**settings: Any) -> list[int]:
        app = flask.Flask(__name__)
        app.config["TOKENMGR"] = {"registry": lambda: registry, "audience": "api://orders"}
        bearers.init_app(app, **settings)
        app.add_url_rule("/", view_func=a_view(), endpoint="home")
        assert app.extensions["tokenmgr"].registry is registry
        audiences = ("orders", entra.client_id)
        tokens = [entra.sign_in(ANN, client_id=each, version="1.0") for each in audiences]
        return [by_client(app)("/", bearer(token)).status for token in tokens]

    assert statuses() == [200, 401]
    assert statuses(audience=f"api://{entra.client_id}") == [401, 200]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("api://orders", "is a str: make it a dictionary"),
        ({"audienec": "api://orders"}, "'audienec', which is no setting: did you mean 'audience'"),
        ({"timeout": 3}, "'timeout', which is no setting: it may have 'registry'"),
        ({"registry": 7}, "'registry'.* is a int: make it a TokenRegistry"),
        ({"audience": [7]}, "'audience'.* is a list: make it a text"),
        ({"tenants": 7}, "'tenants'.* is a int: make it a list of GUIDs"),
        ({"leeway": "60"}, "'leeway'.* is a str: make it a number of seconds"),
        ({"leeway": -1.0}, "'leeway'.* is a float: make it a number of seconds"),
    ],
)
def test_settings_that_are_none_are_told(settings, told):
    app = flask.Flask(__name__)
    app.config["TOKENMGR"] = settings
    with pytest.raises(ConfigurationError, match=told):
        bearers.init_app(app)


@pytest.mark.parametrize(
    "path", ["nowhere.registry", "web_flask.nothing", "registry", "web_flask.READ", "..x"]
)
def test_a_path_that_leads_to_no_registry_is_told(path):
    app = flask.Flask(__name__)
    app.config["TOKENMGR"] = {"registry": path}
    with pytest.raises(ConfigurationError, match=re.escape(repr(path))):
        bearers.init_app(app)


def test_an_app_is_made_one_once(app):
    with pytest.raises(ConfigurationError, match="once is enough"):
        bearers.init_app(app)


# Errors


def test_an_application_s_own_handlers_come_first(registry, entra):
    app = flask.Flask(__name__)

    @app.errorhandler(TokenManagerError)
    def mine(error: TokenManagerError) -> Any:
        return {"mine": type(error).__name__}, 418

    bearers.init_app(app, registry)

    @app.errorhandler(ConsentRequiredError)
    def consent(_: TokenManagerError) -> Any:
        return {"mine": "consent"}, 418

    @app.get("/<what>")
    def fail(what: str) -> Any:
        raise ConsentRequiredError("no") if what == "consent" else BearerRefusedError("no")

    ask, ann = by_client(app), bearer(entra.sign_in(ANN))
    assert ask("/consent", ann).body == {"mine": "consent"}
    assert ask("/bearer", ann).body == {"mine": "BearerRefusedError"}


@pytest.mark.parametrize(
    ("kind", "given"), [(Exception, "ConfigurationError"), (500, "InternalServerError")]
)
def test_what_is_no_caller_s_business_goes_to_the_handler_of_all_errors(
    app, ask, entra, kind, given
):
    @app.errorhandler(kind)
    async def any_error(error: Exception) -> Any:
        return {"error": type(error).__name__}, 500

    @app.get("/")
    def fail() -> Any:
        raise ConfigurationError("wrong")

    assert ask("/", bearer(entra.sign_in(ANN))).body == {"error": given}


def test_a_probe_is_told_when_there_is_no_registry():
    def cannot() -> TokenRegistry:
        raise ConfigurationError("AZURE_CLIENT_ID is not set")

    answer = by_client(make_app(cannot))("/ready")
    assert (answer.status, answer.body) == (503, {"status": "not ready"})


def test_a_registry_that_was_closed_is_no_caller_s_business(app, ask, registry, entra):
    app.add_url_rule("/", view_func=a_view(), endpoint="home")
    app.add_url_rule("/open", view_func=bearers.anonymous(a_view()), endpoint="open")
    app.add_url_rule("/ready", view_func=bearers.ready)
    registry.close()
    ann = bearer(entra.sign_in(ANN))
    assert [ask(each, ann).status for each in ("/", "/open", "/ready")] == [500, 200, 503]
