from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
import typer
from programs import Terminal, read_until, run, running, without_codes

from tokenmgr import AccessToken
from tokenmgr.cli import demo as demo_module
from tokenmgr.cli import main
from tokenmgr.cli.screens import state_of
from tokenmgr.emulator import EntraEmulator

DEMO = ("-m", "tokenmgr", "demo", "--seconds")
#: The command, with tokens that are renewed sooner.
HURRIED = "from tokenmgr.cli import demo, main; demo._TOKEN_LIFETIME = 3; main()"
TOTALS = re.compile(
    r"(\d+) API calls were served with (\d+) tokens for 3 managers, "
    r"which took (\d+) requests to the authority; no call failed\."
)


def totals(said: str) -> tuple[int, int, int]:
    """The calls, tokens and requests of the last sentence, however a terminal has wrapped it."""
    found = TOTALS.search(" ".join(said.split()))
    assert found is not None, said
    calls, tokens, requests = map(int, found.groups())
    return calls, tokens, requests


@pytest.fixture(scope="module")
def ended() -> subprocess.CompletedProcess[str]:
    """A demo in a pipe, from its start to its end."""
    return run(*DEMO, "2")


@pytest.fixture(scope="module")
def interrupted() -> subprocess.CompletedProcess[str]:
    """A demo in a pipe which is ended with Ctrl-C after a renewal, on a machine with settings."""
    settings = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
        "AZURE_CLIENT_SECRET": "somebody's own",
        "FORCE_COLOR": "1",
    }
    with running("-c", HURRIED, *DEMO[2:], "50", **settings) as demo:
        said = read_until(demo, ": renewed, ")
        demo.send_signal(signal.SIGINT)
        rest, complaint = demo.communicate()
    return subprocess.CompletedProcess(demo.args, demo.returncode, said + rest, complaint)


def test_a_pipe_gets_plain_lines_and_the_totals(ended):
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    assert re.match(r"A local Entra runs at https://127\.0\.0\.1:\d+; nothing leaves", ended.stdout)
    for scope, authority in (
        ("https://graph.microsoft.com/.default", "contoso.onmicrosoft.com"),
        ("api://orders/.default", "contoso.onmicrosoft.com"),
        (
            "https://contoso.onmicrosoft.com/orders/.default",
            "contoso.onmicrosoft.com/B2C_1_signin",
        ),
    ):
        assert f"s  {scope} at {authority}: first token, expires in " in ended.stdout
        assert f"s  {scope} at {authority}: fresh, expires in " in ended.stdout
    calls, tokens, requests = totals(ended.stdout)
    assert calls > 3
    assert 3 <= tokens <= requests


def test_the_lines_add_up_to_the_totals(ended):
    last_of_each = re.findall(r"requests sent (\d+), API calls served (\d+)$", ended.stdout, re.M)
    sent, served = zip(*last_of_each[-3:], strict=True)
    calls, _, requests = totals(ended.stdout)
    assert sum(map(int, served)) == calls
    assert sum(map(int, sent)) == requests


def test_ctrl_c_after_a_renewal_ends_it_politely_with_totals(interrupted):
    assert (interrupted.returncode, interrupted.stderr) == (0, "")
    _, tokens, requests = totals(interrupted.stdout)
    assert 4 <= tokens <= requests
    last = interrupted.stdout.splitlines()[-1]
    assert "After the first tokens, no call waited longer than " in last


def test_it_prints_no_token(ended, interrupted):
    for said in (ended.stdout, interrupted.stdout):
        assert totals(said)[1] > 0
        assert "eyJ" not in said


def test_settings_of_the_machine_do_not_get_in_its_way(interrupted):
    assert "\x1b" not in interrupted.stdout
    assert totals(interrupted.stdout)[0] > 0


def test_a_terminal_gets_a_live_table_and_the_totals():
    with (
        Terminal() as terminal,
        running(*DEMO, "2", stdout=terminal.slave, COLUMNS="120", LINES="40", TERM="xterm") as demo,
    ):
        shown = terminal.read_until(None)
        demo.wait()

    assert demo.returncode == 0
    text = without_codes(shown)
    assert re.search(r"Expires +Requests +API calls$", text, re.M)
    assert re.search(r"^Scope +Authority +State +in +sent +served$", text, re.M)
    assert re.search(
        r"^https://graph\.microsoft\.com/\.default +contoso\.onmicrosoft\.com +"
        r"fresh +\d\.\d s +1 +\d+$",
        text,
        re.M,
    )
    # Green, and drawn in its place: the cursor goes up between two tables.
    assert re.search(r"\x1b\[32mfresh", shown)
    assert re.search(r"\x1b\[1A", shown)
    calls, tokens, requests = totals(text)
    assert calls > 3
    assert 3 <= tokens <= requests


@pytest.mark.parametrize("size", [{"COLUMNS": "79"}, {"TERM": "dumb"}])
def test_a_terminal_where_no_table_can_live_gets_plain_lines(size):
    with (
        Terminal() as terminal,
        running(*DEMO, "50", stdout=terminal.slave, **({"TERM": "xterm"} | size)) as demo,
    ):
        shown = terminal.read_until(": first token, expires in ")
        demo.send_signal(signal.SIGINT)
        shown += terminal.read_until(None)
        demo.wait()

    assert "\x1b" not in shown
    assert totals(shown)[1] > 0


def test_failed_calls_are_counted_and_end_it_with_1(monkeypatch, capsys):
    class Failing(EntraEmulator):
        def start(self):
            self.latency = 0
            self.fail_next(2, path="graph", status=503)
            return super().start()

    monkeypatch.setattr(demo_module, "EntraEmulator", Failing)

    with pytest.raises(typer.Exit) as ended:
        demo_module.demo(seconds=0.5)

    assert ended.value.exit_code == 1
    assert "; failed calls: 2 (HTTP 503)." in capsys.readouterr().out


def test_calls_that_get_no_token_are_failed_calls_too(monkeypatch, capsys):
    class Failing(EntraEmulator):
        def start(self):
            self.latency = 0
            self.fail_next(100, status=400, error="invalid_scope", error_codes=[70011])
            return super().start()

    monkeypatch.setattr(demo_module, "EntraEmulator", Failing)

    with pytest.raises(typer.Exit) as ended:
        demo_module.demo(seconds=0.5)

    said = capsys.readouterr().out
    assert ended.value.exit_code == 1
    assert "0 API calls were served with 0 tokens for 3 managers" in said
    assert "(InvalidScopeError)." in said
    assert ": none, requests sent " in said


@pytest.mark.parametrize("seconds", ["0", "soon"])
def test_a_time_that_is_none_is_refused(seconds, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tokenmgr", *DEMO[2:], seconds])

    with pytest.raises(SystemExit) as ended:
        main()

    said, complaint = capsys.readouterr()
    assert (ended.value.code, said) == (2, "")
    assert "--seconds" in complaint


@pytest.mark.parametrize(
    ("token", "state"),
    [
        (None, "none"),
        (AccessToken("t", expires_at=101, refresh_at=100.5), "fresh"),
        (AccessToken("t", expires_at=101), "fresh"),
        (AccessToken("t", expires_at=101, refresh_at=100), "aging"),
        (AccessToken("t", expires_at=100, refresh_at=99), "expired"),
    ],
)
def test_a_state_follows_from_the_times_of_the_token(token, state):
    assert state_of(token, now=100) == state
