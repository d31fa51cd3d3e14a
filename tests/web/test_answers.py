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
from tokenmgr.web._answers import refusal_of

CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1?>~"}}}'
INTERNAL = "AADSTS50076: tenant 4711, https://internal.contoso.com, trace 0815"


def challenges(refusal):
    return [value for name, value in refusal.headers if name == "WWW-Authenticate"]


def test_who_sends_no_bearer_is_told_the_scheme_and_no_error():
    refusal = refusal_of(BearerRefusedError("send a bearer", error=None))
    assert refusal.status == 401
    assert refusal.headers == [("WWW-Authenticate", 'Bearer realm=""')]
    assert refusal.body == {"error": "invalid_request", "error_description": "send a bearer"}


def test_a_bearer_that_is_not_accepted_is_told_why():
    refusal = refusal_of(BearerRefusedError("it has expired: get another"))
    told = 'Bearer error="invalid_token", error_description="it has expired: get another"'
    assert (refusal.status, refusal.headers) == (401, [("WWW-Authenticate", told)])
    assert read(401, challenges(refusal)) == Answer(renew=True)


def test_missing_scopes_are_named_so_that_our_own_clients_find_them():
    error = BearerRefusedError(
        "you may not", status=403, error="insufficient_scope", scopes=("Orders.Read", "Orders.Edit")
    )
    refusal = refusal_of(error)
    assert refusal.status == 403
    assert read(403, challenges(refusal)).missing == ("Orders.Read", "Orders.Edit")


@pytest.mark.parametrize("kind", [InteractionRequiredError, SessionNotFoundError])
def test_claims_are_passed_on_so_that_our_own_clients_find_them(kind):
    refusal = refusal_of(kind(INTERNAL, claims=CLAIMS))
    assert refusal.status == 401
    assert refusal.body["error"] == "insufficient_claims"
    assert read(401, challenges(refusal)) == Answer(renew=True, claims=CLAIMS)


def test_without_claims_the_user_signs_in_again():
    refusal = refusal_of(InteractionRequiredError(INTERNAL))
    assert (refusal.status, refusal.body["error"]) == (401, "invalid_token")
    assert read(401, challenges(refusal)) == Answer(renew=True)


def test_consent_is_no_matter_of_another_token():
    refusal = refusal_of(ConsentRequiredError(INTERNAL))
    assert (refusal.status, refusal.headers) == (403, [])
    assert refusal.body["error"] == "consent_required"
    assert "have the user or an administrator consent" in refusal.body["error_description"]


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (ThrottledError(INTERNAL, retry_after=12.2, status=429), [("Retry-After", "13")]),
        (ThrottledError(INTERNAL, retry_after=0.0), [("Retry-After", "1")]),
        (ThrottledError(INTERNAL), [("Retry-After", "1")]),
        (ServiceUnavailableError(INTERNAL, retry_after=30.0), [("Retry-After", "30")]),
        (ServiceUnavailableError(INTERNAL), []),
        (TokenTimeoutError(INTERNAL), []),
        (StoreError(INTERNAL), []),
        (TokenRequestError(INTERNAL, retryable=True), []),
    ],
)
def test_what_may_be_over_soon_is_503(error, headers):
    refusal = refusal_of(error)
    assert (refusal.status, refusal.headers) == (503, headers)
    assert refusal.body["error"] == "temporarily_unavailable"


@pytest.mark.parametrize(
    "error",
    [ConfigurationError(INTERNAL), InvalidCredentialError(INTERNAL), TokenRequestError(INTERNAL)],
)
def test_the_programs_own_trouble_is_the_frameworks_500(error):
    assert refusal_of(error) is None
    assert refusal_of(ValueError(INTERNAL)) is None


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
    refusal = refusal_of(error)
    told = json.dumps([refusal.body, refusal.headers])
    assert not any(word in told for word in ("AADSTS", "4711", "internal", "0815"))


def test_nothing_breaks_out_of_a_header():
    wild = 'a"b\\c\r\nSet-Cookie: x=1\x00ü€\t'
    error = BearerRefusedError(wild, status=403, error="insufficient_scope", scopes=(wild,))
    (value,) = challenges(refusal_of(error))
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 6
    assert "\\" not in value
