"""The refresh token grant, from a user's call to work long after it, and what Entra refuses."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulator_clients import claims_of
from programs import run
from redis_servers import BINARIES, store_url
from reporting import Broken, told_at_every_line, told_of
from support import FakeClock

from tokenmgr import (
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.events import Event
from tokenmgr.stores import MemoryStore

ANN, BOB = "ann@contoso.com", "bob@contoso.com"
READ = "https://graph.microsoft.com/User.Read"
MAIL = "https://graph.microsoft.com/Mail.Read"
ORDERS = "api://orders/read"
KEY = "what the records of the tests are sealed with"
NAME = "job 4711 of the customer"
REFRESH = "refresh_token"


@pytest.fixture
def clock() -> FakeClock:
    """The emulator has the machine's clock; what is turned by hand starts there."""
    return FakeClock(time.time())


@pytest.fixture
def tokens(entra, clock) -> Iterator[TokenRegistry]:
    with entra.registry(clock=clock) as tokens:
        yield tokens


@pytest.fixture(params=["sqlite", *list(BINARIES)[:1]])
def url(request, tmp_path: Path) -> Iterator[str]:
    with store_url(request.param, tmp_path) as url:
        yield url


def begin(entra, tokens: TokenRegistry, name: str = ANN, scope: str = READ) -> str:
    manager = tokens.on_behalf_of(f"Bearer {entra.sign_in(name)}", scope, session=NAME)
    return manager.get_access_token()


def error_of(call: Any, kind: type[TokenManagerError] = InteractionRequiredError) -> Any:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert ANN not in str(caught.value)
    return caught.value


def test_work_goes_on_for_the_user_after_their_token_has_ended(entra, tokens, clock):
    token = begin(entra, tokens)
    session = tokens.session(NAME)
    assert session.manager(READ).get_access_token() == token
    seen = {token}
    for _ in range(4):
        clock.advance(3600)
        seen.add(session.manager(READ).get_access_token())
    assert len(seen) == 5
    for each in seen:
        claims = claims_of(each)
        assert (claims["upn"], claims["oid"]) == (ANN, entra.add_user(ANN))
    shown = [request.form[REFRESH] for request in entra.requests if request.grant_type == REFRESH]
    assert len(set(shown)) == len(shown) == 4


def test_other_resources_and_claims_come_by_the_same_refresh_token(entra, tokens):
    begin(entra, tokens)
    orders = tokens.session(NAME).manager(ORDERS)
    assert claims_of(orders.get_access_token())["aud"] == "api://orders"
    asked = json.dumps({"access_token": {"xms_cc": {"values": ["CP1"]}}})
    assert claims_of(orders.refresh_access_token(claims=asked))["xms_cc"] == ["CP1"]
    assert entra.count(REFRESH) == 2


PROGRAM = f"""
from tokenmgr import TokenRegistry
tokens = TokenRegistry.from_env()
print(tokens.session({NAME!r}).manager({READ!r}).refresh_access_token())
tokens.close()
"""


def test_another_process_finds_it_after_a_restart(entra, url):
    with entra.registry(store=url, encryption_key=KEY) as tokens:
        first = begin(entra, tokens)
    settings = {
        **entra.environment(),
        "AZURE_TENANT_ID": "contoso.onmicrosoft.com",
        "TOKENMGR_STORE": url,
        "TOKENMGR_ENCRYPTION_KEY": KEY,
    }
    second, third = (run("-c", PROGRAM, **settings).stdout.strip() for _ in range(2))
    assert len({first, second, third}) == 3
    assert {claims_of(each)["upn"] for each in (first, second, third)} == {ANN}
    assert (entra.count(), entra.count(REFRESH)) == (3, 2)
    with entra.registry(store=url, encryption_key=KEY) as tokens:
        assert tokens.session(NAME).manager(READ).get_access_token() == third
        tokens.session(NAME).end()
    said = run("-c", PROGRAM, **settings)
    assert "SessionNotFoundError: there is no such session" in said.stderr


