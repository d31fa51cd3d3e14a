"""A service in virtual time. What asks it is real, down to the adapter of its session."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs

import msal.individual_cache
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse
from urllib3.util import Timeout

from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.entra.wire import connection, exchange
from tokenmgr.entra.wire.connection import Connection
from tokenmgr.entra.wire.transport import Transport

from .virtual_time import VirtualTime

__all__ = [
    "AUTHORITY",
    "SECRET",
    "TROUBLES",
    "VirtualConnection",
    "VirtualService",
    "in_virtual_time",
]

AUTHORITY = "https://login.microsoftonline.com/contoso.onmicrosoft.com"
SECRET = "the secret's value"  # noqa: S105 - nobody's
#: Seconds that it takes to answer.
_LATENCY = 0.05
#: Seconds for which an answer is waited for by who names none.
_PATIENCE = 10.0

_METADATA = {
    "issuer": f"{AUTHORITY}/v2.0",
    "token_endpoint": f"{AUTHORITY}/oauth2/v2.0/token",
    "authorization_endpoint": f"{AUTHORITY}/oauth2/v2.0/authorize",
}
_REFUSAL = {
    "error": "invalid_client",
    "error_description": "AADSTS7000215: Invalid client secret provided.",
    "error_codes": [7000215],
}
_TOKEN = {"token_type": "Bearer", "access_token": "a-token", "expires_in": 3600}


class VirtualService(BaseAdapter):
    """The service, and what a session is mounted on to ask it."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self.time = time
        #: What becomes of a request, and of the seconds for which its answer is waited for; None
        #: when the service is well.
        self.trouble: Callable[[VirtualService, float], requests.Response] | None = None
        #: How many it was asked, and how many of them in trouble, when that is over.
        self.requests = self.requests_in_trouble = 0

    def send(self, request: requests.PreparedRequest, **settings: Any) -> requests.Response:  # type: ignore[override]
        """Answers a request, or does not."""
        self.requests += 1
        if self.trouble is None:
            self.time.sleep(_LATENCY)
            answer = _said(request)
        else:
            timeout = settings.get("timeout")
            patience = timeout.total if isinstance(timeout, Timeout) else timeout
            answer = self.trouble(self, patience or _PATIENCE)
        answer.request, answer.url = request, str(request.url)
        return answer

    def close(self) -> None:
        """Has nothing to close."""


def _refuse(service: VirtualService, patience: float) -> requests.Response:
    raise requests.ConnectionError(f"nobody listens at {service.time.now} s, for {patience} s")


def _fail(service: VirtualService, patience: float) -> requests.Response:
    service.time.sleep(min(_LATENCY, patience))
    return _answer(503, {})


def _hang(service: VirtualService, patience: float) -> requests.Response:
    service.time.sleep(patience)
    raise requests.ReadTimeout("no answer")


#: What becomes of a request, by what is the matter.
TROUBLES: dict[str, Callable[[VirtualService, float], requests.Response]] = {
    "service is gone, its port closed": _refuse,
    "service answers 503": _fail,
    "service does not answer": _hang,
}


def _said(request: requests.PreparedRequest) -> requests.Response:
    if request.method == "GET":
        return _answer(200, _METADATA)
    if parse_qs(str(request.body))["client_secret"] == [SECRET]:
        return _answer(200, _TOKEN)
    return _answer(401, _REFUSAL)


def _answer(status: int, said: dict[str, Any]) -> requests.Response:
    answer = requests.Response()
    answer.status_code = status
    answer.raw = HTTPResponse(io.BytesIO(json.dumps(said).encode()), preload_content=False)
    return answer


class _VirtualTransport(Transport):
    """What a connection goes through, but for whom it reaches, and what it waits by."""

    def __init__(self, service: VirtualService) -> None:
        super().__init__(None, Hidden({}))
        self._time = service.time
        # Of its own: the pool's has every registry of this process that names no settings either.
        self._session = requests.Session()
        self._session.mount("https://", service)

    def session(self) -> requests.Session:
        return self._session

    def wait(self, seconds: float) -> bool:
        self._time.sleep(seconds)
        return True


class VirtualConnection(Connection):
    """The way to such a service."""

    def __init__(self, service: VirtualService, *, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self._transport = _VirtualTransport(service)


@contextmanager
def in_virtual_time(time: VirtualTime) -> Iterator[None]:
    """Has the code that looks at the time, or sleeps, do it there. MSAL's too."""
    with ExitStack() as stands_in:
        for module in (connection, exchange, msal.individual_cache):
            stands_in.enter_context(patch.object(module, "time", time))
        yield
