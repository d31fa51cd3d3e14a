"""User names and passwords in a program's hands: for the users of a tenant, and no step more."""

from __future__ import annotations

import pytest
from emulator_clients import ORDERS, claims_of, refused

ANN = "ann@contoso.com"


@pytest.fixture
def sign_in(emulator, ask, native):
    """Asks for a token with Ann's password; a field that is None is left out."""

    def ask_with(**fields):
        fields = {
            "grant_type": "password",
            "client_id": native,
            "client_secret": None,
            "username": ANN,
            "password": emulator.password(ANN),
            "scope": f"{ORDERS} openid profile offline_access",
        } | fields
        return ask(**fields)

    return ask_with


def test_it_gives_tokens(emulator, sign_in, refresh, native):
    answer = sign_in(client_info="1").json()

    assert claims_of(answer["access_token"])["scp"] == "read"
    assert claims_of(answer["id_token"])["preferred_username"] == ANN
    assert "client_info" in answer
    token = answer["refresh_token"]
    assert refresh(token, client_id=native, client_secret=None).status_code == 200
    assert emulator.count("password", username=ANN) == 1


def test_a_confidential_client_shows_its_secret_too(emulator, sign_in, refresh):
    web = {"client_id": emulator.client_id}
    refused(sign_in(**web), 7000218, "invalid_client", 401)

    answer = sign_in(client_secret=emulator.client_secret, **web).json()

    assert refresh(answer["refresh_token"]).status_code == 200
    refused(sign_in(client_secret="x"), 700025, "invalid_client", 401)


def test_at_organizations_the_users_own_tenant_signs_them_in(emulator, sign_in):
    answer = sign_in(authority=emulator.authority("organizations")).json()

    assert claims_of(answer["id_token"])["tid"] == emulator.environment()["AZURE_TENANT_ID"]


@pytest.mark.parametrize("tenant", ["common", "consumers"])
def test_at_common_nobody_is_signed_in(emulator, sign_in, tenant):
    refused(sign_in(authority=emulator.authority(tenant)), 9001023, "invalid_request")


@pytest.mark.parametrize(
    ("fields", "number", "error"),
    [
        ({"password": "wrong"}, 50126, "invalid_grant"),
        ({"username": "nobody@contoso.com"}, 50034, "invalid_grant"),
        ({"username": None}, 900144, "invalid_request"),
        ({"password": None}, 900144, "invalid_request"),
        ({"scope": None}, 900144, "invalid_request"),
        ({"scope": "api://gone/read"}, 500011, "invalid_resource"),
    ],
)
def test_what_is_wrong_is_refused(emulator, sign_in, fields, number, error):
    emulator.unknown_resources = {"api://gone"}
    refused(sign_in(**fields), number, error)


def test_whoever_has_to_do_more_is_refused(emulator, sign_in):
    emulator.require_mfa(ANN, error="invalid_grant")
    body = refused(sign_in(), 50076, "invalid_grant")
    assert body["suberror"] == "basic_action"
    assert "capolids" in body["claims"]


def test_users_of_elsewhere_are_refused(emulator, sign_in):
    emulator.add_user("fay@contoso.com", account="federated", password="s3cret")
    emulator.add_user("pat@outlook.com", account="personal", password="s3cret")
    emulator.add_user("zoe@fabrikam.com", tenant="fabrikam.com", password="s3cret")

    for username, number in [
        ("fay@contoso.com", 50126),
        ("pat@outlook.com", 50034),
        ("zoe@fabrikam.com", 50034),
    ]:
        refused(sign_in(username=username, password="s3cret"), number, "invalid_grant")
    with pytest.raises(ValueError, match="account is one of"):
        emulator.add_user("who@contoso.com", account="unknown")


def test_disabling_consent_and_a_new_password_count(emulator, sign_in, refresh, native):
    mine = {"client_id": native, "client_secret": None}
    token = sign_in().json()["refresh_token"]
    emulator.change_password(ANN)
    refused(refresh(token, **mine), 50173, "invalid_grant")
    assert sign_in().status_code == 200
    emulator.withdraw_consent(ANN, ORDERS)
    refused(sign_in(), 65001, "invalid_grant")
    emulator.disable_user(ANN)
    refused(sign_in(), 50057, "invalid_grant")


def test_where_a_password_is_can_be_asked(emulator, http, native):
    emulator.add_user("fay@contoso.com", account="federated")

    def realm(username):
        return http.get(f"{emulator.url}/common/userrealm/{username}?api-version=1.0").json()

    assert realm(ANN)["account_type"] == "Managed"
    assert realm("fay@contoso.com")["account_type"] == "Federated"
    assert realm("nobody@contoso.com")["account_type"] == "Unknown"


def test_the_log_hides_passwords(emulator, sign_in):
    sign_in()

    assert emulator.password(ANN) not in repr(emulator.requests)
    assert emulator.requests[-1].form["password"] == emulator.password(ANN)


def test_an_adfs_has_none_of_it(emulator, http):
    for grant in ("password", "urn:ietf:params:oauth:grant-type:device_code"):
        form = {"grant_type": grant, "client_id": emulator.client_id}
        answer = http.post(f"{emulator.adfs_authority()}/oauth2/token", data=form)
        refused(answer, 70003, "unsupported_grant_type")
