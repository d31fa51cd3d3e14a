"""Where the sidecar's tokens come from: the emulator, asked as any app asks it.

Those of agents the sidecar gets by exchanges that the emulator does not have; they are signed
here, for agents and users that there are, and are good tokens all the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from .authorities import DEFAULT_TENANT, Authority, AuthorityKind, tenant_guid
from .delegation import Delegation
from .errors import EntraError
from .scopes import DelegatedScopes
from .sidecar_options import Agent, Options
from .state import State
from .users import User

__all__ = ["RequestFailedError", "TokenAcquirer"]

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: Seconds before its end from which on a token is not given again, as MSAL.NET has it.
_TOO_SHORT = 300.0


class RequestFailedError(Exception):
    """The token request failed; the message is what MSAL.NET would say of it."""


@dataclass
class TokenAcquirer:
    """Gets the sidecar's tokens, and keeps them.

    Attributes:
        state: The emulator's.
        client_id: The app that it runs as, which is the agents' blueprint.
        agents: The agents that there are, by client id in lower case.
    """

    state: State
    client_id: str
    agents: set[str] = field(default_factory=set)
    _kept: dict[object, tuple[str, float]] = field(default_factory=dict)

    async def token(
        self, session: aiohttp.ClientSession, options: Options, bearer: str | None
    ) -> str:
        """A token for what is asked for.

        Args:
            session: What the emulator is asked with.
            options: What is asked for.
            bearer: The caller's token, None without one.

        Raises:
            RequestFailedError: Entra refuses.
        """
        key = (options.agent, options.tenant, options.api.scopes, options.api.request_app_token)
        found = self._kept.get((key, bearer))
        bypassed = options.force_refresh or options.claims is not None
        if found is not None and not bypassed and found[1] - time.time() > _TOO_SHORT:
            return found[0]
        if options.agent is None:
            token = await self._asked(session, options, bearer)
        else:
            token = self._of_agent(options, options.agent, bearer)
        self._kept[key, bearer] = token, time.time() + self.state.token_lifetime
        return token

    async def _asked(
        self, session: aiohttp.ClientSession, options: Options, bearer: str | None
    ) -> str:
        client = self.state.clients.find(self.client_id)
        form = {
            "client_id": self.client_id,
            "client_secret": (client.secret if client else None) or "",
            "scope": " ".join(options.api.scopes),
            "grant_type": "client_credentials",
        }
        if bearer is not None and not options.api.request_app_token:
            form |= {
                "grant_type": _JWT_BEARER,
                "assertion": bearer,
                "requested_token_use": "on_behalf_of",
            }
        if options.claims is not None:
            form["claims"] = options.claims
        headers = {}
        if options.correlation_id is not None:
            headers["client-request-id"] = options.correlation_id
        url = self._authority(options).token_endpoint
        async with session.post(url, data=form, headers=headers) as answer:
            said = await _json(answer)
            if answer.status == 200:
                return str(said["access_token"])
            raise RequestFailedError(_words(answer, said))

    def _of_agent(self, options: Options, agent: Agent, bearer: str | None) -> str:
        if agent.client_id.lower() not in self.agents:
            tenant = options.tenant or DEFAULT_TENANT
            raise _failed(EntraError(700016, client_id=agent.client_id, tenant=tenant))
        authority = self._authority(options)
        user = self._user(agent, authority, bearer)
        if user is None or options.api.request_app_token:
            return self.state.signer.app_token(
                authority,
                client_id=agent.client_id,
                resource=options.api.scopes[0].removesuffix("/.default"),
                roles=(),
                lifetime=self.state.token_lifetime,
            )
        try:
            scopes = DelegatedScopes.parse(" ".join(options.api.scopes))
        except EntraError as error:
            raise _failed(error) from None
        session = (*user.sessions, None)[0] or user.begin_session(mfa=False)
        delegation = Delegation(user, session, authority, agent.client_id)
        claims = delegation.access_claims(scopes.resource, scopes.permissions)
        return self.state.signer.access_token(claims, lifetime=self.state.token_lifetime)

    def _user(self, agent: Agent, authority: Authority, bearer: str | None) -> User | None:
        tenant_id = authority.tenant_id
        if agent.username is not None:
            user = self.state.users.find(agent.username)
        elif agent.user_id is not None:
            user = self.state.users.of_claims({"tid": tenant_id, "oid": agent.user_id})
        elif bearer is not None:
            return self.state.users.of_claims(
                self.state.signer.verify(bearer, base_url=self.state.base_url)
            )
        else:
            return None
        if user is None or user.object_id(tenant_id) is None:
            raise _failed(EntraError(50034, tenant=authority.tenant))
        return user

    def _authority(self, options: Options) -> Authority:
        tenant = options.tenant or tenant_guid(DEFAULT_TENANT)
        return self.state.authority(AuthorityKind.ENTRA, tenant)


def _failed(error: EntraError) -> RequestFailedError:
    said = error.json(correlation_id=None, base_url="")
    return RequestFailedError(str(said["error_description"]))


def _words(answer: aiohttp.ClientResponse, said: Mapping[str, Any]) -> str:
    if answer.status == 429 or answer.status >= 500:
        number, reason = answer.status, (answer.reason or "").replace(" ", "")
        return f"Response status code does not indicate success: {number} ({reason})."
    return str(said.get("error_description") or said.get("error") or "Unknown error")


async def _json(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        said = await answer.json(content_type=None)
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {}
