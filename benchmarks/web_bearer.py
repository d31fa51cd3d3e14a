"""What a warm check of an incoming bearer costs, beside fastapi-azure-auth's of the same token."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from operator import methodcaller
from statistics import median
from typing import Any

import jwt
from fastapi import Request
from fastapi.security import SecurityScopes
from fastapi_azure_auth import SingleTenantAzureAuthorizationCodeBearer

from tokenmgr.web.bearer import BearerValidator

from .figure import Figure, Section
from .service import Service, Settings
from .turns import Contestant, awaited, called, in_turns, ratio

__all__ = ["DISTRIBUTIONS", "contestants", "section"]

#: Whose versions the results name.
DISTRIBUTIONS = ("fastapi", "fastapi-azure-auth", "PyJWT")

_OURS, _OURS_ASYNC = "tokenmgr validate()", "tokenmgr avalidate()"
_PEER, _BARE = "fastapi-azure-auth", "PyJWT alone"
_METHOD = (
    "An access token of a user, of {size} bytes, is checked again and again, the keys of the "
    "authority being known; nothing is remembered of the token. fastapi-azure-auth's scheme is "
    "awaited as FastAPI does, with the request that has it; PyJWT alone is `jwt.decode()` with the "
    "key, the audience and the issuer. Median of {rounds} rounds, in each of which every "
    "contestant has its turn."
)


def section(*, rounds: int = 50) -> Section:
    """Measures all contestants in turns."""
    loop = asyncio.new_event_loop()
    try:
        with Service() as service, service.registry() as tokens:
            token = service.ask(methodcaller("sign_in", "ann@contoso.com"))
            api = BearerValidator(tokens)
            found = in_turns(contestants(service.settings, api, token, loop), rounds=rounds)
    finally:
        loop.close()
    figures = [Figure(name, f"{median(seconds) * 1e6:.0f} µs") for name, seconds in found.items()]
    beside = ratio(found[_OURS_ASYNC], found[_PEER])
    figures.append(
        Figure(
            f"{_OURS_ASYNC} to {_PEER}", f"{beside:.2f} times", "at most as much", met=beside <= 1
        )
    )
    return Section(
        "What a warm check of an incoming bearer costs",
        _METHOD.format(size=len(token), rounds=rounds),
        figures,
    )


def contestants(
    settings: Settings, api: BearerValidator, token: str, loop: asyncio.AbstractEventLoop
) -> dict[str, Contestant]:
    """What checks a token, by name; each has done so once."""
    header = [f"Bearer {token}"]
    api.validate(header)
    scheme, request = _scheme(settings), _request(token)
    peer = partial(scheme, request, SecurityScopes([]))
    loop.run_until_complete(peer())
    config = scheme.openid_config
    return {
        _OURS: called("api.validate(header)", api=api, header=header),
        _OURS_ASYNC: awaited(loop, partial(api.avalidate, header)),
        _PEER: awaited(loop, peer),
        _BARE: called(
            "decode(token, key, algorithms=['RS256'], audience=audience, issuer=issuer)",
            decode=jwt.decode,
            token=token,
            key=next(iter(config.signing_keys.values())),
            audience=settings.client_id,
            issuer=config.issuer,
        ),
    }


def _scheme(settings: Settings) -> Any:
    scheme = SingleTenantAzureAuthorizationCodeBearer(
        app_client_id=settings.client_id,
        tenant_id=settings.tenant_id,
        allow_guest_users=True,
        http_client_config={"verify": ssl.create_default_context(cafile=settings.ca_file)},
    )
    address = f"{settings.authority}/v2.0/.well-known/openid-configuration"
    scheme.openid_config.config_url = address
    return scheme


def _request(token: str) -> Request:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return Request({"type": "http", "headers": headers, "state": {}})
