from __future__ import annotations

import re
import signal

import pytest
import typer
from programs import Terminal, read_until, run, running, without_codes

from tokenmgr import AccessToken
from tokenmgr.cli import demo as demo_module
from tokenmgr.cli.screens import state_of
from tokenmgr.emulator import EntraEmulator

DEMO = ("-m", "tokenmgr", "demo", "--seconds")
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


def said_until(expected: str, **environment: str) -> str:
    """All that a demo says which is ended with Ctrl-C once it has said ``expected``."""
    with running(*DEMO, "50", **environment) as demo:
        said = read_until(demo, expected)
        demo.send_signal(signal.SIGINT)
        rest, complaint = demo.communicate()
    assert (demo.returncode, complaint) == (0, "")
    return said + rest


def test_a_pipe_gets_plain_lines_and_the_totals():
    ended = run(*DEMO, "3")

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


def test_the_lines_add_up_to_the_totals():
    ended = run(*DEMO, "1")

    last_of_each = re.findall(r"requests sent (\d+), API calls served (\d+)$", ended.stdout, re.M)
    sent, served = zip(*last_of_each[-3:], strict=True)
    calls, _, requests = totals(ended.stdout)
    assert sum(map(int, served)) == calls
    assert sum(map(int, sent)) == requests


def test_ctrl_c_after_a_renewal_ends_it_politely_with_totals():
    said = said_until(": renewed, ")

    _, tokens, requests = totals(said)
    assert 4 <= tokens <= requests
    assert "After the first tokens, no call waited longer than " in said.splitlines()[-1]


def test_it_prints_no_token():
    said = said_until(": fresh, ")

    assert totals(said)[1] > 0
    assert "eyJ" not in said


def test_a_terminal_gets_a_live_table_and_the_totals():
    with (
        Terminal() as terminal,
        running(*DEMO, "3", stdout=terminal.slave, COLUMNS="120", LINES="40", TERM="xterm") as demo,
    ):
        shown = terminal.read_until(None)
        demo.wait()

    assert demo.returncode == 0
    text = without_codes(shown)
    assert "Expires   Requests   API calls\n" in text
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


def test_settings_of_the_machine_do_not_get_in_its_way():
    said = said_until(
        ": fresh, ",
        HTTPS_PROXY="http://127.0.0.1:9",
        REQUESTS_CA_BUNDLE="/nowhere/ca.pem",
        AZURE_CLIENT_SECRET="somebody's own",
        FORCE_COLOR="1",
    )

    assert "\x1b" not in said
    assert totals(said)[0] > 0


def test_failed_calls_are_counted_and_end_it_with_1(monkeypatch, capsys):
    class Failing(EntraEmulator):
        def start(self):
            self.latency = 0
            self.fail_next(2, path="graph", status=503)
            return super().start()

    monkeypatch.setattr(demo_module, "EntraEmulator", Failing)

    with pytest.raises(typer.Exit) as ended:
        demo_module.demo(seconds=1)

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
        demo_module.demo(seconds=1)

    said = capsys.readouterr().out
    assert ended.value.exit_code == 1
    assert "0 API calls were served with 0 tokens for 3 managers" in said
    assert "(InvalidScopeError)." in said
    assert ": none, requests sent " in said


@pytest.mark.parametrize("seconds", ["0", "soon"])
def test_a_time_that_is_none_is_refused(seconds):
    ended = run(*DEMO, seconds)

    assert ended.returncode == 2
    assert "--seconds" in ended.stderr
    assert "Traceback" not in ended.stderr


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
