"""Refresh tokens: each is good once, for its client, as long as the user's sign-in counts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from emulator_clients import ORDERS, ask_for_token, claims_of, trusting

ANN = "ann@contoso.com"


@pytest.fixture
def granted(emulator, on_behalf_of):
    """What an exchange on behalf of Ann has given."""
    return on_behalf_of(emulator.sign_in(ANN)).json()


def refused(answer, code, error="invalid_grant"):
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (400, error, [code])
    assert "access_token" not in body
    return body


def test_it_gives_what_was_granted_before_and_the_next_one(granted, refresh):
    answer = refresh(granted["refresh_token"]).json()

    before, after = claims_of(granted["access_token"]), claims_of(answer["access_token"])
    same = ("aud", "scp", "oid", "tid", "preferred_username", "sid", "azp", "iss", "ver", "sub")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert after["uti"] != before["uti"]
    assert answer["scope"] == granted["scope"]
    assert answer["refresh_token"] != granted["refresh_token"]
    assert claims_of(answer["id_token"])["preferred_username"] == ANN


def test_it_is_of_no_resource(granted, refresh):
    answer = refresh(granted["refresh_token"], scope="api://stock/count").json()

    claims = claims_of(answer["access_token"])
    assert (claims["aud"], claims["scp"]) == ("api://stock", "count")
    # The next one too remembers what was asked for last.
    again = refresh(answer["refresh_token"]).json()
    assert claims_of(again["access_token"])["aud"] == "api://stock"


def test_it_is_of_no_tenant(emulator, granted, refresh):
    guest = emulator.add_user(ANN, tenant="fabrikam.com")

    answer = refresh(granted["refresh_token"], authority=emulator.authority("fabrikam.com")).json()

    assert claims_of(answer["access_token"])["oid"] == guest


def test_it_carries_on_when_the_assertion_has_ended(emulator, on_behalf_of, refresh):
    emulator.token_lifetime = 1
    granted = on_behalf_of(emulator.sign_in(ANN, lifetime=3600)).json()
    emulator.token_lifetime = 3600

    assert refresh(granted["refresh_token"]).status_code == 200


def test_capabilities_and_client_info_are_as_the_request_has_them(granted, refresh):
    claims = json.dumps({"access_token": {"xms_cc": {"values": ["CP1"]}}})

    answer = refresh(granted["refresh_token"], claims=claims, client_info="1").json()

    assert claims_of(answer["access_token"])["xms_cc"] == ["CP1"]
    assert answer["client_info"] == granted["client_info"]


def test_a_long_chain_works(granted, refresh):
    token = granted["refresh_token"]
    seen = {token}
    for _ in range(5):
        token = refresh(token).json()["refresh_token"]
        seen.add(token)

    assert len(seen) == 6


def test_showing_a_used_one_ends_the_family(emulator, granted, on_behalf_of, refresh):
    other_family = on_behalf_of(emulator.sign_in(ANN)).json()["refresh_token"]
    newest = refresh(granted["refresh_token"]).json()["refresh_token"]

    body = refused(refresh(granted["refresh_token"]), 70000)

    assert body["suberror"] == "bad_token"
    refused(refresh(newest), 70000)
    assert refresh(other_family).status_code == 200


def test_of_two_who_redeem_one_at_a_time_only_one_succeeds(emulator, granted):
    def redeem(_):
        with trusting(emulator) as session:
            return ask_for_token(
                session,
                emulator,
                grant_type="refresh_token",
                refresh_token=granted["refresh_token"],
            ).status_code

    with ThreadPoolExecutor(2) as pool:
        with emulator.paused():
            answers = [pool.submit(redeem, number) for number in range(2)]
            emulator.wait_for_requests(2, grant_type="refresh_token")
        assert sorted(answer.result() for answer in answers) == [200, 400]


def test_a_request_that_is_refused_does_not_use_it_up(emulator, granted, refresh):
    token = granted["refresh_token"]

    assert refresh(token, client_secret="wrong").status_code == 401
    refused(refresh(token, scope="a://b/c d://e/f"), 28000, "invalid_scope")
    emulator.fail_next(status=503)
    assert refresh(token).status_code == 503

    assert refresh(token).status_code == 200


def test_the_client_has_to_prove_itself(granted, refresh):
    assert refresh(granted["refresh_token"], client_secret=None).json()["error_codes"] == [7000218]


def test_it_is_for_its_client_alone(emulator, granted, refresh):
    other = emulator.add_client(secret="other-secret")
    token = granted["refresh_token"]

    refused(refresh(token, client_id=other, client_secret="other-secret"), 700007)

    assert refresh(token).status_code == 200


def test_what_was_never_given_out_is_malformed(refresh):
    refused(refresh("garbage"), 9002313)
    body = refused(refresh(None), 900144, "invalid_request")
    assert "'refresh_token'" in body["error_description"]


def test_it_ends_when_it_goes_unused(emulator, on_behalf_of, refresh):
    emulator.refresh_token_lifetime = -1
    granted = on_behalf_of(emulator.sign_in(ANN)).json()

    body = refused(refresh(granted["refresh_token"]), 700082)

    assert "inactivity" in body["error_description"]
    assert emulator.refresh_token_lifetime == -1


def test_it_lives_for_90_days_unless_told_otherwise(emulator):
    assert emulator.refresh_token_lifetime == 90 * 86_400


def test_revoking_ends_it(emulator, granted, on_behalf_of, refresh):
    bob = on_behalf_of(emulator.sign_in("bob@contoso.com")).json()
    emulator.revoke(ANN)

    refused(refresh(granted["refresh_token"]), 50173)

    assert refresh(bob["refresh_token"]).status_code == 200


def test_the_user_has_to_be_there_and_enabled(emulator, granted, refresh):
    emulator.disable_user(ANN)
    refused(refresh(granted["refresh_token"]), 50057)
    emulator.enable_user(ANN)
    emulator.remove_user(ANN)
    emulator.add_user(ANN)
    refused(refresh(granted["refresh_token"]), 50034)


def test_the_user_has_to_be_of_the_tenant(emulator, granted, refresh):
    authority = emulator.authority("fabrikam.com")
    refused(refresh(granted["refresh_token"], authority=authority), 50034)


def test_policies_and_consent_count_here_too(emulator, granted, refresh):
    emulator.require_mfa(ANN)
    body = refused(refresh(granted["refresh_token"]), 50076, "interaction_required")
    assert "capolids" in body["claims"]

    emulator.withdraw_consent(ANN, ORDERS)
    refused(refresh(granted["refresh_token"]), 65001)


def test_a_strong_sign_in_stays_one(emulator, on_behalf_of, refresh):
    emulator.add_user(ANN)
    emulator.require_mfa(ANN)
    claims = on_behalf_of(emulator.sign_in(ANN)).json()["claims"]
    granted = on_behalf_of(emulator.sign_in(ANN, claims=claims)).json()

    assert refresh(granted["refresh_token"]).status_code == 200


def test_other_authorities_have_given_none_out(emulator, http, granted, refresh):
    token = granted["refresh_token"]
    body = refresh(token, authority=emulator.b2c_authority()).json()
    assert body["error"] == "invalid_grant"
    assert body["error_description"].startswith("AADB2C90090: ")

    mine = {"client_id": emulator.client_id, "client_secret": emulator.client_secret}
    form = mine | {"grant_type": "refresh_token", "refresh_token": token}
    answer = http.post(f"{emulator.adfs_authority()}/oauth2/token", data=form)
    refused(answer, 9002313, "invalid_grant")
