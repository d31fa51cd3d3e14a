"""Answers that are not as they should be: a good token comes through, and a refusal is one."""

from __future__ import annotations

import json

import pytest
from entra_calls import VAULT, failure, fetch
from support import EXACT, SCOPE

from tokenmgr import (
    AuthorityError,
    ClientSecret,
    InvalidCredentialError,
    RefreshPolicy,
    ServiceUnavailableError,
    TokenManagerError,
    TokenRequestError,
)
from tokenmgr.entra.answers import Answer, normalized
from tokenmgr.events import BreakerClosed, BreakerOpened

UNNEEDED = [
    *({"scope": value} for value in (None, ["a", "b"], 5, "", {})),
    *({"id_token": value} for value in (None, "", "no JWT", "a.b.c", 5, ["x"], {})),
    *({"client_info": value} for value in (None, "", "no base64!", 5, ["x"], {})),
    *({"refresh_in": value} for value in (None, "", "soon", True, ["x"], {})),
    *({"ext_expires_in": value} for value in (None, "", "soon", "7199.5", ["x"], {})),
    *({"expires_in": value} for value in (None, "", "3599.0", 3599.0, "3600")),
    *({"expires_on": value} for value in (None, "", "soon", ["x"], {})),
    *({"token_type": value} for value in (None, "", "bearer", "BEARER")),
    *({"refresh_token": value} for value in (None, "", 5, ["x"], {})),
    *({"foci": value} for value in (None, 1, ["x"])),
    *({"error": value} for value in (None, "", {}, [], False)),
    *({"id_token_claims": value} for value in (None, "x", {"sub": None})),
    {"username": None, "not_before": {}, "resource": ["x"], "\ud800": "\udfff"},
]


