"""A program that has many tenants, all of which fetch at once.

Its arguments: the emulator's URL, how many tenants, how many files the program may have open,
whether they have one registry or each its own, and the store's URL where there is one. It says how
many tokens it has got, and the most threads and open files that there were.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
from pathlib import Path

from support import SCOPE

from tokenmgr import TokenManagerError, TokenRegistry

url, count, most_files, kind, *store = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(most_files),) * 2)
over = threading.Event()
most = {"threads": 0, "files": 0}


def watch() -> None:
    while not over.wait(0.002):
        found = {
            "threads": threading.active_count(),
            "files": len(list(Path("/proc/self/fd").iterdir())),
        }
        most.update({name: max(most[name], now) for name, now in found.items()})


watcher = threading.Thread(target=watch)
watcher.start()


def registry(tenant: str) -> TokenRegistry:
    return TokenRegistry(
        client_id=os.environ["AZURE_CLIENT_ID"],
        credential=os.environ["AZURE_CLIENT_SECRET"],
        authority=f"{url}/{tenant}",
        store=store[0] if store else None,
    )


names = [f"tenant-{number}.onmicrosoft.com" for number in range(int(count))]
if kind == "one":
    registries = [registry("contoso.onmicrosoft.com")]
    managers = [registries[0].tenant(name).manager(SCOPE) for name in names]
else:
    registries = [registry(name) for name in names]
    managers = [tokens.manager(SCOPE) for tokens in registries]
for manager in managers:
    manager.prefetch()
secrets = set()
for manager in managers:
    with contextlib.suppress(TokenManagerError):
        secrets.add(manager.get_access_token())
over.set()
watcher.join()
for tokens in registries:
    tokens.close()
print(json.dumps({"tokens": len(secrets)} | most))  # noqa: T201
