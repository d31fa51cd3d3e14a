"""The picture of what a fleet asks through the day."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .fleet_load import Load

__all__ = ["draw"]

_TEXT, _GRID = "#24292f", "#e3e7eb"
#: Text as shapes, as a viewer's own font may be wider. The same figures give the same file.
_SVG: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "tokenmgr",
    "font.family": "sans-serif",
    "path.simplify_threshold": 0.2,
}
#: Seconds that each point of a line stands for.
_STEP = 300


class _Line(NamedTuple):
    variant: str
    label: str
    color: str
    width: float = 1.4


_REQUESTS = (
    _Line("anywhere alone", "no store, each call on any worker", "#8a6d3b"),
    _Line("outage anywhere", "store down for 10 min, each call on any worker", "#c50f1f"),
    _Line("restart alone", "no store, all workers restarted at noon", "#e3a21a"),
    _Line("built", "as built", "#0f6cbd", 1.8),
)
_OPERATIONS = (
    _Line("no jitter", "without jitter", "#b9c2cb", 1.0),
    _Line("anywhere", "each call on any worker", "#8a6d3b"),
    _Line("restart emptied", "all workers restarted at noon, store emptied", "#e3a21a"),
    _Line("built", "as built", "#0f6cbd", 1.8),
)


def draw(loads: dict[str, Load], path: Path, *, limit: float) -> None:
    """Draws the busiest second of every five minutes, on a logarithmic scale.

    Args:
        loads: The simulated days, by variant.
        path: The SVG file to write.
        limit: Store operations per second that one server is planned with.
    """
    with mpl.rc_context(_SVG):
        figure = Figure(figsize=(9.0, 8.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for line in _REQUESTS:
            _plot(above, line, loads[line.variant].requests)
        _dress(above, "Token requests", least=1)
        for line in _OPERATIONS:
            _plot(below, line, loads[line.variant].operations)
        planned = "what one Redis is planned with"
        below.axhline(limit, color=_TEXT, linewidth=0.9, linestyle=(0, (4, 3)), label=planned)
        _dress(below, "Store operations", least=100)
        below.set_xlabel("hour of the day", color=_TEXT)
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _plot(axes: Axes, line: _Line, counts: npt.NDArray[np.int64]) -> None:
    busiest = counts.reshape(-1, _STEP).max(axis=1)
    hours = (np.arange(len(busiest)) + 0.5) * _STEP / 3600
    axes.plot(
        hours, np.maximum(busiest, 0.8), color=line.color, linewidth=line.width, label=line.label
    )


def _dress(axes: Axes, what: str, *, least: int) -> None:
    axes.set_title(
        f"{what} per second, in the busiest second of every five minutes", loc="left", color=_TEXT
    )
    axes.set_yscale("log")
    # Room for the legend above whatever is drawn.
    axes.set_ylim(least * 0.8, 2_000_000)
    ticks = [tick for tick in (1, 10, 100, 1_000, 10_000, 100_000) if tick >= least]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlim(0, 24)
    axes.set_xticks(range(0, 25, 3))
    axes.minorticks_off()
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=_TEXT)
    axes.spines[:].set_visible(False)
    axes.legend(loc="upper left", frameon=False, labelcolor=_TEXT, fontsize=9, ncols=2)
