from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from programs import ROOT, Terminal, environment, run, running

from tokenmgr import TokenRegistry
from tokenmgr.web.bearer import BearerValidator

EMULATOR = ("-m", "tokenmgr", "emulator", "--port")
GRAPH = "https://graph.microsoft.com/.default"


def exports_of(emulator: subprocess.Popen[str]) -> dict[str, str]:
    """The variables that it prints to a pipe, which ends while the emulator goes on."""
    assert emulator.stdout is not None
    said = emulator.stdout.read()
    assert emulator.poll() is None, said
    variables = {}
    for line in said.splitlines():
        word, assignment = shlex.split(line)
        assert word == "export"
        name, _, value = assignment.partition("=")
        variables[name] = value
    return variables


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0_and_frees_all_it_took(ending):
    with running(*EMULATOR, "0") as emulator:
        variables = exports_of(emulator)
        assert Path(variables["REQUESTS_CA_BUNDLE"]).exists()
        emulator.send_signal(ending)
        _, complaint = emulator.communicate()

    assert (emulator.returncode, complaint) == (0, "")
    assert not Path(variables["REQUESTS_CA_BUNDLE"]).exists()
    with socket.create_server(("127.0.0.1", port_of(variables["AZURE_AUTHORITY_HOST"]))):
        pass


def test_a_program_runs_against_it_by_these_variables_alone():
    with running(*EMULATOR, "0") as emulator:
        variables = exports_of(emulator)
        url = f"{variables['AZURE_AUTHORITY_HOST']}/graph/v1.0/organization"
        daemon = run("examples/daemon_requests.py", "--url", url, "--count", "1", **variables)

    assert daemon.returncode == 0
    assert f"{url} answered with 200" in daemon.stderr


def test_httpx_trusts_it_by_these_variables_alone():
    program = "import httpx, os; print(httpx.get(os.environ['AZURE_AUTHORITY_HOST']).status_code)"
    with running(*EMULATOR, "0") as emulator:
        variables = exports_of(emulator)
        asked = run("-c", program, **variables)

    assert (asked.returncode, asked.stderr) == (0, "")


def test_a_user_whom_it_signs_in_may_call_an_api(monkeypatch):
    options = ("--user", "ann@contoso.com", "--scope", "Mail.Read", "--scope", "Mail.Send")
    with running(*EMULATOR, "0", *options) as emulator:
        for name, value in exports_of(emulator).items():
            monkeypatch.setenv(name, value)
        with TokenRegistry.from_env() as tokens:
            caller = BearerValidator(tokens).validate(f"Bearer {os.environ['USER_TOKEN']}")

    assert caller.scopes == {"Mail.Read", "Mail.Send"}
    assert caller.claims["name"] == "Ann"


def test_tokens_live_as_long_as_it_is_told(monkeypatch):
    with running(*EMULATOR, "0", "--token-lifetime", "90") as emulator:
        for name, value in exports_of(emulator).items():
            monkeypatch.setenv(name, value)
        before = time.time()
        with TokenRegistry.from_env() as tokens:
            token = tokens.manager(GRAPH).get_token()

    assert before + 88 < token.expires_at < time.time() + 91


def test_it_listens_at_the_port_it_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with running(*EMULATOR, str(port)) as emulator:
        assert exports_of(emulator)["AZURE_AUTHORITY_HOST"] == f"https://127.0.0.1:{port}"


def test_a_port_in_use_is_a_clear_message_and_exit_code_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(*EMULATOR, str(port))

    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(rf"cannot listen on 127\.0\.0\.1:{port}: .*--port 0.*\n", ended.stderr)


@pytest.mark.parametrize("port", ["65536", "-1", "https"])
def test_a_port_that_is_none_is_refused_with_exit_code_2(port):
    ended = run(*EMULATOR, port)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_terminal_gets_the_variables_and_an_example():
    with (
        Terminal() as terminal,
        running(*EMULATOR, "0", stdout=terminal.slave, TERM="xterm") as emulator,
    ):
        shown = terminal.read_until("Ctrl-C")
        assert emulator.poll() is None
        emulator.send_signal(signal.SIGINT)
        emulator.wait()

    assert emulator.returncode == 0
    assert re.search(r"^export AZURE_AUTHORITY_HOST=https://127\.0\.0\.1:\d+$", shown, re.M)
    assert "#   from tokenmgr import TokenRegistry\n" in shown


def test_the_example_that_a_terminal_gets_runs_as_it_is():
    with (
        Terminal() as terminal,
        running(*EMULATOR, "0", stdout=terminal.slave, TERM="xterm") as emulator,
    ):
        shown = terminal.read_until("Ctrl-C")
        code = "\n".join(re.findall(r"^#   (.*)$", shown, re.M))
        variables = dict(re.findall(r"^export (\w+)=(\S+)$", shown, re.M))
        ended = run("-c", code, **variables)
        emulator.send_signal(signal.SIGINT)
        emulator.wait()

    assert len(code.splitlines()) == 2
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("bash") is None,
    reason="the bash of macOS does not source from a process substitution",
)
def test_bash_starts_it_in_the_background_with_source():
    script = """
        source <("$0" -m tokenmgr emulator --port 0)
        "$0" -c 'import sys, tokenmgr
with tokenmgr.TokenRegistry.from_env() as tokens:
    print(tokens.manager(sys.argv[1]).get_token().scopes[0])' "$1"
        kill $!
    """
    # It ends when all that hold its output have ended: the emulator is one of them.
    ended = subprocess.run(
        ["bash", "-c", script, sys.executable, GRAPH],
        capture_output=True,
        check=False,
        text=True,
        env=environment(),
        cwd=ROOT,
        timeout=60,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{GRAPH}\n", "")
