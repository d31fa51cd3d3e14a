"""10,000 managers: a day of renewals, and what they weigh. Each in a process of its own."""

from __future__ import annotations

import multiprocessing

from .day import ALL_AT_ONCE, LIFETIME, SPREAD, Day, live
from .figure import Figure, Section
from .memory import TOKEN_LENGTH, resident, traced

__all__ = ["section"]

_METHOD = (
    "{count:,} managers, each with a token of an hour and asked every 5 minutes, for a simulated "
    "day: the clock is moved by hand, a fetch takes no time, and the refresher is the library's "
    "own, without its thread. A token counts as expired unserved when it had ended before the "
    "next one was fetched. The mean is taken over the whole day, its first hour included. Memory "
    f"is that of managers that hold a token of {TOKEN_LENGTH:,} characters, which is counted."
)


def section(*, count: int) -> Section:
    """The figures."""
    spawn = multiprocessing.get_context("spawn")
    # Two at a time; a process for each, so that none finds memory that another one left free.
    with spawn.Pool(2, maxtasksperchild=1) as pool:
        spread = pool.apply_async(live, (count, SPREAD))
        at_once = pool.apply_async(live, (count, ALL_AT_ONCE))
        rss, python = pool.apply_async(resident, (count,)), pool.apply_async(traced, (count,))
        figures = [
            *_day(f"first calls spread over {LIFETIME:.0f} s", *spread.get(), goal=True),
            *_day("first calls all in one second", *at_once.get(), goal=False),
            Figure("resident memory per manager", f"{rss.get() / 1024:.1f} KiB", "stated", True),
            Figure("of which Python allocated", f"{python.get() / 1024:.1f} KiB"),
        ]
    return Section(f"{count:,} managers", _METHOD.format(count=count), figures)


def _day(name: str, day: Day, waited: int, *, goal: bool) -> list[Figure]:
    share = day.peak / day.mean
    renewed = f"{sum(day.renewals.values()):,} renewals"
    return [
        Figure(
            f"tokens that expired unserved, {name}",
            f"{day.expired} of {day.fetches:,}; {waited} calls waited after the first",
            "0",
            not day.expired and not waited,
        ),
        Figure(
            f"busiest second over the mean, {name}",
            f"{share:.2f} times ({day.peak} against {day.mean:.2f} per second, {renewed})",
            "at most 2 times" if goal else "",
            share <= 2 if goal else None,
        ),
    ]
