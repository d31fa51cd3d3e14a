"""The device authorization grant: a user signs in on another device, by a short code (RFC 8628).

See "Microsoft identity platform and the OAuth 2.0 device authorization grant flow" on Microsoft
Learn. When the service is asked is decided here, and each request is one: MSAL's own loop sleeps.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from ..._runtime.clock import Clock
from ..._runtime.secrecy import Hidden, Unpicklable
from ..._session import SignedIn
from ...errors import ConfigurationError, InteractionRequiredError, TokenManagerError
from ..answers import Answer, error_from_answer
from ..client import Client
from .sign_in import check_public, claims_of, sign_in

if TYPE_CHECKING:
    import msal

__all__ = ["DeviceCode", "begin"]

#: Seconds between two requests where the service does not say (RFC 8628, section 3.2), and what
#: each ``slow_down`` adds to them (section 3.5).
_INTERVAL, _SLOWER = 5.0, 5.0
#: Seconds between two requests at most, where the service cannot be reached.
_LONGEST_INTERVAL = 60.0
_PENDING, _SLOW_DOWN = "authorization_pending", "slow_down"


class DeviceCode(Unpicklable):
    """A device's code that waits for its user.

    Args:
        client: The app, at its authority.
        flow: What MSAL has been told of it.
        scopes: What the access token is for.
        claims: Those that the sign-in was begun with.
        clock: The time, and when the code was asked for, on the elapsed clock.
    """

    def __init__(
        self,
        client: Client,
        flow: Hidden,
        scopes: tuple[str, ...],
        claims: str | None,
        clock: Clock,
    ) -> None:
        self.told: dict[str, Any] = {
            name: flow.cell_contents[name]
            for name in ("message", "user_code", "verification_uri", "expires_in")
        }
        self._client = client
        self._flow = flow
        self._scopes = scopes
        self._claims = claims
        self._clock = clock
        #: Seconds between two requests.
        self.interval: float = float(flow.cell_contents.get("interval") or _INTERVAL)
        now = clock.elapsed()
        #: When the service may be asked next, and when the code ends, on the elapsed clock.
        self.due_at: float = now + self.interval
        self.ends_at: float = now + self.told["expires_in"]

    def poll(self) -> SignedIn | None:
        """Asks once whether the user has signed in; None where they have not yet.

        Raises:
            ConsentRequiredError: The user has said no.
            InteractionRequiredError: The code has ended.
            TokenManagerError: There is nothing to be had.
        """
        if self._clock.elapsed() >= self.ends_at:
            raise _ended()
        try:
            return self._ask()
        except TokenManagerError as exc:
            if not self._goes_on(exc):
                raise
            self.due_at = self._clock.elapsed() + max(self.interval, exc.retry_after or 0.0)
            return None

    def _goes_on(self, error: TokenManagerError) -> bool:
        """Whether it may still come to a good end; asks less often where it is to."""
        if error.error == _SLOW_DOWN:
            self.interval += _SLOWER
        elif error.error != _PENDING and error.retryable:  # RFC 8628, section 3.5
            self.interval = max(self.interval, min(2 * self.interval, _LONGEST_INTERVAL))
        return error.error in (_PENDING, _SLOW_DOWN) or error.retryable

    def _ask(self) -> SignedIn:
        def grant(application: msal.PublicClientApplication) -> Any:
            # MSAL would count the time in it, on a clock of its own.
            own = {**self._flow.cell_contents, "interval": 1}
            return application.acquire_token_by_device_flow(
                own, claims_challenge=self._claims, exit_condition=lambda _: True
            )

        secret = Hidden(self._flow.cell_contents["device_code"])
        return sign_in(self._client, grant, "device_code", self._scopes, secret=secret)


def begin(client: Client, scopes: tuple[str, ...], claims: str | None, clock: Clock) -> DeviceCode:
    """Asks for a code.

    Args:
        client: The app, at its authority.
        scopes: What the access token is for.
        claims: What the sign-in is to satisfy.
        clock: The time.

    Raises:
        ConfigurationError: The app has a credential, or the authority has no such grant.
        TokenManagerError: There is no code to be had.
    """
    check_public(client, "begin_device_code()")
    claims = claims_of(claims)

    def initiate(application: msal.PublicClientApplication) -> Any:
        if not application.authority.device_authorization_endpoint:
            raise ConfigurationError(
                f"{client.authority.host} has no device code grant: sign users in with a browser, "
                "by sign_in() or begin_auth_code()"
            )
        return application.initiate_device_flow(list(scopes), claims_challenge=claims)

    key = client.key("device_code", scopes, secrets.token_urlsafe())
    flow = client.prepare(initiate, key)
    if "device_code" not in flow.cell_contents:
        raise error_from_answer(Answer(flow.cell_contents), host=client.authority.host)
    return DeviceCode(client, flow, scopes, claims, clock)


def _ended() -> InteractionRequiredError:
    return InteractionRequiredError(
        "nobody has entered the device's code in time, and it has ended: begin_device_code() again"
    )
