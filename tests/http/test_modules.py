"""The modules of the clients: the same names in each, which imports its own client alone."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from tokenmgr.http.bearer import Bearer

EXTRAS = ("httpx", "httpx2", "aiohttp")
CLIENTS = ("requests", "urllib3", *EXTRAS)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("client", CLIENTS)
def test_each_has_a_bearer_auth_with_the_same_settings(client):
    module = import_module(f"tokenmgr.http.{client}")
    assert module.__all__ == ["BearerAuth"]
    assert issubclass(module.BearerAuth, Bearer)
    assert inspect.signature(module.BearerAuth) == inspect.signature(Bearer)


@pytest.mark.parametrize("client", CLIENTS)
def test_each_imports_no_other_client(client):
    loaded = set(run(f"import sys, tokenmgr.http.{client}; print(*sys.modules)").split())
    assert client in loaded
    assert loaded & set(EXTRAS) <= {client}


@pytest.mark.parametrize("client", EXTRAS)
def test_one_that_is_missing_says_what_to_install(client):
    told = run(
        f"import sys; sys.modules['{client}'] = None\n"
        f"try: import tokenmgr.http.{client}\n"
        "except ImportError as error: print(error)"
    )
    assert f"pip install 'tokenmgr[{client}]'" in told
