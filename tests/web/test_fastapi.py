"""An API that is made with FastAPI: who is let in, what it knows of them, what they are told."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, Request, Security, routing
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from fastapi.testclient import TestClient
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from support import bearer_headers

from tokenmgr import (
    AccessTokenManager,
    ConfigurationError,
    InteractionRequiredError,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.emulator import EntraEmulator
from tokenmgr.errors import BearerRefusedError
from tokenmgr.http.challenges import read
from tokenmgr.web import current
from tokenmgr.web import fastapi as web
from tokenmgr.web.fastapi import Caller, CurrentCaller, OnBehalfOf, Required, anonymous, init_app

ANN, BOB = "ann@contoso.com", "bob@contoso.com"
READ = "https://graph.microsoft.com/User.Read"
Graph = Annotated[AccessTokenManager, OnBehalfOf(READ)]


def of_caller(caller: CurrentCaller) -> str:
    return caller.subject


Either = Annotated[Caller, Required(scopes=["Orders.Read", "Orders.Write"])]


def of_either(caller: Either) -> str:
    return caller.subject


Writer = Annotated[str, Security(of_either, scopes=["Orders.Write"])]


def of_graph(graph: Graph) -> str:
    return " ".join(graph.scopes)


@pytest.fixture
def app(registry: TokenRegistry) -> FastAPI:
    app = FastAPI()
    init_app(app, registry)
    return app


@pytest.fixture
def client(app: FastAPI):
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def ann(entra: EntraEmulator) -> dict[str, str]:
    return bearer_headers(entra.sign_in(ANN))


def subject(entra: EntraEmulator, headers: dict[str, str]) -> Any:
    return entra._state.signer.verify(
        headers["Authorization"].partition(" ")[2], base_url=entra.url
    )["oid"]


# Who is let in


def test_every_route_needs_a_bearer_whenever_it_was_added(registry, ann):
    app = FastAPI()

    @app.get("/before")
    def before() -> str:
        return "before"

    init_app(app, registry)

    @app.get("/after")
    async def after() -> str:
        return "after"

    router = APIRouter(prefix="/in")

    @router.get("/cluded")
    async def included() -> str:
        return "included"

    app.include_router(router)
    app.add_route("/plain", lambda request: StreamingResponse(["plain"]))
    with TestClient(app) as client:
        for path in ("/before", "/after", "/in/cluded", "/plain"):
            refused = client.get(path)
            assert refused.status_code == 401, path
            assert refused.headers["WWW-Authenticate"] == 'Bearer realm=""'
            assert client.get(path, headers=ann).status_code == 200, path


def test_anonymous_routes_are_open_by_whatever_router(app, client, ann):
    router, inner = APIRouter(prefix="/outer"), APIRouter(prefix="/inner")

    @app.get("/health")
    @anonymous
    async def health() -> str:
        return "well"

    @router.get("/health")
    @anonymous
    def in_router() -> str:
        return "well"

    @inner.get("/health/{name}")
    @anonymous
    def in_inner(name: str) -> str:
        return name

    @inner.post("/health/{name}")
    def closed(name: str) -> str:
        return name

    router.include_router(inner)
    app.include_router(router)
    for path in ("/health", "/outer/health", "/outer/inner/health/a"):
        assert client.get(path).status_code == 200, path
        assert client.get(path, headers=bearer_headers("useless")).status_code == 200, path
        assert client.get(path, headers=ann).status_code == 200, path
    assert client.post("/outer/inner/health/a").status_code == 401
    assert client.post("/outer/inner/health/a", headers=ann).status_code == 200


def test_the_first_route_that_matches_says_whether_it_is_open(app, client):
    @app.get("/orders/{name}")
    async def order(name: str) -> str:
        return name

    @app.get("/orders/all")
    @anonymous
    async def never_reached() -> str:
        return "all"

    assert client.get("/orders/all").status_code == 401


def test_strangers_are_not_told_which_routes_there_are(app, client, ann):
    @app.get("/orders")
    async def orders() -> str:
        return "orders"

    assert [client.get(each).status_code for each in ("/orders", "/nothing")] == [401, 401]
    assert client.post("/orders").status_code == 401
    assert client.get("/nothing", headers=ann).status_code == 404
    assert client.post("/orders", headers=ann).status_code == 405


def test_the_pages_of_fastapi_are_open_and_no_route_in_their_place(registry):
    app = FastAPI(docs_url="/pages")
    init_app(app, registry)

    @app.get("/docs")
    async def docs() -> str:
        return "the program's own"

    with TestClient(app) as client:
        for path in ("/pages", "/redoc", "/openapi.json"):
            assert client.get(path).status_code == 200, path
        assert client.get("/docs").status_code == 401


def test_the_body_of_a_stranger_is_not_read(app, client):
    @app.post("/upload")
    async def upload(body: Annotated[bytes, Body()]) -> int:
        return len(body)

    async def receive() -> Any:
        raise AssertionError("it was read")

    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/upload",
        "headers": [],
        "query_string": b"",
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_preflights_are_answered_before_anybody_is_asked_who_they_are(registry):
    app = FastAPI()
    init_app(app, registry)
    app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}
    with TestClient(app) as client:
        assert client.options("/orders", headers=asked).status_code == 200
        refused = client.get("/orders", headers=asked)
    assert refused.status_code == 401
    # So that the page's script may read why.
    assert refused.headers["Access-Control-Allow-Origin"] == "https://shop.example"


def test_two_bearers_are_none(app, client, entra):
    @app.get("/")
    async def root() -> str:
        return "in"

    headers = [("Authorization", f"Bearer {entra.sign_in(each)}") for each in (ANN, BOB)]
    assert client.get("/", headers=headers).status_code == 401


# What is known of them


def test_a_route_has_its_caller(app, client, entra, ann):
    @app.get("/me")
    async def me(caller: CurrentCaller) -> dict[str, Any]:
        return {"oid": caller.object_id, "scopes": sorted(caller.scopes), "app": caller.is_app}

    assert client.get("/me", headers=ann).json() == {
        "oid": subject(entra, ann),
        "scopes": ["access_as_user"],
        "app": False,
    }


def test_an_anonymous_route_that_wants_a_caller_refuses_strangers(app, client, ann):
    @app.get("/me")
    @anonymous
    async def me(caller: CurrentCaller) -> str:
        return caller.subject

    assert client.get("/me").status_code == 401
    assert client.get("/me", headers=ann).status_code == 200


def test_scopes_and_roles_are_required(app, client, entra, ann):
    @app.get("/read")
    async def read_orders(caller: Annotated[Caller, Required("Orders.Read")]) -> str:
        return caller.subject

    @app.get("/any", dependencies=[Required(["Orders.Read", "access_as_user"])])
    async def any_of_them() -> str:
        return "in"

    @app.get("/admin", dependencies=[Required(roles=["Orders.Admin"])])
    async def admin() -> str:
        return "in"

    @app.get("/decorated")
    @web.required("Orders.Read")
    async def decorated(request: Request) -> str:
        return request.url.path

    @app.get("/decorated-sync")
    @web.required("Orders.Read")
    def decorated_sync() -> str:
        return "in"

    reader = bearer_headers(entra.sign_in(ANN, scopes=["Orders.Read"]))
    for path in ("/read", "/decorated", "/decorated-sync"):
        refused = client.get(path, headers=ann)
        assert refused.status_code == 403, path
        told = read(403, [refused.headers["WWW-Authenticate"]])
        assert told.missing == ("Orders.Read",)
        assert client.get(path, headers=reader).status_code == 200, path
    assert client.get("/any", headers=ann).status_code == 200
    assert client.get("/admin", headers=ann).status_code == 403


def test_an_app_that_calls_by_itself_passes_by_its_roles(app, client, entra):
    @app.get("/read", dependencies=[Required("Orders.Read", "Orders.Read.All")])
    async def read_orders(caller: CurrentCaller) -> dict[str, Any]:
        return {"app": caller.is_app, "roles": sorted(caller.roles)}

    @app.get("/users-only", dependencies=[Required("Orders.Read")])
    async def for_users() -> None: ...

    def own_token(roles: list[str]) -> dict[str, str]:
        calling = entra.add_client(secret="s3cret", roles=roles)
        with entra.registry(client_id=calling, credential="s3cret") as tokens:
            return bearer_headers(tokens.get_access_token(f"api://{entra.client_id}/.default"))

    reader, nobody = own_token(["Orders.Read.All"]), own_token([])
    assert client.get("/read", headers=reader).json() == {"app": True, "roles": ["Orders.Read.All"]}
    assert client.get("/read", headers=nobody).status_code == 403
    assert client.get("/users-only", headers=reader).status_code == 403


def test_each_of_several_marks_has_to_be_met(registry, entra):
    app = FastAPI(dependencies=[Required("access_as_user")])
    init_app(app, registry)

    @app.get("/", dependencies=[Required("Orders.Read")])
    async def root() -> str:
        return "in"

    with TestClient(app) as client:
        for scopes, status in (
            (["access_as_user"], 403),
            (["Orders.Read"], 403),
            (["access_as_user", "Orders.Read"], 200),
        ):
            headers = bearer_headers(entra.sign_in(ANN, scopes=scopes))
            assert client.get("/", headers=headers).status_code == status, scopes


def test_fastapis_own_way_of_asking_for_scopes_wants_every_one_of_them(app, client, entra):
    @app.get("/caller")
    async def one(_: Annotated[str, Security(of_caller, scopes=["A", "B"])]) -> str:
        return "in"

    @app.get("/graph")
    async def other(_: Annotated[str, Security(of_graph, scopes=["A", "B"])]) -> str:
        return "in"

    for path in ("/caller", "/graph"):
        for scopes, status in ((["A"], 403), (["B"], 403), (["B", "A", "C"], 200)):
            headers = bearer_headers(entra.sign_in(ANN, scopes=scopes))
            assert client.get(path, headers=headers).status_code == status, (path, scopes)


def test_a_scope_that_is_asked_for_above_is_needed_though_another_would_do_below(
    app, client, entra
):
    @app.get("/writer")
    async def writer(_: Writer) -> str:
        return "in"

    @app.get("/found-before")
    async def found_before(caller: Either, subject: Annotated[str, Depends(of_either)], _: Writer):
        return "in"

    for path in ("/writer", "/found-before"):
        for scope, status in (("Orders.Read", 403), ("Orders.Write", 200)):
            headers = bearer_headers(entra.sign_in(ANN, scopes=[scope]))
            assert client.get(path, headers=headers).status_code == status, (path, scope)


class ByVersion(APIRoute):
    """Routes of one path, of which a header chooses."""

    def matches(self, scope: Any) -> Any:
        match, found = super().matches(scope)
        version = dict(scope["headers"]).get(b"version", b"1").decode()
        return (match, found) if self.name.endswith(version) else (Match.NONE, {})


def test_a_route_that_decides_by_itself_what_it_matches_opens_no_other(app, client, ann):
    router = APIRouter(route_class=ByVersion)

    def first() -> str:
        return "first"

    def second() -> str:
        return "second"

    for each in (app.router, router):
        each.add_api_route("/x", anonymous(first), name="version1", route_class_override=ByVersion)
        each.add_api_route("/x", second, name="version2", route_class_override=ByVersion)
    app.include_router(router, prefix="/included")
    app.add_api_route("/behind", anonymous(first))
    # Older versions make routes of their own of those that are included, which can be asked.
    told = not hasattr(routing, "iter_route_contexts")
    for path in ("/x", "/included/x"):
        for version in ("1", "2"):
            headers = {"Version": version}
            opened = version == "1" and (path == "/x" or told)
            assert client.get(path, headers=headers).status_code == (200 if opened else 401)
            assert client.get(path, headers=headers | ann).status_code == 200
    assert client.get("/behind").status_code == (200 if told else 401)
    assert client.get("/docs").status_code == 200


# On their behalf


def test_a_route_has_a_manager_of_its_callers_token(app, client, entra):
    @app.get("/graph")
    async def graph(graph: Graph) -> Any:
        return {"token": await graph.aget_access_token()}

    @app.get("/sync")
    def sync(graph: Graph) -> Any:
        return {"token": graph.get_access_token()}

    ann, bob = (bearer_headers(entra.sign_in(each)) for each in (ANN, BOB))
    for _ in range(3):
        for path in ("/graph", "/sync"):
            for headers in (ann, bob):
                token = client.get(path, headers=headers).json()["token"]
                claims = entra._state.signer.verify(token, base_url=entra.url)
                assert "User.Read" in claims["scp"].split()
                assert claims["oid"] == subject(entra, headers)
    assert (entra.count(username=ANN), entra.count(username=BOB), entra.count()) == (1, 1, 2)


def test_what_goes_wrong_is_told_in_the_callers_words(app, client, entra, registry):
    @app.get("/graph")
    async def graph(graph: Graph) -> str:
        return (await graph.aget_token()).token_type

    ann = bearer_headers(entra.sign_in(ANN))
    entra.require_mfa(ANN)
    refused = client.get("/graph", headers=ann)
    assert refused.status_code == 401
    claims = read(401, [refused.headers["WWW-Authenticate"]]).claims
    stronger = bearer_headers(entra.sign_in(ANN, claims=claims))
    assert client.get("/graph", headers=stronger).status_code == 200

    entra.withdraw_consent(ANN)
    no_consent = client.get("/graph", headers=bearer_headers(entra.sign_in(ANN, claims=claims)))
    assert no_consent.status_code == 403

    entra.fail_next(9, status=429, retry_after=30, username=BOB)
    throttled = client.get("/graph", headers=bearer_headers(entra.sign_in(BOB)))
    assert throttled.status_code == 503
    assert 25 <= int(throttled.headers["Retry-After"]) <= 31

    entra.fail_next(9, status=503, username="eve@contoso.com")
    outage = client.get("/graph", headers=bearer_headers(entra.sign_in("eve@contoso.com")))
    assert outage.status_code == 503
    for answer in (refused, no_consent, throttled, outage):
        assert set(answer.json()) == {"error", "error_description"}
        for internal in ("AADSTS", entra.url, registry._own.client.client_id, "contoso", "Trace"):
            assert internal not in answer.text
            assert internal not in str(answer.headers)


def test_the_programs_own_trouble_is_a_500_without_a_word(app, client, entra, ann):
    @app.get("/graph")
    async def graph(graph: Annotated[AccessTokenManager, OnBehalfOf("api://nobody/Read")]) -> str:
        return await graph.aget_access_token()

    entra.fail_next(9, status=400, error="invalid_client", error_codes=[7000215])
    answer = client.get("/graph", headers=ann)
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


def test_a_programs_own_handlers_come_first(registry, ann, entra):
    app = FastAPI()

    @app.exception_handler(InteractionRequiredError)
    async def own(request: Request, error: InteractionRequiredError) -> StreamingResponse:
        return StreamingResponse(["mine"], 418)

    @app.exception_handler(BearerRefusedError)
    async def refused(request: Request, error: BearerRefusedError) -> StreamingResponse:
        return StreamingResponse([error.error or "none"], 419)

    init_app(app, registry)

    @app.get("/graph")
    async def graph(graph: Graph) -> str:
        return await graph.aget_access_token()

    entra.require_mfa(ANN)
    with TestClient(app) as client:
        assert client.get("/graph", headers=ann).status_code == 418
        answer = client.get("/graph")
        assert (answer.status_code, answer.text) == (419, "none")


# The OpenAPI document


def test_the_openapi_document_has_the_bearer_and_the_scopes(app, client):
    @app.get("/plain")
    async def plain() -> None: ...

    @app.get("/mine")
    async def mine(caller: Annotated[Caller, Required("Orders.Read", "Orders.Read.All")]) -> None:
        del caller

    router = APIRouter(prefix="/in")

    @router.get("/graph")
    async def graph(graph: Graph) -> None:
        del graph

    @router.get("/open/{name}")
    @anonymous
    async def opened(name: str) -> None:
        del name

    app.include_router(router)
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"] == {
        "EntraBearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    said = {path: each["get"].get("security") for path, each in document["paths"].items()}
    assert document["security"] == [{"EntraBearer": []}]
    assert said == {
        "/plain": None,  # what the document says of all of them
        "/mine": [{"EntraBearer": ["Orders.Read", "Orders.Read.All"]}],
        "/in/graph": [{"EntraBearer": [READ]}],
        "/in/open/{name}": [],
    }


# The current caller


def test_the_current_caller_is_found_deep_inside(app, client, entra):
    found: dict[str, str] = {}

    def note(where: str) -> None:
        found[where] = current.caller().subject

    async def in_task() -> None:
        await asyncio.sleep(0)
        note("task")

    async def streamed(note: Any) -> Any:
        note("stream")
        yield "streamed"

    def dependency() -> None:
        note("dependency")

    @app.get("/async", dependencies=[Depends(dependency)])
    async def view(tasks: BackgroundTasks) -> StreamingResponse:
        note("view")
        await asyncio.gather(in_task(), asyncio.create_task(in_task()))
        await asyncio.to_thread(note, "asyncio's thread")
        thread = threading.Thread(target=contextvars.copy_context().run, args=(note, "own thread"))
        thread.start()
        thread.join()
        tasks.add_task(note, "background")
        return StreamingResponse(streamed(note), background=tasks)

    @app.get("/sync")
    def sync_view() -> None:
        note("sync")

    for user in (ANN, BOB):
        found.clear()
        for path in ("/async", "/sync"):
            assert client.get(path, headers=bearer_headers(entra.sign_in(user))).status_code == 200
        assert len(found) == 8
        assert len(set(found.values())) == 1, found


async def test_callers_at_the_same_time_are_not_mixed_up(app, entra):
    import httpx

    everybody = asyncio.Barrier(10) if hasattr(asyncio, "Barrier") else None

    @app.get("/me")
    async def me() -> Any:
        before = current.caller().object_id
        if everybody is not None:
            await everybody.wait()
        token = await current.on_behalf_of(READ).aget_access_token()
        return [before, current.caller().object_id, token]

    users = [bearer_headers(entra.sign_in(f"user-{number}@contoso.com")) for number in range(10)]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        answers = await asyncio.gather(*(http.get("/me", headers=each) for each in users))
    for answer, headers in zip(answers, users, strict=True):
        before, after, token = answer.json()
        assert before == after == subject(entra, headers)
        assert entra._state.signer.verify(token, base_url=entra.url)["oid"] == before


def test_outside_of_a_request_there_is_no_caller(app):
    for ask in (current.caller, current.registry, lambda: current.on_behalf_of(READ)):
        with pytest.raises(ConfigurationError, match="no call under way"):
            ask()


def test_an_app_by_itself_has_nobody_on_whose_behalf_to_call(app, client, entra, registry):
    @app.get("/graph")
    async def graph(graph: Graph) -> str:
        return await graph.aget_access_token()

    calling = entra.add_client(secret="s3cret", roles=["Orders.Read.All"])
    with entra.registry(client_id=calling, credential="s3cret") as tokens:
        own = tokens.get_access_token(f"api://{entra.client_id}/.default")
    answer = client.get("/graph", headers=bearer_headers(own))
    assert answer.status_code == 403
    assert "an app's own" in answer.json()["error_description"]


# The application's life


def test_the_registry_opens_and_closes_with_the_application(entra, ann):
    made: list[TokenRegistry] = []
    seen = []

    def make() -> TokenRegistry:
        made.append(entra.registry())
        return made[-1]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        seen.append(web.registry())
        with pytest.raises(ConfigurationError, match="no caller"):
            web.caller()
        yield {"own": "state"}
        assert web.registry().health().ready

    app = FastAPI(lifespan=lifespan)
    init_app(app, make)

    @app.get("/")
    async def root(request: Request) -> str:
        seen.append(web.registry())
        return str(request.state.own)

    assert made == []
    for times in (1, 2):
        with TestClient(app) as client:
            assert client.get("/", headers=ann).json() == "state"
            assert client.get("/", headers=ann).json() == "state"
        assert len(made) == times
        assert not made[-1].health().ready, "it is closed"
        assert {id(each) for each in seen[-3:]} == {id(made[-1])}


def test_a_given_registry_stays_open(app, registry, ann):
    with TestClient(app):
        pass
    assert registry.health().ready


def test_it_is_closed_though_the_programs_own_end_fails(entra):
    made = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        yield
        raise ValueError("at the end")

    app = FastAPI(lifespan=lifespan)
    init_app(app, lambda: made.append(entra.registry()) or made[-1])
    with pytest.raises(ValueError, match="at the end"), TestClient(app):
        pass
    assert not made[0].health().ready


def test_a_setting_that_is_missing_ends_the_start(monkeypatch):
    monkeypatch.delenv("AZURE_CLIENT_ID", raising=False)
    app = FastAPI()
    init_app(app)
    with pytest.raises(ConfigurationError, match="AZURE_CLIENT_ID"), TestClient(app):
        pass


def test_without_a_lifespan_the_first_request_makes_the_registry_once(entra, ann):
    made = []
    app = FastAPI()
    init_app(app, lambda: made.append(entra.registry()) or made[-1])

    @app.get("/")
    async def root() -> None: ...

    client = TestClient(app)
    assert made == []
    for _ in range(3):
        assert client.get("/", headers=ann).status_code == 200
    assert len(made) == 1
    made[0].close()


def test_it_is_set_up_once_and_in_time(app, client):
    with pytest.raises(ConfigurationError, match="before"):
        init_app(app)
    late = FastAPI()
    with TestClient(late), pytest.raises(ConfigurationError, match="first request"):
        init_app(late)
    with pytest.raises(ConfigurationError, match="TokenRegistry"):
        init_app(FastAPI(), "https://login.microsoftonline.com")  # type: ignore[arg-type]


def test_probes_are_answered_without_asking_anybody(app, client, entra, registry):
    app.add_api_route("/ready", web.ready)
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert entra.requests == ()
    entra.fail_next(9, status=503)
    with pytest.raises(TokenManagerError):
        registry.get_access_token("api://orders/.default")
    asked = len(entra.requests)
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready"})
    assert len(entra.requests) == asked


def test_the_document_says_of_the_probe_what_it_is_for_and_no_more(app, client):
    app.add_api_route("/ready", web.ready)
    (operation,) = client.get("/openapi.json").json()["paths"]["/ready"].values()
    assert operation["description"].startswith("Answers probes: ")
    assert ">>>" not in operation["description"]


def test_what_makes_the_registry_returns_it():
    app = FastAPI()
    init_app(app, lambda: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigurationError, match="made a NoneType"), TestClient(app):
        pass


def test_the_log_has_why_it_is_not_ready(monkeypatch, caplog):
    monkeypatch.delenv("AZURE_CLIENT_ID", raising=False)
    app = FastAPI()
    init_app(app)
    app.add_api_route("/ready", web.ready)
    assert TestClient(app).get("/ready").status_code == 503
    assert "set AZURE_CLIENT_ID" in caplog.messages[-1]


@pytest.mark.parametrize("nothing", ["", " ", [""]])
def test_what_is_required_is_not_nothing(nothing):
    with pytest.raises(ConfigurationError, match=r"such as 'Orders\.Read'"):
        web.Required(nothing)
    with pytest.raises(ConfigurationError, match=r"such as 'Orders\.Read'"):
        web.required(roles=nothing)


def test_a_token_on_behalf_of_the_caller_is_for_something():
    with pytest.raises(ConfigurationError, match="no scope was given"):
        web.OnBehalfOf()


# Mounted applications


def test_a_mounted_application_is_protected_or_open_as_a_whole(app, client, ann, tmp_path):
    (tmp_path / "a.txt").write_text("a", "utf-8")
    app.mount("/closed", StaticFiles(directory=tmp_path))
    app.mount("/open", anonymous(StaticFiles(directory=tmp_path)))
    assert client.get("/closed/a.txt").status_code == 401
    assert client.get("/closed/a.txt", headers=ann).text == "a"
    assert client.get("/open/a.txt").text == "a"


def test_a_mounted_application_may_be_protected_by_itself(app, client, ann, entra):
    inner = FastAPI()
    init_app(inner, own := entra.registry())

    @inner.get("/closed")
    async def closed(graph: Graph) -> str:
        assert web.registry() is own
        return (await graph.aget_token()).token_type

    @inner.get("/open")
    @anonymous
    async def opened() -> str:
        return "open"

    app.mount("/inner", anonymous(inner))
    assert client.get("/inner/open").status_code == 200
    assert client.get("/inner/closed").status_code == 401
    assert client.get("/inner/closed", headers=ann).status_code == 200
    bob = bearer_headers(entra.sign_in(BOB))
    entra.require_mfa(BOB)
    assert client.get("/inner/closed", headers=bob).status_code == 401
    own.close()
