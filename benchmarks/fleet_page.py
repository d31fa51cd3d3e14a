"""Writes docs/scaling.md: every number in it comes from here."""

from __future__ import annotations

from typing import Any

# Private names, lest what is written should be other than what runs.
from tokenmgr._sharing.guarded import _LONGEST_REST
from tokenmgr.stores.redis.client import _CONNECTIONS as POOL

from . import fleet_store
from .fleet_formulas import Day, Formulas, rows
from .fleet_load import Load
from .fleet_store import Capacity
from .fleet_world import LOOK_EVERY, Fleet

__all__ = ["PLANNED", "page"]

#: Operations per second that Redis' own documentation reports with over 60,000 connections
#: (https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/benchmarks/).
PLANNED = 50_000
#: Connections with which, as it says there, a server does half of what it does with 100.
_HALF_AT = 30_000
#: What one server is planned with: bytes of memory of a middling one, and bytes per second each
#: way of a link of 1 Gbit/s.
_LIMITS = {"operations per second": PLANNED, "memory": 16e9, "network": 125e6}

_NAMES = {
    "built": "**as built**",
    "anywhere": "each call on any worker",
    "no jitter": "without jitter",
    "no leases": "without leases",
    "in step": "without either",
    "outage": "store down for {outage:.0f} min",
    "outage anywhere": "the same, each call on any worker",
    "restart": "all workers restarted at noon",
    "restart emptied": "the same, store emptied before",
    "restart no leases": "the same, and without leases",
    "alone": "no store",
    "anywhere alone": "the same, each call on any worker",
    "restart alone": "no store, all workers restarted at noon",
}

