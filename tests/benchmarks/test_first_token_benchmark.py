"""The benchmark of a program's first token, on a small scale. Nothing is judged by its speed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package

from benchmarks import first_token
from benchmarks.distant_cloud import running_cloud
from benchmarks.figure import Figure


def test_each_program_has_its_token_from_the_cloud_that_it_names():
    names = [name for name in first_token.PROGRAMS if name != "azure-identity"]  # an extra's

    figures = {each.what: each for each in first_token.section(names, rounds=1).figures}

    assert figures["requests"] == Figure("requests", "1", "1", met=True)
    assert figures["tokenmgr"].measured.endswith(", 1 request")
    assert figures["MSAL"].measured.endswith(", 2 requests")
    assert figures["requests by hand"].measured.endswith(", 1 request")
    assert figures["a bare interpreter, without any token"].measured.endswith(", 0 requests")


def test_the_way_there_takes_as_long_as_it_is_said_to():
    with running_cloud(0.2) as cloud:
        found = first_token.starts(cloud, ["requests by hand"], rounds=1)

    (far,) = found["requests by hand"]
    assert far.wall >= 3 * 0.2  # to open a connection, to agree upon TLS, to ask
    assert far.requests == 1
