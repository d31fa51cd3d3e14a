"""Clients that we did not write sign users in at the emulator: MSAL, requests-oauthlib, Authlib."""

from __future__ import annotations

import time
import warnings

import msal
import pytest
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from emulator_clients import CALLBACK, ORDERS, claims_of
from requests_oauthlib import OAuth2Session

ANN = "ann@contoso.com"
API = "https://contoso.onmicrosoft.com/api/read"


@pytest.fixture
def public_app(emulator, http, native):
    def build(authority=None, **kwargs):
        if "oidc_authority" not in kwargs:
            kwargs["authority"] = authority or emulator.authority()
        return msal.PublicClientApplication(
            native, instance_discovery=False, http_client=http, **kwargs
        )

    return build


def begin(client, scopes, **parameters):
    return client.initiate_auth_code_flow(
        scopes, redirect_uri=CALLBACK, response_mode="form_post", **parameters
    )


@pytest.mark.parametrize("kind", ["entra", "common", "ciam"])
def test_msal_signs_a_user_in_with_a_code(emulator, msal_app, app, kind):
    authority = {
        "entra": emulator.authority(),
        "common": emulator.authority("common"),
        "ciam": emulator.ciam_authority(),
    }[kind]
    client = msal_app(authority)
    flow = begin(client, [ORDERS], max_age=100)

    result = client.acquire_token_by_auth_code_flow(flow, emulator.authorize(flow["auth_uri"], ANN))

    assert result["id_token_claims"]["preferred_username"] == ANN
    assert result["id_token_claims"]["auth_time"] <= time.time()
    (account,) = client.get_accounts()
    assert account["username"] == ANN
    claims = result["id_token_claims"]
    assert account["home_account_id"] == f"{claims['oid']}.{claims['tid']}"
    silent = client.acquire_token_silent(["api://stock/count"], account)
    assert claims_of(silent["access_token"])["aud"] == "api://stock"
    again = client.acquire_token_by_auth_code_flow(
        flow | {"max_age": 100}, emulator.authorize(flow["auth_uri"], ANN, accept=False)
    )
    assert (again["error"], again["error_description"][:12]) == ("access_denied", "AADSTS65004:")


def test_msal_refuses_the_answer_to_another_flow(emulator, msal_app, app):
    client = msal_app()
    mine, other = (begin(client, [ORDERS]) for _ in range(2))
    answer = emulator.authorize(other["auth_uri"], ANN)

    with pytest.raises(ValueError, match="state mismatch"):
        client.acquire_token_by_auth_code_flow(mine, answer)
    # The emulator refuses it too, as the verifier is another one.
    result = client.acquire_token_by_auth_code_flow(mine, answer | {"state": mine["state"]})
    assert result["error_codes"] == [501481]


def test_msal_signs_a_user_in_by_a_user_flow(emulator, msal_app, app):
    client = msal_app(emulator.b2c_authority())
    flow = begin(client, [API])

    result = client.acquire_token_by_auth_code_flow(flow, emulator.authorize(flow["auth_uri"], ANN))

    assert result["id_token_claims"]["tfp"] == "B2C_1_signin"
    (account,) = client.get_accounts()
    assert "-b2c_1_signin." in account["home_account_id"]
    assert client.acquire_token_silent([API], account, force_refresh=True)["access_token"]


def test_msal_signs_a_user_in_at_another_provider(emulator, msal_app, app):
    emulator.add_user("zoe@provider.example", tenant="default")
    client = msal_app(oidc_authority=emulator.oidc_authority())
    flow = begin(client, ["orders:read"])

    result = client.acquire_token_by_auth_code_flow(
        flow, emulator.authorize(flow["auth_uri"], "zoe@provider.example")
    )

    assert result["access_token"]
    assert "client_info" not in result


