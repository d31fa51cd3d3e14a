"""What a fleet costs, by formula: the same rules as in the simulation, on average."""

from __future__ import annotations

import math
from typing import NamedTuple

from tokenmgr.policy import times

from .fleet_load import DAY, Load
from .fleet_world import LOOK_EVERY, Fleet, Variant

__all__ = ["Day", "Formulas", "Row", "rows"]


class Day(NamedTuple):
    """A simulated day."""

    #: What the app's own token costs, and what those of the users do.
    app: Load
    users: Load

    @property
    def load(self) -> Load:
        """Both together."""
        return self.app + self.users


class Row(NamedTuple):
    """A figure by formula, and beside it what the simulation gave."""

    what: str
    formula: str
    calculated: float
    simulated: float

    @property
    def ratio(self) -> float:
        """The simulated over the calculated."""
        return self.simulated / self.calculated


class Formulas:
    """The figures of one fleet.

    Args:
        fleet: The fleet.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        policy, life = Variant().policy, fleet.life

        def due(chance: float) -> float:
            return times(policy, 0.0, life, chance=chance).fresh_until

        #: When a token is due: without jitter, for one worker on average, for the first of all.
        self.due: float = due(0.0)
        self.due_on_average: float = due(0.5)
        self.due_for_first: float = due(fleet.workers / (fleet.workers + 1))
        self.jitter: float = policy.jitter
        self.all_sessions: int = fleet.users * fleet.sessions
        #: For how long users call with one assertion, and with how many in a session.
        self.serves: float = life - fleet.ahead
        self.assertions: float = 1 + 1 / math.expm1(self.serves / fleet.session)
        #: Seconds from a session's begin to the end of its last assertion.
        self.lasts: float = (self.assertions - 1) * self.serves + life
        pairs = fleet.users * fleet.sessions * (fleet.sessions - 1) / 2
        self.finds: float = pairs * 3 * (self.lasts - fleet.ahead) / DAY
        self.session_calls: float = 1 + fleet.session / fleet.call_every
        #: How likely a token ends before its assertion does: one of a new assertion, whose life is
        #: spread alike, and one that is fetched by any call of a session.
        self.shorter: float = 0.5
        spread = (fleet.longest_life - fleet.shortest_life) / fleet.session
        self.shorter_anytime: float = _of_any_age(spread)
        self.there_at_noon: float = 2 * self.all_sessions * fleet.session / DAY

    def app_requests(self) -> float:
        """Token requests of a day for the app's own token."""
        return DAY / (self.due_for_first + self._fleet.latency)

    def app_operations(self) -> float:
        """Store operations of a day for it."""
        return self._fleet.workers * DAY / LOOK_EVERY + 5 * self.app_requests()

    def app_requests_alone(self) -> float:
        """Token requests of a day for it where every worker is on its own."""
        return self._fleet.workers * DAY / (self.due_on_average + self._fleet.latency)

    def app_requests_in_step(self) -> float:
        """The same where they share a record, but neither leases nor jitter keep them apart."""
        return self._fleet.workers * DAY / (self.due + self._fleet.latency)

    def app_requests_of_outage(self, seconds: float) -> float:
        """How many more there are for an outage that begins as the token falls due."""
        return self._fleet.workers * min(1.0, seconds / (self.jitter * self.due))

    def requests(self) -> float:
        """Token requests of a day for the users' tokens."""
        assertions = self.all_sessions * self.assertions - self.finds
        return assertions * (1 + self.shorter)

    def operations(self) -> float:
        """Store operations of a day for them, where sessions stick to a worker."""
        looks = self.all_sessions * (1 + self._fleet.session / LOOK_EVERY)
        return self.shorter * looks + 5 * self.requests() + self.finds

    def operations_anywhere(self) -> float:
        """The same where each call lands on any worker.

        It takes the token, and where that is to be renewed, looks once and asks once.
        """
        calls = self.all_sessions * self.session_calls
        return (1 + 2 * self.shorter) * calls + 4 * self.requests()

    def requests_anywhere_alone(self) -> float:
        """Token requests where, in addition, there is no store: fetched, and perhaps renewed."""
        return (1 + self.shorter_anytime) * self.all_sessions * self.session_calls

    def records(self) -> float:
        """Records in the store at noon."""
        fleet = self._fleet
        return fleet.users * (1 - (1 - 2 * self.lasts / DAY) ** fleet.sessions)

    def symbols(self, outage: float) -> list[tuple[str, str, float]]:
        """The letters of the formulas: what they stand for, and their values.

        Args:
            outage: Seconds of an outage.
        """
        fleet = self._fleet
        return [
            ("W", "workers", fleet.workers),
            ("A", "tokens of the app's own", 1),
            ("D", "seconds of a day", DAY),
            ("I", "seconds between two looks", LOOK_EVERY),
            ("L", "seconds that the service takes to answer", fleet.latency),
            ("T", "seconds that a token lives, on average", fleet.life),
            ("R", "seconds after which it is due for renewal", self.due),
            ("j", "the jitter, by which it may be renewed earlier", self.jitter),
            ("H", "seconds for which a worker uses it: `R·(1 - j/2)`", self.due_on_average),
            ("U", "users", fleet.users),
            ("s", "sessions of each", fleet.sessions),
            ("S", "sessions of all: `U·s`", self.all_sessions),
            ("d", "seconds of a session, on average", fleet.session),
            ("k", "calls per second of a user who is there", 1 / fleet.call_every),
            ("c", "calls per session: `1 + d·k`", self.session_calls),
            ("N", "users who are there at noon: `2·S·d/D`", self.there_at_noon),
            ("a", "seconds before its end at which an assertion is replaced", fleet.ahead),
            ("n", "assertions per session: `1 + 1/(e^((T - a)/d) - 1)`", self.assertions),
            ("w", "seconds for which a session's record lasts: `(n - 1)·(T - a) + T`", self.lasts),
            ("F", "sessions that find a record: `U·s·(s - 1)/2·3·(w - a)/D`", self.finds),
            ("q", "how many tokens end before their assertion does", self.shorter),
            (
                "p",
                (
                    "the same, fetched by any call: `(1 - 2/x + 2/x²·(1 - e^-x))/2`, with `x` the "
                    f"spread of lives, {fleet.longest_life - fleet.shortest_life:,.0f}, over `d`"
                ),
                self.shorter_anytime,
            ),
            ("o", "seconds of an outage", outage),
        ]

    def calls_in_a_second(self) -> float:
        """Calls at noon of those users who are there, per second."""
        return self.there_at_noon / self._fleet.call_every