_PAGE = """\
# Scaling

What a fleet costs the token service and the store: by formula, and by a simulated day of
{workers:,} workers and {users:,} users. `python -m benchmarks.fleet` writes this page, and every
number in it. The simulation gives the same in each run; what a server does was measured.

![A day of token requests and store operations](scaling.svg)

## What to choose

* **One host: SQLite** (`sqlite:///path`). Nothing to run, and nothing to open to the network.
* **Several hosts: one Redis or Valkey** (`rediss://…`). A fleet like the one below uses
  {load_share:.0%} of the {planned:,} operations per second that one server is planned with here.
  Set `maxmemory-policy volatile-ttl`, as every key of tokenmgr's expires. Persistence is not
  needed: what is lost is fetched again. A replica and Sentinel, or what your cloud has in their
  place, bring it back soon. Each worker process holds from 1 to {pool} connections: raise
  `maxclients` ({most_clients:,} unless it is set) in time.
* **Redis Cluster** when [one Redis ends](#where-one-redis-ends). Users' records spread over its
  nodes evenly. A token of the app's own is one key on one node, which is asked for it
  {app_looks:,.0f} times per second by {workers:,} workers.
* **Keep a user's session on one worker**, with the load balancer's cookie. It saves
  {sticky_saves:.0%} of the store operations, and it is what counts while the store is down. A
  cookie chooses a host and not a process, so that a host of many processes lies in between.

## A day

Each user comes {sessions} times a day, for {session:.0f} min on average, most likely around noon
and never at midnight, and calls every {call_every:.0f} s while there. The app's own token is in
use on all workers, all day. Tokens live {shortest:.0f} to {longest:.0f} min, as Entra's do
[by default](https://learn.microsoft.com/entra/identity-platform/configurable-token-lifetimes),
and the service takes {latency:.1f} s to answer. A token has {token:,} characters, and its sealed
record {value:,} bytes. A worker looks at the record of a token in use that is to be renewed every
{look:.0f} s.

Users call with an assertion, the access token that their front end has for this API. It lives as
long, and {ahead:.0f} min before its end the front end gets another, as
[MSAL.js does](https://learn.microsoft.com/entra/msal/javascript/browser/token-lifetimes). What it
is exchanged for is a token for that assertion, and ends with it at the latest.

| | token requests, all day | busiest second | store operations, all day | busiest second | \
bytes to and from the store, busiest second | in the store, at most |
|---|---|---|---|---|---|---|
{days}

* **As built**, the app's own token costs {app_requests} requests a day, however many workers there
  are; without a store, {app_alone:,}. Nearly all the rest is one request for each assertion, and
  one more for half of them: their token ends before the assertion does, and what was used during
  its life is renewed once more, be its user there or not. A token that ends with its assertion is
  served to its end, never renewed, and not looked for.
* **Where sessions stick to a worker**, the store saves {quiet:.0%} of the requests of a quiet day.
  It is there for the other days: when all workers restart at once, there are {restart:,} token
  requests in the busiest second with it, and {restart_alone:,} without.
* **Where each call lands on any worker**, it saves {anywhere:.0%} of them.
* **Jitter** keeps workers apart that hold the same token. Without it all of them ask the store in
  the same second, over and over: up to {no_jitter:,} operations.
* **Leases** keep workers apart that find nothing at the same moment. Jitter leaves them little to
  do, until a fleet starts with an empty store: then there are {emptied_no_leases:,} token requests
  in one second without leases, and {emptied:,} with them, nearly all for different users.

## When the store is down

A store that is down fails no call. A worker that meets a failure leaves the store alone for a
second, then for longer, up to {rest:.0f} s, and renews for itself what it needs.

* For the app's own token that is one request from each worker whose token falls due meanwhile. The
  simulated outage begins at the worst moment, as it falls due on all {workers:,} of them. The
  jitter spreads them over {spread:.0f} min: {spread_rate:.0f} requests per second.
* For users whose sessions stick to a worker, hardly more than usual: {outage:,} token requests in
  the busiest second, all told, where there usually are {built:,}.
* Where each call lands on any worker, each call that meets no token there: {outage_anywhere:,}
  in the busiest second. Expect the service to throttle that. tokenmgr backs off for as long as it
  is told to, and users without a token on the worker that they reach get the error.

Afterwards nothing has to be done: the next renewal brings all workers back to one token.

## By formula

| | | here |
|---|---|---|
{symbols}

| | formula | calculated | simulated | ratio |
|---|---|---|---|---|
{formulas}

The formulas leave out what is small, such as the ends of the day.

## Where one Redis ends

{server} on the machine that ran the simulation, over loopback, without TLS: {connections:,}
connections, each with one operation under way, as workers have; the best of {rounds} rounds.
What else the machine does lowers the first number. The second one says for how many operations a
second of the server's processor time is enough; its commands run in one thread.

| operation | per second | per second of processor time |
|---|---|---|
{rates}

Do not plan with these. [Redis' own examples]({benchmarks}) show 70,000 to 80,000 operations per
second without pipelining; with more than 60,000 connections it reports {planned:,}, and with
{half:,} half of what there is with 100. TLS takes more. This page plans with {planned:,}.

In its memory a record takes {record:,.0f} bytes, of which {value:,} are its value, and a
connection {connection:,.0f}.

| limit | one Redis | as built | fits | each call on any worker | fits |
|---|---|---|---|---|---|
{limits}

One Redis so carries {fits:.0f} times these users, and ends first at its {first_limit}; from there
on, Cluster. A further scope for each user counts like as many users more.

Workers end earlier, and Cluster does not help them: each worker connects to every node that it
needs. With one connection from each, {half:,} workers are {workers_fit:.0f} times this fleet.
Beyond that, give each region or zone a Redis of its own: what it costs is another
{app_requests} requests a day for the app's token.

The burst to plan for is a start of all workers at once: {cold_start:,} operations in a second with
an empty store, {warm_start:,} with a full one. Restart in batches.

## What is simulated, and what is not

The rules are the library's: its policy says when tokens age, and
`tests/benchmarks/test_fleet_simulation.py` compares the simulation with the library's own managers
and users, operation by operation. What real workers make of users whose calls land on any of them,
with SQLite and with Redis, is a row of `make bench`. A user's calls come one after another, and
often enough for the worker to go on looking. Workers that restart call within a second, users when
they would have called anyway. In the outage the store answers nothing, and keeps what it has;
attempts that come to nothing are not counted. The service never fails and never throttles. A
process spreads renewals that fall due together; here each starts when it is due. A user calls with
one assertion at a time, for one scope.
"""

_BENCHMARKS = (
    "https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/benchmarks/"
)
_COMMANDS = {
    "found": "`GETRANGE` of a record",
    "put": "`SET … PX` of a record",
    "leased": "`SET … PX … NX` of a lease",
    "polled": "`GETRANGE` of a lease",
    "released": "`EVAL` that gives a lease back",
}


def page(fleet: Fleet, days: dict[str, Day], capacity: Capacity, *, outage: float) -> str:
    """The page, in Markdown.

    Args:
        fleet: The fleet.
        days: The simulated days, by variant.
        capacity: What was measured of a server.
        outage: Seconds that the store was down.
    """
    loads = {name: day.load for name, day in days.items()}
    numbers = _settings(fleet) | _findings(fleet, days, loads) | _measured(capacity, loads)
    return _PAGE.format(
        **numbers,
        days="\n".join(_day(name, load, capacity, outage) for name, load in loads.items()),
        symbols="\n".join(
            f"| `{symbol}` | {meaning} | {_number(value)} |"
            for symbol, meaning, value in Formulas(fleet).symbols(outage)
        ),
        formulas="\n".join(
            f"| {row.what} | `{row.formula}` | {row.calculated:,.0f} | {row.simulated:,.0f} "
            f"| {row.ratio:.2f} |"
            for row in rows(fleet, days, outage)
        ),
    )


