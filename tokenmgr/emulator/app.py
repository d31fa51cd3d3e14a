"""The web application: which path is which, and the answers that need no OAuth."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from .authorities import Authority, AuthorityKind
from .browser_app import BrowserApp
from .callers import realm_of, username_of
from .errors import EntraError, error_body
from .faults import Fault
from .managed_identity import IdentityEndpoints
from .oauth import EntraAuthorizationServer
from .observing import observed
from .paths import PATHS, existing
from .recording import RecordedRequest, SecretMapping
from .state import State
from .token_request import TokenRequest
from .tokens import InvalidAccessTokenError, RevokedAccessTokenError

__all__ = ["build_app", "build_identity_app"]

#: What of the requests has a body of fields that is written down.
_WITH_FIELDS = frozenset({"token", "devicecode", "authorize", "logout", "page", "device"})

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Enough for a request body that is large in a test.
_MAX_BODY = 64 * 1024 * 1024


def build_app(state: State) -> web.Application:
    """The application that answers for ``state``."""
    handlers = _Handlers(state)
    app = web.Application(middlewares=[handlers.observe], client_max_size=_MAX_BODY)
    for kind, paths in PATHS.items():
        app.router.add_get(paths["discovery"], handlers.discovery, name=f"discovery.{kind.value}")
        app.router.add_get(paths["keys"], handlers.keys, name=f"keys.{kind.value}")
        app.router.add_post(paths["token"], handlers.token, name=f"token.{kind.value}")
        if "legacy_discovery" in paths:
            path, name = paths["legacy_discovery"], f"discovery.{kind.value}.legacy"
            app.router.add_get(path, handlers.legacy_discovery, name=name)
            app.router.add_get(
                paths["legacy_keys"], handlers.keys, name=f"keys.{kind.value}.legacy"
            )
        if "devicecode" in paths:
            path, name = paths["devicecode"], f"devicecode.{kind.value}"
            app.router.add_post(path, handlers.device_code, name=name)
    app.router.add_get("/common/userrealm/{username}", handlers.user_realm, name="userrealm")
    handlers.browsers.add_routes(app)
    app.router.add_route("*", "/graph/v1.0/{path:.+}", handlers.graph, name="graph")
    return app


def build_identity_app(state: State, endpoints: IdentityEndpoints) -> web.Application:
    """The application that answers for the machine's identities."""
    app = web.Application(middlewares=[_Handlers(state).observe])
    endpoints.add_routes(app)
    return app


