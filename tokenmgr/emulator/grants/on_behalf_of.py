"""The on-behalf-of grant: an API exchanges the token that it was called with.

RFC 7523 as Entra has it, where the assertion does not prove the client, which has a credential of
its own: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from authlib.oauth2.rfc6749.errors import InvalidGrantError
from authlib.oauth2.rfc7523 import JWTBearerGrant

from ..authorities import AuthorityKind
from ..clients import Client
from ..errors import B2CError, EntraError
from ..users import Session, User
from .user import UserGrant, entra_time

__all__ = ["OnBehalfOf"]

_REQUESTED_TOKEN_USE = "on_behalf_of"  # noqa: S105 - no secret


class OnBehalfOf(UserGrant, JWTBearerGrant):
    """On behalf of a user, with the checks and the answer that Entra has."""

    _header: Mapping[str, Any]
    _assertion: Mapping[str, Any]

    def validate_token_request(self) -> None:
        """See that the request, the client, the assertion and its user are right, in this order.

        Raises:
            EntraError: One of them is not.
            B2CError: It is a B2C user flow, which has no such grant.
        """
        self._check_kind()
        for name in ("assertion", "requested_token_use"):
            if not self.request.form.get(name):
                raise EntraError(900144, parameter=name)
        if self.request.form["requested_token_use"] != _REQUESTED_TOKEN_USE:
            raise EntraError(90100, parameter="requested_token_use")
        self.request.client = self.authenticate_token_endpoint_client()
        super().validate_token_request()

    def process_assertion_claims(self, assertion: str) -> dict[str, Any]:
        """The claims of the assertion, verified.

        Raises:
            EntraError: It is not signed by Entra, not for this client, not for now, or no access
                token of a user.
        """
        try:
            claims: dict[str, Any] = super().process_assertion_claims(assertion)
        except InvalidGrantError:
            raise EntraError(
                50013,
                detail="The provided signature value did not match the expected signature value., "
                f"Thumbprint of key used by client: '{self._header.get('kid', '')}'",
            ) from None
        return claims

    def extract_assertion(self, assertion: str) -> tuple[dict[str, Any], dict[Any, Any]]:
        """What the assertion says, before anything of it is believed.

        Raises:
            EntraError: It is no JWT.
        """
        try:
            header, claims = super().extract_assertion(assertion)
        except (InvalidGrantError, ValueError):
            raise EntraError(50027, error="invalid_request") from None
        self._header = header
        return header, claims

    def resolve_issuer_client(self, issuer: str) -> Client:  # noqa: ARG002 - Authlib's name
        """The client, which is no issuer here: it has proven itself."""
        return self.client

    def resolve_client_public_key(self, client: Client) -> Any:  # noqa: ARG002 - Authlib's name
        """The key that the assertion is to be signed with.

        Raises:
            EntraError: There is no such key.
        """
        key = self.server.state.signer.key_of(self._header)
        if key is None:
            raise EntraError(50013, detail="The key was not found.")
        return key

    def verify_claims(self, claims: dict[str, Any]) -> None:
        """See that what is signed is an access token of a user, for this client and for now.

        Raises:
            EntraError: It is not.
        """
        self._check_issuer(claims)
        now = time.time()
        if not claims.get("nbf", 0) <= now < claims.get("exp", 0):
            expiry = entra_time(float(claims.get("exp", 0)))
            raise EntraError(500133, now=entra_time(now), expiry=expiry)
        if claims.get("aud") not in self.get_audiences():
            raise EntraError(
                500131, audience=str(claims.get("aud", "")), client_id=self.client.client_id
            )
        if "scp" not in claims and claims.get("sub") == claims.get("oid"):
            raise EntraError(7000114, client_id=self.client.client_id)
        if "scp" not in claims:
            raise EntraError(240002, grant_type=self.GRANT_TYPE)
        self._assertion = claims

    def get_audiences(self) -> list[str]:
        """The names that this client goes by; an agent is called by those of its blueprint."""
        called = self.client.blueprint_id or self.client.client_id
        return [called, f"api://{called}"]

    def validate_requested_scope(self) -> None:
        """See what is asked for."""
        self.read_scopes(self.request.payload.scope)

    def authenticate_user(self, subject: str) -> User:  # noqa: ARG002 - another one for each app
        """The user whom the assertion is about.

        Raises:
            EntraError: There is none.
        """
        user = self.server.state.users.of_claims(self._assertion)
        if user is None:
            raise EntraError(50034, tenant=self.request.authority.tenant)
        return user

    def has_granted_permission(self, client: Client, user: User) -> bool:  # noqa: ARG002 - Authlib's name
        """See that the user's sign-in still counts, and allows what is asked for.

        Raises:
            EntraError: It does not.
        """
        self.delegate(user, self._session_of(user))
        return True

    def create_token_response(self) -> Any:
        """The answer with the tokens in it."""
        return self.answer(self.new_refresh_token(self.request.payload.scope))

    def _check_kind(self) -> None:
        kind = self.request.authority.kind
        if kind is AuthorityKind.B2C:
            text = f"The supplied grant_type [{self.GRANT_TYPE}] is not supported."
            raise B2CError(90086, "unsupported_grant_type", text)
        if kind is not AuthorityKind.ENTRA:
            raise EntraError(70003, grant_type=self.GRANT_TYPE)

    def _check_issuer(self, claims: Mapping[str, Any]) -> None:
        """The emulator has one key for all its authorities, where each has its own in life."""
        tenant_id = str(claims.get("tid", ""))
        tenant = self.server.state.authority(AuthorityKind.ENTRA, tenant_id)
        if not tenant_id or claims.get("iss") not in (tenant.issuer, tenant.legacy_issuer):
            raise EntraError(50013, detail="The key was not found.")

    def _session_of(self, user: User) -> Session:
        session = user.session(str(self._assertion.get("sid", "")))
        if session is None:
            raise EntraError(
                50173,
                issued=entra_time(float(self._assertion.get("iat", 0))),
                valid_from=entra_time(user.valid_from),
            )
        return session
