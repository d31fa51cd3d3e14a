"""What the sidecar's answers mean. They are read as an enemy would have written them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._runtime.secrecy import Hidden
from ..entra.answers import Answer, error_from_answer, spoken
from ..errors import (
    BearerRefusedError,
    ConfigurationError,
    ServiceUnavailableError,
    SidecarError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
)

__all__ = ["Received", "failure_of", "json_of", "received"]

#: The longest ``Retry-After``, in seconds, that is believed.
_LONGEST_PAUSE = 86_400.0
_GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CORRELATION = re.compile(rf"Correlation ID:\s{{0,4}}({_GUID})", re.IGNORECASE)
_TRACE = re.compile(rf"Trace ID:\s{{0,4}}({_GUID})", re.IGNORECASE)
#: How MSAL.NET says that the service is in trouble, where that has not said so itself.
_STATUS = re.compile(r"status code does not indicate success: ([0-9]{3})\b")
_THROTTLED = ("request_throttled", "TooManyRequests", "AADSTS50196", "AADSTS90055")
_FAILING = ("service_not_available", "temporarily_unavailable", "AADSTS90033", "AADSTS50194")
#: What is missing, as the scope check of ``/Validate`` has it.
_MISSING = re.compile(r"does not contain scopes? '([\x21-\x7e ]{1,1000})'")


class Received(NamedTuple):
    """An answer as it came."""

    status: int
    #: By their names in lower case.
    headers: Mapping[str, str]
    #: The bytes.
    body: Hidden
    #: Whether the request had a caller's token in it.
    with_bearer: bool

    @property
    def media_type(self) -> str:
        """What the body says that it is."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def received(
    status: int, headers: Mapping[str, str], body: Hidden, *, most: int, with_bearer: bool
) -> Received | TokenManagerError:
    """Takes an answer, or says why it is none.

    Args:
        status: The HTTP status.
        headers: Its headers.
        body: As many bytes as were read, which is one more than ``most`` where there are more.
        most: As many bytes may be in it.
        with_bearer: Whether the request had a caller's token in it.
    """
    named = {name.lower(): value for name, value in headers.items()}
    if len(body.cell_contents) > most:
        return SidecarError(
            f"the sidecar answered HTTP {status} with more than {most} bytes: raise max_bytes= if "
            "its downstream API says so much",
            status=status,
        )
    if named.get("content-encoding", "identity").lower() != "identity":
        return SidecarError(
            f"the sidecar answered HTTP {status} with what is compressed, which nobody has asked "
            "for: check what answers there",
            status=status,
        )
    return Received(status, named, body, with_bearer)


def json_of(answer: Received) -> Hidden:
    """Reads the JSON object of an answer.

    Raises:
        SidecarError: It holds none.
    """
    said = _parsed(answer)
    if said.cell_contents is None:
        raise SidecarError(
            f"the sidecar answered HTTP {answer.status} with what is not a JSON object: check that "
            "it is the Microsoft Entra SDK for AgentID that answers there",
            status=answer.status,
            retryable=True,
        )
    return said


def failure_of(answer: Received) -> TokenManagerError:
    """Makes the error of an answer that is not HTTP 200."""
    status = answer.status
    if status == 401:
        return _of_401(answer)
    if status == 403:
        return _of_403(answer)
    if status == 400:
        return ConfigurationError(
            f"the sidecar does not take the call: {spoken(_detail(answer), None)}. Check the "
            "service's name, and give scopes= where the sidecar's configuration has none for it",
            status=400,
        )
    if 300 <= status < 400:
        return SidecarError(
            f"the sidecar answered with a redirect (HTTP {status}), which is not followed, since "
            "the request carries a caller's token: set base_url= to where it leads",
            status=status,
        )
    if status == 429 or status >= 500:
        return _of_trouble(answer)
    return SidecarError(
        f"the sidecar answered HTTP {status}: check that it is the Microsoft Entra SDK for AgentID "
        "1.x that answers at base_url=",
        status=status,
    )


