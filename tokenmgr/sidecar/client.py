"""SidecarClient: the sidecar, over a pool of connections that threads share."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from .._runtime.secrecy import Hidden
from ..errors import TokenManagerError
from .answers import Received
from .asking import asked_of
from .base import BaseClient
from .calls import Outcome, Send, Steps
from .results import DownstreamResponse, ValidatedToken
from .wire import Wire

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .overrides import CallOverrides, TokenOverrides

__all__ = ["SidecarClient"]

T = TypeVar("T")


class SidecarClient(BaseClient):
    """Asks the Microsoft Entra SDK for AgentID for tokens, and to call APIs with them.

    Make one for the program, and share it between threads; it goes over a fork. Making one opens
    nothing. A coroutine takes :class:`~tokenmgr.sidecar.AsyncSidecarClient`.

    Example:
        >>> from tokenmgr.sidecar import SidecarClient
        >>> sidecar = SidecarClient("http://localhost:5000", timeout=10)
        >>> sidecar.base_url
        'http://localhost:5000'

    Args:
        base_url: Where it is; left out, ``SIDECAR_URL`` says so, or else it is
            ``http://localhost:5000``. Callers' tokens go there: by http on this machine alone.
        timeout: Seconds that one call may take, with all that is repeated.
        retries: How often a request for a header or a validation is repeated at most, where the
            sidecar fails. The call of a downstream API is never repeated.
        max_bytes: So much may be in the answer of a downstream API, as the sidecar writes it.
        overrides_opened: Whether the sidecar's operator has opened the calls without a caller to
            overrides (``Sidecar__AllowOverrides__CallDownstreamApiUnauthenticated``). Otherwise
            the sidecar passes over them without a word, and so such calls are not made.
        verify: The path of the certificate authorities for https, True for those that ``requests``
            ships, False for no check at all; None does as ``requests`` does.

    Raises:
        ConfigurationError: A setting cannot be right, or tokens would go to another machine in
            the clear.
    """

    def _prepare(self) -> None:
        self._wire = Wire(self._sidecar.address, self._verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def get_authorization_header(
        self,
        incoming_token: str | None = None,
        service_name: str = "",
        scopes: str | Iterable[str] | None = None,
        tenant: str | None = None,
        agent_identity: str | None = None,
        agent_username: str | None = None,
        *,
        as_app: bool = False,
        **overrides: Unpack[TokenOverrides],
    ) -> str:
        """Gives the value of an ``Authorization`` header for a downstream API.

        Args:
            incoming_token: The token that the caller has sent to this API, with or without
                ``Bearer``. It is what the sidecar exchanges on the caller's behalf.
            service_name: The downstream API, as the sidecar's ``DownstreamApis`` name it.
            scopes: What the token is for; left out, what the sidecar's configuration says.
            tenant: The tenant, by its GUID or domain; as configured when left out.
            agent_identity: The agent that acts, by its client id.
            agent_username: The agent's user, by user principal name.
            as_app: Whether the token is for the app or agent by itself: without a caller, and so
                without ``incoming_token``.
            **overrides: See :class:`~tokenmgr.sidecar.TokenOverrides`.

        Raises:
            BearerRefusedError: The caller has sent no token, or one that the sidecar refuses:
                answer with its ``status``.
            OverrideIgnoredError: The token is of another agent, user, tenant or kind than was
                asked for.
            TokenRequestError: Entra gave no token; its type says why, as for any other token. The
                sidecar does not pass on the claims that a sign-in has to satisfy.
            ConfigurationError: What was asked for cannot be right.
            SidecarError: The sidecar gave no answer of use.
        """
        incoming_token, overrides, token, more = None, {}, Hidden(incoming_token), Hidden(overrides)
        asked = asked_of(
            more,
            scopes=scopes,
            tenant=tenant,
            agent_identity=agent_identity,
            agent_username=agent_username,
        )
        return self._go(
            self._sidecar.authorization_header(token, service_name, asked, as_app=as_app)
        )

    def call_downstream_api(
        self,
        incoming_token: str | None = None,
        service_name: str = "",
        relative_path: str | None = None,
        method: str | None = None,
        body: object = None,
        scopes: str | Iterable[str] | None = None,
        *,
        as_app: bool = False,
        **overrides: Unpack[CallOverrides],
    ) -> DownstreamResponse:
        """Has the sidecar call a downstream API, and gives what that answers, whatever it is.

        Where its operator has closed the calls with a caller to overrides (``CallDownstreamApi``,
        which is open unless somebody closes it), the sidecar passes over them here too, and nothing
        in the answer tells.

        Args:
            incoming_token: As for :meth:`get_authorization_header`.
            service_name: As there.
            relative_path: What follows the API's base URL; as configured when left out.
            method: The API's HTTP method. Left out, it is what is configured, or GET where
                anything else is overridden.
            body: What the API is sent: a text as it is, all else as JSON.
            scopes: As there.
            as_app: As there. The sidecar takes overrides with it only where its operator has
                opened it to them; see ``overrides_opened=``.
            **overrides: See :class:`~tokenmgr.sidecar.CallOverrides`.

        Raises:
            BearerRefusedError: As there.
            OverrideIgnoredError: The sidecar would pass over what is overridden: nothing was sent.
            TokenRequestError: As there.
            ConfigurationError: As there.
            SidecarError: As there. The call may have been made all the same.
        """
        incoming_token, body, overrides, given = (
            None,
            None,
            {},
            Hidden((incoming_token, body, overrides)),
        )
        token, content, more = map(Hidden, given.cell_contents)
        asked = asked_of(more, scopes=scopes, relative_path=relative_path, method=method)
        return self._go(
            self._sidecar.downstream_call(token, service_name, asked, content, as_app=as_app)
        )

    def validate(self, incoming_token: str | None) -> ValidatedToken:
        """Gives what a caller's token says, once the sidecar has accepted it for this API.

        Args:
            incoming_token: As for :meth:`get_authorization_header`.

        Raises:
            BearerRefusedError: There is none, or it is refused: answer with its ``status``.
            SidecarError: The sidecar gave no answer of use.
        """
        incoming_token, token = None, Hidden(incoming_token)
        return self._go(self._sidecar.validation(token))

    def healthy(self) -> bool:
        """Says whether the sidecar is ready, within two seconds."""
        return self._go(self._sidecar.look())

    def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Waits until the sidecar is ready, as when both have just been started.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            SidecarError: It was not ready by then.
        """
        self._go(self._sidecar.readiness(timeout))

    def close(self) -> None:
        """Closes the connections. Every later call raises ConfigurationError."""
        self._wire.close()

    def _go(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                answer: Received | TokenManagerError | None = None
                if isinstance(step, Send):
                    answer = self._wire.send(step.call, step.seconds)
                else:
                    time.sleep(step.seconds)
                step = steps.send(answer)
        except StopIteration as end:
            outcome: Outcome[T] = end.value
        return outcome.get()