def _settings(fleet: Fleet) -> dict[str, Any]:
    return {
        "workers": fleet.workers,
        "users": fleet.users,
        "sessions": fleet.sessions,
        "session": fleet.session / 60,
        "call_every": fleet.call_every,
        "shortest": fleet.shortest_life / 60,
        "longest": fleet.longest_life / 60,
        "latency": fleet.latency,
        "ahead": fleet.ahead / 60,
        "token": fleet_store.TOKEN_LENGTH,
        "value": fleet_store.value_length(),
        "look": LOOK_EVERY,
        "app_looks": fleet.workers / LOOK_EVERY,
        "rest": _LONGEST_REST,
        "pool": POOL,
        "planned": PLANNED,
        "half": _HALF_AT,
        "benchmarks": _BENCHMARKS,
    }


def _findings(fleet: Fleet, days: dict[str, Day], loads: dict[str, Load]) -> dict[str, Any]:
    by = Formulas(fleet)
    requests = {name: load.requests for name, load in loads.items()}
    operations = {name: load.operations for name, load in loads.items()}
    spread = by.jitter * by.due
    return {
        "load_share": operations["built"].max() / PLANNED,
        "sticky_saves": 1 - operations["built"].sum() / operations["anywhere"].sum(),
        "app_requests": days["built"].app.requests.sum(),
        "app_alone": days["alone"].app.requests.sum(),
        "quiet": 1 - requests["built"].sum() / requests["alone"].sum(),
        "anywhere": 1 - requests["anywhere"].sum() / requests["anywhere alone"].sum(),
        "restart": requests["restart"].max(),
        "restart_alone": requests["restart alone"].max(),
        "no_jitter": operations["no jitter"].max(),
        "emptied": requests["restart emptied"].max(),
        "emptied_no_leases": requests["restart no leases"].max(),
        "workers_fit": _HALF_AT / fleet.workers,
        "spread": spread / 60,
        "spread_rate": fleet.workers / spread,
        "built": requests["built"].max(),
        "outage": requests["outage"].max(),
        "outage_anywhere": requests["outage anywhere"].max(),
        "cold_start": operations["restart emptied"].max(),
        "warm_start": operations["restart"].max(),
    }


def _measured(capacity: Capacity, loads: dict[str, Load]) -> dict[str, Any]:
    built, anywhere = (_needs(loads[name], capacity) for name in ("built", "anywhere"))
    fits = {name: limit / built[name] for name, limit in _LIMITS.items()}
    return {
        "server": capacity.server,
        "connections": capacity.connections,
        "rounds": capacity.rounds,
        "most_clients": capacity.most_clients,
        "record": capacity.record,
        "connection": capacity.connection,
        "rates": "\n".join(
            f"| {command} | {capacity.rates[kind]:,.0f} | {1 / capacity.costs[kind]:,.0f} |"
            for kind, command in _COMMANDS.items()
        ),
        "limits": "\n".join(
            f"| {name} | {_amount(name, limit)} "
            f"| {_amount(name, built[name])} | {fits[name]:.0f} times "
            f"| {_amount(name, anywhere[name])} | {limit / anywhere[name]:.0f} times |"
            for name, limit in _LIMITS.items()
        ),
        "fits": min(fits.values()),
        "first_limit": min(fits, key=lambda name: fits[name]),
    }


def _needs(load: Load, capacity: Capacity) -> dict[str, float]:
    """What of each of the limits a day needs in its busiest second."""
    sent = max(load.per_second(way()).max() for way in (fleet_store.up, fleet_store.down))
    needs = (load.operations.max(), load.records.max() * capacity.record, sent)
    return dict(zip(_LIMITS, map(float, needs), strict=True))


def _day(name: str, load: Load, capacity: Capacity, outage: float) -> str:
    operations = load.operations
    sent = load.per_second(fleet_store.up()) + load.per_second(fleet_store.down())
    stored = load.records.max() * capacity.record
    cells = (
        _NAMES[name].format(outage=outage / 60),
        f"{load.requests.sum():,}",
        f"{load.requests.max():,}",
        f"{operations.sum():,}",
        f"{operations.max():,}",
        _bytes(sent.max()),
        _bytes(stored),
    )
    return f"| {' | '.join(cells)} |"


def _amount(limit: str, amount: float) -> str:
    if limit == "operations per second":
        return f"{amount:,.0f}"
    return _bytes(amount) + ("/s" if limit == "network" else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(count: float) -> str:
    if not count:
        return "0"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