def _of_401(answer: Received) -> TokenManagerError:
    if _parsed(answer).cell_contents is not None:
        return _of_token_request(answer)
    if answer.with_bearer and not answer.body.cell_contents:
        return BearerRefusedError(
            "the token was refused: send a current access token for this API, whose audience it is"
        )
    return SidecarError(
        "the sidecar answered HTTP 401 without saying why: check that it is the Microsoft Entra "
        "SDK for AgentID that answers there",
        status=401,
    )


def _of_403(answer: Received) -> TokenManagerError:
    text = answer.body.cell_contents.decode("utf-8", "replace")
    if answer.with_bearer and text.startswith("IDW10203"):
        missing = _MISSING.search(text)
        scopes = () if missing is None else tuple(re.split(r"[ ,]+", missing[1].strip(" ,")))
        text = ""
        return BearerRefusedError(
            "the token lacks a scope that this API needs: ask for one of its scopes",
            status=403,
            error="insufficient_scope",
            scopes=scopes,
        )
    text, empty = "", text == ""
    why = "serves its own machine alone" if empty else "does not allow it"
    return SidecarError(
        f"the sidecar {why} (HTTP 403): run it next to the program, in the same pod, and call it "
        "over loopback",
        status=403,
    )


def _of_token_request(answer: Received) -> TokenManagerError:
    """What became of the token request, in the words of Entra that the sidecar repeats."""
    detail = _detail(answer)
    return _typed(detail, _kind_of(detail) or TokenRequestError, answer)


def _of_trouble(answer: Received) -> TokenManagerError:
    detail = _detail(answer)
    if "AADSTS" in detail.cell_contents:
        return _typed(detail, _kind_of(detail) or SidecarError, answer)
    kind: type[TokenManagerError] = ThrottledError if answer.status == 429 else SidecarError
    return kind(
        f"the sidecar answered HTTP {answer.status}: {spoken(detail, None)}. Its own log says why",
        status=answer.status,
        retryable=True,
        retry_after=_retry_after(answer),
    )


def _typed(detail: Hidden, kind: type[TokenManagerError], answer: Received) -> TokenManagerError:
    ids = {"correlation_id": _CORRELATION, "trace_id": _TRACE}
    found = {name: each.search(detail.cell_contents) for name, each in ids.items()}
    said = {"error_description": detail.cell_contents} | {
        name: match[1] for name, match in found.items() if match is not None
    }
    said, whole = {}, Hidden(said)
    return error_from_answer(
        Answer(whole.cell_contents),
        kind=kind,
        retry_after=_retry_after(answer),
        status=answer.status,
        host="the sidecar",
    )


def _kind_of(detail: Hidden) -> type[TokenManagerError] | None:
    """Tells throttling and outages, which have the status of every other refusal."""
    status = _STATUS.search(detail.cell_contents)
    number = 0 if status is None else int(status[1])
    if number == 429 or any(each in detail.cell_contents for each in _THROTTLED):
        return ThrottledError
    if number >= 500 or any(each in detail.cell_contents for each in _FAILING):
        return ServiceUnavailableError
    return None


def _detail(answer: Received) -> Hidden:
    said = _parsed(answer)
    for name in ("detail", "title"):
        value = Hidden((said.cell_contents or {}).get(name))
        if isinstance(value.cell_contents, str) and value.cell_contents:
            return Hidden(value.cell_contents[:4_096])
    return Hidden("no reason given")


def _parsed(answer: Received) -> Hidden:
    """The JSON object of an answer; None where it is none."""
    said: Any = Hidden(None)
    if answer.media_type in ("application/json", "application/problem+json"):
        try:
            said = Hidden(json.loads(answer.body.cell_contents))
        except (ValueError, RecursionError):
            return Hidden(None)
    return said if isinstance(said.cell_contents, dict) else Hidden(None)


def _retry_after(answer: Received) -> float | None:
    text = answer.headers.get("retry-after", "")
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        return None
    return min(float(text), _LONGEST_PAUSE)
