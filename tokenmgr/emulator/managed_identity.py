"""The endpoints of managed identities: App Service's, a virtual machine's and Azure Arc's.

They are answered over plain http at a port of their own, as on a machine of Azure's, where nothing
but the machine reaches them. See, on Microsoft Learn: "How to use managed identities for App
Service and Azure Functions", "How to use managed identities on an Azure VM to acquire an access
token" and "Authenticate against Azure resources with Azure Arc-enabled servers".
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiohttp import web

from .authorities import DEFAULT_TENANT, AuthorityKind
from .identities import ManagedIdentity
from .state import State

__all__ = ["IdentityEndpoints"]

_NAMES = ("client_id", "object_id", "principal_id", "mi_res_id", "msi_res_id")
#: The versions that each knows.
_APP_SERVICE, _VM, _ARC = "2019-08-01", ("2018-02-01", "2020-06-01"), "2020-06-01"
_AT_APP_SERVICE, _AT_MACHINE = "/msi/token", "/metadata/identity/oauth2/token"


class IdentityEndpoints:
    """Answers for the machine's identities.

    Args:
        state: The emulator's.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def add_routes(self, app: web.Application) -> None:
        """Let an application answer at the paths of all of them."""
        app.router.add_get(_AT_APP_SERVICE, self.app_service, name="identity.app_service")
        app.router.add_get(_AT_MACHINE, self.machine, name="identity.vm")
        app.router.add_get(f"/arc{_AT_MACHINE}", self.arc, name="identity.arc")

    def environment(self, host: str, url: str) -> dict[str, str]:
        """The variables of a program on a machine of this kind, whose endpoint is at ``url``."""
        if host == "app_service":
            return {
                "IDENTITY_ENDPOINT": url + _AT_APP_SERVICE,
                "IDENTITY_HEADER": self._state.identities.header,
            }
        if host == "arc":
            return {"IDENTITY_ENDPOINT": f"{url}/arc{_AT_MACHINE}", "IMDS_ENDPOINT": url}
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}

    async def app_service(self, request: web.Request) -> web.Response:
        """App Service, Functions and Container Apps."""
        if request.headers.get("X-IDENTITY-HEADER") != self._state.identities.header:
            return web.json_response({"statusCode": 401, "message": "Unauthorized"}, status=401)
        if request.query.get("api-version") != _APP_SERVICE or "resource" not in request.query:
            return web.json_response({"statusCode": 400, "message": "Bad Request"}, status=400)
        identity = self._identity(request.query)
        if identity is None:
            message = (
                "No User Assigned or Delegated Managed Identity found for specified "
                "ClientId/ResourceId/PrincipalId."
            )
            return web.json_response({"statusCode": 400, "message": message}, status=400)
        answer = self._answer(identity, request.query["resource"])
        answer["expires_on"] = str(int(time.time()) + int(self._state.token_lifetime))
        return web.json_response(answer)

    async def machine(self, request: web.Request) -> web.Response:
        """A virtual machine's metadata service."""
        problem = _problem(request, _VM)
        identity = None if problem else self._identity(request.query)
        if identity is None:
            return _refused(problem or "Identity not found")
        return web.json_response(self._timed(identity, request.query["resource"]))

    async def arc(self, request: web.Request) -> web.Response:
        """An Arc server: who asks has to read a file first, which only some users may."""
        problem = _problem(request, (_ARC,))
        if problem:
            return _refused(problem)
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        if not key:
            path = self._state.identities.challenge()
            headers = {"WWW-Authenticate": f"Basic realm={path}"}
            return web.Response(status=401, headers=headers)
        if kind.lower() != "basic" or not self._state.identities.is_answer(key):
            return _refused("The key is not the one that was asked for", status=403)
        identity = self._identity(request.query)
        if identity is None:
            return _refused("Identity not found")
        said = self._timed(identity, request.query["resource"])
        said |= {"object_id": identity.object_id, "msi_res_id": identity.resource_id}
        return web.json_response(said)

    def _identity(self, query: Mapping[str, str]) -> ManagedIdentity | None:
        return self._state.identities.find({n: query[n] for n in _NAMES if n in query})

    def _timed(self, identity: ManagedIdentity, resource: str) -> dict[str, object]:
        now, life = int(time.time()), int(self._state.token_lifetime)
        times = {"expires_in": life, "expires_on": now + life, "not_before": now}
        return self._answer(identity, resource) | {name: str(t) for name, t in times.items()}

    def _answer(self, identity: ManagedIdentity, resource: str) -> dict[str, object]:
        token = self._state.signer.app_token(
            self._state.authority(AuthorityKind.ENTRA, DEFAULT_TENANT),
            client_id=identity.client_id,
            resource=resource,
            roles=(),
            lifetime=self._state.token_lifetime,
        )
        return {
            "access_token": token,
            "client_id": identity.client_id,
            "resource": resource,
            "token_type": "Bearer",
        }


def _problem(request: web.Request, versions: tuple[str, ...]) -> str | None:
    if request.headers.get("Metadata", "").lower() != "true":
        return "Required metadata header not specified"
    if request.query.get("api-version") not in versions:
        return "Required query variable 'api-version' is missing or not supported"
    if "resource" not in request.query:
        return "Required query variable 'resource' is missing"
    return None


def _refused(message: str, *, status: int = 400) -> web.Response:
    body = {"error": "invalid_request", "error_description": message}
    return web.json_response(body, status=status)
