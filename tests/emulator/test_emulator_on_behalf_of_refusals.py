"""Each thing for which Entra refuses an exchange on behalf of a user, with its numbers."""

from __future__ import annotations

import json

import jwt
import pytest
from emulator_clients import OBO, ORDERS, claims_of, exchange

from tokenmgr.emulator import EntraEmulator, client_certificate

ANN = "ann@contoso.com"


@pytest.fixture
def ann(emulator):
    """Ann's access token for the app's own API."""
    return emulator.sign_in(ANN)


def refused(answer, code, error="invalid_grant", status=400):
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [code])
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert body["error_uri"].endswith(f"code={code}")
    assert body["trace_id"] in body["error_description"]
    assert body["correlation_id"] in body["error_description"]
    assert "access_token" not in body
    return body


def test_the_request_needs_an_assertion(on_behalf_of):
    body = refused(on_behalf_of(None), 900144, "invalid_request")
    assert "'assertion'" in body["error_description"]


def test_the_request_needs_to_say_what_for(on_behalf_of, ann):
    body = refused(on_behalf_of(ann, requested_token_use=None), 900144, "invalid_request")
    assert "'requested_token_use'" in body["error_description"]
    refused(on_behalf_of(ann, requested_token_use="on_my_own"), 90100, "invalid_request")


def test_the_request_needs_a_scope(on_behalf_of, ann):
    body = refused(on_behalf_of(ann, scope=None), 900144, "invalid_request")
    assert "'scope'" in body["error_description"]


def test_the_client_has_to_prove_itself(emulator, on_behalf_of, ann):
    refused(on_behalf_of(ann, client_secret="wrong"), 7000215, "invalid_client", 401)
    refused(on_behalf_of(ann, client_secret=None), 7000216, "invalid_client", 401)
    emulator.expire_secret()
    refused(on_behalf_of(ann), 7000222, "invalid_client", 401)


def test_the_client_has_to_be_known(on_behalf_of, ann):
    refused(on_behalf_of(ann, client_id="nobody"), 700016, "unauthorized_client")


def test_what_is_no_jwt_is_malformed(on_behalf_of, ann):
    header, _, signature = ann.split(".")
    for text in ("garbage", "a.b.c", "..", f"{header}.e30.{signature}x.y", f"{header}.W10.x"):
        refused(on_behalf_of(text), 50027, "invalid_request")


def test_a_changed_assertion_is_refused(on_behalf_of, ann):
    header, payload, signature = ann.split(".")
    forged = jwt.utils.base64url_encode(json.dumps(claims_of(ann) | {"scp": "all"}).encode())
    for changed in (
        f"{header}.{forged.decode()}.{signature}",
        f"{header}.{payload}.{signature[:-8]}AAAAAAAA",
    ):
        body = refused(on_behalf_of(changed), 50013)
        assert "signature" in body["error_description"]


@pytest.mark.parametrize("algorithm", ["HS256", "none"])
def test_an_assertion_of_another_kind_of_signature_is_refused(on_behalf_of, ann, algorithm):
    headers = {"kid": jwt.get_unverified_header(ann)["kid"]}
    key = None if algorithm == "none" else "k" * 32
    forged = jwt.encode(claims_of(ann), key, algorithm, headers=headers)

    refused(on_behalf_of(forged), 50013)


def test_an_assertion_that_another_key_signed_is_refused(on_behalf_of, ann):
    key = client_certificate().private_key_pem
    kid = jwt.get_unverified_header(ann)["kid"]

    refused(on_behalf_of(jwt.encode(claims_of(ann), key, "RS256", headers={"kid": kid})), 50013)
    body = refused(
        on_behalf_of(jwt.encode(claims_of(ann), key, "RS256", headers={"kid": "x"})), 50013
    )
    assert "The key was not found" in body["error_description"]


def test_an_assertion_of_another_emulator_is_refused(emulator, on_behalf_of):
    with EntraEmulator(client_id=emulator.client_id) as other:
        refused(on_behalf_of(other.sign_in(ANN)), 50013)


def test_an_assertion_of_another_issuer_is_refused(emulator, http, on_behalf_of):
    """Of the same key, as all authorities of an emulator have one."""
    answer = http.post(
        f"{emulator.adfs_authority()}/oauth2/token",
        data={
            "grant_type": "client_credentials",
            "client_id": emulator.client_id,
            "client_secret": emulator.client_secret,
            "scope": f"{emulator.client_id}/.default",
        },
    )
    assert claims_of(answer.json()["access_token"])["aud"] == emulator.client_id

    refused(on_behalf_of(answer.json()["access_token"]), 50013)


def test_an_expired_assertion_is_refused(emulator, on_behalf_of):
    expired = emulator.sign_in(ANN, lifetime=-1)

    body = refused(on_behalf_of(expired), 500133)

    assert "Current time: " in body["error_description"]
    assert "expiry time of assertion " in body["error_description"]


