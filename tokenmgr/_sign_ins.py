"""How users sign in: the part of a registry that gives a session of each who has."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._runtime.forks import no_fork
from ._runtime.loops import in_thread
from ._runtime.secrecy import Hidden

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._signing_in import SigningIn
    from ._tenants import Tenant
    from .entra.grants.authorization_request import AuthorizationRequest
    from .flows import AuthCodeFlow, DeviceCodeFlow, SignInOptions
    from .sessions import UserSession

__all__ = ["SignIns"]


class SignIns:
    """The sign-ins of a registry."""

    _own: Tenant

    def begin_auth_code(
        self,
        *scopes: str | Iterable[str],
        redirect_uri: str,
        response_mode: str | None = None,
        browser: str = "",
        **options: Unpack[SignInOptions],
    ) -> AuthCodeFlow:
        """Begins a sign-in with a browser, for a web app: the authorization code grant with PKCE.

        Send the browser to the flow's ``auth_uri``, and keep its ``text`` in the web session. It is
        good for 600 seconds, once, in any worker that has the same ``encryption_key=`` or client
        secret. Where the metadata of the authority is not known yet it is asked for: an event loop
        has :meth:`abegin_auth_code`.

        See "Microsoft identity platform and OAuth 2.0 authorization code flow" on Microsoft Learn,
        and RFC 7636.

        Args:
            *scopes: What the first access token is for; ``openid`` alone just signs the user in.
            redirect_uri: Where the user comes back to, as the app's registration has it.
            response_mode: ``form_post`` or ``query``; as the service likes when left out.
            browser: What tells this browser from others, such as the id of its web session. The
                flow is completed with the same one alone.
            **options: ``prompt``, ``login_hint``, ``domain_hint``, ``max_age`` and ``claims``: see
                :class:`~tokenmgr.SignInOptions`.

        Raises:
            ConfigurationError: An argument cannot be right, or the registry is closed.
            TokenManagerError: The authority's metadata cannot be had.
        """
        browser, options, named, asked = "", {}, Hidden(browser), Hidden(options)
        signing_in = self._signing_in()
        request = _request(redirect_uri, asked, response_mode=response_mode)
        return signing_in.begin_auth_code(scopes, named, request)

    async def abegin_auth_code(
        self,
        *scopes: str | Iterable[str],
        redirect_uri: str,
        response_mode: str | None = None,
        browser: str = "",
        **options: Unpack[SignInOptions],
    ) -> AuthCodeFlow:
        """Does as :meth:`begin_auth_code`, and never blocks the event loop."""
        browser, options, named, asked = "", {}, Hidden(browser), Hidden(options)

        def begin() -> AuthCodeFlow:
            signing_in = self._signing_in()
            request = _request(redirect_uri, asked, response_mode=response_mode)
            return signing_in.begin_auth_code(scopes, named, request)

        return await in_thread(begin)

    def complete_auth_code(
        self, flow: AuthCodeFlow | str, query: Any, *, browser: str = ""
    ) -> UserSession:
        """Completes a sign-in, when the user's browser is back.

        Args:
            flow: What :meth:`begin_auth_code` gave, or its text.
            query: What the browser has brought: ``request.args``, ``request.query_params`` or
                ``request.GET``, those of the form with ``form_post``, or a dict.
            browser: As it was begun with.

        Raises:
            InteractionRequiredError: The flow is none, another browser's, has ended or was used;
                what came back is the answer to another one; or the user has to do more. Begin
                another.
            ConsentRequiredError: The user, or an administrator, has said no.
            TokenManagerError: There is nothing to be had.
            StoreError: The store cannot keep the session: complete it again in this process, when
                the store is back.
        """
        flow, query, browser, begun, said, named = (
            *("", None, ""),
            Hidden(flow),
            Hidden(query),
            Hidden(browser),
        )
        return self._signing_in().complete_auth_code(begun, said, named)

    async def acomplete_auth_code(
        self, flow: AuthCodeFlow | str, query: Any, *, browser: str = ""
    ) -> UserSession:
        """Does as :meth:`complete_auth_code`, and never blocks the event loop."""
        flow, query, browser, begun, said, named = (
            *("", None, ""),
            Hidden(flow),
            Hidden(query),
            Hidden(browser),
        )
        return await in_thread(lambda: self._signing_in().complete_auth_code(begun, said, named))

    def authorization_request_url(
        self,
        *scopes: str | Iterable[str],
        redirect_uri: str,
        state: str | None = None,
        nonce: str | None = None,
        response_mode: str | None = None,
        **options: Unpack[SignInOptions],
    ) -> str:
        """Gives the address to send a browser to, for an app that runs its own redirect.

        It has no PKCE, and nobody but the app checks the ``state``, or by ``auth_time`` the
        ``max_age``: :meth:`begin_auth_code` does.

        Args:
            *scopes: As there.
            redirect_uri: As there.
            state: What comes back with the user (RFC 6749, section 10.12).
            nonce: What the id token repeats: give it to :meth:`redeem_auth_code`.
            response_mode: As there.
            **options: As there.

        Raises:
            ConfigurationError: An argument cannot be right, or the registry is closed.
            TokenManagerError: The authority's metadata cannot be had.
        """
        options, asked = {}, Hidden(options)
        signing_in = self._signing_in()
        request = _request(redirect_uri, asked, response_mode=response_mode)
        return signing_in.request_url(scopes, request, state, nonce)

    def redeem_auth_code(
        self,
        code: str,
        *scopes: str | Iterable[str],
        redirect_uri: str,
        nonce: str | None = None,
        claims: str | None = None,
    ) -> UserSession:
        """Redeems a code that an app has got at its own redirect, once it has checked the state.

        It asks the service: do not call it from an event loop.

        Args:
            code: The code (RFC 6749, section 4.1.2).
            *scopes: What the first access token is for.
            redirect_uri: Where the code was sent to.
            nonce: What the id token has to repeat; None checks nothing.
            claims: Those that the sign-in was begun with.

        Raises:
            InteractionRequiredError: The code was used, has ended, or was another app's; or the
                nonce is another one. Have the user sign in again.
            TokenManagerError: There is nothing to be had.
            StoreError: The store cannot keep the session.
        """
        code, given = "", Hidden(code)
        signing_in = self._signing_in()
        return signing_in.redeem_auth_code(
            given, scopes, _request(redirect_uri, Hidden({"claims": claims})), nonce
        )

    def begin_device_code(
        self, *scopes: str | Iterable[str], claims: str | None = None
    ) -> DeviceCodeFlow:
        """Begins a sign-in on another device, for a program without a browser. Public clients only.

        Show the flow's ``message``, and wait for it.

        See RFC 8628, and "Microsoft identity platform and the OAuth 2.0 device authorization grant
        flow" on Microsoft Learn.

        Args:
            *scopes: What the first access token is for; ``openid`` alone just signs the user in.
            claims: The claims of an :class:`~tokenmgr.InteractionRequiredError`.

        Raises:
            ConfigurationError: The app has a credential, the authority has no such grant, an
                argument cannot be right, or the registry is closed.
            TokenManagerError: There is no code to be had.
        """
        return self._signing_in().begin_device_code(scopes, claims)

    async def abegin_device_code(
        self, *scopes: str | Iterable[str], claims: str | None = None
    ) -> DeviceCodeFlow:
        """Does as :meth:`begin_device_code`, and never blocks the event loop."""
        return await in_thread(lambda: self._signing_in().begin_device_code(scopes, claims))

    def sign_in(
        self,
        *scopes: str | Iterable[str],
        port: int | None = None,
        timeout: float | None = None,
        open_browser: Callable[[str], object] | None = None,
        **options: Unpack[SignInOptions],
    ) -> UserSession:
        """Signs a user in with the browser of this machine. Public clients only.

        The browser brings the answer to ``http://localhost``, which the app's registration names
        as a redirect URI of its platform "mobile and desktop applications" (RFC 8252). It waits: do
        not call it from an event loop.

        Args:
            *scopes: As for :meth:`begin_auth_code`.
            port: At which port the answer is waited for; any when left out.
            timeout: Seconds to wait for it, 600 at most, and when left out.
            open_browser: Opens an address; the browser of the system when left out.
            **options: As there.

        Raises:
            TokenTimeoutError: The user did not sign in in time.
            ConfigurationError: The app has a credential, there is no browser, an argument cannot be
                right, or the registry is closed.
            ConsentRequiredError: The user, or an administrator, has said no.
            TokenManagerError: There is nothing to be had.
        """
        options, asked = {}, Hidden(options)
        return self._signing_in().sign_in(
            scopes, port=port, timeout=timeout, open_browser=open_browser, asked=asked
        )

    def sign_in_with_password(
        self,
        username: str,
        password: str,
        *scopes: str | Iterable[str],
        claims: str | None = None,
    ) -> UserSession:
        """Signs a user in with their password, where nothing better can be done. It warns of that.

        It works for no account with multi-factor authentication, a federated or a personal one, and
        this program sees the password (RFC 9700, section 2.4). It asks the service: do not call it
        from an event loop.

        Args:
            username: Who, as they sign in.
            password: Their password.
            *scopes: What the first access token is for.
            claims: The claims of an :class:`~tokenmgr.InteractionRequiredError`.

        Raises:
            InteractionRequiredError: The two do not belong together, or more than a password is
                needed.
            TokenManagerError: There is nothing to be had.
            StoreError: The store cannot keep the session.
        """
        username, password, name, given = "", "", Hidden(username), Hidden(password)
        warnings.warn(
            "sign_in_with_password() works for no account with multi-factor authentication, a "
            "federated or a personal one, and has this program see the password: use "
            "begin_device_code(), sign_in() or begin_auth_code()",
            UserWarning,
            stacklevel=2,
        )
        return self._signing_in().sign_in_with_password(name, given, scopes, claims)

    def redeem_refresh_token(self, text: str, *scopes: str | Iterable[str]) -> UserSession:
        """Makes a session of a refresh token that was got elsewhere, such as by another library.

        It asks the service: do not call it from an event loop.

        Args:
            text: The refresh token, which was given to this app.
            *scopes: What the first access token is for.

        Raises:
            InteractionRequiredError: It is none any more: have the user sign in.
            TokenManagerError: There is nothing to be had.
            StoreError: The store cannot keep the session.
        """
        text, given = "", Hidden(text)
        return self._signing_in().redeem_refresh_token(given, scopes)

    def _signing_in(self) -> SigningIn:
        # What would keep their session is told now, and not when the user has signed in.
        self._own.begin_sessions()
        with no_fork():
            from ._signing_in import SigningIn

        return SigningIn(self._own, self)


def _request(redirect_uri: str, asked: Hidden, **more: Any) -> AuthorizationRequest:
    from .entra.grants.authorization_request import AuthorizationRequest

    return AuthorizationRequest(redirect_uri=redirect_uri, **more, **asked.cell_contents)