def _of_any_age(spread: float) -> float:
    """How many of the tokens end first that the calls of a session fetch, each for itself.

    Assertions are of ages that are spread as the lengths of sessions are; both lives are spread
    evenly, and so their difference is most often none.

    Args:
        spread: How much longer the longest life is than the shortest, in average sessions.
    """
    left = (1 - math.exp(-spread)) / spread
    return (1 - 2 / spread * (1 - left)) / 2


def busiest(a_day: float) -> float:
    """The busiest second of a day of which noon is twice as busy as the mean: four sigmas up."""
    at_noon = 2 * a_day / DAY
    return at_noon + 4 * math.sqrt(at_noon)


def rows(fleet: Fleet, days: dict[str, Day], outage: float) -> list[Row]:
    """Sets what the formulas give beside what was simulated.

    Args:
        fleet: The fleet.
        days: The simulated days, by variant.
        outage: Seconds that the store was down.
    """
    by = Formulas(fleet)
    return [*_of_app(by, days), *_of_users(by, days), *_of_bursts(fleet, by, days, outage)]


def _of_app(by: Formulas, days: dict[str, Day]) -> list[Row]:
    built, alone, in_step = (days[name].app for name in ("built", "alone", "in step"))
    formula = "A·D/(R·(1 - j·W/(W + 1)) + L)"
    return [
        Row("app's token, requests a day", formula, by.app_requests(), built.requests.sum()),
        Row(
            "its store operations a day",
            "A·W·D/I + 5·requests",
            by.app_operations(),
            built.operations.sum(),
        ),
        Row(
            "its requests a day, no store",
            "A·W·D/(H + L)",
            by.app_requests_alone(),
            alone.requests.sum(),
        ),
        Row(
            "its requests a day, neither leases nor jitter",
            "A·W·D/(R + L)",
            by.app_requests_in_step(),
            in_step.requests.sum(),
        ),
    ]


def _of_users(by: Formulas, days: dict[str, Day]) -> list[Row]:
    built, anywhere = days["built"].users, days["anywhere"].users
    alone = days["anywhere alone"].users
    requests, operations = by.requests(), by.operations()
    busy = "the same, busiest second: `x` a day", "2x/D + 4·√(2x/D)"
    return [
        Row(
            "users' tokens, requests a day",
            "(S·n - F)·(1 + q)",
            requests,
            built.requests.sum(),
        ),
        Row(*busy, busiest(requests), built.requests.max()),
        Row(
            "their store operations a day",
            "q·S·(1 + d/I) + 5·requests + F",
            operations,
            built.operations.sum(),
        ),
        Row(*busy, busiest(operations), built.operations.max()),
        Row(
            "their store operations a day, each call on any worker",
            "(1 + 2q)·S·c + 4·requests",
            by.operations_anywhere(),
            anywhere.operations.sum(),
        ),
        Row(
            "their requests a day, each call on any worker and no store",
            "(1 + p)·S·c",
            by.requests_anywhere_alone(),
            alone.requests.sum(),
        ),
        Row(
            "their records in the store, at most",
            "U·(1 - (1 - 2w/D)^s)",
            by.records(),
            built.records.max(),
        ),
    ]


def _of_bursts(fleet: Fleet, by: Formulas, days: dict[str, Day], outage: float) -> list[Row]:
    restarted = fleet.workers + by.calls_in_a_second()
    usual = busiest(by.operations()) + fleet.workers / LOOK_EVERY
    more = days["outage"].app.requests.sum() - days["built"].app.requests.sum()
    return [
        Row(
            "store operations in the second in which all workers restart",
            "A·W + N·k + those of a busy second",
            restarted + usual,
            days["restart"].load.operations.max(),
        ),
        Row(
            "token requests in that second, without a store",
            "A·W + N·k",
            restarted,
            days["restart alone"].load.requests.max(),
        ),
        Row(
            "requests more for an outage that begins as the app's token falls due",
            "A·W·min(1, o/(j·R))",
            by.app_requests_of_outage(outage),
            more,
        ),
    ]
