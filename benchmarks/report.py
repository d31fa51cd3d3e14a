"""Writes the results page."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from .figure import Figure, Section

__all__ = ["page"]

_HEAD = """\
# Benchmarks

What `make bench` measured: all in one run, side by side, against a local Entra, without any
network. {versions}.

Absolute times differ from machine to machine, and from minute to minute on the same one; the
ratios are what to look at. A figure that misses its goal says so.

![What one call costs that finds a valid token](benchmarks.svg)
"""


def page(sections: Sequence[Section], distributions: Iterable[str]) -> str:
    """The page, in Markdown.

    Args:
        sections: The figures.
        distributions: The libraries whose versions it names.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in distributions)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    head = _HEAD.format(versions=f"{python}, {libraries}")
    return "\n".join([head, *(_section(section) for section in sections)])


def _section(section: Section) -> str:
    rows = "\n".join(_row(figure) for figure in section.figures)
    return (
        f"## {section.title}\n\n{section.method}\n\n"
        f"| figure | goal | measured | verdict |\n|---|---|---|---|\n{rows}\n"
    )


def _row(figure: Figure) -> str:
    return f"| {figure.what} | {figure.goal} | {figure.measured} | {figure.verdict} |"
