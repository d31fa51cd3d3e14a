"""The demo's work: threads that call an API with bearer tokens, and what they saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
from requests.auth import AuthBase

from ..errors import TokenManagerError
from ..http.requests import BearerAuth
from ..manager import AccessTokenManager
from ..token import AccessToken

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Seen", "Tally", "Traffic"]

_WORKERS_PER_MANAGER = 2
#: Seconds between two calls of a worker.
_PAUSE = 0.1
#: Seconds that a call may take.
_CALL_TIMEOUT = 10.0


@dataclass(frozen=True)
class Seen:
    """What the workers of one manager have seen up to now."""

    #: The newest token that any of them used; None before the first.
    token: AccessToken | None = None
    #: How many different tokens they used.
    tokens: int = 0
    #: Calls that the API answered with 200.
    served: int = 0
    #: Calls that had no such answer.
    failed: int = 0
    #: Why the last of those failed; empty when none did.
    last_failure: str = ""
    #: The longest that a call waited for a token, in seconds, once the first token was there.
    longest_wait: float = 0.0


class Tally:
    """Counts what the workers of one manager see. Safe to use from any thread.

    Args:
        manager: Whose tokens they use.
        authority: Where it gets them, as a person would say it.
    """

    def __init__(self, manager: AccessTokenManager, *, authority: str) -> None:
        self.manager = manager
        self.scope: str = " ".join(manager.scopes)
        self.authority = authority
        self._lock = threading.Lock()  # guards the fields below
        self._token: AccessToken | None = None
        self._tokens = 0
        self._served = 0
        self._last_failure = ""
        self._failed = 0
        self._longest_wait = 0.0

    def seen(self) -> Seen:
        """All of it, as it is at this moment."""
        with self._lock:
            return Seen(
                token=self._token,
                tokens=self._tokens,
                served=self._served,
                failed=self._failed,
                last_failure=self._last_failure,
                longest_wait=self._longest_wait,
            )

    def used(self, token: AccessToken, *, waited: float) -> None:
        """Notes the token of a call, and the seconds that the call waited for it."""
        with self._lock:
            # Two workers may note theirs in the wrong order: only a newer one counts as new.
            if self._token is None or token.expires_at > self._token.expires_at:
                self._token = token
                self._tokens += 1
            self._longest_wait = max(self._longest_wait, waited)

    def served(self) -> None:
        """Notes a call that the API answered with 200."""
        with self._lock:
            self._served += 1

    def failed(self, reason: str) -> None:
        """Notes a call that failed, and why."""
        with self._lock:
            self._failed += 1
            self._last_failure = reason


class _WatchedBearer(AuthBase):
    """Puts the token on a request as BearerAuth does, and notes which one and how long it took."""

    def __init__(self, tally: Tally, host: str) -> None:
        self._tally = tally
        self._bearer = BearerAuth(tally.manager, hosts=[host])

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        first = self._tally.seen().token is None
        started = time.perf_counter()
        signed: requests.PreparedRequest = self._bearer(request)
        waited = time.perf_counter() - started
        # The very first token is worth waiting for; every later one should be there already.
        self._tally.used(self._tally.manager.get_token(), waited=0.0 if first else waited)
        return signed


class Traffic:
    """Calls one API with the tokens of several managers, from a few threads each, until it ends.

    Args:
        tallies: The managers, and where to note what becomes of their calls.
        url: What to call.
        host: The host in ``url``.
        ca_file: The path of the certificate authorities that its certificate is checked against.
    """

    def __init__(self, tallies: Sequence[Tally], *, url: str, host: str, ca_file: str) -> None:
        self._url = url
        self._host = host
        self._ca_file = ca_file
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(tally,), name=f"worker-{tally.scope}")
            for tally in tallies
            for _ in range(_WORKERS_PER_MANAGER)
        ]

    @property
    def workers(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, tally: Tally) -> None:
        with requests.Session() as session:
            # Neither a proxy nor a REQUESTS_CA_BUNDLE of this machine is meant for its loopback.
            session.trust_env = False
            session.verify = self._ca_file
            session.auth = _WatchedBearer(tally, self._host)
            while not self._stopping.is_set():
                self._call(session, tally)
                self._stopping.wait(_PAUSE)

    def _call(self, session: requests.Session, tally: Tally) -> None:
        try:
            status = session.get(self._url, timeout=_CALL_TIMEOUT).status_code
        except (TokenManagerError, requests.RequestException) as error:
            tally.failed(type(error).__name__)
        else:
            if status == requests.codes.ok:
                tally.served()
            else:
                tally.failed(f"HTTP {status}")