def test_it_keeps_the_tenant_of_its_assertion(entra, clock, tmp_path):
    entra.add_user(ANN)
    guest = entra.add_user(ANN, tenant="fabrikam.com")
    assertion = entra.sign_in(ANN, tenant="fabrikam.com")
    tid = claims_of(assertion)["tid"]
    settings = {
        "authority": entra.authority("common"),
        "store": f"sqlite:///{tmp_path}/tokens.db",
        "encryption_key": KEY,
        "clock": clock,
    }
    with entra.registry(**settings) as one, entra.registry(**settings) as other:
        one.on_behalf_of(assertion, READ, session=NAME).get_access_token()
        clock.advance(3600)
        for tokens in (other, one):
            claims = claims_of(tokens.session(NAME).manager(READ).refresh_access_token())
            assert (claims["oid"], claims["tid"]) == (guest, tid)
    assert {request.tenant for request in entra.requests if request.kind == "token"} == {tid}


# What Entra refuses


@pytest.mark.parametrize(
    ("control", "code", "says"),
    [
        ("revoke", 50173, "sign in again"),
        ("remove_user", 50034, "administrator"),
        ("disable_user", 50057, "administrator"),
    ],
)
def test_a_refused_refresh_token_is_the_sessions_end(entra, tokens, clock, control, code, says):
    begin(entra, tokens)
    held = tokens.session(NAME).manager(READ)
    held.get_access_token()
    getattr(entra, control)(ANN)
    clock.advance(3600)
    error = error_of(held.get_access_token)
    assert (error.error, error.error_codes, error.claims) == ("invalid_grant", (code,), None)
    assert "the session has ended" in str(error)
    assert says in str(error)
    asked = entra.count()
    # And so says whoever else asks for it in this process: the one that it was begun with, too.
    again = error_of(tokens.session(NAME).manager(MAIL).get_access_token)
    assert (str(again), again.error_codes) == (str(error), (code,))
    assert entra.count() == asked


def test_the_user_who_signs_in_again_goes_on(entra, tokens, clock):
    begin(entra, tokens)
    held = tokens.session(NAME).manager(READ)
    held.get_access_token()
    entra.revoke(ANN)
    clock.advance(3600)
    error_of(held.get_access_token)
    clock.step_wall(-3600)
    token = begin(entra, tokens)
    assert held.get_access_token() == token


@pytest.mark.parametrize("shape", ["interaction_required", "invalid_grant"])
def test_more_proof_is_asked_for_with_claims_and_the_session_waits_for_it(entra, tokens, shape):
    begin(entra, tokens)
    entra.require_mfa(ANN, error=shape)
    held = tokens.session(NAME).manager(ORDERS)
    error = error_of(held.get_access_token)
    assert (error.error, error.error_codes) == (shape, (50076,))
    stronger = entra.sign_in(ANN, claims=error.claims)
    tokens.on_behalf_of(stronger, READ, session=NAME).get_access_token()
    assert claims_of(held.get_access_token())["aud"] == "api://orders"


def test_consent_that_is_missing_is_told_of_its_scope_alone(entra, tokens):
    begin(entra, tokens)
    entra.withdraw_consent(ANN, ORDERS)
    error = error_of(tokens.session(NAME).manager(ORDERS).get_access_token, ConsentRequiredError)
    assert error.error_codes == (65001,)
    assert tokens.session(NAME).manager(READ).refresh_access_token()
    entra.grant_consent(ANN)


def test_a_tenant_that_loses_the_app_is_no_trouble_of_the_apps(entra, clock):
    with entra.registry(authority=entra.authority("common"), clock=clock) as tokens:
        begin(entra, tokens)
        # More than one: it may be renewed in the background before it is asked for.
        entra.fail_next(9, status=400, error="unauthorized_client", error_codes=[700016])
        clock.advance(3600)
        manager = tokens.session(NAME).manager(READ)
        error = error_of(manager.get_access_token, ConsentRequiredError)
        assert "at the tenant that the user's token names" in str(error)


def test_an_answer_that_is_lost_costs_no_session(entra, tokens, clock):
    begin(entra, tokens)
    clock.advance(3600)
    entra.fail_next(status=503)
    assert tokens.session(NAME).manager(READ).get_access_token()


@pytest.mark.parametrize("refresh_token", [None, "", 5, "a b", "x" * 16_385])
def test_what_is_no_refresh_token_begins_no_session(entra, tokens, refresh_token):
    body = {"access_token": "a", "expires_in": 3600, "refresh_token": refresh_token}
    entra.fail_next(status=200, body=json.dumps(body))
    error = error_of(lambda: begin(entra, tokens), ConfigurationError)
    assert "no refresh token" in str(error)


