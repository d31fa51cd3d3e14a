"""What the token endpoint answers, made into a token or a typed error."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any

from .._runtime.secrecy import Hidden
from ..errors import ServiceUnavailableError, TokenManagerError, TokenRequestError
from ..identity.assertions import json_part
from ..token import AccessToken
from .meanings import meaning_of

__all__ = [
    "Answer",
    "device_code_of",
    "error_from_answer",
    "normalized",
    "spoken",
    "token_from_answer",
]


#: How each token is presented, in whichever case a service spells it (RFC 6749, section 5.1).
_BEARER = "Bearer"
#: The seconds that a token lives where the service does not say: a little less than Entra's do.
_LIFE = 3599.0

#: What is read of a refusal, and is a text.
_OF_REFUSALS = (
    *("error", "suberror", "error_description"),
    *("correlation_id", "trace_id", "claims"),
)


#: A word, with neither quotes nor brackets around it; and what is quoted behind "user".
_WORD = r"""[^\s'"<>()\[\]{},;]+"""
_AFTER_USER = (
    r"""(?i)(\b(?:user|account|username|upn)(?: name| account)?\s{0,4}[:=]?\s{0,4})(['"])"""
    r"""[^'"\r\n]{1,256}\2"""
)

#: The longest refresh token that is taken for one: what a store keeps has room for little more.
_LONGEST_REFRESH = 16_384
#: The longest id token: the claims that an account is kept with, in base64, and their signature.
_LONGEST_ID_TOKEN = 32_768
#: The longest ``client_info`` that is read: it holds two GUIDs, or names in their place.
_LONGEST_CLIENT_INFO = 4_096
#: What a device is told (RFC 8628, section 3.2), and the longest of it. ``message`` is Microsoft's.
_OF_DEVICES = ("device_code", "user_code", "verification_uri", "message")
_LONGEST_OF_DEVICES = 4_096
#: Seconds that a device's user has at most, whatever a service says.
_LONGEST_FLOW = 86_400
#: The longest name of an error; what is longer is something else.
_LONGEST_NAME = 100


class Answer:
    """What a service said. It shows nothing of it, as there may be a token in it.

    Args:
        said: The JSON object.
    """

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = Hidden(said)

    def __contains__(self, name: str) -> bool:
        return name in self._said.cell_contents

    def get(self, name: str) -> Any:
        """Gives a member; None where there is none."""
        return self._said.cell_contents.get(name)

    def text(self, name: str) -> str | None:
        """Gives a member that is a text; None for any other."""
        return self.get(name) if isinstance(self.get(name), str) else None

    @property
    def has_token(self) -> bool:
        """Whether there is a token in it that can be sent."""
        # What becomes part of a header must not be able to end it (RFC 6750, section 2.1).
        return _is_visible(self.get("access_token"))

    @property
    def refresh_token(self) -> str:
        """The refresh token; empty where there is none that could be kept."""
        given = Hidden(self.text("refresh_token") or "")
        whole = _is_visible(given.cell_contents) and len(given.cell_contents) <= _LONGEST_REFRESH
        return str(given.cell_contents) if whole else ""

    @property
    def id_token(self) -> Hidden:
        """The id token (OpenID Connect Core, section 3.1.3.3), a text; empty where there is none.

        Raises:
            TokenRequestError: It is none, or longer than any.
        """
        given = Hidden(self.get("id_token") or "")
        if given.cell_contents and not _is_visible(given.cell_contents):
            raise TokenRequestError("the service sent an id token that is none: report it there")
        if len(given.cell_contents) > _LONGEST_ID_TOKEN:
            raise TokenRequestError(
                f"the id token is longer than {_LONGEST_ID_TOKEN} characters: have the app's "
                "registration put fewer claims into it, such as groups"
            )
        return given

    @property
    def home_account_id(self) -> str:
        """What ``client_info`` calls the account: "uid.utid"; empty where it does not.

        Microsoft's services alone send it, and nothing is lost with one that cannot be read.
        """
        given = Hidden(self.text("client_info") or "")
        if len(given.cell_contents) > _LONGEST_CLIENT_INFO:
            return ""
        said = Hidden(json_part(given))
        parts: list[Any] = [(said.cell_contents or {}).get(name) for name in ("uid", "utid")]
        return ".".join(parts) if all(map(_is_visible, parts)) else ""

    @property
    def error(self) -> str | None:
        """The name of the error; None where there is none, as with an object or a page."""
        error = self.text("error") or ""
        named = 0 < len(error) <= _LONGEST_NAME and error.isprintable() and "<" not in error
        return error if named else None


def error_from_answer(
    answer: Answer,
    *,
    kind: type[TokenManagerError] = TokenRequestError,
    retry_after: float | None = None,
    status: int | None = None,
    host: str = "the service",
    secret: Hidden | None = None,
) -> TokenManagerError:
    """Makes the typed error of an answer that holds no token.

    Args:
        answer: What the service sent; an empty object when it sent none.
        kind: What to raise where the answer does not say more; for HTTP 429 and 5xx, at any rate.
        retry_after: Seconds, where the service sent ``Retry-After``.
        status: The HTTP status.
        host: Who answered, for the message.
        secret: The app's own proof, which a service may repeat in its description.
    """
    codes = _codes(answer)
    error = answer.error
    kind, advice = meaning_of(codes, (answer.text("suberror"), error), kind)
    said = spoken(Hidden(answer.text("error_description") or error or "no reason given"), secret)
    if error is None and status is not None:
        said = f"{said} (HTTP {status})"
    correlation_id = answer.text("correlation_id")
    support = ""
    if correlation_id:
        support = f" Correlation id: {spoken(Hidden(correlation_id), secret)}."
    return kind(
        f"{host} gave no token: {said}. What to do: {advice}.{support}",
        error=error,
        error_codes=codes,
        correlation_id=correlation_id,
        trace_id=answer.text("trace_id"),
        claims=answer.text("claims"),
        retry_after=retry_after,
        status=status,
    )


def normalized(answer: Answer, status: int) -> dict[str, Any]:
    """Makes of what a token endpoint sent what MSAL is to see: what is needed, of the right types.

    MSAL's cache, which nobody reads, stumbles over members that nobody needs: a good token would
    be lost with them. What a sign-in brings besides is read by us: MSAL verifies nothing of it.

    Args:
        answer: What the service sent.
        status: The HTTP status. What is a failure by it, or names an error, holds no token,
            whatever else it names (RFC 6749, section 5.2).
    """
    if answer.get("error") or not 200 <= status < 300:
        texts = {name: answer.text(name) for name in _OF_REFUSALS if answer.text(name) is not None}
        return texts | {"error_codes": list(_codes(answer))}
    numbers = {name: _seconds(answer.get(name)) for name in ("expires_in", "refresh_in")}
    if answer.get("expires_in") not in (None, ""):
        numbers["expires_in"] = numbers["expires_in"] or 0.0  # which is refused
    return {
        "access_token": answer.get("access_token") if answer.has_token else "",
        "token_type": _token_type(answer.get("token_type")),
        **{name: seconds for name, seconds in numbers.items() if seconds is not None},
    }


def device_code_of(answer: Answer, status: int) -> dict[str, Any]:
    """Makes of what a device authorization endpoint sent what MSAL is to see (RFC 8628).

    Args:
        answer: What the service sent.
        status: The HTTP status.

    Raises:
        ServiceUnavailableError: It holds no code of use.
    """
    if answer.error is not None or not 200 <= status < 300:
        return normalized(answer, status)
    texts = {name: answer.text(name) or "" for name in _OF_DEVICES}
    # As some services called it before the RFC.
    texts["verification_uri"] = texts["verification_uri"] or answer.text("verification_url") or ""
    numbers = {name: _seconds(answer.get(name)) for name in ("expires_in", "interval")}
    whole = _is_visible(texts["device_code"]) and texts["user_code"].isprintable()
    whole = whole and texts["user_code"] != "" and texts["verification_uri"].startswith("https://")
    whole = whole and _is_visible(texts["verification_uri"])
    # It is shown in a terminal, which does whatever it is told by a control character.
    if not texts["message"].replace("\n", "").isprintable():
        texts["message"] = ""
    life, longest = numbers["expires_in"], max(map(len, texts.values()))
    if not whole or life is None or life <= 0 or longest > _LONGEST_OF_DEVICES:
        raise ServiceUnavailableError(
            "the service's answer holds no device code of use: begin again later", status=status
        )
    interval = numbers["interval"]
    return {
        **texts,
        "expires_in": min(int(life), _LONGEST_FLOW),
        **({} if interval is None else {"interval": min(max(int(interval), 1), _LONGEST_FLOW)}),
    }


def token_from_answer(
    answer: Answer,
    *,
    asked_at: float,
    scopes: tuple[str, ...],
    status: int | None = None,
    host: str = "the service",
) -> AccessToken:
    """Makes the token of an answer that holds one (RFC 6749, section 5.1).

    Args:
        answer: What MSAL returned.
        asked_at: The wall clock before the request was sent, so that no delay lengthens its life.
        scopes: What was asked for.
        status: The HTTP status.
        host: Who answered, for messages.

    Raises:
        ServiceUnavailableError: The answer is not whole.
        TokenRequestError: The token is of a type that is not known here.
    """
    if not answer.has_token:
        raise ServiceUnavailableError(
            f"{host}'s answer holds no access token of use: it is asked again later", status=status
        )
    _check_type(answer, status, host)
    unsaid = answer.get("expires_in") in (None, "")
    expires_in = _LIFE if unsaid else _seconds(answer.get("expires_in"))
    if expires_in is None or expires_in <= 0:
        raise ServiceUnavailableError(
            f"{host}'s answer holds no expires_in of use: it is asked again later", status=status
        )
    return AccessToken(
        secret=answer.get("access_token"),
        expires_at=asked_at + expires_in,
        refresh_at=_refresh_at(answer, asked_at),
        scopes=scopes,
    )


def _check_type(answer: Answer, status: int | None, host: str) -> None:
    token_type = _token_type(answer.get("token_type"))
    if token_type != _BEARER:
        raise TokenRequestError(
            f"{host} gave a token of type {spoken(Hidden(token_type), None)!r}, and none but "
            "Bearer can be presented: have it issue bearer tokens to this app",
            status=status,
        )


def _refresh_at(answer: Answer, asked_at: float) -> float | None:
    """Reads when the service would like its token renewed."""
    refresh_on = _seconds(answer.get("refresh_on"))
    if refresh_on is None:
        return None
    # MSAL turns refresh_in into refresh_on on the machine's real clock; this turns it back.
    return asked_at + max(0.0, refresh_on - time.time())


def _codes(answer: Answer) -> tuple[int, ...]:
    """Reads the AADSTS numbers from ``error_codes``, or from the description without it (B2C)."""
    given = answer.get("error_codes")
    numbers = given if isinstance(given, list) else [given]
    codes = [str(number) for number in numbers if isinstance(number, (int, str))]
    found = [code for each in codes for code in re.findall(r"\b\d{4,9}\b", each, re.ASCII)]
    found = found or re.findall(r"AADSTS(\d{4,9})", str(answer.get("error_description")))
    return tuple(int(code) for code in found)


def spoken(words: Hidden, secret: Hidden | None) -> str:
    """Cuts a service's words to what a log may hold: one short line without tokens and names."""
    if secret is not None and secret.cell_contents:
        words = Hidden(words.cell_contents.replace(secret.cell_contents, "[…]"))
    words = Hidden(re.sub(r"eyJ[\w-]+(\.[\w-]*)*", "[…]", words.cell_contents))
    words = Hidden(re.sub(_AFTER_USER, r"\1\2[…]\2", words.cell_contents))
    words = Hidden(re.sub(_WORD, _unless_address, words.cell_contents))
    text = words.cell_contents.partition("Trace ID:")[0]
    text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:300].rstrip(" .")


def _unless_address(word: re.Match[str]) -> str:
    """Leaves out what names a person: an address, as user principal names are too."""
    return "[…]" if "@" in word[0] or "%40" in word[0] else word[0]


def _is_visible(value: object) -> bool:
    """Whether it is a text of visible ASCII characters, not a pattern's business to compile."""
    text = value if isinstance(value, str) else ""
    return text != "" and text.isascii() and text.isprintable() and " " not in text


def _token_type(value: object) -> str:
    if value in (None, "") or str(value).lower() == _BEARER.lower():
        return _BEARER
    return str(value)


def _seconds(value: object) -> float | None:
    """Reads a number of seconds; some authorities send it as a string."""
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else None