class _Handlers:
    """What answers each path, over one state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._oauth = EntraAuthorizationServer(state)
        self.browsers = BrowserApp(state, self._oauth)

    async def discovery(self, request: web.Request) -> web.Response:
        """An authority's OpenID configuration."""
        return web.json_response(self._authority(request).metadata())

    async def legacy_discovery(self, request: web.Request) -> web.Response:
        """A tenant's OpenID configuration of version 1.0."""
        return web.json_response(self._authority(request).legacy_metadata())

    async def keys(self, request: web.Request) -> web.Response:
        """The public keys, the same ones for every authority; Entra says whose tokens they sign."""
        authority = self._authority(request)
        issuer = authority.issuer if authority.kind is AuthorityKind.ENTRA else None
        return web.json_response(self._state.signer.public_keys(issuer))

    async def token(self, request: web.Request) -> web.Response:
        """The token endpoint."""
        answer = self._oauth.answer(await self._asked(request))
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)

    async def device_code(self, request: web.Request) -> web.Response:
        """Where devices ask for a code."""
        answer = self._oauth.answer_device(await self._asked(request))
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)

    async def user_realm(self, request: web.Request) -> web.Response:
        """Who has a user's password, which MSAL asks before it sends one."""
        return web.json_response(realm_of(self._state, request.match_info["username"]))

    async def graph(self, request: web.Request) -> web.Response:
        """The protected API, which tells whose token it was called with."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            return self._challenge("Access token is empty.", error=None)
        try:
            claims = self._state.signer.verify(token.strip(), base_url=self._state.base_url)
            self._check_audience(str(claims["aud"]))
        except RevokedAccessTokenError as error:
            return self._challenge(str(error), error="invalid_token", claims=error.demanded)
        except InvalidAccessTokenError as error:
            return self._challenge(str(error), error="invalid_token")
        if not self._state.protection.allows(claims):
            return _denied()
        answer: dict[str, object] = {
            "@odata.context": f"{self._state.base_url}/graph/v1.0/$metadata",
            "value": [{"id": request.match_info["path"]}],
            "appid": claims.get("appid") or claims.get("azp"),
            "aud": claims["aud"],
            "tid": claims["tid"],
            "oid": claims["oid"],
            "scp": claims.get("scp"),
            "uti": claims["uti"],
        }
        if request.can_read_body:
            answer["body"] = _echo(await request.read())
        return web.json_response(answer)

    @web.middleware
    async def observe(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Write each request down, let it wait and fail as tests want, and word the errors."""
        record = await self._record(request)
        answer = partial(self._answer, request, handler)
        return await observed(self._state, request, record, answer)

    async def _answer(
        self, request: web.Request, handler: _Handler, fault: Fault | None
    ) -> web.StreamResponse:
        correlation_id = request.headers.get("client-request-id")
        base_url = self._state.base_url
        if fault is not None:
            return fault.response(correlation_id=correlation_id, base_url=base_url)
        try:
            return await handler(request)
        except EntraError as error:
            status = error.status_code
            body = error.json(correlation_id=correlation_id, base_url=base_url)
        except web.HTTPException as http_error:
            status = http_error.status
            body = error_body(
                "not_found",
                http_error.reason,
                codes=[],
                correlation_id=correlation_id,
                base_url=base_url,
            )
        return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})

    def _authority(self, request: web.Request) -> Authority:
        """The authority that the path names.

        Raises:
            EntraError: There is no such tenant.
        """
        name = request.match_info.route.name or ""
        return existing(
            self._state.authority(
                AuthorityKind(name.split(".")[1]),
                tenant=request.match_info.get("tenant", ""),
                policy=request.match_info.get("policy"),
            )
        )

    async def _asked(self, request: web.Request) -> TokenRequest:
        return TokenRequest(
            authority=self._authority(request),
            headers=request.headers,
            form=await _form(request),
        )

    def _check_audience(self, audience: str) -> None:
        """See that a token is for the API, and not for an app that was called with it."""
        app = self._state.clients.find(audience.removeprefix("api://"))
        if not self._state.protection.takes_audience(audience) or (
            app is not None and self._state.protection.audience is None
        ):
            raise InvalidAccessTokenError("Access token validation failure. Invalid audience.")

    async def _record(self, request: web.Request) -> RecordedRequest:
        """What is to be written down of a request, before it is answered."""
        kind = (request.match_info.route.name or "other").partition(".")[0]
        form = await _form(request) if kind in _WITH_FIELDS else {}
        if kind in ("authorize", "logout", "identity"):
            form = {**request.query, **form}
        bearer = request.headers.get("Authorization", "") if kind == "graph" else ""
        return RecordedRequest(
            kind=kind,
            method=request.method,
            path=request.path,
            tenant=request.match_info.get("tenant"),
            grant_type=form.get("grant_type"),
            scope=form.get("scope"),
            client_id=form.get("client_id"),
            status=None,
            form=SecretMapping(form),
            headers=SecretMapping(request.headers),
            at=time.time(),
            username=username_of(self._state, form=form, authorization=bearer),
        )

    def _challenge(
        self, message: str, *, error: str | None, claims: str | None = None
    ) -> web.Response:
        """A 401 as Microsoft Graph words it (RFC 6750, section 3)."""
        challenge = f'Bearer realm="", authorization_uri="{self._state.base_url}/common"'
        if claims is not None:
            encoded = b64encode(claims.encode()).decode()
            challenge += f', error="insufficient_claims", claims="{encoded}"'
        elif error is not None:
            challenge += f', error="{error}", error_description="{message}"'
        body = {"error": {"code": "InvalidAuthenticationToken", "message": message}}
        return web.json_response(body, status=401, headers={"WWW-Authenticate": challenge})


def _denied() -> web.Response:
    """A 403 as Microsoft Graph words it."""
    message = "Insufficient privileges to complete the operation."
    body = {"error": {"code": "Authorization_RequestDenied", "message": message}}
    return web.json_response(body, status=403)


def _echo(raw: bytes) -> dict[str, object]:
    """What arrived: how much, and the JSON if it was some."""
    try:
        parsed = json.loads(raw)
    except ValueError:
        parsed = None
    return {"size": len(raw), "json": parsed}


async def _form(request: web.Request) -> dict[str, str]:
    fields = await request.post()
    return {name: value for name, value in fields.items() if isinstance(value, str)}
