"""How soon a new worker has its first token, where another one has put it into the store."""

from __future__ import annotations

import os
import subprocess
import sys
from operator import methodcaller
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import tokenmgr

from .figure import Figure, Section
from .imports import import_time
from .redis_server import running_server
from .service import SCOPE, Service

__all__ = ["first_token", "section"]

#: The goal, in seconds.
_GOAL = 0.02

_SQLITE = "SQLite"
_REDIS = "Redis, with `import redis` done before"
_REDIS_TOO = "Redis, `import redis` included"

_METHOD = (
    "New interpreters, from the end of `from tokenmgr import TokenRegistry` to the first token: "
    "`TokenRegistry.from_env()`, opening the store, and all that is imported on the way, "
    "cryptography and sqlite3 among it. Another worker has fetched the token. redis-py alone "
    "takes long to import, so that Redis is shown with and without. Median of {rounds} rounds, "
    "in each of which every row has its turn. The last row tells how fast the machine was just "
    "then: what `python -X importtime` says of MSAL, which is not imported for a token that is "
    "in the store."
)

_PROGRAM = """
import sys, time
{imports}
from tokenmgr import TokenRegistry
began = time.perf_counter()
TokenRegistry.from_env().get_access_token({scope!r})
print(time.perf_counter() - began)
"""


def first_token(service: Service, store: str, *, imports: str = "") -> float:
    """Seconds until a new interpreter has its first token.

    Args:
        service: What it would ask.
        store: The store.
        imports: What it has imported before.
    """
    settings = service.settings
    found = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", _PROGRAM.format(imports=imports, scope=SCOPE)],
        env=os.environ
        | {
            "PYTHONPATH": str(Path(tokenmgr.__file__).parents[1]),
            "AZURE_CLIENT_ID": settings.client_id,
            "AZURE_CLIENT_SECRET": settings.client_secret,
            "TOKENMGR_AUTHORITY": settings.authority,
            "TOKENMGR_STORE": store,
            "REQUESTS_CA_BUNDLE": settings.ca_file,
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(found.stdout)


def section(*, rounds: int = 15) -> Section:
    """The figures."""
    with TemporaryDirectory() as folder, running_server() as redis, Service() as service:
        ways = {
            _SQLITE: (f"sqlite:///{folder}/tokens.db", ""),
            _REDIS: (redis.url, "import redis"),
            _REDIS_TOO: (redis.url, ""),
        }
        for store, _ in ways.values():
            with service.registry(store=store) as tokens:
                tokens.get_access_token(SCOPE)
        service.ask(methodcaller("clear"))
        times: dict[str, list[float]] = {name: [] for name in ways}
        msal: list[float] = []
        for _ in range(rounds):
            for name, (store, imports) in ways.items():
                times[name].append(first_token(service, store, imports=imports))
            msal.append(import_time("import msal", rounds=1))
        made = service.ask(methodcaller("count"))
    figures = [_figure(name, median(seconds), made) for name, seconds in times.items()]
    figures.append(Figure("`import msal`, for comparison", f"{median(msal) * 1000:.1f} ms"))
    return Section("A new worker's first token", _METHOD.format(rounds=rounds), figures)


def _figure(name: str, seconds: float, made: int) -> Figure:
    measured = f"{seconds * 1000:.1f} ms, {made} token requests"
    if name == _REDIS_TOO:
        return Figure(name, measured)
    return Figure(name, measured, "at most 20 ms, 0 token requests", seconds <= _GOAL and not made)
