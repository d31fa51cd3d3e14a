"""The authorization endpoint: what is asked of it, and the answer that goes to the app."""

from __future__ import annotations

from typing import Any

from authlib.oauth2 import OAuth2Error

from .authorities import AuthorityKind
from .browsers import Account
from .codes import AuthorizationCode, DeviceCode
from .delegation import Delegation
from .errors import B2CError, EntraError
from .oauth import EntraAuthorizationServer
from .redirects import Redirect
from .requested_claims import RequestedClaims, demand
from .scopes import read_scopes
from .sign_in import SignIn, Step
from .token_request import AuthorizationRequest

__all__ = ["AuthorizationEndpoint"]


class AuthorizationEndpoint:
    """Begins sign-ins, and ends them with a code, a refusal, or a device that may go on."""

    def __init__(self, server: EntraAuthorizationServer) -> None:
        self._server = server
        self._state = server.state

    def begin(
        self, request: AuthorizationRequest, accounts: tuple[Account, ...]
    ) -> SignIn | Redirect:
        """What a browser brought: a sign-in, or an answer where there is nothing to ask the user.

        Raises:
            EntraError: The user is to be told, on a page, since it is not known whose redirect
                URI that is.
            B2CError: The same in a user flow.
        """
        grant: Any = self._server.get_authorization_grant(request)
        try:
            redirect_uri: str = grant.validate_authorization_request()
        except (EntraError, B2CError) as error:
            if not error.redirect_uri:
                raise self._worded(error, request) from None
            return self._refusal(request, error.redirect_uri, error)
        sign_in = SignIn(
            authority=request.authority,
            client_id=grant.client.client_id,
            scopes=read_scopes(
                request.payload.scope,
                authority=request.authority,
                client_id=grant.client.client_id,
            ),
            claims=RequestedClaims.parse(request.form.get("claims")),
            redirect_uri=redirect_uri,
            request=request,
            accounts=accounts,
        )
        if sign_in.step is Step.DONE:
            return self.finish(sign_in)
        if sign_in.prompt == "none":
            return self._refusal(request, redirect_uri, _silent_refusal(sign_in))
        return sign_in

    def begin_device(self, device: DeviceCode, accounts: tuple[Account, ...]) -> SignIn:
        """The sign-in of a user who has typed a device's code."""
        return SignIn(
            authority=device.authority,
            client_id=device.client_id,
            scopes=read_scopes(
                device.scope, authority=device.authority, client_id=device.client_id
            ),
            claims=RequestedClaims.parse(device.claims),
            device=device,
            accounts=accounts,
        )

    def finish(self, sign_in: SignIn) -> Redirect:
        """The answer with a code, for a user who is through with the pages."""
        if sign_in.request is None or sign_in.account is None:
            raise ValueError("this sign-in has no app that waits for a code")
        user, session = sign_in.account
        request = sign_in.request
        if not all(
            user.consents_to(each.resource, frozenset(each.names)) for each in sign_in.scopes
        ):
            error = EntraError(65001, client_id=sign_in.client_id)
            return self._refusal(request, sign_in.redirect_uri, error)
        code = self._code(sign_in, request, sign_in.account)
        self._state.codes.keep(code)
        answer = {"code": code.text}
        if request.authority.kind is not AuthorityKind.ADFS:
            answer["session_state"] = session.session_id
        info = Delegation(user, session, code.authority, code.client_id).client_info()
        if info and request.form.get("client_info") == "1":
            answer["client_info"] = info
        return self._answer(request, sign_in.redirect_uri, answer)

    def approve(self, sign_in: SignIn) -> None:
        """Let the device go on, for a user who is through with the pages."""
        if sign_in.device is not None and sign_in.account is not None:
            sign_in.device.user, sign_in.device.session = sign_in.account

    def decline(self, sign_in: SignIn) -> Redirect | None:
        """The answer for a user who wants to go no further; None for a device, which will hear."""
        if sign_in.device is not None:
            sign_in.device.declined = True
            return None
        if sign_in.request is None:
            raise ValueError("this sign-in has nobody who waits for an answer")
        return self._refusal(sign_in.request, sign_in.redirect_uri, EntraError(65004))

    def _code(
        self, sign_in: SignIn, request: AuthorizationRequest, account: Account
    ) -> AuthorizationCode:
        client = self._server.query_client(sign_in.client_id)
        authority = sign_in.authority
        if authority.kind is AuthorityKind.ENTRA:
            authority = self._state.authority(AuthorityKind.ENTRA, sign_in.tenant_id)
        form = request.form
        return AuthorizationCode(
            user=account[0],
            session=account[1],
            client_id=sign_in.client_id,
            public=client.public,
            authority=authority,
            scope=request.payload.scope,
            lifetime=self._state.code_lifetime,
            redirect_uri=request.payload.redirect_uri,
            nonce=form.get("nonce"),
            max_age=request.max_age is not None,
            code_challenge=form.get("code_challenge"),
            code_challenge_method=form.get("code_challenge_method"),
        )

    def _refusal(
        self, request: AuthorizationRequest, redirect_uri: str, error: OAuth2Error
    ) -> Redirect:
        worded = self._worded(error, request)
        body = worded.json(correlation_id=None, base_url=self._state.base_url)
        named = ("error", "error_description", "error_uri", "suberror", "claims")
        answer = {name: str(body[name]) for name in named if name in body}
        if isinstance(error, EntraError) and error.code == 65004:
            answer["error_subcode"] = "cancel"
        return self._answer(request, redirect_uri, answer)

    def _worded(self, error: OAuth2Error, request: AuthorizationRequest) -> Any:
        of_b2c = request.authority.kind is AuthorityKind.B2C
        return error.as_b2c() if of_b2c and isinstance(error, EntraError) else error

    def _answer(
        self, request: AuthorizationRequest, redirect_uri: str, answer: dict[str, str]
    ) -> Redirect:
        state = request.payload.state
        if state is not None:
            answer["state"] = state
        return Redirect(redirect_uri, request.response_mode, answer)


def _silent_refusal(sign_in: SignIn) -> EntraError:
    """Why nobody can be signed in without being asked (``prompt=none``)."""
    step = sign_in.step
    if step is Step.PICK:
        return EntraError(16000)
    if step is Step.MFA and sign_in.account is not None:
        user, _ = sign_in.account
        claims = demand(user.mfa_policy) if user.mfa_policy else sign_in.claims.step_up
        resource = sign_in.scopes[0].resource
        return EntraError(50076, error="interaction_required", claims=claims, resource=resource)
    if step is Step.CONSENT:
        return EntraError(65001, error="interaction_required", client_id=sign_in.client_id)
    detail = "no user is signed in"
    if sign_in.accounts and not sign_in.fitting:
        detail = "none of the currently signed in user(s) match the requested login hint"
    if sign_in.authority.kind is AuthorityKind.ADFS:  # as the page of its flows has it
        return EntraError(50058, error="interaction_required", detail=detail)
    return EntraError(50058, detail=detail)
