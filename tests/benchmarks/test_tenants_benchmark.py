"""The benchmark of many tenants, on a small scale. Nothing is judged by its speed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package

pytest.importorskip("resource")

from benchmarks import tenants


def test_each_tenant_has_its_token_and_what_that_takes_is_told():
    figures = tenants.section(count=6).figures

    assert [figure.what.partition(",")[0] for figure in figures[::2]] == [
        "tokenmgr",
        "tokenmgr with SQLite",
        "tokenmgr",
        "MSAL",
    ]
    for figure in figures[::2]:
        assert figure.measured.startswith("0 failed; ")
    ours, _, shared, _, apart, _, theirs, _ = (figure.measured for figure in figures)
    # MSAL has one for each, and one more for the tenant that it began with.
    assert "afterwards 7 connections" in theirs
    assert "afterwards 7 connections" not in ours + shared + apart
