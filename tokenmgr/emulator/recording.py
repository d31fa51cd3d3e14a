"""The log of what the emulator was asked, for tests to look into and to wait for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

__all__ = ["RecordedRequest", "RequestLog", "SecretMapping"]

_HIDDEN = frozenset(
    {
        "assertion",
        "authorization",
        "client_assertion",
        "client_secret",
        "code",
        "code_verifier",
        "cookie",
        "device_code",
        "flow",
        "id_token_hint",
        "mfa_code",
        "password",
        "refresh_token",
        "user_code",
        "user_federated_identity_credential",
    }
)


class SecretMapping(Mapping[str, str]):
    """A read-only mapping that tells its secrets when asked for one, never when printed."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = {
            key: "***" if key.lower() in _HIDDEN else value for key, value in self._values.items()
        }
        return f"{type(self).__name__}({shown!r})"


@dataclass(frozen=True)
class RecordedRequest:
    """One request that the emulator received.

    Attributes:
        kind: What was asked for: ``token``, ``discovery``, ``keys``, ``graph``, ``authorize``,
            ``devicecode``, ``userrealm``, ``logout``, ``page`` (of a sign-in), ``device`` (where
            its code is typed), ``sidecar`` or ``other``.
        method: The HTTP method.
        path: The path, without the query.
        tenant: The tenant as the path named it, None where the path names none.
        grant_type: The grant that was asked for; None for all but token requests.
        scope: The scope that was asked for, as it was sent.
        client_id: The app that asked, as it named itself.
        status: The HTTP status of the answer. None while there is none, and for good where the
            connection was cut instead.
        form: The fields of the body, or of the address for ``authorize``, ``logout`` and
            ``sidecar``, whose lists have spaces between their values. Its secrets are readable,
            and hidden from its repr.
        headers: The headers, in any case. Their secrets are hidden from the repr as well.
        at: When it arrived, in seconds since the epoch.
        username: The user whom it is for, by its assertion, refresh token or bearer token, whether
            or not that is accepted; None for all others.
    """

    kind: str
    method: str
    path: str
    tenant: str | None
    grant_type: str | None
    scope: str | None
    client_id: str | None
    status: int | None
    form: Mapping[str, str]
    headers: Mapping[str, str]
    at: float
    username: str | None = None


class RequestLog:
    """Every request in the order of its arrival. Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards all that follows
        self._records: dict[int, RecordedRequest] = {}
        self._arrivals = 0

    def arrived(self, record: RecordedRequest) -> int:
        """Keep ``record``, and return the number by which :meth:`answered` knows it."""
        with self._changed:
            self._arrivals += 1
            self._records[self._arrivals] = record
            self._changed.notify_all()
            return self._arrivals

    def answered(self, number: int, status: int) -> None:
        """Note the answer. Nothing happens when the log was cleared in between."""
        with self._changed:
            record = self._records.get(number)
            if record is not None:
                self._records[number] = replace(record, status=status)

    def snapshot(self) -> tuple[RecordedRequest, ...]:
        """All that is in the log now."""
        with self._changed:
            return tuple(self._records.values())

    def count(
        self,
        *,
        kind: str = "token",
        grant_type: str | None = None,
        scope: str | None = None,
        status: int | None = None,
        username: str | None = None,
    ) -> int:
        """How many requests are of this kind, and match whatever else is given."""
        wanted = {
            "kind": kind,
            "grant_type": grant_type,
            "scope": scope,
            "status": status,
            "username": username,
        }
        return sum(
            all(value is None or getattr(record, name) == value for name, value in wanted.items())
            for record in self.snapshot()
        )

    def wait_for(
        self,
        n: int,
        timeout: float,
        *,
        grant_type: str | None = None,
        scope: str | None = None,
        username: str | None = None,
    ) -> None:
        """Wait until ``n`` token requests have arrived.

        Raises:
            TimeoutError: Fewer had arrived after ``timeout`` seconds.
        """

        def seen() -> int:
            return self.count(grant_type=grant_type, scope=scope, username=username)

        with self._changed:
            arrived = self._changed.wait_for(lambda: seen() >= n, timeout)
        if not arrived:
            raise TimeoutError(f"{seen()} of {n} token requests had arrived after {timeout} s")

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._records.clear()
