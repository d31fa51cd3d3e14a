"""The example of an API that apps call: of one tenant, of several, of a user flow of B2C."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import requests
from programs import run, serving
from support import bearer_headers

from tokenmgr.emulator.authorities import tenant_guid

HOME, FABRIKAM = tenant_guid("contoso.onmicrosoft.com"), tenant_guid("fabrikam.com")
READ = "Orders.Read.All"


@pytest.fixture
def apps(entra):
    """Apps with a role at the API and without, by whether they have it."""
    named = {True: [READ], False: []}
    return {has: entra.add_client(secret="s3cret", roles=roles) for has, roles in named.items()}


@contextmanager
def served(entra, authority, tenants=""):
    """The API, which is the emulator's first app, at its address."""
    with serving(
        *("uvicorn", "--app-dir", "examples", "api_for_apps:app"),
        API_CLIENT_ID=entra.client_id,
        API_AUTHORITY=authority,
        API_TENANTS=tenants,
        REQUESTS_CA_BUNDLE=entra.ca_file,
    ) as api:
        yield api.url


def call(entra, url, app, authority, scope=None):
    done = run(
        "examples/api_for_apps.py",
        *("--url", url, "--scope", scope or f"api://{entra.client_id}/.default"),
        AZURE_CLIENT_ID=app,
        AZURE_CLIENT_SECRET="s3cret",
        TOKENMGR_AUTHORITY=authority,
        REQUESTS_CA_BUNDLE=entra.ca_file,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def status(entra, url, app, authority, scope=None):
    """What a client that is not the example's is answered."""
    with entra.registry(client_id=app, credential="s3cret", authority=authority) as tokens:
        token = tokens.get_access_token(scope or f"api://{entra.client_id}/.default")
    return requests.get(f"{url}/orders", headers=bearer_headers(token), timeout=30).status_code


def test_apps_of_one_tenant(entra, apps):
    home, fabrikam = entra.authority(HOME), entra.authority(FABRIKAM)
    with served(entra, home) as url:
        answers = call(entra, url, apps[True], home)
        assert answers == [f'200 {{"orders":[],"for":"{apps[True]}","of":"{HOME}"}}'] * 3
        (told,) = {*call(entra, url, apps[False], home)}
        assert "have an administrator grant them to the app" in told
        assert status(entra, url, apps[True], fabrikam) == 401
    keys = [each for each in entra.requests if each.kind == "keys"]
    assert len(keys) == 1


def test_apps_of_several_tenants(entra, apps):
    with served(entra, entra.authority("organizations"), f"{HOME} {FABRIKAM}") as url:
        for tenant, told in ((HOME, 200), (FABRIKAM, 200), (tenant_guid("x.com"), 401)):
            assert status(entra, url, apps[True], entra.authority(tenant)) == told


def test_apps_of_a_user_flow_of_b2c(entra, apps):
    authority = entra.b2c_authority(policy="B2C_1_in")
    scope = f"https://contoso.onmicrosoft.com/{entra.client_id}/.default"
    with served(entra, authority) as url:
        assert {e[:3] for e in call(entra, url, apps[True], authority, scope)} == {"200"}
        other = entra.b2c_authority(policy="B2C_1_other")
        assert status(entra, url, apps[True], other, scope) == 401
