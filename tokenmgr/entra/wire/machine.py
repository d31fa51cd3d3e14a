"""HTTP to what the machine itself answers: the endpoints that give managed identities' tokens.

They speak plain http, so that a token is as safe as the way to them is short: it leads to the
machine and no further. No proxy is asked, no redirect is followed, nothing is read from ``.netrc``,
and no connection outlives its fetch. MSAL takes the session as it is, and for Service Fabric makes
another one of it, which has the hook of this one, and none of its adapters.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import parse_url

from ..._runtime.forks import fork_allowed
from ..._runtime.secrecy import Hidden
from ...errors import ConfigurationError, ServiceUnavailableError, TokenManagerError
from .adapter import Deadline, TimedResponse
from .outcomes import outcome_of, parsed
from .transport import Response

__all__ = ["is_of_machine", "machine_session"]

#: What never leaves the machine, or its link (RFC 3927): virtual machines are answered at
#: 169.254.169.254, and App Service's containers on Linux at 169.254.129.2 and the like.
_LINK = ipaddress.ip_network("169.254.0.0/16")
#: The HTTP statuses of an endpoint that comes back ("How to use managed identities on an Azure VM
#: to acquire an access token", Error handling, on Microsoft Learn).
_NOT_THERE, _UPDATING = 404, 410


def is_of_machine(url: str) -> bool:
    """Whether an address is one of the machine itself, and may be asked by plain http.

    Args:
        url: The address, which is read as what connects there reads it.
    """
    try:
        parts = parse_url(url)
    except LocationParseError:
        return False
    host = (parts.host or "").strip("[]")
    if parts.scheme != "http" or parts.auth is not None or "\\" in url:  # which not all read alike
        return False
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or (address.version == _LINK.version and address in _LINK)


def machine_session(
    deadline: float, connect: float, heard: Callable[[int], object]
) -> requests.Session:
    """Makes what asks the machine, for one fetch.

    Args:
        deadline: Until when, on the monotonic clock.
        connect: Seconds for each connection.
        heard: Is told the HTTP status of each answer.
    """

    def check(answer: requests.Response, **_: Any) -> None:
        heard(answer.status_code)
        outcome = _outcome(answer, deadline)
        if isinstance(outcome, TokenManagerError):
            raise outcome
        answer._content = outcome.text.encode()  # noqa: SLF001 - or requests reads it without bounds
        answer.encoding = "utf-8"

    session = requests.Session()
    session.trust_env, session.max_redirects, session.stream = False, 0, True
    session.hooks = {"response": [check]}
    session.adapters.clear()
    session.mount("http://", _MachineAdapter(deadline, connect))
    session.mount("https://", _NoAdapter())
    return session


def _outcome(answer: requests.Response, deadline: float) -> Response | TokenManagerError:
    host, status = parse_url(answer.url).netloc or "the machine", answer.status_code
    with answer:
        try:
            outcome = outcome_of(answer, host, Hidden(None))
        except (HTTPError, OSError):
            outcome = ServiceUnavailableError(
                f"{host} gave no whole answer: it is asked again later", status=status
            )
    if time.monotonic() > deadline:
        return ServiceUnavailableError(f"{host} gave no answer in time: it is asked again later")
    if 300 <= status < 400:
        return ConfigurationError(
            f"{host} answered with a redirect (HTTP {status}), which is not followed: no endpoint "
            "of managed identities sends any. See what answers there",
            status=status,
        )
    return outcome if isinstance(outcome, TokenManagerError) else _judged(outcome, host)


def _judged(answer: Response, host: str) -> Response | TokenManagerError:
    """Gives the error that an answer stands for, where MSAL would make nothing of it."""
    status, challenge = answer.status_code, answer.headers.get("WWW-Authenticate") or ""
    if status == _UPDATING:
        return ServiceUnavailableError(
            f"{host} is being updated, which takes 70 seconds at most (HTTP 410): ask again then",
            status=status,
        )
    if status == _NOT_THERE:
        return ServiceUnavailableError(
            f"there is no endpoint of managed identities at {host}, or it is being updated (HTTP "
            "404): it is asked again later",
            status=status,
        )
    # Azure Arc's first answer names a file, to show that the program may read it.
    if parsed(answer) is None and not (status == 401 and challenge.lower().startswith("basic ")):
        # Docker Desktop's proxy among them, which says so of what it cannot reach.
        return ServiceUnavailableError(
            f"{host} answered HTTP {status} with what is no JSON object: no endpoint of managed "
            "identities is there",
            status=status,
        )
    return answer


class _Connection(HTTPConnection):
    response_class = TimedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _MachineAdapter(HTTPAdapter):
    """Sends requests to the machine alone, each within what is left of the fetch."""

    def __init__(self, deadline: float, connect: float) -> None:
        self._deadline = deadline
        self._longest_connect = connect
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool}

    @fork_allowed()
    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        url = request.url or ""
        if not is_of_machine(url):
            raise _refusal(url)
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        timeout: Any = Deadline(connect=self._longest_connect, total=left)
        return super().send(request, stream=True, timeout=timeout)


class _NoAdapter(HTTPAdapter):
    """What MSAL reads settings from for Service Fabric, and nobody sends by."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        if "IDENTITY_SERVER_THUMBPRINT" in os.environ:
            raise ConfigurationError(
                "this version of MSAL does not know Service Fabric's endpoint by its certificate: "
                "pip install 'msal>=1.38'"
            )
        raise _refusal(request.url or "")


def _refusal(url: str) -> ConfigurationError:
    try:
        host = parse_url(url).host
    except LocationParseError:
        host = None
    return ConfigurationError(
        f"the endpoint of managed identities at {host} is none of this machine, which are http at "
        "loopback addresses, at 169.254.169.254 and the like: check IDENTITY_ENDPOINT, "
        "MSI_ENDPOINT and AZURE_POD_IDENTITY_AUTHORITY_HOST"
    )
