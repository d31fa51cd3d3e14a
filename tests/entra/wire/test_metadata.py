"""The metadata of an authority is remembered when it has worked, and as long as it does."""

from __future__ import annotations

import json

import pytest
from entra_calls import VAULT, failure, fetch
from support import EXACT

from tokenmgr import (
    Authority,
    AuthorityError,
    ClientSecret,
    InvalidCredentialError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
)


def refuse(handler, status=401, **fields):
    fields = {"error": "invalid_client", "error_codes": [7000215]} | fields
    handler.answer(status, json.dumps(fields))


def test_a_wrong_issuer_for_one_moment_is_forgotten_with_it(rough, registry):
    tokens = registry(authority=Authority.oidc(f"{rough.url}/main"))
    rough.metadata["issuer"] = "https://evil.example/main"
    for scope in ("api://one", "api://two"):
        failure(tokens, AuthorityError, scope)
    rough.metadata["issuer"] = f"{rough.url}/main"

    for scope in ("api://one", "api://two"):
        assert fetch(tokens, scope) == "a-token"

    assert rough.gets == 3


MOVED = {
    "a page": (404, "<html>Not here</html>"),
    "an OAuth error": (404, '{"error": "not_found"}'),
    "JSON of a gateway": (404, '{"message": "no route"}'),
    "an error object": (403, '{"error": {"code": "Forbidden"}}'),
    "gone": (410, "{}"),
    "no POST": (405, ""),
    "a front page": (200, "<html>Welcome</html>"),
    "a gateway without it": (502, "<html>Bad Gateway</html>"),
}


@pytest.mark.parametrize("how", MOVED)
def test_an_endpoint_that_has_moved_is_looked_up_anew(rough, registry, how):
    tokens = registry()
    assert fetch(tokens) == fetch(tokens, VAULT) == "a-token"
    assert rough.gets == 1
    rough.metadata["token_endpoint"] = f"{rough.authority}/new/token"
    rough.on_post = lambda handler: (
        handler.token() if handler.path.endswith("/new/token") else handler.answer(*MOVED[how])
    )

    with pytest.raises(TokenManagerError):
        fetch(tokens)

    assert fetch(tokens) == fetch(tokens, VAULT) == "a-token"
    assert rough.gets == 2


def test_an_endpoint_that_redirects_is_looked_up_anew(rough, registry):
    tokens = registry()
    fetch(tokens)
    rough.on_post = lambda handler: handler.answer(307, "", location="/new")
    failure(tokens, AuthorityError, match="redirect")
    rough.on_post = lambda handler: handler.token()

    assert fetch(tokens) == "a-token"
    assert rough.gets == 2


def test_an_endpoint_whose_host_is_gone_is_looked_up_anew(rough, registry):
    tokens = registry(authority=Authority.oidc(f"{rough.url}/main"))
    rough.metadata["issuer"] = f"{rough.url}/main"
    assert fetch(tokens) == "a-token"
    rough.on_post = lambda handler: handler.connection.close()
    failure(tokens, ServiceUnavailableError, match="connection")
    rough.on_post = lambda handler: handler.token()

    assert fetch(tokens) == "a-token"
    assert rough.gets == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((401, '{"error": "invalid_client"}'), InvalidCredentialError),
        ((429, "slow down"), ThrottledError),
        ((503, '{"error": "temporarily_unavailable"}'), ServiceUnavailableError),
    ],
)
def test_an_endpoint_that_answers_is_where_it_was(rough, registry, answer, kind):
    tokens = registry()
    fetch(tokens)
    rough.on_post = lambda handler: handler.answer(*answer)
    failure(tokens, kind)
    rough.on_post = lambda handler: handler.token()

    assert fetch(tokens) == "a-token"
    assert rough.gets == 1


def test_what_has_brought_no_token_yet_is_not_remembered(rough, registry):
    rough.on_post = refuse
    tokens = registry()
    for _ in range(2):
        failure(tokens, InvalidCredentialError)

    assert rough.gets == 2


def test_one_fetch_asks_once_though_it_tries_twice(rough, registry):
    rough.on_post = lambda handler: handler.token() if rough.posts == 2 else refuse(handler)
    secrets = iter(["one", "two"])

    assert fetch(registry(credential=ClientSecret(lambda: next(secrets)))) == "a-token"

    assert (rough.gets, rough.posts) == (1, 2)


def test_what_is_remembered_is_asked_for_again_after_its_time(rough, registry, monkeypatch):
    monkeypatch.setattr("tokenmgr.entra.wire.transport._METADATA_TTL", 0.0)
    tokens = registry()
    for _ in range(3):
        fetch(tokens)

    assert rough.gets == 3


@pytest.mark.parametrize("waits", [0.0, 3.0])
def test_a_tokens_life_is_counted_from_the_attempt_that_brought_it(rough, registry, clock, waits):
    began = clock.wall()

    def fail_twice(handler):
        if rough.posts < 3:
            clock.advance(waits)
            handler.answer(503, "{}")
        else:
            handler.token(expires_in=8)

    rough.on_post = fail_twice

    token = registry(clock=clock, policy=EXACT).manager(VAULT).get_token()

    assert token.expires_at == began + 2 * waits + 8


def test_the_time_that_its_own_attempt_takes_is_taken_off(rough, registry, clock):
    began = clock.wall()

    def dawdle(handler):
        clock.advance(5.0)
        handler.token(expires_in=60)

    rough.on_post = dawdle

    assert registry(clock=clock).manager(VAULT).get_token().expires_at == began + 60
