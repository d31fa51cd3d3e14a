"""The grants that the emulator knows: one module each, and one line here.

A grant is an Authlib grant class with a ``TokenEndpointMixin``, and an ``EntraGrant`` before it: so
its ``server`` has the emulator's state, and its ``request`` an authority.
"""

from __future__ import annotations

from .client_credentials import ClientCredentials
from .on_behalf_of import OnBehalfOf
from .refresh_token import RefreshTokens

__all__ = ["GRANTS"]

GRANTS: tuple[type, ...] = (ClientCredentials, OnBehalfOf, RefreshTokens)
