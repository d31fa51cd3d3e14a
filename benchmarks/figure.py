"""What a benchmark gives: figures, each with its goal where it has one."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Figure", "Section"]


@dataclass(frozen=True)
class Figure:
    """One row of the results."""

    #: What was measured.
    what: str
    #: The number, with its unit.
    measured: str
    #: What it should be; empty where it stands for comparison.
    goal: str = ""
    #: Whether the goal was reached; None where there is none.
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or nothing where there is no goal."""
        return "" if self.met is None else "met" if self.met else "**missed**"


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    #: How they were measured, for people who doubt them.
    method: str
    figures: list[Figure] = field(default_factory=list)
