from __future__ import annotations

import pytest

from tokenmgr.emulator.certificates import ClientCertificate, client_certificate


@pytest.fixture(scope="session")
def made() -> ClientCertificate:
    """A certificate with its chain."""
    return client_certificate(chain=True)


@pytest.fixture(scope="session")
def other() -> ClientCertificate:
    return client_certificate()
