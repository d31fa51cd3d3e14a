"""What is done to sign users in, once somebody asks for it."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Iterable
from typing import Any

from ._runtime.clock import sleep_unless
from ._runtime.secrecy import Hidden, Unpicklable
from ._session import SignedIn
from ._tenants import Tenant
from .entra.grants import auth_code, brought_refresh_token, device_code, password
from .entra.grants.authorization_request import AuthorizationRequest
from .entra.grants.sign_in import check_public, sign_in_scopes
from .errors import ConfigurationError, StoreError, TokenTimeoutError
from .flows import AuthCodeFlow, DeviceCodeFlow
from .sessions import UserSession

__all__ = ["SigningIn"]

Given = tuple[str | Iterable[str], ...]


class SigningIn(Unpicklable):
    """The sign-ins at one tenant.

    What each argument is, and what is raised, is told at :class:`~tokenmgr._sign_ins.SignIns`.

    Args:
        own: The tenant.
        registry: What sessions are to be closed with.
    """

    def __init__(self, own: Tenant, registry: object) -> None:
        self._own = own
        self._registry = registry
        self._client = own.client

    def begin_auth_code(
        self, scopes: Given, browser: Hidden, request: AuthorizationRequest
    ) -> AuthCodeFlow:
        """Begins the authorization code grant, and seals what has to be known of it."""
        wanted = sign_in_scopes(self._client, scopes)
        flow = auth_code.begin(self._client, wanted, request)
        auth_uri = Hidden(flow.cell_contents.pop("auth_uri"))
        flow.cell_contents["asked"] = wanted
        flows = self._own.app.flows()
        text = flows.seal(flow, self._whose(), browser, auth_code.FLOW_LIFETIME)
        return AuthCodeFlow(auth_uri=auth_uri.cell_contents, text=text.cell_contents)

    def complete_auth_code(self, begun: Hidden, query: Hidden, browser: Hidden) -> UserSession:
        """Completes it. It is used up with the first answer that is its own.

        What the store cannot keep is there for who completes it again, in this process.
        """
        if isinstance(begun.cell_contents, AuthCodeFlow):
            begun = Hidden(begun.cell_contents.text)
        flows = self._own.app.flows()
        flow = flows.open(begun, self._whose(), browser)
        arrived = auth_code.Arrived(query)
        if not arrived.is_of(flow):
            raise auth_code.not_the_answer(arrived)
        wanted = tuple(flow.cell_contents.pop("asked"))
        signed_in: SignedIn | None = flows.unkept(flow)
        if signed_in is None:
            flows.use(flow)
        code = arrived.code(flow, self._client.authority.host)
        signed_in = signed_in or auth_code.complete(self._client, flow, code, wanted)
        try:
            return self._keep(signed_in, wanted)
        except StoreError:
            flows.hold(flow, signed_in)
            raise

    def request_url(
        self, scopes: Given, request: AuthorizationRequest, state: str | None, nonce: str | None
    ) -> str:
        """Gives the address of the authority's page, for a redirect of the program's own."""
        wanted = sign_in_scopes(self._client, scopes)
        return auth_code.request_url(self._client, wanted, request, state=state, nonce=nonce)

    def redeem_auth_code(
        self, code: Hidden, scopes: Given, request: AuthorizationRequest, nonce: str | None
    ) -> UserSession:
        """Redeems what has come to that."""
        wanted = sign_in_scopes(self._client, scopes)
        return self._keep(
            auth_code.redeem(self._client, code, wanted, request, nonce=nonce), wanted
        )

    def begin_device_code(self, scopes: Given, claims: str | None) -> DeviceCodeFlow:
        """Begins the device authorization grant."""
        wanted, context = sign_in_scopes(self._client, scopes), self._own.app.context
        return DeviceCodeFlow(
            device_code.begin(self._client, wanted, claims, context.clock),
            lambda signed_in: self._keep(signed_in, wanted),
            context.clock,
            context.workers,
            lambda: self._own.closed,
        )

    def sign_in(
        self,
        scopes: Given,
        *,
        port: int | None,
        timeout: float | None,
        open_browser: Callable[[str], object] | None,
        asked: Hidden,
    ) -> UserSession:
        """Goes through the authorization code grant with a browser of this machine."""
        from .entra.grants.interactive import Loopback

        check_public(self._client, "sign_in()")
        wanted, longest = sign_in_scopes(self._client, scopes), auth_code.FLOW_LIFETIME
        loopback = Loopback(0 if port is None else port)
        try:
            request = AuthorizationRequest(
                redirect_uri=loopback.redirect_uri,
                response_mode="form_post",
                **asked.cell_contents,
            )
            flow = auth_code.begin(self._client, wanted, request)
            loopback.wait_for(flow)
            seconds = longest if timeout is None else min(timeout, longest)
            give_up_at = self._own.app.context.clock.elapsed() + seconds
            _open(Hidden(flow.cell_contents["auth_uri"]), open_browser)
            arrived = self._wait_for(lambda: loopback.arrived, give_up_at)
        finally:
            loopback.close()
        code = arrived.code(flow, self._client.authority.host)
        return self._keep(auth_code.complete(self._client, flow, code, wanted), wanted)

    def sign_in_with_password(
        self, username: Hidden, secret: Hidden, scopes: Given, claims: str | None
    ) -> UserSession:
        """Redeems a password."""
        wanted = sign_in_scopes(self._client, scopes)
        signed_in = password.redeem_password(self._client, username, secret, wanted, claims)
        return self._keep(signed_in, wanted)

    def redeem_refresh_token(self, text: Hidden, scopes: Given) -> UserSession:
        """Redeems a refresh token that was got elsewhere."""
        wanted = sign_in_scopes(self._client, scopes)
        return self._keep(
            brought_refresh_token.redeem_refresh_token(self._client, text, wanted), wanted
        )

    def _keep(self, signed_in: SignedIn, scopes: tuple[str, ...]) -> UserSession:
        sessions: Any = self._own.sessions or self._own.begin_sessions()
        session: UserSession = sessions.sign_in(signed_in, scopes, self._registry)
        return session

    def _whose(self) -> tuple[str, ...]:
        authority = self._client.authority
        return authority.kind, authority.url, self._client.client_id

    def _wait_for(
        self, arrived: Callable[[], auth_code.Arrived | None], give_up_at: float
    ) -> auth_code.Arrived:
        clock = self._own.app.context.clock

        def is_over() -> bool:
            late = clock.elapsed() >= give_up_at
            return arrived() is not None or self._own.closed or late

        sleep_unless(is_over, float("inf"))
        answer = arrived()
        if answer is not None:
            return answer
        self._own.check_open()
        raise TokenTimeoutError(
            "nobody has come back from signing in, and the time for it is over: call sign_in() "
            "again; on a machine without a browser, begin_device_code()"
        )


def _open(auth_uri: Hidden, open_browser: Callable[[str], object] | None) -> None:
    opened = (open_browser or webbrowser.open)(auth_uri.cell_contents)
    if open_browser is None and not opened:
        raise ConfigurationError(
            "there is no browser here that could be opened: pass open_browser=, or sign the user "
            "in on another device, by begin_device_code()"
        )
