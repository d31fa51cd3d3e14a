"""The picture of what warm calls cost."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["draw"]

_OURS, _FLOOR, _PEERS = "#0f6cbd", "#9aa4ae", "#d7c8a8"
_TEXT = "#24292f"
#: Text as shapes, as a viewer's own font may be wider. The same figures give the same file.
_SVG: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "tokenmgr",
    "font.family": "sans-serif",
}


def draw(costs: dict[str, list[float]], path: Path) -> None:
    """Draws the medians, the cheapest on top, on a logarithmic scale.

    Args:
        costs: Seconds per call of every round, by name.
        path: The SVG file to write.
    """
    bars = sorted(((median(times) * 1e6, name) for name, times in costs.items()), reverse=True)
    values, names = [value for value, _ in bars], [name for _, name in bars]
    with mpl.rc_context(_SVG):
        figure = Figure(figsize=(9.0, 0.4 * len(bars) + 1.1), layout="constrained")
        axes = figure.subplots()
        drawn = axes.barh(names, values, color=[_color(name) for name in names], height=0.68)
        axes.bar_label(drawn, [f"{value:.3g} µs" for value in values], padding=4, color=_TEXT)
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 2, max(values) * 2.6)
        axes.set_title("One call that finds a valid token (log scale)", loc="left", color=_TEXT)
        axes.tick_params(axis="y", length=0, labelcolor=_TEXT)
        axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _color(name: str) -> str:
    return _OURS if name.startswith("tokenmgr") else _FLOOR if name.startswith("floor") else _PEERS
