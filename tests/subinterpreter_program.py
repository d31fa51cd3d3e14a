"""A program with a manager in an isolated sub-interpreter, where no daemon thread may be."""

from __future__ import annotations

import importlib
import sys
import textwrap
from typing import Any

CODE = """
    import asyncio, sys, time
    sys.path[:] = {path}
    from tokenmgr import AccessToken, AccessTokenManager, TokenKey

    class Source:
        fetches = 0

        def fetch_token(self, *, claims=None):
            self.fetches += 1
            return AccessToken(f"token-{{self.fetches}}", time.time() + 3600)

    told = []
    key = TokenKey("https://a", "c", "g", ("s",))
    manager = AccessTokenManager(Source(), key, on_event=told.append)
    assert [manager.get_access_token() for _ in range(3)] == ["token-1"] * 3
    assert manager.refresh_access_token() == "token-2"
    manager.invalidate("token-2")
    manager.prefetch()
    assert manager.get_access_token() == "token-3"
    assert asyncio.run(manager.arefresh_access_token()) == "token-4"
    assert manager.status().last_error is None
    manager.close()
"""


def main() -> None:
    interpreters: Any = importlib.import_module("_interpreters")
    number = interpreters.create("isolated")
    failure = interpreters.run_string(number, textwrap.dedent(CODE).format(path=sys.path))
    if failure is not None:
        sys.exit(failure.errdisplay)
    interpreters.destroy(number)


if __name__ == "__main__":
    main()
