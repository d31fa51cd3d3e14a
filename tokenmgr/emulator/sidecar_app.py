"""The sidecar's web application: its routes, and the answers of the service.

Microsoft Entra SDK for AgentID 1.x: what it refuses, what it passes over, and how it says so.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp import web

from .callers import username_of
from .faults import Fault
from .recording import RecordedRequest, SecretMapping
from .sidecar_options import Options, SidecarApi
from .sidecar_tokens import RequestFailedError, TokenAcquirer
from .state import State
from .tokens import InvalidAccessTokenError

__all__ = ["SidecarSettings", "build_sidecar"]

#: Of a downstream API's headers the service passes on those that describe the content.
_CONTENT = ("allow", "content-", "expires", "last-modified")
_UNEXPECTED = "An unexpected error occurred."
_MOST = 64 * 1024 * 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class SidecarSettings:
    """What the service is configured with. Tests turn it from any thread, one attribute at a time.

    Attributes:
        acquirer: Where tokens come from.
        ca_file: What the emulator's certificate is trusted by.
        apis: Its ``DownstreamApis``.
        allow_overrides: The routes that take overrides, by the names of ``Sidecar:AllowOverrides``.
        required_scopes: The scopes of which ``/Validate`` wants one.
        remote_callers: Whether it takes its callers for ones of another machine.
        healthy: Whether its health probe says so.
    """

    acquirer: TokenAcquirer
    ca_file: str
    apis: dict[str, SidecarApi]
    allow_overrides: frozenset[str]
    required_scopes: tuple[str, ...] = ()
    remote_callers: bool = False
    healthy: bool = True


def build_sidecar(state: State, settings: SidecarSettings) -> web.Application:
    """The application that answers for ``settings``."""
    service = _Service(state, settings)
    app = web.Application(middlewares=[service.observe], client_max_size=_MOST)
    app.cleanup_ctx.append(service.connected)
    get, post = app.router.add_get, app.router.add_post
    get("/Validate", service.validate, allow_head=False)
    get("/healthz", service.health, allow_head=False)
    get("/AuthorizationHeader/{api}", service.header, allow_head=False)
    get("/AuthorizationHeaderUnauthenticated/{api}", service.header, allow_head=False)
    post("/DownstreamApi/{api}", service.downstream)
    post("/DownstreamApiUnauthenticated/{api}", service.downstream)
    return app


class _Service:
    """What answers each path."""

    _session: aiohttp.ClientSession

    def __init__(self, state: State, settings: SidecarSettings) -> None:
        self._state = state
        self._settings = settings

    async def connected(self, _: web.Application) -> AsyncIterator[None]:
        """Keep the connections to the emulator for as long as it serves."""
        trusted = ssl.create_default_context(cafile=self._settings.ca_file)
        connector = aiohttp.TCPConnector(ssl=trusted)
        async with aiohttp.ClientSession(connector=connector) as session:
            self._session = session
            yield

    @web.middleware
    async def observe(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Write each request down, let it fail as tests want, and word the errors."""
        record = self._record(request)
        number = self._state.log.arrived(record)
        fault = self._state.faults.take(record)
        if fault is not None and fault.disconnect:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        response = await self._answer(request, handler, fault)
        self._state.log.answered(number, response.status)
        return response

    async def _answer(
        self, request: web.Request, handler: _Handler, fault: Fault | None
    ) -> web.StreamResponse:
        if fault is not None:
            return _failing(fault)
        if self._settings.remote_callers and request.path.lower() != "/healthz":
            return web.Response(status=403)
        try:
            return await handler(request)
        except _Refused as refused:
            return refused.response
        except RequestFailedError as error:
            return _problem(401, str(error))
        except web.HTTPException as error:
            allow = error.headers.get("Allow")
            return web.Response(status=error.status, headers={"Allow": allow} if allow else {})

    async def health(self, _: web.Request) -> web.Response:
        """Whether it serves."""
        healthy = self._settings.healthy
        return web.Response(
            text="Healthy" if healthy else "Unhealthy", status=200 if healthy else 503
        )

    async def validate(self, request: web.Request) -> web.Response:
        """What a caller's token says."""
        token, claims = self._caller(request)
        wanted = self._settings.required_scopes
        if wanted and not set(wanted) & set(str(claims.get("scp", "")).split()):
            text = (
                "IDW10203: The 'scope' or 'scp' claim does not contain scopes "
                f"'{','.join(wanted)}' or was not found. "
            )
            return web.Response(text=text, status=403)
        body = {"protocol": "Bearer", "token": token, "claims": dict(claims)}
        return web.json_response(body)

    async def header(self, request: web.Request) -> web.Response:
        """The authorization header for a downstream API."""
        options, bearer = self._asked(request)
        try:
            token = await self._settings.acquirer.token(self._session, options, bearer)
        except (aiohttp.ClientError, ValueError):
            return _problem(500, _UNEXPECTED)
        return web.json_response({"authorizationHeader": f"Bearer {token}"})

    async def downstream(self, request: web.Request) -> web.Response:
        """The answer of a downstream API."""
        options, bearer = self._asked(request)
        try:
            token = await self._settings.acquirer.token(self._session, options, bearer)
            return await self._called(request, options, token)
        except (aiohttp.ClientError, ValueError):
            return _problem(500, _UNEXPECTED)

    async def _called(self, request: web.Request, options: Options, token: str) -> web.Response:
        base = options.api.base_url or f"{self._state.base_url}/graph/v1.0"
        url = f"{base}/{options.api.relative_path.lstrip('/')}".rstrip("/")
        headers = {**options.headers, "Authorization": f"Bearer {token}"}
        headers["Accept"] = options.api.accept
        body = None
        # Without a type the service drops the body.
        if "Content-Type" in request.headers:
            body = await request.read()
            headers["Content-Type"] = request.headers["Content-Type"]
        async with self._session.request(
            options.api.method, url, headers=headers, params=options.query, data=body
        ) as answer:
            passed_on: dict[str, list[str]] = {}
            for name, value in answer.headers.items():
                if name.lower().startswith(_CONTENT):
                    passed_on.setdefault(name, []).append(value)
            # Nor is content passed on that does not say how long it is.
            said = await answer.text("utf-8", "replace") if answer.content_length else None
            return web.json_response(
                {"statusCode": answer.status, "headers": passed_on, "content": said}
            )

    def _asked(self, request: web.Request) -> tuple[Options, str | None]:
        """What is asked for, and the caller's token.

        Raises:
            _Refused: The caller has no token that is accepted, or there are no scopes.
        """
        route = request.path.split("/")[1]
        bearer = None if route.endswith("Unauthenticated") else self._caller(request)[0]
        known = self._settings.apis.get(request.match_info["api"])
        # A name that nobody knows is a profile without anything.
        api = known or SidecarApi(base_url="http://127.0.0.1:0", scopes=())
        gate = f"{'Call' if route.startswith('DownstreamApi') else 'Get'}{route}"
        overridden = gate in self._settings.allow_overrides
        options = Options.read(api, request.query.items(), overridden=overridden)
        if not options.api.scopes:
            name = request.match_info["api"]
            raise _Refused(
                _problem(
                    400,
                    f"No scopes found for the API '{name}' or in optionsOverride. 'scopes' needs "
                    "to be either a single value or a list of values.",
                )
            )
        return options, bearer

    def _caller(self, request: web.Request) -> tuple[str, Mapping[str, Any]]:
        """The caller's token, verified, and what it says.

        Raises:
            _Refused: There is none that is accepted.
        """
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise _Refused(web.Response(status=401, headers={"WWW-Authenticate": "Bearer"}))
        try:
            claims = self._state.signer.verify(token.strip(), base_url=self._state.base_url)
        except InvalidAccessTokenError:
            claims = {}
        client_id = self._settings.acquirer.client_id
        if claims.get("aud") not in (client_id, f"api://{client_id}"):
            challenge = 'Bearer error="invalid_token"'
            raise _Refused(web.Response(status=401, headers={"WWW-Authenticate": challenge}))
        return token.strip(), claims

    def _record(self, request: web.Request) -> RecordedRequest:
        query = {name: " ".join(request.query.getall(name)) for name in request.query}
        authorization = request.headers.get("Authorization", "")
        return RecordedRequest(
            kind="sidecar",
            method=request.method,
            path=request.path,
            tenant=None,
            grant_type=None,
            scope=query.get("optionsOverride.Scopes"),
            client_id=None,
            status=None,
            form=SecretMapping(query),
            headers=SecretMapping(request.headers),
            at=time.time(),
            username=username_of(self._state, form={}, authorization=authorization),
        )


class _Refused(Exception):  # noqa: N818 - an answer, which ends its handler
    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


def _problem(status: int, detail: str) -> web.Response:
    """Problem details (RFC 9457), as ASP.NET Core has them."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return web.json_response(body, status=status, content_type="application/problem+json")


def _failing(fault: Fault) -> web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.body is not None:
        raw = fault.body.encode() if isinstance(fault.body, str) else fault.body
        if fault.status == 401 and not raw:
            headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
        kind = "application/json" if raw[:1] in (b"{", b"[") else "text/plain"
        return web.Response(status=fault.status, body=raw, headers=headers, content_type=kind)
    told = "".join(f"AADSTS{code}: " for code in fault.error_codes)
    response = _problem(fault.status, f"{told}The sidecar was told to fail this request.")
    response.headers.update(headers)
    return response
