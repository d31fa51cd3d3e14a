"""Measures everything, and writes what docs/ has of figures and charts."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from . import (
    chart,
    client_peers,
    clients,
    cold,
    first_token,
    fleet,
    imports,
    keeper_peers,
    keepers,
    managers,
    outage,
    pause,
    peers,
    recovery,
    report,
    shared_anywhere,
    shared_churn,
    shared_cold,
    shared_outage,
    shared_start,
    shared_users,
    tenants,
    users,
    users_at_once,
    warm,
    web_api,
    web_bearer,
    web_fleet,
)
from .figure import Section
from .service import SCOPE, Service

_DOCS = Path(__file__).parents[1] / "docs"
_DISTRIBUTIONS = (
    *web_bearer.DISTRIBUTIONS,
    *peers.DISTRIBUTIONS,
    *client_peers.DISTRIBUTIONS,
    *keeper_peers.DISTRIBUTIONS,
)


def main() -> None:
    """Measures everything, and says how far it is."""
    _forget_this_machine()
    sections = []
    for section in _sections():
        print(f"\n{section.title}")
        for figure in section.figures:
            print(f"  {figure.what}: {figure.measured}  {figure.goal}  {figure.verdict}")
        sections.append(section)
    page = report.page(sections, _DISTRIBUTIONS)
    (_DOCS / "benchmarks.md").write_text(page, encoding="utf-8")
    fleet.write(_DOCS)


def _sections() -> Iterator[Section]:
    yield _warm(rounds=100)
    yield _warm_requests(rounds=100)
    with Service() as service, service.registry() as tokens:
        yield clients.slow_section(tokens.manager(SCOPE), service.settings.ca_file)
    yield clients.cold_section()
    yield web_bearer.section()
    yield cold.section({"MSAL": peers.msal_call, "azure-identity": peers.azure_call})
    yield keepers.section(keeper_peers.KEEPERS)
    yield outage.section(rounds=5)
    yield recovery.section()
    yield managers.section(count=10_000)
    # Alone in its process: with all the peers' modules in memory, one pass of Python's garbage
    # collector takes ten times the goal.
    yield _alone(pause.section, rounds=5, lasts=4.0)
    # Alone too, as they fork, and what is forked is to be small.
    yield _alone(shared_cold.section)
    yield _alone(shared_churn.section)
    yield shared_outage.section()
    yield shared_users.section()
    yield shared_start.section()
    yield users.section()
    yield users_at_once.section()
    yield _alone(shared_anywhere.section)
    yield tenants.section()
    # Alone, as nobody else is to have FastAPI in memory.
    yield _alone(web_api.section)
    yield web_fleet.section()
    yield first_token.section()
    yield imports.section(rounds=15)


def _alone(section: Callable[..., Section], **options: Any) -> Section:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        return alone.submit(section, **options).result()


def _warm(*, rounds: int) -> Section:
    loop = asyncio.new_event_loop()
    try:
        with Service() as service, service.registry() as tokens:
            contestants = warm.ours(tokens, loop) | peers.warm_peers(service.settings, loop)
            costs = warm.costs(contestants, rounds=rounds)
    finally:
        loop.close()
    chart.draw(costs, _DOCS / "benchmarks.svg")
    return warm.section(costs)


def _warm_requests(*, rounds: int) -> Section:
    loop = asyncio.new_event_loop()
    with Service() as service, service.registry() as tokens:
        settings, manager = service.settings, tokens.manager(SCOPE)
        manager.get_token()
        with clients.ours(manager, loop) as ours:
            found = clients.costs(ours | client_peers.contestants(settings), rounds=rounds)
    loop.close()
    return clients.warm_section(found, client_peers.BESIDE)


def _forget_this_machine() -> None:
    # The peers would trust these certificates instead of the local Entra's, and ask that proxy.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        os.environ.pop(name, None)
    # What pip installs is compiled, and the peers are: the source tree would be, at each import.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


if __name__ == "__main__":
    main()
