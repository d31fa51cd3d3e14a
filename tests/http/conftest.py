from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

pytest.register_assert_rewrite("http_compliance")

from http_api import Api, Server, serve  # noqa: E402 - what it asserts is told only after that


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA) -> Iterator[str]:
    with authority.cert_pem.tempfile() as path:
        yield path


@pytest.fixture
def api(authority: trustme.CA) -> Iterator[Api]:
    """An API over TLS. Whatever it holds is let go in the end."""
    api = Api()
    server = serve(api, authority)
    yield api
    api.let_go.set()
    server.close()


@pytest.fixture
def plain() -> Iterator[Server]:
    """An API without TLS."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def proxy() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