def test_msal_sees_no_refresh_token(entra, tokens, monkeypatch):
    from tokenmgr.entra import answers
    from tokenmgr.entra.wire import exchange

    seen = []
    normalized = answers.normalized
    monkeypatch.setattr(
        exchange, "normalized", lambda *a, **k: seen.append(normalized(*a, **k)) or seen[-1]
    )
    tokens.on_behalf_of(entra.sign_in(ANN), READ).get_access_token()
    begin(entra, tokens)
    assert [REFRESH in answer for answer in seen] == [False, False]


# What is shown


def test_nothing_of_it_is_shown_and_nothing_lies_in_the_file(entra, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    settings = {"store": f"sqlite:///{tmp_path}/tokens.db", "encryption_key": KEY}
    ann = entra.sign_in(ANN)
    with entra.registry(**settings, on_event=events.append) as tokens:
        manager = tokens.on_behalf_of(ann, READ, session=NAME)
        token = manager.get_access_token()
        session = tokens.session(NAME)
        session.manager(ORDERS).get_access_token()
        entra.revoke(ANN)
        error = error_of(manager.refresh_access_token)
        sessions = tokens._own.sessions
        inside = [vars(each) for each in (session, error, sessions, manager, manager._cell.source)]
        shown = repr([session, manager, manager.key, manager.status(), error, events, inside])
        lying = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    refresh_tokens = [each.form[REFRESH] for each in entra.requests if REFRESH in each.form]
    others = ("authlib", "aiohttp")  # the emulator's
    logged = [each.getMessage() for each in caplog.records if not each.name.startswith(others)]
    logged = "\n".join(logged)
    oid = claims_of(ann)["oid"]
    for secret in (NAME, "customer", ANN, oid, token, ann, ann.split(".")[2], *refresh_tokens):
        assert secret not in shown
        assert secret not in logged
        assert secret.encode() not in lying
    with pytest.raises(TypeError, match="does not pickle"):
        session.__reduce__()


_WITH_RECORDS = (
    *("sessions.py", "_sessions.py", "_kept_sessions.py"),
    *("_sharing/session.py", "_sharing/session_record.py", "_sharing/session_names.py"),
    *("entra/grants/beginnings.py", "entra/accounts.py", "_session.py"),
)


class Last(tuple):
    """The name and the assertion, and the refresh tokens that were given last."""

    __slots__ = ()
    given: list[str] = []

    def __iter__(self):
        return iter([*self.given[:2], *self.given[2:][-6:]])


@pytest.mark.traces
def test_nothing_of_it_is_in_a_variable_wherever_it_breaks(entra):
    ann = entra.sign_in(ANN)
    secrets = Last.given = [NAME, ann]
    keep = entra._state.refresh_tokens.keep
    redeem = entra._state.refresh_tokens.redeem
    entra._state.refresh_tokens.keep = lambda token: (secrets.append(token.text), keep(token))
    entra._state.refresh_tokens.redeem = lambda old, new: (
        secrets.append(new.text),
        redeem(old, new),
    )

    def work() -> None:
        # Where no thread runs the caller does it all, and an error's frames are his.
        with entra.registry(store=MemoryStore(), encryption_key=KEY) as tokens:
            tokens._own.app.context.workers.do = no_thread  # type: ignore[method-assign]
            tokens.on_behalf_of(ann, READ, session=NAME).get_access_token()
            tokens.session(NAME).manager(ORDERS).get_access_token()
            tokens.session(NAME).end()

    def no_thread(work: object) -> None:
        raise RuntimeError("no thread runs here")

    within = (
        "sessions.py",
        "_sessions.py",
        "_kept_sessions.py",
        "entra/grants/refresh_token.py",
        *_WITH_RECORDS,
    )
    assert told_at_every_line(work, Last(), (Broken,), within, one_in=2) == []
    assert len(secrets) > 50


def test_errors_tell_no_name_and_no_assertion(entra, tokens):
    ann = entra.sign_in(ANN, lifetime=-1)
    for call in (
        lambda: tokens.on_behalf_of(ann, READ, session=NAME),
        lambda: tokens.on_behalf_of("opaque " + NAME, READ, session=NAME),
        lambda: tokens.session(NAME).manager(READ).get_access_token(),
        lambda: tokens.session(NAME * 100),
    ):
        with pytest.raises(TokenManagerError) as caught:
            call()
        assert told_of(caught.value, (NAME, ann)) == []
