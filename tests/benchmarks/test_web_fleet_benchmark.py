"""The benchmark of a web API's workers."""

from __future__ import annotations

from benchmarks import web_fleet


def test_workers_answer_every_call():
    names = list(web_fleet.SERVERS)[:1]
    figures = web_fleet.section(names, workers=2, lasts=5.0).figures
    assert [each.what for each in figures] == names
    for each in figures:
        assert each.measured.startswith("0 of "), each.measured
        assert not each.measured.startswith("0 of 0 "), each.measured
        assert "(0 of one worker)" not in each.measured
