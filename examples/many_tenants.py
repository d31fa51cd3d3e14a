"""A job that goes through the tenants of all customers, over and over, as an ISV's sync does.

    python examples/many_tenants.py --tenants customers.txt --rounds 3

The file has a tenant in each line, its id or a domain name of it. The app is found in the
environment, as in the other examples, and each tenant has consented to it. See README.md next to
it.
"""

from __future__ import annotations

import argparse
import logging
import resource
import threading
import time
from contextlib import suppress
from pathlib import Path

from tokenmgr import TokenManagerError, TokenRegistry

log = logging.getLogger("sync")


def main() -> None:
    """Goes through all tenants, and says what it takes."""
    parser = argparse.ArgumentParser(description="Go through the tenants of all customers.")
    parser.add_argument("--tenants", type=Path, required=True, help="a file of their names")
    parser.add_argument("--scope", default="https://graph.microsoft.com/.default")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = options.tenants.read_text("utf-8").split()

    with TokenRegistry.from_env() as tokens:
        # Side by side, before the first round. Whoever has failed is told of in that.
        with suppress(TokenManagerError):
            tokens.prefetch(*(tokens.tenant(name).manager(options.scope) for name in names))
        for number in range(1, options.rounds + 1):
            began = time.perf_counter()
            failed = sum(not visit(tokens.tenant(name), options.scope) for name in names)
            log.info(
                "round %d: %d tenants, %d failed, %.3f s; %d threads, at most %d MB",
                *(number, len(names), failed, time.perf_counter() - began),
                *(threading.active_count(), memory()),
            )


def visit(tenant: TokenRegistry, scope: str) -> bool:
    """Does one tenant's work; says whether it could."""
    try:
        tenant.manager(scope).headers()  # for the requests of this tenant's work
    except TokenManagerError as error:
        # One customer's trouble is no other's: each tenant backs off for itself.
        log.error("%s: %s: %s", tenant, type(error).__name__, error)
        return False
    return True


def memory() -> int:
    """Says how much memory the program has had at most, in megabytes. Linux counts kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
