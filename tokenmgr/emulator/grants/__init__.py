"""The grants that the emulator knows: one module each, and one line here.

A grant is an Authlib grant class with a ``TokenEndpointMixin``. Its ``server`` is the emulator's
authorization server, and its ``request`` a token request with a realm.
"""

from __future__ import annotations

from .client_credentials import ClientCredentials

__all__ = ["GRANTS"]

GRANTS: tuple[type, ...] = (ClientCredentials,)