@pytest.mark.parametrize("odd", UNNEEDED, ids=str)
def test_a_good_token_is_not_lost_for_what_nobody_needs(rough, registry, odd):
    body = {"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600} | odd
    rough.on_post = lambda handler: handler.answer(200, json.dumps(body))

    token = registry().manager(SCOPE).get_token()

    assert token.authorization == "Bearer a-token"
    assert rough.posts == 1


@pytest.mark.parametrize("refresh_in", [1800, "1800", 1800.0, "1800.0"])
def test_when_to_renew_may_be_a_number_or_its_text(rough, registry, refresh_in):
    rough.on_post = lambda handler: handler.token(refresh_in=refresh_in)

    token = registry(policy=EXACT).manager(SCOPE).get_token()

    assert token.expires_at - token.refresh_at == pytest.approx(1800, abs=5)


def test_msal_sees_of_a_token_what_is_needed_and_no_more():
    whole = {"access_token": "a", "token_type": "bearer", "expires_in": "3600", "x": 1}

    assert normalized(Answer(whole | {"refresh_in": None, "scope": None}), 200) == {
        "access_token": "a",
        "token_type": "Bearer",
        "expires_in": 3600.0,
    }


# Refusals


@pytest.mark.parametrize("status", [200, 400, 401])
@pytest.mark.parametrize("token", [None, "", [], 0, "a-token"])
def test_a_refusal_that_names_a_token_too_is_a_refusal(rough, registry, status, token):
    body = {"error": "invalid_client", "error_codes": [7000215], "access_token": token}
    rough.on_post = lambda handler: (
        handler.answer(status, json.dumps(body)) if rough.posts == 1 else handler.token()
    )
    secrets = iter(["old", "new"])

    assert fetch(registry(credential=ClientSecret(lambda: next(secrets)))) == "a-token"

    assert next(secrets, None) is None, "the rotated secret was read"


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_failure_by_its_status_holds_no_token(rough, registry, status):
    rough.on_post = lambda handler: handler.answer(
        status, '{"access_token": "a-token", "expires_in": 3600}'
    )

    assert failure(registry(), TokenRequestError, match=f"HTTP {status}").status == status


@pytest.mark.parametrize(
    "codes",
    [["7000215"], "7000215", 7000215, [None, "7000215"], "7000215, 7000222", ["x7 7000215"]],
)
def test_error_codes_count_as_text_too(rough, registry, codes):
    body = {"error": "unauthorized_client", "error_codes": codes}
    rough.on_post = lambda handler: handler.answer(400, json.dumps(body))

    raised = failure(registry(), InvalidCredentialError)

    assert raised.error_codes[0] == 7000215


ODD_ERRORS = [
    {"code": "Forbidden", "message": "no"},
    ["Forbidden"],
    "<html><body>Forbidden, user bob</body></html>",
    "Forbidden " * 20,
    "For\nbidden",
    403,
    True,
]


@pytest.mark.parametrize("error", ODD_ERRORS, ids=str)
@pytest.mark.parametrize("status", [200, 400, 403])
def test_an_error_that_is_no_name_keeps_the_status(rough, registry, error, status):
    rough.on_post = lambda handler: handler.answer(status, json.dumps({"error": error}))

    raised = failure(registry(), TokenRequestError, match=f"HTTP {status}")

    assert (raised.status, raised.error) == (status, None)
    assert "bob" not in str(raised)


def test_an_error_that_is_named_says_its_status_too(rough, registry):
    rough.on_post = lambda handler: handler.answer(401, '{"error": "invalid_client"}')

    raised = failure(registry(), InvalidCredentialError)

    assert (raised.status, raised.error) == (401, "invalid_client")
    assert "HTTP" not in str(raised)


@pytest.mark.parametrize("named", ["pop", "DPoP", "urn:ietf:params:oauth:token-type:jwt"])
def test_a_token_of_another_type_is_refused_by_name(rough, registry, named):
    rough.on_post = lambda handler: handler.token(token_type=named)

    raised = failure(registry(), TokenRequestError, match=f"type '{named}'.*bearer tokens")

    assert not raised.retryable
    assert rough.posts == 1


# What the breaker makes of them


NONSENSE = {
    "a page": (200, "<html>Welcome</html>"),
    "a page that refuses": (403, "<html>No</html>"),
    "an empty object": (200, "{}"),
    "no token": (200, '{"access_token": null}'),
    "no life": (200, '{"access_token": "a", "expires_in": "soon"}'),
    "another type": (200, '{"access_token": "a", "token_type": "pop"}'),
    "an error object": (400, '{"error": {"code": 5}}'),
    "nothing": (400, ""),
    "what cannot be decoded": (200, b"\x1f\x8b no gzip"),
    "too much": (200, b" " * (1 << 21)),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_of_three_keys_is_not_taken_for_an_outage(rough, registry, what):
    status, body = NONSENSE[what]
    headers = {"content_encoding": "gzip"} if "decoded" in what else {}
    rough.on_post = lambda handler: (
        handler.token()
        if "well" in handler.form["scope"]
        else handler.answer(status, body, **headers)
    )
    events = []
    with registry(on_event=events.append) as tokens:
        for number in range(4):
            with pytest.raises(TokenManagerError) as caught:
                fetch(tokens, f"api://{number}/.default")
            assert caught.value.status == status

        assert fetch(tokens, "api://well/.default") == "a-token"

    assert not any(isinstance(event, BreakerOpened) for event in events)


def test_nonsense_of_the_metadata_is_no_outage_either(rough, registry):
    rough.on_get = lambda handler: handler.answer(404, "<html>nothing</html>")
    events = []
    with registry(on_event=events.append) as tokens:
        for number in range(4):
            raised = failure(tokens, AuthorityError, f"api://{number}/.default")
            assert raised.status == 404

    assert not any(isinstance(event, BreakerOpened) for event in events)


@pytest.mark.parametrize(
    "answer", [(503, ""), (500, "{}"), (400, '{"error": "temporarily_unavailable"}')]
)
def test_a_service_that_says_it_is_in_trouble_is_left_alone(rough, registry, clock, answer):
    rough.on_post = lambda handler: handler.answer(*answer)
    # Of a clock of its own: chance may leave it alone for a thousandth of a second.
    tokens = registry(policy=RefreshPolicy(), clock=clock)
    for number in range(3):
        failure(tokens, ServiceUnavailableError, f"api://{number}/.default")
    asked = rough.posts

    failure(tokens, ServiceUnavailableError, VAULT, match="left alone")

    assert rough.posts == asked


def test_a_probe_that_is_answered_with_nonsense_finds_the_service_there(rough, registry, clock):
    rough.on_post = lambda handler: handler.answer(503, "")
    events = []
    with registry(on_event=events.append, clock=clock) as tokens:
        for number in range(3):
            failure(tokens, ServiceUnavailableError, f"api://{number}/.default")
        rough.on_post = lambda handler: handler.answer(200, "{}")
        clock.advance(1000)
        failure(tokens, ServiceUnavailableError, SCOPE, match="no access token")
        rough.on_post = lambda handler: handler.token()

        assert fetch(tokens, VAULT) == "a-token"

    kinds = [type(event) for event in events if isinstance(event, (BreakerOpened, BreakerClosed))]
    assert kinds == [BreakerOpened, BreakerClosed]
