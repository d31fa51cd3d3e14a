"""Reads what a credential is made of: texts, files, and what callables of the program's give."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import CoroutineType
from typing import cast

from .._runtime.secrecy import Hidden, is_unicode
from ..errors import ConfigurationError, TokenManagerError, TokenRequestError

__all__ = ["checked_text", "encoded", "is_content", "is_path", "read_file", "reader", "unreadable"]


def reader(
    given: Hidden, file: str | os.PathLike[str] | None, what: str
) -> tuple[Callable[[], Hidden], str]:
    """Makes the function that reads a text from where it is, and says where that is."""
    if file is not None:
        if not isinstance(file, (str, os.PathLike)) or not os.fspath(file):
            raise ConfigurationError(f"the file of the {what} is no path: give one")
        path = Path(file)
        return lambda: checked_text(Hidden(read_file(path, what)), f"{what} in {path}"), str(path)
    if callable(given.cell_contents):
        function = given.cell_contents
        return lambda: checked_text(
            Hidden(_call(function, what)), f"{what} from the callable"
        ), "a callable"
    return lambda: checked_text(given, what), "a text"


def is_path(source: object) -> bool:
    """Whether it may be a file's path."""
    return isinstance(source, (str, os.PathLike)) and source != "" and not is_content(source)


def is_content(source: str | os.PathLike[str]) -> bool:
    """Whether it is no path but a secret: a PFX in base64, as a vault gives it, or a JWT."""
    return isinstance(source, str) and len(source) > 255 and source.startswith(("MII", "eyJ"))


def checked_text(given: Hidden, what: str) -> Hidden:
    """Gives a text without the white space around it; bytes are read as UTF-8.

    Raises:
        ConfigurationError: It is no text, or none that UTF-8 can say, or empty.
    """
    if isinstance(given.cell_contents, CoroutineType):
        given.cell_contents.close()  # or Python warns that nobody has awaited it
        raise ConfigurationError(
            f"the {what} is a coroutine, not a text: pass the async function itself where one is "
            "taken, and its value elsewhere"
        )
    if isinstance(given.cell_contents, (bytes, bytearray)):
        given = Hidden(given.cell_contents.decode("utf-8-sig", errors="replace"))
    if not isinstance(given.cell_contents, str):  # it may be secret all the same
        kind = f"a {type(given.cell_contents).__name__}, not a text"
        raise ConfigurationError(f"the {what} is {kind}: give its value")
    if not given.cell_contents.strip():
        raise ConfigurationError(f"the {what} is empty: give its value")
    _check_unicode(given, what)
    return Hidden(given.cell_contents.strip())


def encoded(text: str | bytes | None, what: str) -> bytes | None:
    """Gives a text as bytes; bytes, and None, as they are.

    Raises:
        ConfigurationError: UTF-8 cannot say it.
    """
    text, given = None, Hidden(text)
    if not isinstance(given.cell_contents, str):
        return cast("bytes | None", given.cell_contents)
    _check_unicode(given, what)
    return bytes(given.cell_contents.encode())


def _check_unicode(given: Hidden, what: str) -> None:
    if not is_unicode(given.cell_contents):
        raise ConfigurationError(
            f"the {what} has characters that UTF-8 cannot say, as when it was set in another "
            "encoding: set it in UTF-8"
        )


def _call(function: Callable[[], object], what: str) -> object:
    try:
        return function()
    except TokenManagerError:
        raise
    except Exception as exc:
        raise TokenRequestError(
            f"the callable that gives the {what} failed with {type(exc).__name__}, which is "
            "chained to this error",
            retryable=True,
        ) from exc


def read_file(path: Path, what: str) -> bytes:
    """Reads a file.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as exc:
        raise unreadable(path, what, exc) from None


def unreadable(path: Path, what: str, exc: Exception) -> ConfigurationError:
    """Gives the error of a file that cannot be read."""
    reason = getattr(exc, "strerror", None) or type(exc).__name__
    return ConfigurationError(
        f"the {what} in {str(path)!r} cannot be read ({reason}): check the path, and that this "
        "process may read it"
    )
