from __future__ import annotations

import gc
import importlib
import warnings
from collections.abc import Iterator

import pytest
import trustme

pytest.register_assert_rewrite("sdk_scenarios")

from http_api import serve  # noqa: E402 - what it asserts is told only after that
from sdk_scenarios import SdkApi  # noqa: E402 - the same
from support import PROXIES, unset  # noqa: E402 - the same

from tokenmgr import TokenRegistry  # noqa: E402 - the same
from tokenmgr.emulator import EntraEmulator  # noqa: E402 - the same


@pytest.fixture(scope="module", autouse=True)
def _sdks_are_imported(request: pytest.FixtureRequest) -> Iterator[None]:
    """Imports a file's SDKs, and spares the garbage collector their modules at each test's end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of their own
        for name in request.module.SDKS:
            importlib.import_module(name)
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def served(tls: trustme.CA) -> Iterator[SdkApi]:
    api = SdkApi()
    server = serve(api, tls)
    yield api
    server.close()


@pytest.fixture
def api(served: SdkApi) -> SdkApi:
    """What an SDK takes for its service, and which refuses nothing yet."""
    served.asked.clear()
    served.refusals.clear()
    served.before_answer = None
    return served


@pytest.fixture(scope="module")
def one_entra() -> Iterator[EntraEmulator]:
    with EntraEmulator() as emulator:
        yield emulator


@pytest.fixture
def entra(one_entra: EntraEmulator) -> EntraEmulator:
    """A local Entra without trouble, that was not asked yet."""
    one_entra.recover()
    one_entra.clear()
    return one_entra


@pytest.fixture
def tokens(entra: EntraEmulator) -> Iterator[TokenRegistry]:
    """A registry of a tenant that is named as services name it."""
    tenant = entra.environment()["AZURE_TENANT_ID"]
    with entra.registry(authority=entra.authority(tenant)) as registry:
        yield registry


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    unset(monkeypatch, *PROXIES, "OPENAI_API_KEY", "OPENAI_BASE_URL")
