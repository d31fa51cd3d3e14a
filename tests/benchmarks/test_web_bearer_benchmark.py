"""The benchmark of a bearer's check, on a small scale. Nothing is judged by its speed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package


def test_each_contestant_takes_the_token():
    pytest.importorskip("fastapi_azure_auth", exc_type=ImportError)
    from benchmarks import web_bearer

    figures = web_bearer.section(rounds=1).figures

    assert [each.what for each in figures][:3] == [
        "tokenmgr validate()",
        "tokenmgr avalidate()",
        "fastapi-azure-auth",
    ]
    assert all(each.measured.endswith(" µs") for each in figures[:-1])
