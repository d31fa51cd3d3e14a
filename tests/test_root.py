"""What ``import tokenmgr`` offers, and what it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tokenmgr

NAMES = """
AccessToken AccessTokenManager AuthCodeFlow Authority AuthorityError BearerRefusedError Certificate
ClientAssertion ClientSecret ConfigurationError ConsentRequiredError DeviceCodeFlow
HostNotAllowedError InsufficientScopeError InteractionRequiredError InvalidCredentialError
InvalidScopeError OverrideIgnoredError RefreshPolicy ServiceUnavailableError SessionNotFoundError
SidecarError SignInOptions StoreError ThrottledError TokenKey TokenManagerError TokenRegistry
TokenRequestError TokenSource TokenTimeoutError UserSession WorkloadIdentity
"""


def test_the_public_names_are_these_and_no_others() -> None:
    assert tokenmgr.__all__ == NAMES.split()
    assert all(hasattr(tokenmgr, name) for name in tokenmgr.__all__)


def test_a_name_that_is_not_public_is_none_of_the_package() -> None:
    with pytest.raises(AttributeError, match="SYSTEM_CLOCK"):
        tokenmgr.SYSTEM_CLOCK  # noqa: B018
    assert set(NAMES.split()) <= set(dir(tokenmgr))


@pytest.mark.parametrize(
    ("names", "module"),
    [
        (["TokenRegistry"], "tokenmgr.registry"),
        (["AuthCodeFlow", "DeviceCodeFlow", "SignInOptions"], "tokenmgr.flows"),
        (["UserSession"], "tokenmgr.sessions"),
    ],
)
def test_importing_loads_nothing_heavy(names: list[str], module: str) -> None:
    code = f"import sys; from tokenmgr import {', '.join(names)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert module in loaded
    heavy = {"msal", "requests", "urllib3", "cachetools", "cryptography", "jwt", "asyncio", "ssl"}
    assert heavy.isdisjoint(loaded)


def test_msal_and_requests_arrive_with_the_first_fetch_not_with_the_manager() -> None:
    code = (
        "import sys\n"
        "from tokenmgr import TokenRegistry\n"
        "tokens = TokenRegistry(client_id='c', credential='s',\n"
        "    authority='https://login.microsoftonline.com/contoso.com')\n"
        "tokens.manager('https://graph.microsoft.com/.default')\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    # Nor does what workers share through, without a store.
    assert {"msal", "requests", "tokenmgr._sharing"}.isdisjoint(loaded)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(tokenmgr.__file__).parent / "py.typed").exists()
