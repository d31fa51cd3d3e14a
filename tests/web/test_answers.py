"""What callers are answered in the place of an answer, and what they are not told."""

from __future__ import annotations

import json

import pytest

from tokenmgr import (
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidCredentialError,
    ServiceUnavailableError,
    SessionNotFoundError,
    StoreError,
    ThrottledError,
    TokenRequestError,
    TokenTimeoutError,
)
from tokenmgr.errors import BearerRefusedError
from tokenmgr.http.challenges import Answer, read
from tokenmgr.web._answers import answer_to

CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1?>~"}}}'
INTERNAL = "AADSTS50076: tenant 4711, https://internal.contoso.com, trace 0815"


def challenges(answer):
    return [value for name, value in answer.headers if name == "WWW-Authenticate"]


def test_who_sends_no_bearer_is_told_the_scheme_and_no_error():
    answer = answer_to(BearerRefusedError("send a bearer", error=None))
    assert answer.status == 401
    assert answer.headers == [("WWW-Authenticate", 'Bearer realm=""')]
    assert answer.body == {"error": "invalid_request", "error_description": "send a bearer"}


def test_a_bearer_that_is_not_accepted_is_told_why():
    answer = answer_to(BearerRefusedError("it has expired: get another"))
    told = 'Bearer error="invalid_token", error_description="it has expired: get another"'
    assert (answer.status, answer.headers) == (401, [("WWW-Authenticate", told)])
    assert read(401, challenges(answer)) == Answer(renew=True)


def test_missing_scopes_are_named_so_that_our_own_clients_find_them():
    error = BearerRefusedError(
        "you may not", status=403, error="insufficient_scope", scopes=("Orders.Read", "Orders.Edit")
    )
    answer = answer_to(error)
    assert answer.status == 403
    assert read(403, challenges(answer)).missing == ("Orders.Read", "Orders.Edit")


@pytest.mark.parametrize("kind", [InteractionRequiredError, SessionNotFoundError])
def test_claims_are_passed_on_so_that_our_own_clients_find_them(kind):
    answer = answer_to(kind(INTERNAL, claims=CLAIMS))
    assert answer.status == 401
    assert answer.body["error"] == "insufficient_claims"
    assert read(401, challenges(answer)) == Answer(renew=True, claims=CLAIMS)


def test_without_claims_the_user_signs_in_again():
    answer = answer_to(InteractionRequiredError(INTERNAL))
    assert (answer.status, answer.body["error"]) == (401, "invalid_token")
    assert read(401, challenges(answer)) == Answer(renew=True)


def test_claims_that_nobody_could_send_are_none():
    refusal = answer_to(InteractionRequiredError(INTERNAL, claims='{"a": "\ud800"}'))
    assert (refusal.status, refusal.body["error"]) == (401, "invalid_token")


def test_consent_is_no_matter_of_another_token():
    answer = answer_to(ConsentRequiredError(INTERNAL))
    assert (answer.status, answer.headers) == (403, [])
    assert answer.body["error"] == "consent_required"
    assert "have the user or an administrator consent" in answer.body["error_description"]


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (ThrottledError(INTERNAL, retry_after=12.2, status=429), [("Retry-After", "13")]),
        (ThrottledError(INTERNAL, retry_after=0.0), [("Retry-After", "1")]),
        (ThrottledError(INTERNAL), [("Retry-After", "1")]),
        (ThrottledError(INTERNAL, retry_after=float("nan")), [("Retry-After", "1")]),
        (ThrottledError(INTERNAL, retry_after=float("inf")), [("Retry-After", "86400")]),
        (ServiceUnavailableError(INTERNAL, retry_after=30.0), [("Retry-After", "30")]),
        (ServiceUnavailableError(INTERNAL), []),
        (TokenTimeoutError(INTERNAL), []),
        (StoreError(INTERNAL), []),
        (TokenRequestError(INTERNAL, retryable=True), []),
    ],
)
def test_what_may_be_over_soon_is_503(error, headers):
    answer = answer_to(error)
    assert (answer.status, answer.headers) == (503, headers)
    assert answer.body["error"] == "temporarily_unavailable"


@pytest.mark.parametrize(
    "error",
    [ConfigurationError(INTERNAL), InvalidCredentialError(INTERNAL), TokenRequestError(INTERNAL)],
)
def test_the_programs_own_trouble_is_the_frameworks_500(error):
    assert answer_to(error) is None
    assert answer_to(ValueError(INTERNAL)) is None


@pytest.mark.parametrize(
    "error",
    [
        InteractionRequiredError(INTERNAL, claims=CLAIMS),
        InteractionRequiredError(INTERNAL),
        ConsentRequiredError(INTERNAL),
        ThrottledError(INTERNAL),
        ServiceUnavailableError(INTERNAL),
        TokenTimeoutError(INTERNAL),
        StoreError(INTERNAL),
    ],
)
def test_no_word_of_a_services_is_passed_on(error):
    answer = answer_to(error)
    told = json.dumps([answer.body, answer.headers])
    assert not any(word in told for word in ("AADSTS", "4711", "internal", "0815"))


def test_nothing_breaks_out_of_a_header():
    wild = 'a"b\\c\r\nSet-Cookie: x=1\x00ü€\t'
    error = BearerRefusedError(wild, status=403, error="insufficient_scope", scopes=(wild,))
    (value,) = challenges(answer_to(error))
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 6
    assert "\\" not in value
