"""The authorization code grant: a user signs in with a browser, and the app gets a code for it.

RFC 6749, section 4.1, with PKCE (RFC 7636), as Entra has it:
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from authlib.oauth2.rfc6749 import OAuth2Error
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc7636 import CodeChallenge

from ..authorities import PLACEHOLDER_TENANTS, AuthorityKind
from ..client_authentication import named_client
from ..codes import AuthorizationCode
from ..errors import EntraError
from ..redirects import RESPONSE_MODES
from ..scopes import DelegatedScopes, read_scopes
from ..token_request import AuthorizationRequest
from ..users import User
from .user import UserGrant, check_resource

__all__ = ["AuthorizationCodes"]

#: Entra takes one of these, where OpenID Connect would let an app name several. AD FS takes two.
_PROMPTS = ("login", "none", "consent", "select_account")
_PROMPTS_OF_ADFS = ("login", "none")


class _Pkce(CodeChallenge):
    """Authlib's PKCE, with Entra's numbers. ``plain`` is taken, as Entra takes it."""

    def validate_code_challenge(self, grant: AuthorizationCodes, redirect_uri: str) -> None:
        """See that the challenge is one.

        Raises:
            EntraError: It is not, or is made in an unknown way.
        """
        method = grant.request.form.get("code_challenge_method")
        if method and method not in self.SUPPORTED_CODE_CHALLENGE_METHOD:
            raise EntraError(50149)
        try:
            super().validate_code_challenge(grant, redirect_uri)
        except OAuth2Error:
            raise EntraError(50147) from None

    def validate_code_verifier(self, grant: AuthorizationCodes, result: object) -> None:
        """See that the code is redeemed by the program that asked for it.

        Raises:
            EntraError: It shows no verifier, or another one's.
        """
        try:
            super().validate_code_verifier(grant, result)
        except OAuth2Error:
            missing = not grant.request.form.get("code_verifier")
            raise EntraError(50148 if missing else 501481) from None


class AuthorizationCodes(UserGrant, AuthorizationCodeGrant):
    """Authorization codes, with the checks and the answers that Entra has."""

    def __init__(self, request: Any, server: Any) -> None:
        super().__init__(request, server)
        _Pkce(required=False)(self)

    @classmethod
    def check_authorization_endpoint(cls, request: Any) -> bool:  # noqa: ARG003 - Authlib's
        """Every sign-in is this grant's: the response type is looked at when the app is known."""
        return True

    def validate_authorization_request(self) -> str:
        """See that the app, the redirect URI and all that it asks for are right, in this order.

        Raises:
            EntraError: One of them is not. It has a ``redirect_uri`` where the app is to be told,
                and not the user.
        """
        redirect_uri = self._check_app()
        try:
            super().validate_authorization_request()
        except OAuth2Error as error:
            error.redirect_uri = redirect_uri
            raise
        return redirect_uri

    def validate_requested_scope(self) -> None:
        """See what is asked for, and how the answer is to be given.

        Raises:
            EntraError: It cannot be.
        """
        request = cast(AuthorizationRequest, self.request)
        form = request.form
        of_adfs = request.authority.kind is AuthorityKind.ADFS
        if form.get("prompt", "login") not in (_PROMPTS_OF_ADFS if of_adfs else _PROMPTS):
            raise EntraError(90023, parameter="prompt")
        mode = form.get("response_mode", "query")
        if mode not in RESPONSE_MODES:
            raise EntraError(70007, response_mode=mode)
        self.requested_claims()
        _ = request.max_age
        scope, client_id = request.payload.scope, self.client.client_id
        for each in read_scopes(scope, authority=request.authority, client_id=client_id):
            check_resource(self.server.state, each.resource, request.authority)

    def validate_token_request(self) -> None:
        """See that the client, the code, its redirect URI, its verifier and its user are right.

        Raises:
            EntraError: One of them is not.
        """
        if not self.request.form.get("code"):
            raise EntraError(900144, parameter="code")
        super().validate_token_request()
        code = self._code
        self.read_scopes(self.request.payload.scope or code.scope)
        given = read_scopes(code.scope, authority=code.authority, client_id=code.client_id)
        self.scopes: DelegatedScopes = replace(
            self.scopes, openid=self.scopes.openid | given[0].openid
        )
        self.delegate(code.user, code.session)

    def query_authorization_code(self, code: str, client: Any) -> AuthorizationCode:
        """The code, if this client may redeem it, here and now.

        Raises:
            EntraError: It may not.
        """
        found = self.server.state.codes.find(code)
        authority = self.request.authority
        if found is None or found.authority.kind is not authority.kind:
            raise EntraError(9002313)
        if found.client_id != client.client_id or found.authority.realm != authority.realm:
            raise EntraError(700007)
        named = authority.tenant not in PLACEHOLDER_TENANTS
        if named and authority.tenant_id != found.authority.tenant_id:
            raise EntraError(700005)
        if found.redeemed:
            self.server.state.codes.redeem(found)  # whoever shows it again ends what it gave
            raise EntraError(54005)
        if found.expired:
            raise EntraError(70008)
        self._check_redirect_uri(found)
        return found

    def authenticate_user(self, authorization_code: AuthorizationCode) -> User:
        """Whom the code is about, as Authlib asks."""
        return authorization_code.user

    def create_token_response(self) -> Any:
        """The answer with the tokens in it, after which the code is used up."""
        code = self._code
        if not self.server.state.codes.redeem(code):
            raise EntraError(54005)
        scope = self.request.payload.scope or code.scope
        token = self.new_refresh_token(scope, public=code.public, family=code.family)
        claims: dict[str, object] = {} if code.nonce is None else {"nonce": code.nonce}
        if code.max_age:
            claims["auth_time"] = int(code.session.started_at)
        return self.answer(token, claims)

    @property
    def _code(self) -> AuthorizationCode:
        return cast(AuthorizationCode, self.request.authorization_code)

    def _check_app(self) -> str:
        """Who asks, and where the answer goes: what Entra tells the user about, on a page."""
        request = cast(AuthorizationRequest, self.request)
        client_id, tenant = request.payload.client_id, request.authority.tenant
        client = named_client(self.server.state, client_id, tenant=tenant)
        if tenant == "consumers":
            raise EntraError(9002332, client_id=client_id)
        redirect_uri = request.payload.redirect_uri or client.get_default_redirect_uri()
        if not client.redirect_uris:
            raise EntraError(500113, client_id=client_id)
        if not client.check_redirect_uri(redirect_uri):
            raise EntraError(50011, redirect_uri=redirect_uri, client_id=client_id)
        if request.duplicates:
            raise EntraError(9000411, parameter=request.duplicates[0])
        self.request.client = client
        self._check_response_type(redirect_uri)
        return redirect_uri

    def _check_response_type(self, redirect_uri: str) -> None:
        response_type = self.request.payload.response_type
        error: EntraError | None = None
        if not response_type:
            error = EntraError(900144, parameter="response_type")
        elif not self.client.check_response_type(response_type):
            error = EntraError(700054, response_type=response_type)
        if error is not None:
            error.redirect_uri = redirect_uri
            raise error

    def _check_redirect_uri(self, code: AuthorizationCode) -> None:
        if code.redirect_uri is None:
            return
        shown = self.request.payload.redirect_uri
        if not shown:
            raise EntraError(900144, parameter="redirect_uri")
        if shown != code.redirect_uri:
            raise EntraError(
                500112,
                redirect_uri=shown,
                expected=code.redirect_uri,
                client_id=code.client_id,
            )
