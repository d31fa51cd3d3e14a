"""The benchmark of a protected web API on a small scale. Nothing here is judged by its speed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package

pytest.importorskip("resource")
pytest.importorskip("fastapi_azure_auth")

from benchmarks import web_api


def test_what_is_added_is_measured_beside_fastapi_azure_auth_and_keys_are_fetched_once():
    figures = web_api.section(rounds=2, count=60).figures
    assert [figure.what.partition(",")[0] for figure in figures] == [
        "a validated request with an on-behalf-of token",
        "of that",
        "the whole",
        "fastapi-azure-auth's validation alone",
        "requests for keys in 60 requests",
    ]
    assert figures[-1].measured == "1"
    assert all("µs added" in figure.measured for figure in figures[:4])