def test_msal_signs_a_device_in(emulator, public_app):
    client = public_app()
    flow = client.initiate_device_flow([ORDERS])
    assert flow["user_code"] in flow["message"]

    def poll(flow):
        return client.acquire_token_by_device_flow(flow, exit_condition=lambda flow: True)

    assert poll(flow)["error"] == "authorization_pending"
    with pytest.warns(UserWarning, match="too soon"):
        assert poll(flow)["error"] == "slow_down"
    assert flow["interval"] == 10
    emulator.enter_device_code(flow["user_code"], ANN)
    with pytest.warns(UserWarning, match="too soon"):
        result = poll(flow)
    assert result["id_token_claims"]["preferred_username"] == ANN
    (account,) = client.get_accounts()
    assert client.acquire_token_silent([ORDERS], account)["access_token"]

    flow = client.initiate_device_flow([ORDERS])
    emulator.enter_device_code(flow["user_code"], ANN, accept=False)
    assert poll(flow)["error"] == "authorization_declined"
    flow = client.initiate_device_flow([ORDERS])
    emulator.expire_codes()
    assert poll(flow)["error"] == "expired_token"


def test_msal_signs_a_user_in_with_their_password(
    emulator, http, msal_app, public_app, monkeypatch
):
    # MSAL forgets the authority's port when it asks who has the password.
    get, host = http.get, emulator.url.rpartition(":")[0]
    monkeypatch.setattr(
        http, "get", lambda url, **more: get(url.replace(f"{host}/", f"{emulator.url}/"), **more)
    )
    emulator.add_user("fay@contoso.com", account="federated")

    def sign_in(client, username=ANN, password=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # for public clients
            return client.acquire_token_by_username_password(
                username, password or emulator.password(username), [ORDERS]
            )

    for client in (msal_app(), public_app()):
        assert sign_in(client)["id_token_claims"]["preferred_username"] == ANN
        assert sign_in(client, password="wrong")["error_codes"] == [50126]
        with pytest.raises(ValueError, match="WsTrust"):
            sign_in(client, "fay@contoso.com")
    emulator.require_mfa(ANN)
    assert sign_in(msal_app())["error_codes"] == [50076]


def test_msal_takes_refresh_tokens_from_elsewhere(emulator, msal_app, address, redeem):
    token = redeem(emulator.authorize(address(), ANN)["code"]).json()["refresh_token"]

    result = msal_app().acquire_token_by_refresh_token(token, [ORDERS])

    assert result["access_token"]
    assert msal_app().acquire_token_by_refresh_token(token, [ORDERS])["error_codes"] == [70000]


def test_requests_oauthlib_signs_a_user_in(emulator, app, call, monkeypatch):
    # As with Entra, which does not name offline_access in its answer.
    monkeypatch.setenv("OAUTHLIB_RELAX_TOKEN_SCOPE", "1")
    scope = [ORDERS, "openid", "profile", "offline_access"]
    endpoint = f"{emulator.authority()}/oauth2/v2.0"
    with OAuth2Session(app, redirect_uri=CALLBACK, scope=scope, pkce="S256") as session:
        session.trust_env = False
        session.verify = emulator.ca_file
        url, state = session.authorization_url(f"{endpoint}/authorize", nonce="n")
        answer = emulator.authorize(url, ANN)
        assert answer["state"] == state

        token = session.fetch_token(
            f"{endpoint}/token",
            code=answer["code"],
            client_secret=emulator.client_secret,
            include_client_id=True,
            scope=scope,
        )
        assert claims_of(token["id_token"])["nonce"] == "n"
        renewed = session.refresh_token(
            f"{endpoint}/token", client_id=app, client_secret=emulator.client_secret
        )

    assert call(renewed["access_token"]).status_code == 200
    assert renewed["refresh_token"] != token["refresh_token"]


def test_authlib_signs_a_user_in_with_a_public_client(emulator, native):
    endpoint = f"{emulator.authority()}/oauth2/v2.0"
    uri = "http://localhost:43210"
    with AuthlibSession(
        native,
        redirect_uri=uri,
        scope=f"{ORDERS} openid profile",
        code_challenge_method="S256",
        token_endpoint_auth_method="none",
    ) as session:
        session.trust_env = False
        session.verify = emulator.ca_file
        verifier = "v" * 50
        url, state = session.create_authorization_url(
            f"{endpoint}/authorize", code_verifier=verifier, response_mode="query"
        )
        answer = emulator.authorize(url, ANN)

        token = session.fetch_token(
            f"{endpoint}/token", code=answer["code"], state=state, code_verifier=verifier
        )

    assert claims_of(token["id_token"])["preferred_username"] == ANN
