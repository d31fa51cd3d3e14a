"""SidecarClient: what both clients do, and what threads and forks are to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fork_marks import needs_fork
from forking import Child
from sidecar_compliance import ANN, Compliance, claims_of

from tokenmgr.sidecar import SidecarClient


class TestSidecarClient(Compliance):
    room = "sidecar/client.py"

    @pytest.fixture(autouse=True)
    def _closing(self) -> Iterator[None]:
        self._made: list[SidecarClient] = []
        yield
        for client in self._made:
            client.close()

    def make(self, base_url: str | None = None, **settings: Any) -> SidecarClient:
        self._made.append(SidecarClient(base_url, **settings))
        return self._made[-1]

    @needs_fork
    def test_a_client_goes_over_a_fork(self, entra, client):
        ann = entra.sign_in(ANN)
        client.get_authorization_header(ann, "Graph")

        def in_child() -> str:
            name: str = claims_of(client.get_authorization_header(ann, "Graph"))["upn"]
            return name

        assert Child(in_child).outcome() == ANN
        assert claims_of(client.get_authorization_header(ann, "Graph"))["upn"] == ANN

    def test_a_client_ends_with_its_block(self, sidecar):
        with SidecarClient(sidecar.url) as client:
            assert client.healthy()
        with pytest.raises(Exception, match="closed"):
            client.healthy()
