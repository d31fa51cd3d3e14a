"""What browsers ask for: the authorization endpoint, the pages of a sign-in, signing out."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from authlib.oauth2 import OAuth2Error

from .authorization import AuthorizationEndpoint
from .browsers import Account
from .device_authorization import DEVICE_PAGE
from .errors import B2CError, EntraError
from .oauth import EntraAuthorizationServer
from .pages import device_page, form_post_page, message_page, sign_in_page
from .paths import PATHS, authority_at
from .redirects import Redirect
from .sign_in import SignIn, Step
from .state import State
from .token_request import AuthorizationRequest

__all__ = ["BrowserApp"]

#: Where the forms of a sign-in are posted.
_PAGES = "/common/login"
#: Entra's name for what tells one browser from another.
_COOKIE = "ESTSAUTH"
_HEADERS = {
    "Cache-Control": "no-store, no-cache",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
#: The page that posts itself has a script of one line.
_POSTING = _HEADERS | {
    "Content-Security-Policy": f"{_HEADERS['Content-Security-Policy']}; script-src 'unsafe-inline'"
}
_WRONG_CODE = "That code didn't work. Check the code and try again."


class BrowserApp:
    """What answers browsers, over one state."""

    def __init__(self, state: State, server: EntraAuthorizationServer) -> None:
        self._state = state
        self._endpoint = AuthorizationEndpoint(server)
        self._sign_ins: dict[str, SignIn] = {}  # in the event loop alone

    def add_routes(self, app: web.Application) -> None:
        """Answer in this application."""
        handlers = {"authorize": self.authorize, "logout": self.log_out}
        for kind, paths in PATHS.items():
            for name in handlers.keys() & paths.keys():
                app.router.add_route("*", paths[name], handlers[name], name=f"{name}.{kind.value}")
        app.router.add_route("POST", _PAGES, self.step, name="page")
        app.router.add_route("*", DEVICE_PAGE, self.enter_device_code, name="device")

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """The authorization endpoint: the first page of a sign-in, or an answer without any."""
        try:
            authority = authority_at(self._state, request.path, endpoint="authorize")
            asked = AuthorizationRequest(authority=authority, fields=await _parameters(request))
            begun = self._endpoint.begin(asked, self._accounts(request))
        except OAuth2Error as error:
            return self._error_page(error)
        return _redirect(begun) if isinstance(begun, Redirect) else self._page_of(begun)

    async def enter_device_code(self, request: web.Request) -> web.StreamResponse:
        """The page where users type the code that a device shows."""
        form = await request.post()
        user_code = str(form.get("user_code", ""))
        if request.method != "POST":
            return _html(device_page(action=DEVICE_PAGE))
        device = self._state.device_codes.of_user_code(user_code)
        if device is None:
            return _html(device_page(action=DEVICE_PAGE, user_code=user_code, error=_WRONG_CODE))
        return self._page_of(self._endpoint.begin_device(device, self._accounts(request)))

    async def step(self, request: web.Request) -> web.StreamResponse:
        """What the user did on a page of a sign-in, and the next page, or its end."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        sign_in = self._sign_ins.get(form.get("flow", ""))
        if sign_in is None:
            text = "This sign-in is over. Begin again in the app that you came from."
            return _html(message_page("Sign-in is over", text), status=400)
        if form.get("action") == "cancel":
            return self._end(sign_in, self._endpoint.decline(sign_in))
        try:
            _do(sign_in, form, self._state)
        except EntraError as error:
            return self._page_of(sign_in, error=f"AADSTS{error.code}: {error.text}")
        confirmed = sign_in.device is None or form.get("action") == "continue"
        if sign_in.step is not Step.DONE or not confirmed:
            return self._kept(request, sign_in, self._page_of(sign_in))
        redirect = None if sign_in.device is not None else self._endpoint.finish(sign_in)
        self._endpoint.approve(sign_in)
        return self._kept(request, sign_in, self._end(sign_in, redirect))

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        """Sign the browser out, and send it on if an app has that address.

        https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc#send-a-sign-out-request.
        """
        asked = dict(await _parameters(request))
        try:
            authority_at(self._state, request.path, endpoint="logout")
        except EntraError as error:
            return self._error_page(error)
        self._state.browsers.sign_out(request.cookies.get(_COOKIE, ""), asked.get("logout_hint"))
        address = asked.get("post_logout_redirect_uri", "")
        if address and self._state.clients.have_redirect_uri(address):
            state = {"state": asked["state"]} if "state" in asked else {}
            return _redirect(Redirect(address, "query", state))
        text = "It's a good idea to close all browser windows."
        return _html(message_page("You signed out of your account", text))

    def _page_of(self, sign_in: SignIn, *, error: str = "") -> web.Response:
        self._sign_ins[sign_in.flow] = sign_in
        return _html(sign_in_page(sign_in, action=_PAGES, error=error))

    def _end(self, sign_in: SignIn, redirect: Redirect | None) -> web.Response:
        self._sign_ins.pop(sign_in.flow, None)
        if redirect is not None:
            return _redirect(redirect)
        if sign_in.device is not None and sign_in.device.declined:
            return _html(message_page("You declined", "You can close this window."))
        text = "You have signed in to the application on your device. You can close this window."
        return _html(message_page("You have signed in", text))

    def _kept(self, request: web.Request, sign_in: SignIn, response: web.Response) -> web.Response:
        """The response, with the cookie by which the browser is known to have this user."""
        if sign_in.account is not None:
            cookie = request.cookies.get(_COOKIE, "")
            cookie = self._state.browsers.sign_in(cookie, sign_in.account)
            response.set_cookie(_COOKIE, cookie, secure=True, httponly=True, samesite="None")
        return response

    def _accounts(self, request: web.Request) -> tuple[Account, ...]:
        return self._state.browsers.accounts(request.cookies.get(_COOKIE, ""))

    def _error_page(self, error: OAuth2Error) -> web.Response:
        body: dict[str, Any] = {}
        if isinstance(error, (EntraError, B2CError)):
            body = error.json(correlation_id=None, base_url=self._state.base_url)
        text = str(body.get("error_description", error.description))
        return _html(message_page("Sorry, but we're having trouble signing you in.", text), 400)


def _do(sign_in: SignIn, form: dict[str, str], state: State) -> None:
    """What the user did on the page that is there for this step.

    Raises:
        EntraError: It was not right: the same page comes again.
    """
    step = sign_in.step
    if step is Step.PICK:
        sign_in.pick(form.get("account", ""))
    elif step is Step.PASSWORD:
        username, password = form.get("username", ""), form.get("password", "")
        sign_in.type_password(state.users, username, password)
    elif step is Step.MFA:
        sign_in.pass_mfa(form.get("mfa_code", ""))
    elif step is Step.CONSENT and form.get("action") == "accept":
        sign_in.consent()


async def _parameters(request: web.Request) -> list[tuple[str, str]]:
    """Those of the address, or of the body where the request has one."""
    fields = await request.post() if request.method == "POST" else request.query
    return [(name, str(value)) for name, value in fields.items()]


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)


def _redirect(redirect: Redirect) -> web.Response:
    if redirect.mode == "form_post":
        page = form_post_page(redirect)
        return web.Response(text=page, content_type="text/html", headers=_POSTING)
    headers = _HEADERS | {"Location": redirect.location}
    return web.Response(status=302, headers=headers)
