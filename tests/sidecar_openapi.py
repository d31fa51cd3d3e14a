"""The contract of the Microsoft Entra SDK for AgentID 1.x, as an OpenAPI description.

Written out of what is known of its wire: the service's own description leaves out the empty
answers, and most names of the query.
"""

from __future__ import annotations

from typing import Any

_TEXT: dict[str, Any] = {"type": "string"}
_FLAG: dict[str, Any] = {"type": "boolean"}
_GUID: dict[str, Any] = {"type": "string", "format": "uuid"}
_NULL_OR_TEXT: dict[str, Any] = {"type": ["string", "null"]}

_QUERY: dict[str, dict[str, Any]] = {
    "AgentIdentity": _GUID,
    "AgentUsername": _TEXT,
    "AgentUserId": _GUID,
    "optionsOverride.Scopes": {"type": "array", "items": _TEXT},
    "optionsOverride.RequestAppToken": _FLAG,
    "optionsOverride.BaseUrl": _TEXT,
    "optionsOverride.RelativePath": _TEXT,
    "optionsOverride.HttpMethod": {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE"]},
    "optionsOverride.AcceptHeader": _TEXT,
    "optionsOverride.ContentType": _TEXT,
    "optionsOverride.AcquireTokenOptions.Tenant": _TEXT,
    "optionsOverride.AcquireTokenOptions.ForceRefresh": _FLAG,
    "optionsOverride.AcquireTokenOptions.Claims": _TEXT,
    "optionsOverride.AcquireTokenOptions.CorrelationId": _GUID,
    "optionsOverride.AcquireTokenOptions.FmiPath": _TEXT,
    "optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey": _TEXT,
    "optionsOverride.AcquireTokenOptions.PopPublicKey": _TEXT,
    "optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId": _GUID,
}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _said(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": "", "content": {kind: {"schema": schema}}}


_PROBLEM = _said(
    {
        "type": "object",
        "required": ["title", "status", "detail"],
        "properties": {
            "type": _NULL_OR_TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
        },
    },
    "application/problem+json",
)
#: Either empty, where the caller's token is refused, or a problem, where the token request is: that
#: OpenAPI cannot say, and :func:`check_401` does.
_UNAUTHORIZED: dict[str, Any] = {"description": "no token is accepted, or none given"}
_HEADER = _object(authorizationHeader={"type": "string", "pattern": "^Bearer [!-~]+$"})
_DOWNSTREAM = _object(
    statusCode={"type": "integer", "minimum": 100, "maximum": 599},
    headers={"type": "object", "additionalProperties": {"type": "array", "items": _TEXT}},
    content=_NULL_OR_TEXT,
)
_VALIDATED = _object(protocol=_TEXT, token=_TEXT, claims={"type": "object"})


def _operation(result: dict[str, Any], *, with_caller: bool, body: bool) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": "apiName", "in": "path", "required": True, "schema": {"enum": ["Graph", "Nope"]}}
    ]
    parameters += [
        {"name": name, "in": "query", "schema": schema, "explode": True}
        for name, schema in _QUERY.items()
    ]
    operation: dict[str, Any] = {
        "parameters": parameters,
        "responses": {
            "200": _said(result),
            "400": _PROBLEM,
            "401": _UNAUTHORIZED,
            "403": {"description": "the caller is not on loopback"},
            "500": _PROBLEM,
        },
    }
    if with_caller:
        operation["security"] = [{"bearer": []}]
    if body:
        operation["requestBody"] = {
            "content": {"application/json": {"schema": {}}},
            "required": False,
        }
    return operation


OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Microsoft Entra SDK for AgentID", "version": "1.1"},
    "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    "paths": {
        "/Validate": {
            "get": {
                "security": [{"bearer": []}],
                "responses": {
                    "200": _said(_VALIDATED),
                    "400": _PROBLEM,
                    "401": _UNAUTHORIZED,
                    "403": _said(_TEXT, "text/plain"),
                },
            }
        },
        "/AuthorizationHeader/{apiName}": {
            "get": _operation(_HEADER, with_caller=True, body=False)
        },
        "/AuthorizationHeaderUnauthenticated/{apiName}": {
            "get": _operation(_HEADER, with_caller=False, body=False)
        },
        "/DownstreamApi/{apiName}": {"post": _operation(_DOWNSTREAM, with_caller=True, body=True)},
        "/DownstreamApiUnauthenticated/{apiName}": {
            "post": _operation(_DOWNSTREAM, with_caller=False, body=True)
        },
        "/healthz": {"get": {"responses": {"200": _said(_TEXT, "text/plain")}}},
    },
}

#: The names of the query, for tests of who sends them.
QUERY_NAMES = frozenset(_QUERY)


def check_401(ctx: object, response: Any, case: object) -> None:
    """What is not in the description of HTTP 401."""
    if response.status_code != 401:
        return
    if not response.content:
        assert "www-authenticate" in response.headers
        return
    assert response.headers["content-type"] == ["application/problem+json; charset=utf-8"]
    problem = response.json()
    assert (problem["status"], problem["title"]) == (401, "Unauthorized")
    assert isinstance(problem["detail"], str)
