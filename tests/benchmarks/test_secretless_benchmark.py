"""The benchmark of what needs no secret, on a small scale. Nothing is judged by its speed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package

from benchmarks import secretless


def test_each_asks_as_often_as_it_does_and_ours_asks_once():
    figures = secretless.section(callers=5, latency=0.05, seconds=0.0, outage=False).figures

    assert [figure.met for figure in figures] == [True, None, None, True, None]
    asked = [int(figure.measured.partition(",")[0]) for figure in figures]
    assert (asked[0], asked[3], asked[4]) == (1, 1, 5)
    assert all("without a token" not in figure.measured for figure in figures)
