"""What the demo shows: a table that lives on a terminal, or plain lines where there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..token import AccessToken

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LineScreen", "Row", "Screen", "TableScreen", "screen_for", "state_of"]

_COLOURS = {"fresh": "green", "aging": "yellow", "expired": "bold red", "none": "dim"}
#: What the four columns of numbers take, with all space between columns.
_NARROW_COLUMNS = 46
#: Of a terminal: below this the two columns of addresses are not readable any more.
_LEAST_WIDTH = 80


@dataclass(frozen=True)
class Row:
    """One manager at one moment."""

    scope: str
    authority: str
    #: ``fresh``, ``aging``, ``expired`` or ``none``.
    state: str
    #: Seconds that the token is still valid; None without one.
    expires_in: float | None
    #: Token requests that reached the authority.
    requests: int
    #: Different tokens that the calls used.
    tokens: int
    #: Calls that the API served.
    calls: int


def state_of(token: AccessToken | None, now: float) -> str:
    """Names a token's state by its times.

    Args:
        token: The token; None when there is none.
        now: Seconds since 1970.
    """
    if token is None:
        return "none"
    if now >= token.expires_at:
        return "expired"
    if token.refresh_at is not None and now >= token.refresh_at:
        return "aging"
    return "fresh"


class Screen(Protocol):
    """Where the demo tells what happens."""

    def __enter__(self) -> Self:
        """Begins."""
        ...

    def __exit__(self, *exc_info: object) -> None:
        """Ends; what was shown stays there."""
        ...

    def say(self, sentence: str) -> None:
        """Shows a sentence."""
        ...

    def show(self, rows: Sequence[Row], elapsed: float, seconds: float) -> None:
        """Shows how things stand ``elapsed`` seconds after the start, of ``seconds`` in all."""
        ...


def screen_for(console: Console) -> Screen:
    """Chooses how to show it: a table where one can live, and lines everywhere else."""
    # isatty as well, since rich takes FORCE_COLOR for a terminal, and a file is none.
    a_terminal = console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
    return TableScreen(console) if a_terminal and console.width >= _LEAST_WIDTH else LineScreen()


class TableScreen:
    """A table that is drawn anew in its place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()
        self._console.print()

    def say(self, sentence: str) -> None:
        """Shows a sentence."""
        self._console.print(sentence, highlight=False, markup=False)

    def show(self, rows: Sequence[Row], elapsed: float, seconds: float) -> None:
        """Draws the table anew."""
        if not self._live.is_started:
            self._console.print()
            self._live.start()
        self._live.update(self._table(rows, f"{elapsed:.0f} s of {seconds:g} s"), refresh=True)

    def _table(self, rows: Sequence[Row], caption: str) -> Table:
        width = (self._console.width - _NARROW_COLUMNS) // 2
        table = Table(
            caption=caption,
            caption_justify="left",
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            leading=int(any(len(row.scope) > width for row in rows)),
        )
        for heading in ("Scope", "Authority"):
            table.add_column(heading, overflow="fold")
        table.add_column("State", min_width=7)
        for heading, digits in (("Expires in", 7), ("Requests sent", 8), ("API calls served", 9)):
            table.add_column(heading, justify="right", width=digits)
        for row in rows:
            table.add_row(
                _broken(row.scope, width),
                _broken(row.authority, width),
                Text(row.state, style=_COLOURS[row.state]),
                "" if row.expires_in is None else f"{row.expires_in:.1f} s",
                str(row.requests),
                str(row.calls),
            )
        return table


class LineScreen:
    """Plain lines, for a pipe, a file or a log: one for each event, and one a second for each row.

    No line has a control code in it.
    """

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str], int] = {}
        self._seconds_told = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    def say(self, sentence: str) -> None:
        """Shows a sentence."""
        typer.echo(sentence)

    def show(self, rows: Sequence[Row], elapsed: float, seconds: float) -> None:
        """Tells of new tokens at once, and of everything once a second."""
        for row in rows:
            known = self._tokens.get((row.scope, row.authority), 0)
            if row.tokens > known:
                self._tokens[row.scope, row.authority] = row.tokens
                self._tell(elapsed, row, "renewed" if known else "first token")
        if int(elapsed) > self._seconds_told or elapsed >= seconds:
            self._seconds_told = int(elapsed)
            for row in rows:
                self._tell(elapsed, row, row.state)

    def _tell(self, elapsed: float, row: Row, what: str) -> None:
        left = "" if row.expires_in is None else f", expires in {row.expires_in:.1f} s"
        self.say(
            f"{elapsed:5.1f} s  {row.scope} at {row.authority}: {what}{left}, "
            f"requests sent {row.requests}, API calls served {row.calls}"
        )


def _broken(address: str, width: int) -> str:
    """Breaks an address into lines before its slashes and dots, where people break it too."""
    lines = [""]
    for part in re.split(r"(?<=[^/:])(?=[/.])", address):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
