"""What a test can do in place of the people who sign in, without a browser."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from .authorization import AuthorizationEndpoint
from .browsers import Account
from .errors import EntraError
from .oauth import EntraAuthorizationServer
from .paths import authority_at
from .redirects import Redirect
from .sign_in import SignIn, Step
from .state import State
from .token_request import AuthorizationRequest

__all__ = ["SignInControls"]


class SignInControls:
    """The emulator's handles for sign-ins. Each may be used from any thread, while it serves."""

    _state: State

    @property
    def code_lifetime(self) -> float:
        """Seconds that authorization codes live that are given out from now on."""
        return self._state.code_lifetime

    @code_lifetime.setter
    def code_lifetime(self, seconds: float) -> None:
        self._state.code_lifetime = seconds

    @property
    def device_code_lifetime(self) -> float:
        """Seconds that a user has for a device that asks from now on."""
        return self._state.device_code_lifetime

    @device_code_lifetime.setter
    def device_code_lifetime(self, seconds: float) -> None:
        self._state.device_code_lifetime = seconds

    @property
    def device_code_interval(self) -> float:
        """Seconds that a device has to wait between its requests, if it asks from now on."""
        return self._state.device_code_interval

    @device_code_interval.setter
    def device_code_interval(self, seconds: float) -> None:
        self._state.device_code_interval = seconds

    def expire_codes(self) -> None:
        """Let every code that is out be too old: those of authorization, and those of devices."""
        self._state.codes.end_all()
        self._state.device_codes.end_all()

    def authorize(
        self, auth_uri: str, username: str, *, accept: bool = True, mfa: bool = False
    ) -> Mapping[str, str]:
        """Do what a user does whom an app sends to ``auth_uri``: all the pages, without a browser.

        Args:
            auth_uri: The address, as the app made it.
            username: Who signs in, with their password.
            accept: Whether they consent to what is asked for; they turn back otherwise.
            mfa: Whether they show what their authenticator shows, should they have to.

        Returns:
            What the app's redirect URI gets: the ``code`` and the ``state``, or the ``error``.

        Raises:
            KeyError: There is no such user.
            PermissionError: They do not get on: the text is that of the page on which they stay.
            ValueError: The address is not the emulator's.
        """
        address = urlsplit(auth_uri)
        if f"{address.scheme}://{address.netloc}" != self._state.base_url:
            raise ValueError("that address is not this emulator's")
        try:
            authority = authority_at(self._state, address.path, endpoint="authorize")
            fields = parse_qsl(address.query, keep_blank_values=True)
            request = AuthorizationRequest(authority=authority, fields=fields)
            begun = self._endpoint.begin(request, self._remembered(request, username))
        except EntraError as error:
            raise PermissionError(f"AADSTS{error.code}: {error.text}") from None
        if isinstance(begun, Redirect):
            return dict(begun.parameters)
        if not accept:
            declined = self._endpoint.decline(begun)
            return {} if declined is None else dict(declined.parameters)
        self._walk(begun, username, mfa=mfa)
        return dict(self._endpoint.finish(begun).parameters)

    def enter_device_code(
        self, user_code: str, username: str, *, accept: bool = True, mfa: bool = False
    ) -> None:
        """Do what a user does whom a device shows a code: all the pages, without a browser.

        Args:
            user_code: The code.
            username: Who signs in, with their password.
            accept: Whether they let the device go on.
            mfa: Whether they show what their authenticator shows, should they have to.

        Raises:
            KeyError: There is no such user.
            LookupError: No device waits for this code.
            PermissionError: They do not get on: the text is that of the page on which they stay.
        """
        device = self._state.device_codes.of_user_code(user_code)
        if device is None:
            raise LookupError("no device waits for this code")
        sign_in = self._endpoint.begin_device(device, ())
        if not accept:
            self._endpoint.decline(sign_in)
            return
        self._walk(sign_in, username, mfa=mfa)
        self._endpoint.approve(sign_in)

    @property
    def _endpoint(self) -> AuthorizationEndpoint:
        return AuthorizationEndpoint(EntraAuthorizationServer(self._state))

    def _walk(self, sign_in: SignIn, username: str, *, mfa: bool) -> None:
        user = self._state.users.find(username)
        if user is None:
            raise KeyError(username)
        try:
            sign_in.be(user)
        except EntraError as error:
            raise PermissionError(f"AADSTS{error.code}: {error.text}") from None
        if sign_in.step is Step.MFA:
            if not mfa:
                raise PermissionError("the page asks for the code of their authenticator")
            sign_in.pass_mfa(user.mfa_code)
        if sign_in.step is Step.CONSENT:
            sign_in.consent()

    def _remembered(self, request: AuthorizationRequest, username: str) -> tuple[Account, ...]:
        """Who is signed in in the browser: nobody, unless the app wants no page to be shown."""
        user = self._state.users.find(username)
        if user is None:
            raise KeyError(username)
        if request.form.get("prompt") != "none":
            return ()
        return tuple((user, session) for session in user.sessions[-1:])
