"""A web API's users in one process: what a call for one costs, and what they weigh."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenmgr import AccessTokenManager, TokenRegistry
from tokenmgr.emulator import EntraEmulator

from .figure import Figure, Section
from .made_users import READ, assertions, registry_of
from .memory import TOKEN_LENGTH
from .msal_users import MsalUsers
from .service import Service, Settings
from .turns import awaited, called, in_turns, ratio
from .workers import alone

if TYPE_CHECKING:
    from azure.identity.aio import OnBehalfOfCredential

__all__ = ["Weight", "azure_weight", "hits", "msal_weight", "section", "sign_in", "weight"]

_MEGABYTE = 2**20
#: The goals: seconds of a hit, how many times as long among many users, and bytes.
_HIT, _AMONG_MANY, _MEMORY = 5e-6, 1.5, 60 * _MEGABYTE
#: Characters of a token and of an assertion, where they are weighed.
_LENGTH = 2048
#: So many users call over and over; and so many where a processor's caches are not to hold them.
_CALLERS, _MANY_CALLERS = 10, 10_000

_METHOD = (
    "A hit is `tokens.on_behalf_of(header, scope).get_access_token()`, from the header `Bearer …` "
    f"on, with an assertion of {TOKEN_LENGTH:,} characters, of {{few}} users in turn, whoever else "
    "is resident. Where {many} call in turn, it is memory that is waited for: the processor's "
    "caches hold a part of them. Median of {rounds} rounds, in each of which everybody has their "
    "turn; a ratio is the median of the rounds' ratios. MSAL sends a request for each call, which "
    "is answered here within the process, at once: what is measured is what MSAL adds. "
    "azure-identity has a credential for each user, which is looked up by the assertion here. "
    "Memory is what a new process grows by "
    f"(RSS, in MB of 2^20 bytes), where tokens and assertions have {_LENGTH:,} characters; the "
    "floor is their texts alone. MSAL keeps no assertion, and in its place the refresh token and "
    "the ID token that it asks for besides."
)


class Weight(NamedTuple):
    """What users weigh, in bytes, and how many managers, or credentials, are kept."""

    taken: float
    kept: int


def sign_in(count: int, entra: EntraEmulator) -> list[str]:
    """Gives so many users' assertions; asked in the emulator's process."""
    return [entra.sign_in(f"user-{number}@contoso.onmicrosoft.com") for number in range(count)]


def weight(count: int, most: int) -> Weight:
    """What users weigh, of whom so many are kept. Best asked in a new process."""
    tokens = registry_of(most, token_length=_LENGTH)

    def come(number: int) -> None:
        for text in assertions(number, length=_LENGTH):
            tokens.on_behalf_of(text, READ).get_access_token()

    taken = _grown(partial(come, 100), partial(come, count))
    kept = sum(isinstance(each, AccessTokenManager) for each in gc.get_objects())
    return Weight(taken, kept)


def msal_weight(count: int) -> Weight:
    """The same of MSAL."""
    users = MsalUsers(token_length=_LENGTH)
    return Weight(_grown(partial(users.come, 100), partial(users.come, count)), count)


def azure_weight(settings: Settings, texts: list[str]) -> Weight:
    """The same of azure-identity, with a credential for each user."""
    kept: list[OnBehalfOfCredential] = []

    async def come(some: list[str]) -> None:
        for text in some:
            kept.append(_azure(settings, text))
            await kept[-1].get_token(READ)

    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    taken = _grown(lambda: run(come(texts[:10])), lambda: run(come(texts[10:])))
    run(_close(kept))
    loop.close()
    return Weight(taken, len(texts) - 10)


def hits(few: int, many: int, msal_many: int, rounds: int) -> list[Figure]:
    """The figures of hits. Best asked in a new process."""
    loop = asyncio.new_event_loop()
    with Service() as service:
        texts = service.ask(partial(sign_in, few))
        credentials = {text: _azure(service.settings, text) for text in texts}
        (in_few, few_texts), (in_many, many_texts) = _resident(few), _resident(many)
        contestants = {
            "few": called(_CALL, tokens=in_few, headers=_in_turn(few_texts), scope=READ),
            "many": called(_CALL, tokens=in_many, headers=_in_turn(many_texts), scope=READ),
            "many in turn": called(
                _CALL, tokens=in_many, headers=_in_turn(many_texts, _MANY_CALLERS), scope=READ
            ),
            "async": awaited(loop, _awaiting(in_few, _in_turn(few_texts))),
            "azure": awaited(loop, _asking(credentials)),
            "MSAL few": called("users.call(next(texts))", **_msal(few)),
            "MSAL many": called("users.call(next(texts))", **_msal(msal_many)),
        }
        costs = in_turns(contestants, rounds=rounds)
        loop.run_until_complete(_close(list(credentials.values())))
    loop.close()
    return _told_hits(costs, few, many, msal_many)


def section(
    *,
    few: int = 10,
    many: int = 100_000,
    count: int = 10_000,
    most: int = 1_000,
    credentials: int = 200,
    rounds: int = 30,
) -> Section:
    """The figures."""
    figures: list[Figure] = alone(hits, few=few, many=many, msal_many=count, rounds=rounds)
    figures += _weights(count, most, credentials)
    method = _METHOD.format(rounds=rounds, few=_CALLERS, many=f"{_MANY_CALLERS:,}")
    return Section("Users of a web API", method, figures)


def _weights(count: int, most: int, credentials: int) -> list[Figure]:
    ours, bounded = (alone(weight, count=count, most=kept) for kept in (count, most))
    theirs = alone(msal_weight, count=count)
    with Service() as service:
        texts = service.ask(partial(sign_in, credentials + 10))
        azure = alone(azure_weight, settings=service.settings, texts=texts)
    floor = 2 * count * sys.getsizeof("a" * _LENGTH)
    return [
        Figure(
            f"memory for {count:,} users",
            f"{_size(ours.taken)}, {ours.taken / floor:.2f} times the floor of {_size(floor)}",
            f"at most {_size(_MEMORY)}",
            ours.taken <= _MEMORY,
        ),
        Figure(
            f"the same with `max_users={most:,}`",
            f"{bounded.kept:,} kept, {_size(bounded.taken)}",
            f"{most:,} kept",
            bounded.kept == most,
        ),
        Figure(f"MSAL, memory for {count:,} users", _size(theirs.taken)),
        Figure(
            f"azure-identity.aio, memory for {count:,} credentials, reckoned from {azure.kept}",
            _size(azure.taken / azure.kept * count),
        ),
    ]


_CALL = "tokens.on_behalf_of(next(headers), scope).get_access_token()"


def _resident(count: int) -> tuple[TokenRegistry, list[str]]:
    """A registry with so many users, and their headers."""
    tokens, headers = registry_of(count, token_length=1), []
    for text in assertions(count, length=TOKEN_LENGTH):
        tokens.on_behalf_of(text, READ).get_access_token()
        headers.append(f"Bearer {text}")
    return tokens, headers


def _in_turn(texts: list[str], callers: int = _CALLERS) -> Iterator[str]:
    return itertools.cycle(random.sample(texts, min(len(texts), callers)))


def _awaiting(tokens: TokenRegistry, headers: Iterator[str]) -> Callable[[], Any]:
    return lambda: tokens.on_behalf_of(next(headers), READ).aget_access_token()


def _asking(credentials: dict[str, OnBehalfOfCredential]) -> Callable[[], Any]:
    headers = _in_turn([f"Bearer {text}" for text in credentials])
    return lambda: credentials[next(headers)[len("Bearer ") :]].get_token(READ)


def _msal(count: int) -> dict[str, Any]:
    users = MsalUsers(token_length=TOKEN_LENGTH)
    users.come(count)
    return {"users": users, "texts": _in_turn([*assertions(_CALLERS, length=TOKEN_LENGTH)])}


def _azure(settings: Settings, text: str) -> OnBehalfOfCredential:
    from azure.identity.aio import OnBehalfOfCredential

    return OnBehalfOfCredential(
        settings.tenant_id,
        settings.client_id,
        client_secret=settings.client_secret,
        user_assertion=text,
        authority=settings.url,
        disable_instance_discovery=True,
        connection_verify=settings.ca_file,
    )


async def _close(credentials: list[OnBehalfOfCredential]) -> None:
    for each in credentials:
        await each.close()


def _grown(first: Callable[[], object], then: Callable[[], object]) -> float:
    """Bytes by which the process grows: what the first ones import and set up is not counted."""
    import psutil

    first()
    gc.collect()
    process = psutil.Process()
    before: int = process.memory_info().rss
    then()
    gc.collect()
    grown: int = process.memory_info().rss - before
    return float(grown)


def _told_hits(costs: dict[str, list[float]], few: int, many: int, msal_many: int) -> list[Figure]:
    hit, share = median(costs["few"]), ratio(costs["many"], costs["few"])
    return [
        Figure("a hit, from assertion to token", _time(hit), "at most 5 µs", hit <= _HIT),
        Figure(
            f"the same among {many:,} users over {few}",
            f"{share:.2f} times ({_time(median(costs['many']))})",
            f"at most {_AMONG_MANY} times",
            share <= _AMONG_MANY,
        ),
        Figure(
            f"the same where {min(many, _MANY_CALLERS):,} of the {many:,} call in turn",
            _time(median(costs["many in turn"])),
        ),
        Figure(
            "the same awaited, against azure-identity.aio's `get_token()`",
            f"{ratio(costs['azure'], costs['async']):.0f} times as fast "
            f"({_time(median(costs['async']))} against {_time(median(costs['azure']))})",
            "ahead",
            ratio(costs["azure"], costs["async"]) > 1,
        ),
        Figure(
            "a hit against MSAL's `acquire_token_on_behalf_of()`, which always asks",
            f"{ratio(costs['MSAL few'], costs['few']):,.0f} times as fast "
            f"({_time(hit)} against {_time(median(costs['MSAL few']))} and a request; among "
            f"{msal_many:,} users {_time(median(costs['MSAL many']))} and a request)",
            "ahead",
            ratio(costs["MSAL few"], costs["few"]) > 1,
        ),
    ]


def _size(count: float) -> str:
    return f"{count / _MEGABYTE:,.1f} MB"


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:,.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.3g} ms"
