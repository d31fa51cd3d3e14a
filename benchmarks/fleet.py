"""A day of a large fleet, simulated, and docs/scaling.md: ``python -m benchmarks.fleet``."""

from __future__ import annotations

from pathlib import Path

from . import fleet_app, fleet_chart, fleet_page, fleet_store, fleet_users
from .fleet_formulas import Day
from .fleet_load import DAY
from .fleet_world import Fleet, Variant

__all__ = ["OUTAGE", "live", "variants", "write"]

_DOCS = Path(__file__).parents[1] / "docs"

#: How long the store is down, in seconds.
OUTAGE = 600.0
_NOON = DAY / 2


def variants(outage_begins: float) -> dict[str, Variant]:
    """What is simulated, by name.

    Args:
        outage_begins: When the store goes down, where it does.
    """
    outage = (outage_begins, outage_begins + OUTAGE)
    return {
        "built": Variant(),
        "anywhere": Variant(sticky=False),
        "no jitter": Variant(jitter=False),
        "no leases": Variant(leases=False),
        "in step": Variant(jitter=False, leases=False),
        "outage": Variant(outage=outage),
        "outage anywhere": Variant(outage=outage, sticky=False),
        "restart": Variant(restart=_NOON),
        "restart emptied": Variant(restart=_NOON, emptied=True),
        "restart no leases": Variant(restart=_NOON, emptied=True, leases=False),
        "alone": Variant(store=False),
        "anywhere alone": Variant(store=False, sticky=False),
        "restart alone": Variant(store=False, restart=_NOON),
    }


def live(fleet: Fleet) -> dict[str, Day]:
    """Simulates a day in each of the variants.

    The store goes down just before the app's token falls due: no moment is worse.
    """
    _, renewals = fleet_app.live(fleet, Variant())
    begins = min(at for at in renewals if at > _NOON) - fleet.latency - 1.0
    return {
        name: Day(fleet_app.live(fleet, variant)[0], fleet_users.live(fleet, variant))
        for name, variant in variants(begins).items()
    }


def write(docs: Path) -> None:
    """Simulates, measures a server, and writes the page and its picture."""
    fleet = Fleet()
    days = live(fleet)
    capacity = fleet_store.measure()
    loads = {name: day.load for name, day in days.items()}
    fleet_chart.draw(loads, docs / "scaling.svg", limit=fleet_page.PLANNED)
    page = fleet_page.page(fleet, days, capacity, outage=OUTAGE)
    (docs / "scaling.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write(_DOCS)
