"""What locust runs for :mod:`benchmarks.web_fleet`: callers, each with one bearer."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from locust import FastHttpUser, constant_throughput, task

_BEARERS = itertools.cycle(Path(os.environ["BEARERS"]).read_text(encoding="ascii").split())


class Caller(FastHttpUser):
    """Calls the API so many times a second."""

    wait_time = constant_throughput(float(os.environ["CALLS_PER_SECOND"]))

    def on_start(self) -> None:
        """Takes the next bearer."""
        self._headers = {"Authorization": f"Bearer {next(_BEARERS)}"}

    @task
    def call(self) -> None:
        """Makes one call."""
        self.client.get("/", headers=self._headers)