def test_an_assertion_for_another_app_is_refused(emulator, on_behalf_of):
    other = emulator.add_client()

    body = refused(on_behalf_of(emulator.sign_in(ANN, client_id=other)), 500131)

    assert f"'{other}'" in body["error_description"]
    assert f"'{emulator.client_id}'" in body["error_description"]


def test_a_downstream_token_is_no_assertion(on_behalf_of, ann):
    refused(on_behalf_of(on_behalf_of(ann).json()["access_token"]), 500131)


def test_an_id_token_is_no_assertion(on_behalf_of, ann):
    refused(on_behalf_of(on_behalf_of(ann).json()["id_token"]), 240002, "invalid_request")


def test_an_apps_own_token_is_no_assertion(emulator, ask, on_behalf_of):
    token = ask(scope=f"api://{emulator.client_id}/.default").json()["access_token"]

    refused(on_behalf_of(token), 7000114, "unauthorized_client")


def test_a_user_of_another_tenant_is_refused(emulator, on_behalf_of, ann):
    refused(on_behalf_of(ann, emulator.authority("fabrikam.com")), 50034)


def test_a_guest_may_go_from_tenant_to_tenant(emulator, on_behalf_of, ann):
    emulator.add_user(ANN, tenant="fabrikam.com")

    answer = on_behalf_of(ann, emulator.authority("fabrikam.com"))

    assert claims_of(answer.json()["access_token"])["tid"] != claims_of(ann)["tid"]


def test_work_accounts_are_none_of_the_consumers(emulator, on_behalf_of, ann):
    refused(on_behalf_of(ann, emulator.authority("consumers")), 9002332, "invalid_request")


def test_a_tenant_that_is_not_there_is_refused(emulator, on_behalf_of, ann):
    authority = emulator.authority("nonexistent.onmicrosoft.com")
    refused(on_behalf_of(ann, authority), 90002, "invalid_tenant")


def test_a_user_who_is_gone_is_refused_and_so_is_their_namesake(emulator, on_behalf_of, ann):
    emulator.remove_user(ANN)
    body = refused(on_behalf_of(ann), 50034)
    assert ANN not in body["error_description"]

    assert on_behalf_of(emulator.sign_in(ANN)).status_code == 200
    refused(on_behalf_of(ann), 50034)


def test_a_disabled_user_is_refused_until_enabled(emulator, on_behalf_of, ann):
    emulator.disable_user(ANN)
    refused(on_behalf_of(ann), 50057)
    with pytest.raises(PermissionError, match="AADSTS50057"):
        emulator.sign_in(ANN)

    emulator.enable_user(ANN)
    assert on_behalf_of(ann).status_code == 200


def test_a_revoked_user_is_refused_until_they_sign_in_again(emulator, on_behalf_of, ann):
    bob = emulator.sign_in("bob@contoso.com")
    emulator.revoke(ANN)

    body = refused(on_behalf_of(ann), 50173)

    assert "TokensValidFrom" in body["error_description"]
    assert on_behalf_of(emulator.sign_in(ANN)).status_code == 200
    assert on_behalf_of(bob).status_code == 200


def test_consent_that_is_missing_is_told(emulator, on_behalf_of, ann, msal_app):
    emulator.withdraw_consent(ANN, ORDERS)

    body = refused(on_behalf_of(ann), 65001)

    assert body["suberror"] == "consent_required"
    assert emulator.client_id in body["error_description"]
    assert msal_app().acquire_token_on_behalf_of(ann, [ORDERS])["suberror"] == "consent_required"
    assert on_behalf_of(ann, scope="api://orders/write").status_code == 200
    assert on_behalf_of(emulator.sign_in("bob@contoso.com")).status_code == 200
    emulator.grant_consent(ANN)
    assert on_behalf_of(ann).status_code == 200


def test_consent_may_be_missing_for_a_resource_or_for_all(emulator, on_behalf_of, ann):
    emulator.withdraw_consent(ANN, "api://orders/.default")
    refused(on_behalf_of(ann), 65001)
    assert on_behalf_of(ann, scope="api://stock/count").status_code == 200

    emulator.withdraw_consent(ANN)
    refused(on_behalf_of(ann, scope="api://stock/count"), 65001)


def test_a_policy_may_want_more_than_a_password(emulator, on_behalf_of, ann):
    emulator.require_mfa(ANN)

    body = refused(on_behalf_of(ann), 50076, "interaction_required")

    assert body["suberror"] == "basic_action"
    wanted = json.loads(body["claims"])["access_token"]["capolids"]
    assert wanted["essential"] is True
    assert len(wanted["values"]) == 1
    assert on_behalf_of(emulator.sign_in("bob@contoso.com")).status_code == 200
    # A new sign-in by password is not enough, one with the claims is.
    refused(on_behalf_of(emulator.sign_in(ANN)), 50076, "interaction_required")
    stronger = emulator.sign_in(ANN, claims=body["claims"])
    graph = on_behalf_of(stronger, scope="https://graph.microsoft.com/User.Read").json()
    assert claims_of(graph["access_token"])["amr"] == ["pwd", "mfa"]


