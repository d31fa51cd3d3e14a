"""What the service says becomes a token, or an error that says what to do."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator

import pytest
from support import EXACT, SCOPE

from tokenmgr import (
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
)
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.emulator import EntraEmulator
from tokenmgr.entra.answers import Answer, error_from_answer, token_from_answer

CLAIMS = '{"access_token":{"capolids":{"essential":true,"values":["c1"]}}}'
JWT = "eyJ0eXAiOiJKV1Qi.eyJhdWQiOiJhcGk6Ly9h.c2lnbmF0dXJl-_"


@pytest.fixture(scope="module")
def service() -> Iterator[EntraEmulator]:
    with EntraEmulator() as emulator:
        yield emulator


def refused(service, **fault):
    """The error of an app whose next token request fails in this way."""
    with service.registry(policy=EXACT) as tokens:
        service.fail_next(**fault)
        try:
            with pytest.raises(TokenManagerError) as caught:
                tokens.manager(SCOPE).get_access_token()
        finally:
            service.recover()
    return caught.value


@pytest.mark.parametrize(
    ("code", "error", "kind", "advice"),
    [
        (7000215, "invalid_client", InvalidCredentialError, "secret's value, not its id"),
        (7000222, "invalid_client", InvalidCredentialError, "create a new one"),
        (700027, "invalid_client", InvalidCredentialError, "upload the certificate"),
        (700024, "invalid_client", InvalidCredentialError, "federated token file"),
        (7000214, "invalid_request", InvalidCredentialError, "secret, certificate or assertion"),
        (1000502, "invalid_request", InvalidCredentialError, "secret, certificate or assertion"),
        (7000274, "invalid_request", InvalidCredentialError, "secret, certificate or assertion"),
        (7000277, "invalid_request", InvalidCredentialError, "secret, certificate or assertion"),
        (700016, "unauthorized_client", ConfigurationError, "client id and the tenant"),
        (90002, "invalid_request", ConfigurationError, "check the tenant"),
        (900023, "invalid_request", ConfigurationError, "check the tenant"),
        (1002012, "invalid_scope", InvalidScopeError, "{resource}/.default"),
        (70011, "invalid_scope", InvalidScopeError, "{resource}/.default"),
        (500011, "invalid_resource", InvalidScopeError, "service principal"),
        (65001, "invalid_grant", ConsentRequiredError, "the user sign in for this scope"),
        (50076, "invalid_grant", InteractionRequiredError, "this error's claims"),
        (50079, "invalid_grant", InteractionRequiredError, "this error's claims"),
        (50158, "invalid_grant", InteractionRequiredError, "this error's claims"),
        (53003, "invalid_grant", InteractionRequiredError, "this error's claims"),
        (50013, "invalid_grant", InteractionRequiredError, "whose audience is this app"),
        (500131, "invalid_grant", InteractionRequiredError, "whose audience is this app"),
        (500133, "invalid_grant", InteractionRequiredError, "whose audience is this app"),
        (50173, "invalid_grant", InteractionRequiredError, "sign in again"),
        (50020, "invalid_grant", InteractionRequiredError, "refuse the user: an administrator"),
        (50034, "invalid_grant", InteractionRequiredError, "refuse the user: an administrator"),
        (50057, "invalid_grant", InteractionRequiredError, "refuse the user: an administrator"),
        (50105, "invalid_grant", InteractionRequiredError, "refuse the user: an administrator"),
        (7000114, "unauthorized_client", InteractionRequiredError, "whose audience is this app"),
        (240002, "invalid_request", InteractionRequiredError, "whose audience is this app"),
        (28000, "invalid_scope", InvalidScopeError, "scopes of one resource"),
        (70008, "invalid_grant", InteractionRequiredError, "sign in again"),
        (700082, "invalid_grant", InteractionRequiredError, "sign in again"),
        (90033, "invalid_request", ServiceUnavailableError, "asked again later"),
    ],
)
def test_an_aadsts_number_decides_the_error_and_its_advice(service, code, error, kind, advice):
    body = {
        "error": error,
        "error_description": f"AADSTS{code}: So it is. Trace ID: t-1 Correlation ID: c-1",
        "error_codes": [code],
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "claims": CLAIMS,
    }

    raised = refused(service, status=400, body=json.dumps(body))

    assert type(raised) is kind
    assert raised.retryable is (kind is ServiceUnavailableError)
    assert advice in str(raised)
    assert f"AADSTS{code}: So it is" in str(raised)
    assert raised.error == error
    assert raised.error_codes == (code,)
    assert (raised.correlation_id, raised.trace_id) == ("c-1", "t-1")
    assert raised.claims == CLAIMS


@pytest.mark.parametrize(
    ("status", "kind"), [(429, ThrottledError), (500, ServiceUnavailableError)]
)
def test_the_status_of_a_service_in_trouble_decides_over_what_it_says(service, status, kind):
    # A load balancer under stress may well blame the client.
    raised = refused(
        service, n=4, status=status, error="invalid_client", error_codes=[7000215], retry_after=90
    )

    assert type(raised) is kind
    assert raised.retryable
    assert raised.retry_after == 90
    assert raised.status == status
    assert raised.error_codes == (7000215,)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("invalid_client", InvalidCredentialError),
        ("unauthorized_client", ConfigurationError),
        ("unsupported_grant_type", ConfigurationError),
        ("invalid_tenant", ConfigurationError),
        ("invalid_scope", InvalidScopeError),
        ("invalid_resource", InvalidScopeError),
        ("consent_required", ConsentRequiredError),
        ("interaction_required", InteractionRequiredError),
        ("login_required", InteractionRequiredError),
        ("invalid_grant", InteractionRequiredError),
        ("temporarily_unavailable", ServiceUnavailableError),
        ("server_error", ServiceUnavailableError),
        ("something_new", TokenRequestError),
    ],
)
def test_without_a_known_number_the_oauth_error_decides(error, kind):
    raised = error_from_answer(Answer({"error": error, "error_codes": [123456]}))

    assert type(raised) is kind
    assert raised.error == error
    assert raised.error_codes == (123456,)
    assert "What to do: " in str(raised)


def test_the_suberror_is_nearer_the_cause_than_the_error():
    answer = {"error": "invalid_grant", "suberror": "consent_required"}

    assert type(error_from_answer(Answer(answer))) is ConsentRequiredError


def test_a_number_that_says_more_is_found_behind_one_that_is_not_known():
    answer = {"error": "invalid_grant", "error_codes": [123456, 65001]}

    assert type(error_from_answer(Answer(answer))) is ConsentRequiredError


def test_the_number_is_read_from_a_description_without_error_codes():
    # B2C sends no error_codes.
    answer = {"error": "invalid_request", "error_description": "AADSTS7000215: No.\r\nTrace ID: t"}

    raised = error_from_answer(Answer(answer))

    assert type(raised) is InvalidCredentialError
    assert raised.error_codes == (7000215,)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"error": None, "error_description": None, "error_codes": None, "claims": None},
        {"error": ["x"], "error_description": {"x": 1}, "error_codes": {"x": 1}, "suberror": []},
        {"error": 7, "error_codes": [None, True], "correlation_id": 5, "trace_id": [], "x": 1},
    ],
)
def test_an_answer_of_odd_types_is_a_plain_refusal(answer):
    raised = error_from_answer(Answer(answer), host="login.example.com")

    assert type(raised) is TokenRequestError
    assert str(raised).startswith("login.example.com gave no token: ")
    assert (raised.error, raised.error_codes, raised.claims) == (None, (), None)
    assert (raised.correlation_id, raised.trace_id) == (None, None)


def said(description, **kwargs):
    answer = {"error": "invalid_client", "error_description": description}
    return str(error_from_answer(Answer(answer), **kwargs))


def test_the_ids_and_the_time_are_no_part_of_the_message():
    message = said("AADSTS7000215: Wrong.\r\nTrace ID: t-1\r\nCorrelation ID: c-1\r\nTimestamp: 1")

    assert message.startswith("the service gave no token: AADSTS7000215: Wrong. What to do: ")
    assert "t-1" not in message
    assert "c-1" not in message


def test_a_description_cannot_forge_a_log_line():
    message = said("one\r\nERROR two\x1b[31m\x00three\u2028four\tfive")

    assert message.isprintable()
    assert "one ERROR two [31m three four five" in message


def test_what_looks_like_a_token_is_left_out():
    message = said(f"the assertion '{JWT}' was not accepted, nor {JWT.rpartition('.')[0]}.")

    assert "eyJ" not in message
    assert "c2lnbmF0dXJl" not in message
    assert "was not accepted" in message


def test_the_secret_that_was_sent_is_left_out():
    message = said("no: hunter2 is not it, hunter2", secret=Hidden("hunter2"))

    assert "hunter2" not in message
    assert "is not it" in message


def test_a_secret_across_the_cut_is_left_out_too():
    message = said("x" * 295 + "hunter2-hunter2", secret=Hidden("hunter2-hunter2"))

    assert "hunt" not in message


def test_a_long_description_is_cut():
    message = said("spam " * 10_000)

    assert len(message) < 300 + 150


NAMES = (
    "ann@contoso.com",
    "ann.b@fabrikam.com",
    "live.com#ann@outlook.com",
    "ann_g.com#EXT#@contoso.com",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "says",
    [
        "AADSTS50020: User account '{}' from identity provider 'live.com' does not exist.",
        "AADSTS50105: The signed in user '{}' is not assigned to a role.",
        "AADSTS50034: To sign in, the account {} must be added to the directory.",
        "no such user ({}), sorry",
        "<{}>: no",
    ],
)
def test_a_users_name_that_the_service_tells_is_left_out(says, name):
    answer = {"error": "invalid_grant", "error_description": says.format(name), "error_codes": []}
    error = error_from_answer(Answer(answer))
    assert not any(part in str(error) for part in (name, "ann", "@"))
    assert "[…]" in str(error)


def test_a_users_display_name_is_left_out_too():
    said = (
        "AADSTS90072: User account 'Ann B. Smith' from identity provider 'live.com' does not exist"
    )
    error = error_from_answer(Answer({"error_description": said, "error": "invalid_grant"}))
    assert "Ann" not in str(error)
    assert "from identity provider 'live.com' does not exist" in str(error)


def test_long_words_take_no_time():
    for said in ("a@" * 500_000, "a" * 1_000_000, "user '" * 200_000, "user" + " " * 1_000_000):
        error = error_from_answer(Answer({"error_description": said, "error": "x"}))
        assert len(str(error)) < 10_000  # what tries again at each character never comes here


def token(**changes):
    answer = {"access_token": "a.b-c_d~e", "token_type": "Bearer", "expires_in": 3600} | changes
    answer = {name: value for name, value in answer.items() if value is not ...}
    return token_from_answer(Answer(answer), asked_at=1000.0, scopes=(SCOPE,))


@pytest.mark.parametrize(
    ("expires_in", "expires_at"),
    [
        *((3600, 4600.0), ("3600", 4600.0), ("3599.0", 4599.0), (90.5, 1090.5), (1, 1001.0)),
        *((..., 4599.0), (None, 4599.0), ("", 4599.0)),
    ],
)
def test_the_life_of_a_token_counts_from_when_it_was_asked_for(expires_in, expires_at):
    taken = token(expires_in=expires_in)

    assert taken.expires_at == expires_at
    assert taken.secret == "a.b-c_d~e"
    assert taken.token_type == "Bearer"
    assert taken.scopes == (SCOPE,)
    assert taken.refresh_at is None


@pytest.mark.parametrize(
    "expires_in", [0, -1, "-3600", math.nan, math.inf, "NaN", "inf", "soon", True, [3600], {}]
)
def test_a_life_that_is_none_is_refused(expires_in):
    with pytest.raises(ServiceUnavailableError, match="expires_in"):
        token(expires_in=expires_in)


def test_when_to_renew_is_counted_from_when_it_was_asked_for():
    taken = token(refresh_on=str(time.time() + 1800))

    assert taken.refresh_at == pytest.approx(1000 + 1800, abs=30)


@pytest.mark.parametrize("refresh_on", ["soon", None, math.nan])
def test_a_time_to_renew_that_is_none_is_not_taken(refresh_on):
    assert token(refresh_on=refresh_on).refresh_at is None


def test_a_time_to_renew_that_has_passed_is_now():
    assert token(refresh_on=5).refresh_at == 1000.0


@pytest.mark.parametrize(
    "secret",
    ["", "a b", "a\r\nX-Admin: 1", "a\n", "a\x00", "tökén", "токен", None, 5, ["a"], b"a", {}, ...],
    ids=repr,
)
def test_a_token_that_could_not_be_a_header_is_refused(secret):
    with pytest.raises(ServiceUnavailableError, match="access token") as caught:
        token(access_token=secret)

    assert "a b" not in str(caught.value)
    assert "X-Admin" not in str(caught.value)


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "bEaReR", None, "", ...])
def test_a_token_is_presented_as_bearer_however_the_service_spells_it(token_type):
    assert token(token_type=token_type).authorization == "Bearer a.b-c_d~e"


@pytest.mark.parametrize(
    ("token_type", "named"),
    [
        *(("pop", "'pop'"), ("DPoP", "'DPoP'"), ("mac", "'mac'"), ("Bearer x", "'Bearer x'")),
        *((5, "'5'"), ("b\u00e9arer", "'b\u00e9arer'"), ("Bearer\r\nX: y", "'Bearer X: y'")),
    ],
)
def test_a_token_of_another_type_is_refused_by_its_name(token_type, named):
    with pytest.raises(TokenRequestError, match=f"a token of type {named}.* bearer") as caught:
        token(token_type=token_type)

    assert type(caught.value) is TokenRequestError
    assert not caught.value.retryable


def test_the_service_decides_when_to_renew(service):
    service.refresh_in = 100
    try:
        with service.registry(policy=EXACT) as tokens:
            taken = tokens.manager(SCOPE).get_token()
    finally:
        service.refresh_in = None

    assert taken.refresh_at == pytest.approx(taken.expires_at - 3500, abs=5)
