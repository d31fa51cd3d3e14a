"""Real gunicorn servers for tests, whose workers serve ``web_app``."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping

import programs
import requests
from support import in_threads

#: Far above what a server takes to end.
_DEADLINE = 20.0

#: The kinds of workers: their class, and what of the application they serve.
WORKERS = {
    "sync": ("sync", "wsgi"),
    "threads": ("gthread", "wsgi"),
    "uvicorn": ("uvicorn_worker.UvicornWorker", "asgi"),
}


class Gunicorn:
    """A gunicorn that has loaded its application, or lets each worker load it."""

    def __init__(self, served: programs.Served, headers: Mapping[str, str] | None = None) -> None:
        self._url, self._process, self._log = served
        self._headers = headers
        #: The tokens that each worker has given, by its process id.
        self.tokens: dict[int, set[str]] = {}

    def ask(self) -> None:
        """Eight requests at once."""
        for answer in in_threads(8, self._get):
            assert isinstance(answer, dict), answer
            self.tokens.setdefault(answer["pid"], set()).add(answer["token"])

    def _get(self) -> object:
        return requests.get(self._url, headers=self._headers, timeout=20).json()

    def have_answered(self, workers: int) -> bool:
        """Asks again, and tells whether so many workers have answered by now."""
        self.ask()
        return len(self.tokens) == workers

    def stop(self) -> str:
        """Ends it as an orchestrator does; gives its log."""
        self._process.send_signal(signal.SIGTERM)
        rest, _ = self._process.communicate(timeout=_DEADLINE)
        assert self._process.returncode == 0
        return self._log + rest


@contextlib.contextmanager
def gunicorn(
    app: str,
    *options: str,
    workers: int,
    headers: Mapping[str, str] | None = None,
    **variables: str,
) -> Iterator[Gunicorn]:
    """A server of ``app`` with so many workers, asked with ``headers``, ended with the block."""
    variables = programs.with_tests() | variables
    with programs.serving("gunicorn", f"--workers={workers}", *options, app, **variables) as served:
        yield Gunicorn(served, headers)
