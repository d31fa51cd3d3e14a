"""The benchmarks at work on a small scale. Nothing here is judged by its speed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # they are no part of the package

from benchmarks import (
    clients,
    cold,
    crowd,
    day,
    imports,
    keepers,
    memory,
    outage,
    pause,
    report,
    turns,
    warm,
)
from benchmarks.figure import Figure, Section
from benchmarks.service import SCOPE, Service


def test_the_modules_of_the_peers_and_of_the_chart_import_where_their_libraries_are():
    for library in ("azure.identity", "google.auth", "botocore", "matplotlib"):
        pytest.importorskip(library, exc_type=ImportError)
    for library in ("httpx_auth", "requests_oauth2client", "anthropic", "databricks.sdk"):
        pytest.importorskip(library, exc_type=ImportError)
    from benchmarks import __main__, chart, client_peers, peers

    assert callable(__main__.main)
    assert callable(chart.draw)
    assert "msal" in peers.DISTRIBUTIONS
    assert "httpx" in client_peers.DISTRIBUTIONS


def test_contestants_have_as_many_turns_as_there_are_rounds():
    calls = []
    found = turns.in_turns(
        {"one": turns.called("calls.append(1)", calls=calls), "other": turns.called("1 + 1")},
        rounds=3,
        turn=0.0001,
    )
    assert [len(found["one"]), len(found["other"])] == [3, 3]
    assert len(calls) >= 30
    assert all(seconds > 0 for seconds in found["one"])
    assert turns.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 2.0]) == 2.0


def test_warm_and_cold_calls_are_measured_against_a_service_of_another_process():
    loop = asyncio.new_event_loop()
    with Service() as service, service.registry() as tokens:
        found = warm.costs(warm.ours(tokens, loop), rounds=1)
        made, failed = cold.requests_of(service, cold.mixed(8, 2, tokens.manager(f"{SCOPE} ")))
    with Service(latency=0.1) as service, service.registry() as tokens:
        cold_made = cold.requests_of(service, cold.mixed(8, 2, tokens.manager(SCOPE)))
    loop.close()
    assert set(found) >= {warm.GET, warm.LOOKUP, warm.ELAPSED_FLOOR}
    assert (made, failed) == (0, 0)
    assert cold_made == (1, 0)


def test_callers_whose_provider_is_down_ask_it_once_and_go_on_with_what_they_have():
    cold = keepers.cold(keepers.ours, callers=4)
    assert (cold.requests, cold.failed) == (1, 4)
    assert keepers.kept(keepers.ours, 100, callers=4).failed == 0


def test_a_spell_of_trouble_is_survived_by_its_callers():
    with Service(refresh_in=0.1) as service:
        trouble = outage.TROUBLES["service answers 503"]
        longest, failed = outage.spell(service, trouble, callers=2, lasts=1.4)
    assert longest > 0
    assert failed == 0


def test_a_day_of_a_few_managers_has_the_renewals_that_it_should():
    found, waited = day.live(20, day.SPREAD)
    assert (found.expired, waited) == (0, 0)
    # An hour's token is renewed after 43 to 48 minutes, for about 23 hours and a half.
    assert 20 * 28 <= sum(found.renewals.values()) <= 20 * 34
    assert found.peak >= 1


def test_managers_weigh_at_least_their_token():
    assert memory.traced(50) > memory.TOKEN_LENGTH


async def test_a_loop_that_stands_still_is_noticed():
    assert 0 < await pause.longest_pause((), lasts=0.02) < 10


def test_an_import_takes_time():
    assert imports.import_time("import tokenmgr", rounds=1) > 0
    assert set(imports.wall_times(("import tokenmgr",), rounds=1)) == {"import tokenmgr"}


def test_a_crowd_gives_each_outcome_in_its_place():
    outcomes = crowd.together([lambda: 1, lambda: 1 // 0])
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], ZeroDivisionError)


def test_the_page_says_plainly_what_missed_its_goal():
    figures = [Figure("a call", "3 µs", "1 µs", met=False), Figure("another", "2 µs")]
    page = report.page([Section("Calls", "By hand.", figures)], ["msal"])
    assert "| a call | 1 µs | 3 µs | **missed** |" in page
    assert "| another |  | 2 µs |  |" in page


def test_requests_of_each_client_are_measured_and_judged_beside_a_peers():
    loop = asyncio.new_event_loop()
    with Service() as service, service.registry() as tokens:
        manager = tokens.manager(SCOPE)
        manager.get_token()
        with clients.ours(manager, loop) as ours:
            found = clients.costs(ours, rounds=1)
        slow = clients.slow_section(manager, service.settings.ca_file, seconds=1.0, count=2)
    loop.close()
    peers = {"bare urllib3": ("requests", "requests"), "httpx": ("", "bare httpx")}
    warm_figures = clients.warm_section(found, peers).figures
    assert [figure.met is None for figure in warm_figures] == [False] * 5 + [True]
    assert ", bare urllib3 " in warm_figures[0].measured
    assert len(slow.figures) == 7


def test_cold_callers_of_each_client_make_one_token_request():
    figures = clients.cold_section(callers=4).figures
    assert [figure.measured for figure in figures] == ["1 token request, 0 failed"] * 7
