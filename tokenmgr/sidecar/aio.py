"""AsyncSidecarClient: the sidecar, from coroutines, over httpx."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from .._runtime.loops import running_loop
from .._runtime.secrecy import Hidden
from ..errors import ConfigurationError, TokenManagerError
from .answers import Received, received
from .asking import asked_of
from .base import BaseClient
from .calls import Call, Outcome, Send, Steps
from .results import DownstreamResponse, ValidatedToken
from .trouble import late, unreachable, untrusted

try:
    import httpx
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.sidecar.AsyncSidecarClient needs httpx: pip install 'tokenmgr[httpx]'",
        name=_missing.name,
    ) from _missing

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .overrides import CallOverrides, TokenOverrides

__all__ = ["AsyncSidecarClient"]

T = TypeVar("T")

#: Connections that are open at once at most, in each event loop; who wants one more waits.
_MOST_AT_ONCE = 64


class AsyncSidecarClient(BaseClient):
    """Does as :class:`~tokenmgr.sidecar.SidecarClient`, from coroutines, and blocks no event loop.

    Make one for the program: event loops may share it, as each has connections of its own. It
    needs httpx: ``pip install 'tokenmgr[httpx]'``.

    Its arguments, and what they raise, are those of ``SidecarClient``.
    """

    def _prepare(self) -> None:
        self._closed = False
        #: A connection is its event loop's: one of another loop would wait for that for ever.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            WeakKeyDictionary()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def get_authorization_header(
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
        """Does as :meth:`SidecarClient.get_authorization_header`."""
        incoming_token, overrides, token, more = None, {}, Hidden(incoming_token), Hidden(overrides)
        asked = asked_of(
            more,
            scopes=scopes,
            tenant=tenant,
            agent_identity=agent_identity,
            agent_username=agent_username,
        )
        return await self._go(
            self._sidecar.authorization_header(token, service_name, asked, as_app=as_app)
        )

    async def call_downstream_api(
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
        """Does as :meth:`SidecarClient.call_downstream_api`."""
        incoming_token, body, overrides, given = (
            None,
            None,
            {},
            Hidden((incoming_token, body, overrides)),
        )
        token, content, more = map(Hidden, given.cell_contents)
        asked = asked_of(more, scopes=scopes, relative_path=relative_path, method=method)
        return await self._go(
            self._sidecar.downstream_call(token, service_name, asked, content, as_app=as_app)
        )

    async def validate(self, incoming_token: str | None) -> ValidatedToken:
        """Does as :meth:`SidecarClient.validate`."""
        incoming_token, token = None, Hidden(incoming_token)
        return await self._go(self._sidecar.validation(token))

    async def healthy(self) -> bool:
        """Does as :meth:`SidecarClient.healthy`."""
        return await self._go(self._sidecar.look())

    async def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Does as :meth:`SidecarClient.wait_until_ready`."""
        await self._go(self._sidecar.readiness(timeout))

    async def aclose(self) -> None:
        """Closes the connections of this event loop; those of others end with these.

        Every later call raises ConfigurationError.
        """
        self._closed = True
        client = self._clients.pop(running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _go(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                answer: Received | TokenManagerError | None = None
                if isinstance(step, Send):
                    answer = await self._send(step.call, step.seconds)
                else:
                    await asyncio.sleep(step.seconds)
                step = steps.send(answer)
        except StopIteration as end:
            outcome: Outcome[T] = end.value
        return outcome.get()

    async def _send(self, call: Call[Any], seconds: float) -> Received | TokenManagerError:
        client = self._client()
        try:
            return await asyncio.wait_for(_exchange(client, call), max(0.0, seconds))
        except (TimeoutError, asyncio.TimeoutError):
            return late()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as exc:
            # Not chained: its ``request`` holds the headers that were sent, with the token.
            if "CERTIFICATE_VERIFY" in str(exc):
                return untrusted()
            return unreachable(type(exc).__name__)

    def _client(self) -> httpx.AsyncClient:
        if self._closed:
            raise ConfigurationError("this client is closed: make a new one")
        loop = running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._new_client()
        return client

    def _new_client(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - what it has is one for the whole answer
            follow_redirects=False,
            trust_env=not self._sidecar.address.is_loopback,  # and so through no proxy
            verify=self._trusted(),
            limits=httpx.Limits(max_connections=_MOST_AT_ONCE),
        )
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
        return client

    def _trusted(self) -> bool | ssl.SSLContext:
        if self._sidecar.address.url.startswith("http:"):
            # One that trusts nobody: to read what others trust would hold the event loop up.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not isinstance(self._verify, str):
            return self._verify is not False
        if Path(self._verify).is_dir():
            return ssl.create_default_context(capath=self._verify)
        return ssl.create_default_context(cafile=self._verify)


async def _exchange(client: httpx.AsyncClient, call: Call[Any]) -> Received | TokenManagerError:
    async with client.stream(
        call.method,
        call.url.cell_contents,
        headers=call.headers.cell_contents,
        content=call.body.cell_contents,
    ) as answer:
        body, piece = Hidden(bytearray()), Hidden(b"")
        async for piece.cell_contents in answer.aiter_raw():
            body.cell_contents.extend(piece.cell_contents)
            if len(body.cell_contents) > call.most:
                break
        return received(
            answer.status_code,
            answer.headers,
            Hidden(bytes(body.cell_contents)),
            most=call.most,
            with_bearer=call.with_bearer,
        )
