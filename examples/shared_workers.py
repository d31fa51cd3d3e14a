"""Workers that share one token: however many there are, the service is asked once.

python examples/shared_workers.py --workers 8 --store sqlite:///tokens.db
python examples/shared_workers.py --workers 8 --store redis://localhost:6379/0
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing

from tokenmgr import TokenRegistry
from tokenmgr.events import Event, TokenAdopted, TokenRenewed

log = logging.getLogger("worker")


def tell(event: Event) -> None:
    """Says where a token came from."""
    if isinstance(event, TokenRenewed):
        log.info("fetched a token in %.3f s", event.took)
    elif isinstance(event, TokenAdopted):
        log.info("found the token of another worker")


def work(store: str, scope: str) -> None:
    """One worker's life."""
    logging.basicConfig(level=logging.INFO, format="%(processName)s %(message)s")
    with TokenRegistry.from_env(store=store, on_event=tell) as tokens:
        tokens.manager(scope).get_access_token()


def main() -> None:
    """Starts the workers, and waits for them."""
    parser = argparse.ArgumentParser(description="Share one token between workers.")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--store", default="sqlite:///tokens.db")
    parser.add_argument("--scope", default="https://graph.microsoft.com/.default")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    workers = [
        spawn.Process(target=work, args=(options.store, options.scope), name=f"worker-{number}")
        for number in range(1, options.workers + 1)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
