"""``tokenmgr demo``: the main job, done in front of one's eyes against a local Entra."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from ..emulator import EntraEmulator
from .screens import Row, screen_for, state_of
from .stopping import StopRequest, stop_on_signals
from .traffic import Tally, Traffic

__all__ = ["demo"]

_HOST = "127.0.0.1"
#: Short enough to watch several renewals, long enough to read the numbers.
_TOKEN_LIFETIME = 7.0
#: Seconds that the emulator takes for a token: Entra's usual, and long enough to see "aging".
_LATENCY = 0.4
#: Seconds between two looks at what happens.
_GLANCE = 0.25


def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long to run, in seconds.")] = 12,
) -> None:
    """Show tokens being kept fresh, while threads call an API with them.

    Everything is real, and local: a Microsoft Entra on this machine, tokens that live for seconds,
    and HTTPS calls. Ctrl-C ends it early. The exit code is 1 when any call failed.
    """
    with (
        stop_on_signals() as stop,
        EntraEmulator(host=_HOST, token_lifetime=_TOKEN_LIFETIME, latency=_LATENCY) as entra,
        _tallies(entra) as tallies,
    ):
        _run(entra, tallies, seconds, stop)
    if any(tally.seen().failed for tally in tallies):
        raise typer.Exit(1)


@contextmanager
def _tallies(entra: EntraEmulator) -> Iterator[list[Tally]]:
    """Two scopes of one app through one registry, and one of a B2C user flow through another."""
    # Whatever proxy this machine has, it does not lead to its own loopback.
    direct = {"no_proxy": _HOST}
    b2c = entra.b2c_authority("contoso", "B2C_1_signin")
    with (
        entra.registry(proxies=direct) as tokens,
        entra.registry(authority=b2c, proxies=direct) as b2c_tokens,
    ):
        tenant = _without_base(entra.authority(), entra)
        yield [
            Tally(tokens.manager("https://graph.microsoft.com/.default"), authority=tenant),
            Tally(tokens.manager("api://orders/.default"), authority=tenant),
            Tally(
                b2c_tokens.manager("https://contoso.onmicrosoft.com/orders/.default"),
                authority=_without_base(b2c, entra),
            ),
        ]


def _run(entra: EntraEmulator, tallies: Sequence[Tally], seconds: float, stop: StopRequest) -> None:
    traffic = Traffic(
        tallies, url=f"{entra.url}/graph/v1.0/orders", host=_HOST, ca_file=entra.ca_file
    )
    with screen_for(Console()) as screen:
        screen.say(f"A local Entra runs at {entra.url}; nothing leaves this machine.")
        screen.say(
            f"Its tokens live {_TOKEN_LIFETIME:g} s, and it takes {_LATENCY:g} s for each. "
            f"{traffic.workers} threads call its API with them. Ctrl-C ends it."
        )
        with traffic:
            started = time.monotonic()
            while not stop.made and (elapsed := time.monotonic() - started) < seconds:
                screen.show(_rows(entra, tallies), elapsed, seconds)
                stop.wait(min(_GLANCE, seconds - elapsed))
        # Once more, as the calls that were under way have been answered in the meantime.
        screen.show(_rows(entra, tallies), min(time.monotonic() - started, seconds), seconds)
    screen.say(_totals(entra, tallies))


def _rows(entra: EntraEmulator, tallies: Sequence[Tally]) -> list[Row]:
    now = time.time()
    rows = []
    for tally in tallies:
        seen = tally.seen()
        rows.append(
            Row(
                scope=tally.scope,
                authority=tally.authority,
                state=state_of(seen.token, now),
                expires_in=None if seen.token is None else max(seen.token.expires_at - now, 0.0),
                requests=entra.count(scope=tally.scope),
                tokens=seen.tokens,
                calls=seen.served,
            )
        )
    return rows


def _totals(entra: EntraEmulator, tallies: Sequence[Tally]) -> str:
    """What was measured, in plain words."""
    all_seen = [tally.seen() for tally in tallies]
    failed = sum(seen.failed for seen in all_seen)
    reasons = ", ".join(sorted({seen.last_failure for seen in all_seen if seen.failed}))
    sentence = (
        f"{sum(seen.served for seen in all_seen)} API calls were served with "
        f"{sum(seen.tokens for seen in all_seen)} tokens for {len(tallies)} managers, which took "
        f"{entra.count()} requests to the authority; "
        + (f"failed calls: {failed} ({reasons})." if failed else "no call failed.")
    )
    longest = max(seen.longest_wait for seen in all_seen)
    if not longest:
        return sentence
    return (
        f"{sentence} After the first tokens, no call waited longer than {longest * 1000:.1f} ms "
        f"for one, while the authority takes {_LATENCY * 1000:.0f} ms to issue it."
    )


def _without_base(authority: str, entra: EntraEmulator) -> str:
    return authority.removeprefix(f"{entra.url}/")
