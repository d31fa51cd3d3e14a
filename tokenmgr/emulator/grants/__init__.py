"""The grants that the emulator knows: one module each, and one line here.

A grant is an Authlib grant class with a ``TokenEndpointMixin``, and an ``EntraGrant`` before it: so
its ``server`` has the emulator's state, and its ``request`` an authority.
"""

from __future__ import annotations

from .agent_user import AgentUsers
from .authorization_code import AuthorizationCodes
from .client_credentials import ClientCredentials
from .device_code import DeviceCodes
from .on_behalf_of import OnBehalfOf
from .password import Passwords
from .refresh_token import RefreshTokens

__all__ = ["GRANTS"]

GRANTS: tuple[type, ...] = (
    AgentUsers,
    AuthorizationCodes,
    ClientCredentials,
    DeviceCodes,
    OnBehalfOf,
    Passwords,
    RefreshTokens,
)
