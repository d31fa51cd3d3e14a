"""SidecarClient: what both clients do, and what threads and forks are to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fork_marks import needs_fork
from forking import Child
from sidecar_compliance import ANN, CALLER, Compliance, claims_of
from waiting import until

from tokenmgr import SidecarError
from tokenmgr.sidecar import SidecarClient, wire


class TestSidecarClient(Compliance):
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

    def test_who_finds_all_connections_taken_waits_no_longer_than_he_may(self, rough, monkeypatch):
        monkeypatch.setattr(wire, "_MOST_AT_ONCE", 1)
        answered, answer = threading.Event(), rough.answers[0]

        def wait(connection: Any) -> None:
            answered.wait(30)
            answer(connection)

        rough.answers = [wait]
        client = self.make(rough.url, timeout=30)
        first = threading.Thread(target=client.get_authorization_header, args=[CALLER, "Graph"])
        first.start()
        until(lambda: rough.requests)
        client._sidecar.timeout = 0.1
        with pytest.raises(SidecarError, match="wait for the sidecar already"):
            client.get_authorization_header(CALLER, "Graph")
        answered.set()
        first.join()

    def test_a_client_ends_with_its_block(self, sidecar):
        with SidecarClient(sidecar.url) as client:
            assert client.healthy()
        with pytest.raises(Exception, match="closed"):
            client.healthy()
