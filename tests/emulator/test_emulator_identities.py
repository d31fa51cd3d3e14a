"""The emulator's managed identities, as clients that are not ours see them."""

from __future__ import annotations

import threading
import time

import jwt
import msal
import pytest
import requests
from azure.identity import ManagedIdentityCredential
from machine import OLD_MSAL, VARIABLES
from waiting import until

from tokenmgr.emulator import EntraEmulator

RESOURCE = "https://vault.azure.net"
HOSTS = ("app_service", "vm", "arc")
PATHS = {
    "vm": "/metadata/identity/oauth2/token",
    "arc": "/arc/metadata/identity/oauth2/token",
}


@pytest.fixture(params=HOSTS)
def host(request, emulator, monkeypatch):
    """A program that runs on a machine of each kind."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in emulator.identity_environment(request.param).items():
        monkeypatch.setenv(name, value)
    folders = msal.managed_identity._supported_arc_platforms_and_their_prefixes
    monkeypatch.setitem(folders, "linux", str(emulator._state.identities.key_folder))
    return request.param


def url_of(emulator, host):
    named = emulator.identity_environment(host)
    return named.get("IDENTITY_ENDPOINT") or (
        named["AZURE_POD_IDENTITY_AUTHORITY_HOST"] + PATHS["vm"]
    )


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def test_msal_and_azure_identity_are_given_the_system_s_own(emulator, host) -> None:
    own = emulator.system_identity
    with requests.Session() as session:
        client = msal.ManagedIdentityClient(
            msal.SystemAssignedManagedIdentity(), http_client=session
        )
        theirs = client.acquire_token_for_client(resource=RESOURCE)
    with ManagedIdentityCredential() as credential:
        token = credential.get_token_info(f"{RESOURCE}/.default")
    for each in (theirs["access_token"], token.token):
        claims = claims_of(each)
        assert (claims["oid"], claims["azp"]) == (own.object_id, own.client_id)
    assert theirs["expires_in"] == pytest.approx(3600, abs=5)
    assert token.expires_on == pytest.approx(time.time() + 3600, abs=10)


@pytest.mark.parametrize("kind", ["client_id", "object_id", "resource_id"])
def test_msal_finds_one_that_a_user_has_assigned(emulator, host, kind) -> None:
    if OLD_MSAL and host == "arc":
        pytest.skip("this MSAL knows none there")
    assigned = emulator.add_identity()
    identity = msal.UserAssignedManagedIdentity(**{kind: getattr(assigned, kind)})
    with requests.Session() as session:
        client = msal.ManagedIdentityClient(identity, http_client=session)
        answer = client.acquire_token_for_client(resource=RESOURCE)
    assert claims_of(answer["access_token"])["oid"] == assigned.object_id


def test_who_is_not_there_is_refused(emulator, host) -> None:
    emulator.remove_system_identity()
    with requests.Session() as session:
        client = msal.ManagedIdentityClient(
            msal.SystemAssignedManagedIdentity(), http_client=session
        )
        answer = client.acquire_token_for_client(resource=RESOURCE)
    assert "error" in answer
    assert emulator.system_identity is None


def test_requests_are_written_down_and_fail_as_tests_want(emulator, host) -> None:
    emulator.fail_next(status=500, path="identity")
    answer = requests.get(url_of(emulator, host), params={"resource": RESOURCE}, timeout=10)
    assert answer.status_code == 500
    (request,) = emulator.identity_requests
    assert (request.kind, request.form["resource"]) == ("identity", RESOURCE)


def test_requests_wait_for_the_end_of_a_pause(emulator, host) -> None:
    url, answers = url_of(emulator, host), []
    with emulator.paused():
        asking = threading.Thread(target=lambda: answers.append(requests.get(url, timeout=10)))
        asking.start()
        until(lambda: emulator.identity_requests)
        # What is not let through has no answer, whatever else is answered meanwhile.
        requests.get(f"{emulator.url}/nowhere", timeout=10, verify=emulator.ca_file)
        (request,) = emulator.identity_requests
        assert (request.status, answers) == (None, [])
    asking.join()
    assert answers[0].status_code in (400, 401)


@pytest.mark.parametrize("missing", ["Metadata", "api-version", "resource"])
@pytest.mark.parametrize("kind", ["vm", "arc"])
def test_a_machine_s_endpoint_wants_all_that_azure_s_does(emulator, kind, missing) -> None:
    headers = {"Metadata": "true"}
    query = {"api-version": "2020-06-01", "resource": RESOURCE}
    headers.pop(missing, None)
    query.pop(missing, None)
    answer = requests.get(url_of(emulator, kind), params=query, headers=headers, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("header", "version", "status"), [("wrong", "2019-08-01", 401), (None, "2017-09-01", 400)]
)
def test_app_service_s_endpoint_wants_its_header_and_version(
    emulator, header, version, status
) -> None:
    secret = emulator.identity_environment()["IDENTITY_HEADER"]
    answer = requests.get(
        url_of(emulator, "app_service"),
        params={"api-version": version, "resource": RESOURCE},
        headers={"X-IDENTITY-HEADER": header or secret},
        timeout=10,
    )
    assert (answer.status_code, answer.json()["statusCode"]) == (status, status)
    assert secret not in repr(emulator.identity_requests)


def test_arc_s_file_serves_once(emulator) -> None:
    url, query = url_of(emulator, "arc"), {"api-version": "2020-06-01", "resource": RESOURCE}
    headers = {"Metadata": "true"}
    challenge = requests.get(url, params=query, headers=headers, timeout=10)
    path = challenge.headers["WWW-Authenticate"].removeprefix("Basic realm=")
    with open(path, encoding="ascii") as file:  # noqa: PTH123 - as a client does
        headers["Authorization"] = f"Basic {file.read()}"
    statuses = [
        requests.get(url, params=query, headers=headers, timeout=10).status_code for _ in range(2)
    ]
    assert (challenge.status_code, statuses) == (401, [200, 403])


def test_a_host_that_there_is_not_and_a_machine_that_is_off_are_told() -> None:
    entra = EntraEmulator()
    with pytest.raises(ValueError, match="app_service, vm, arc"):
        entra.identity_environment("mainframe")
    with pytest.raises(RuntimeError, match="not running"):
        entra.identity_environment()
