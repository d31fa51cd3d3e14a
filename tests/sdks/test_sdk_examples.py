"""The examples that need an SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from http_api import Asked, Refusal
from programs import run
from sdk_scenarios import CHALLENGE, SdkApi

from tokenmgr.emulator import EntraEmulator

SDKS = ()


def refusing_the_first_token(api: SdkApi, *challenges: str) -> Callable[[Asked], Awaitable[None]]:
    """Has an API refuse the token that it is shown first."""

    async def look(asked: Asked) -> None:
        if asked.authorization is not None and not any(api.refusals):
            api.refusals[asked.authorization] = Refusal(401, challenges)

    return look


@pytest.fixture(params=[(), (CHALLENGE,)], ids=["refused", "challenged"])
def refusing(request: pytest.FixtureRequest, api: SdkApi):
    api.before_answer = refusing_the_first_token(api, *request.param)
    return api


def settings(entra: EntraEmulator, ca_file: str, tmp_path) -> dict[str, str]:
    """The environment of a program that trusts both servers."""
    both = tmp_path / "ca.pem"
    both.write_text(Path(ca_file).read_text() + Path(entra.ca_file).read_text())
    return entra.environment() | {"REQUESTS_CA_BUNDLE": str(both), "SSL_CERT_FILE": str(both)}


def test_the_script_reads_all_blobs_with_one_token(api, entra, ca_file, tmp_path):
    blobs = [api.url(f"/container/blob-{number}") for number in range(20)]
    done = run("examples/azure_sdk.py", *blobs, **settings(entra, ca_file, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == sorted(f"{blob}: 6 bytes" for blob in blobs)
    assert entra.count() == 1


def test_a_token_that_storage_refuses_is_nobodys_who_runs_the_script(api, entra, ca_file, tmp_path):
    tenant = entra.environment()["AZURE_TENANT_ID"]
    login = f"https://login.microsoftonline.com/{tenant}/oauth2/authorize"
    challenge = f"Bearer authorization_uri={login} resource_id=https://storage.azure.com"
    api.before_answer = refusing_the_first_token(api, challenge)
    done = run("examples/azure_sdk.py", api.url("/c/blob"), **settings(entra, ca_file, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert len({asked for asked in api.tokens if asked}) == entra.count() == 2


def test_the_script_says_what_to_do_where_there_is_no_token(api, entra, ca_file, tmp_path):
    entra.fail_next(99, status=400, error="invalid_scope", error_codes=[70011])
    done = run("examples/azure_sdk.py", api.url("/c/blob"), **settings(entra, ca_file, tmp_path))
    assert done.returncode == 1
    assert "blob: InvalidScopeError: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_questions_are_answered_with_one_token(api, entra, ca_file, tmp_path):
    questions = [f"question {number}?" for number in range(9)]
    given = settings(entra, ca_file, tmp_path)
    done = run("examples/openai_client.py", api.url("/openai/v1"), "gpt", *questions, **given)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [f"{each} served" for each in questions]
    assert entra.count() == 1


def test_a_refused_token_is_nobodys_who_asks_a_model(refusing, entra, ca_file, tmp_path):
    given = settings(entra, ca_file, tmp_path)
    done = run("examples/openai_client.py", refusing.url("/openai/v1"), "gpt", "1?", "2?", **given)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("served") == 2
    assert entra.count() == 2
