"""A program in which the garbage collector ends objects in the middle of everything, in any thread.

What it ends closes its own manager, and asks for another one's token. Its argument: for how many
seconds. It says nothing where all works afterwards.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import itertools
import random
import sys
import threading
import time
from dataclasses import replace

from signal_storm import LONG, Source, check
from support import KEY

from tokenmgr import AccessTokenManager, RefreshPolicy, TokenManagerError
from tokenmgr.events import Event

numbers = itertools.count()
slowest = [0.0]


class Client:
    """Has a manager of its own, closes it at its end, and says so to a service."""

    def __init__(self, shared: AccessTokenManager) -> None:
        self.shared = shared
        key = replace(KEY, client_id=str(next(numbers)))
        self.own = AccessTokenManager(Source(), key)
        self.itself = self

    def __del__(self) -> None:
        began = time.monotonic()
        self.own.close()
        with contextlib.suppress(TokenManagerError):  # it cannot wait here
            self.shared.refresh_access_token()
            self.shared.status()
        slowest[0] = max(slowest[0], time.monotonic() - began)


def run(shared: AccessTokenManager, end: float) -> None:
    while time.monotonic() < end:
        client = Client(shared)
        client.own.get_access_token()
        client.own.refresh_access_token(claims="{}")
        shared.invalidate(shared.get_access_token())
        shared.refresh_access_token()


def main() -> None:
    faulthandler.dump_traceback_later(25, exit=True)
    told: list[Event] = []
    policy = RefreshPolicy(backoff_base=0)
    shared = AccessTokenManager(Source(), KEY, policy=policy, on_event=told.append)
    end = time.monotonic() + float(sys.argv[1])
    gc.set_threshold(random.randint(3, 9), 2, 2)
    others = [threading.Thread(target=run, args=(shared, end)) for _ in range(2)]
    for each in others:
        each.start()
    run(shared, end)
    for each in others:
        each.join()
    gc.set_threshold(700, 10, 10)
    assert next(numbers) > 100
    assert slowest[0] < LONG, slowest
    check(shared, told)


if __name__ == "__main__":
    main()
