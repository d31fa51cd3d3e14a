from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from programs import read_until, run, running

from tokenmgr.emulator import EntraEmulator

API = "/graph/v1.0/organization"


@contextmanager
def daemon(
    entra: EntraEmulator, *arguments: str, url: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The daemon with the emulator's variables alone, what it logs as its output."""
    with running(
        "examples/daemon_requests.py",
        *("--url", url or f"{entra.url}{API}", "--interval", "0.01", *arguments),
        stderr=subprocess.STDOUT,
        **entra.environment(),
    ) as process:
        yield process


def test_the_daemon_makes_all_its_calls_with_one_token(entra):
    with daemon(entra, "--count", "3") as process:
        log, _ = process.communicate()

    assert process.returncode == 0
    assert log.count(f"INFO {entra.url}{API} answered with 200") == 3
    assert log.endswith("the daemon ends\n")
    assert (entra.api_calls, entra.count()) == (3, 1)


def test_the_daemon_asks_for_the_scope_it_is_given(entra):
    with daemon(entra, "--count", "1", "--scope", "api://orders/.default") as process:
        process.communicate()

    assert process.returncode == 0
    assert entra.count(scope="api://orders/.default") == 1


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_ends_cleanly_when_it_is_told_to(entra, ending):
    with daemon(entra) as process:
        read_until(process, "answered with 200")
        process.send_signal(ending)
        log, _ = process.communicate()

    assert process.returncode == 0
    assert log.endswith("the daemon ends\n")
    assert "Traceback" not in log


def test_the_daemon_logs_what_goes_wrong_by_its_class_and_goes_on(entra):
    entra.fail_next(status=400, error="invalid_scope", error_codes=[70011])
    entra.fail_next(path="graph", status=403)

    with daemon(entra) as process:
        log = read_until(process, "answered with 200")

    assert "ERROR InvalidScopeError: " in log
    assert "ERROR HTTPError: 403" in log
    assert entra.client_secret not in log
    assert "Traceback" not in log


def test_the_daemon_says_when_nobody_answers_at_the_api(entra):
    with daemon(entra, "--count", "1", url="https://127.0.0.1:1/orders") as process:
        log, _ = process.communicate()

    assert process.returncode == 0
    assert "ERROR ConnectionError: the API cannot be reached" in log


def test_the_workers_share_one_token(entra, tmp_path):
    done = run(
        "examples/shared_workers.py",
        *("--workers", "3", "--store", f"sqlite:///{tmp_path}/tokens.db"),
        **entra.environment(),
    )
    assert done.returncode == 0
    assert done.stderr.count("fetched a token in") == 1
    assert done.stderr.count("found the token of another worker") == 2
    assert entra.count() == 1
