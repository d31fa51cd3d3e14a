"""Explores by hand: ``python -m explorer --minutes 10``, or replays one seed."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from explorer.rounds import play


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m explorer", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay the round of this seed, and tell it")
    given = parser.parse_args()
    if given.seed is not None:
        failure = play(given.seed, on_event=print).failure
        print(failure or f"seed {given.seed} keeps all promises")
        return int(failure is not None)
    ends, failures = time.monotonic() + 60 * given.minutes, 0
    for seed in itertools.count(given.start):
        failure = play(seed).failure
        if failure is not None:
            failures += 1
            print(failure, flush=True)
        if time.monotonic() >= ends:
            print(f"{seed - given.start + 1} rounds, {failures} failures")
            return int(failures > 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
