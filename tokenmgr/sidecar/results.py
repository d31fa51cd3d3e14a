"""What the sidecar's answers are made into."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .._runtime.secrecy import Hidden, Unpicklable
from .._runtime.values import Value
from ..errors import SidecarError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DownstreamResponse", "ValidatedToken"]


class _Headers(Mapping[str, str]):
    """Headers, whose names are found in any case."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name.lower(): (name, value) for name, value in values.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{len(self)} headers>"


class DownstreamResponse(Unpicklable):
    """What a downstream API has answered, as the sidecar passes it on. Its repr shows its status.

    The sidecar passes on what describes the content, and no other headers: neither ``Retry-After``
    nor ``Location``. Of an answer that does not say how long it is, it passes on no content.
    """

    def __init__(self, status: int, headers: Mapping[str, str], content: Hidden) -> None:
        #: The API's HTTP status.
        self.status: int = status
        #: Its headers that describe the content; of one that came several times, the values with
        #: commas between them.
        self.headers: Mapping[str, str] = _Headers(headers)
        self._content = content

    def __repr__(self) -> str:
        return f"<DownstreamResponse {self.status}>"

    @property
    def ok(self) -> bool:
        """Whether the status says that it went well."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The content; empty where there is none."""
        text: str = self._content.cell_contents or ""
        return text

    def json(self) -> Any:
        """Gives the content as what its JSON says.

        Raises:
            SidecarError: It is no JSON.
        """
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            pass
        raise SidecarError(
            f"the downstream API answered HTTP {self.status} with what is no JSON: see its .text",
            status=self.status,
        )

    def raise_for_status(self) -> Self:
        """Gives the response itself, where its status says that it went well.

        Raises:
            SidecarError: It did not: ``status`` is the API's, and ``retryable`` true where asking
                again later may do.
        """
        if self.ok:
            return self
        raise SidecarError(
            f"the downstream API answered HTTP {self.status}: see its .text for what it says",
            status=self.status,
            retryable=self.status == 429 or self.status >= 500,
        )


class ValidatedToken(Value, Unpicklable):
    """A caller's token that the sidecar has validated. Its repr shows nothing of it."""

    _hidden = frozenset({"claims"})

    #: How it was presented: ``Bearer``.
    protocol: str
    #: What it says.
    claims: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash((self.protocol, str(self.claims.get("sub"))))