def test_msal_passes_the_claims_on(emulator, msal_app, ann):
    emulator.require_mfa(ANN)

    answer = msal_app().acquire_token_on_behalf_of(ann, [ORDERS])

    assert answer["error"] == "interaction_required"
    assert "capolids" in json.loads(answer["claims"])["access_token"]


def test_a_policy_may_be_told_as_an_invalid_grant(emulator, on_behalf_of, ann):
    emulator.require_mfa(ANN, error="invalid_grant")

    body = refused(on_behalf_of(ann), 50076)

    assert (body["suberror"], "claims" in body) == ("basic_action", True)
    with pytest.raises(ValueError, match="interaction_required"):
        emulator.require_mfa(ANN, error="teapot")


def test_a_challenge_that_the_sign_in_does_not_meet_is_told(emulator, on_behalf_of, ann):
    challenge = json.dumps({"access_token": {"acrs": {"essential": True, "value": "c1"}}})

    body = refused(on_behalf_of(ann, claims=challenge), 50076, "interaction_required")

    assert json.loads(body["claims"]) == json.loads(challenge)
    stronger = emulator.sign_in(ANN, claims=challenge)
    assert on_behalf_of(stronger, claims=challenge).status_code == 200


@pytest.mark.parametrize("claims", ["{", "[]", '{"access_token": 1}'])
def test_claims_that_are_no_json_object_are_malformed(emulator, on_behalf_of, ann, claims):
    refused(on_behalf_of(ann, claims=claims), 9002313, "invalid_request")
    with pytest.raises(ValueError, match="JSON"):
        emulator.sign_in(ANN, claims=claims)


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        ("api://orders/read api://stock/count", 28000),
        ("api://orders/read User.Read", 28000),
        ("api://orders/.default api://orders/read", 70011),
        ("/read", 70011),
        ("api://orders/", 70011),
    ],
)
def test_scopes_that_cannot_be_asked_for_together_are_refused(on_behalf_of, ann, scope, code):
    refused(on_behalf_of(ann, scope=scope), code, "invalid_scope")


def test_a_resource_that_is_not_there_is_refused(emulator, on_behalf_of, ann):
    emulator.unknown_resources = {"api://orders"}
    refused(on_behalf_of(ann), 500011, "invalid_resource")


def test_b2c_has_no_such_grant(emulator, on_behalf_of, msal_app, ann):
    answer = on_behalf_of(ann, emulator.b2c_authority())

    body = answer.json()
    assert (answer.status_code, set(body)) == (400, {"error", "error_description"})
    assert body["error"] == "unsupported_grant_type"
    assert body["error_description"].startswith(
        f"AADB2C90086: The supplied grant_type [{OBO}] is not supported."
    )
    by_msal = msal_app(emulator.b2c_authority()).acquire_token_on_behalf_of(ann, [ORDERS])
    assert by_msal["error"] == "unsupported_grant_type"


def test_other_providers_have_no_such_grant(emulator, http, on_behalf_of, ann):
    form = {"grant_type": OBO, "assertion": ann, "requested_token_use": "on_behalf_of"}
    for url in (f"{emulator.adfs_authority()}/oauth2/token", f"{emulator.oidc_authority()}/token"):
        refused(http.post(url, data=form), 70003, "unsupported_grant_type")


def test_the_correlation_id_is_repeated(emulator, http, ann):
    http.headers["client-request-id"] = "0f6c1b1e-0000-4000-8000-000000000001"

    body = exchange(http, emulator, ann, requested_token_use="x").json()
    of_b2c = exchange(http, emulator, ann, emulator.b2c_authority()).json()

    assert body["correlation_id"] == "0f6c1b1e-0000-4000-8000-000000000001"
    assert "0f6c1b1e-0000-4000-8000-000000000001" in of_b2c["error_description"]


def test_an_emulator_that_was_not_started_signs_nobody_in():
    with pytest.raises(RuntimeError, match="started"):
        EntraEmulator().sign_in(ANN)


def test_there_are_two_versions_of_tokens(emulator):
    with pytest.raises(ValueError, match=r"1\.0, 2\.0"):
        emulator.sign_in(ANN, version="3.0")


@pytest.mark.parametrize("scopes", [[], "read"])
def test_nobody_signs_in_without_a_list_of_scopes(emulator, scopes):
    with pytest.raises(ValueError, match="access_as_user"):
        emulator.sign_in(ANN, scopes=scopes)


@pytest.mark.parametrize(
    "control",
    [
        "revoke",
        "require_mfa",
        "withdraw_consent",
        "grant_consent",
        "disable_user",
        "enable_user",
        "remove_user",
    ],
)
def test_nothing_can_be_done_with_a_user_whom_nobody_knows(emulator, control):
    with pytest.raises(KeyError, match="nobody"):
        getattr(emulator, control)("nobody@contoso.com")
