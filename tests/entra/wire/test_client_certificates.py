"""What a machine proves itself with to a gateway, before the app says anything of itself."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from entra_calls import failure, fetch

from tokenmgr import Authority, ConfigurationError, ServiceUnavailableError
from tokenmgr.entra.wire.connection import Connection


@pytest.fixture
def machine(rough, tmp_path):
    """The files of a client certificate, without which the server ends each handshake."""
    authority = trustme.CA()
    authority.configure_trust(rough.tls)
    rough.tls.verify_mode = ssl.CERT_REQUIRED
    # Else the client has ended its handshake before it is refused.
    rough.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    issued = authority.issue_cert("machine-7.contoso.com")
    both, certificate, key = (
        tmp_path / name for name in ("both.pem", "certificate.pem", "key.pem")
    )
    issued.private_key_and_cert_chain_pem.write_to_path(both)
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return {"one file": str(both), "path": both, "two files": (certificate, str(key))}


@pytest.mark.parametrize("form", ["one file", "path", "two files"])
def test_a_gateway_is_shown_the_machines_certificate(registry, machine, form):
    assert fetch(registry(cert=machine[form])) == "a-token"


def test_who_has_none_is_refused_and_shares_no_connection_of_who_has(rough, registry, machine):
    assert fetch(registry(cert=machine["path"])) == "a-token"
    asked = len(rough.received)

    failure(registry(), ServiceUnavailableError)

    assert len(rough.received) == asked


def test_it_is_shown_through_a_proxy_too(rough, registry, machine, proxy):
    authority = Authority.entra("contoso.onmicrosoft.com")
    proxy.leads_to = rough.server_address
    tokens = registry(authority=authority, proxies={"https": proxy.url}, cert=machine["path"])

    assert fetch(tokens) == "a-token"


def test_no_connection_is_begun_without_it(registry, machine, monkeypatch):
    monkeypatch.setattr("tokenmgr.entra.wire.connection.is_first_fetch", lambda: True)

    assert fetch(registry(cert=machine["path"])) == "a-token"


@pytest.fixture
def broken(machine, tmp_path):
    """Files that are there, and cannot be used."""
    other, encrypted = tmp_path / "other.pem", tmp_path / "encrypted.pem"
    trustme.CA().issue_cert("another").private_key_pem.write_to_path(other)
    certificate, key = machine["two files"]
    loaded = load_pem_private_key(Path(key).read_bytes(), None)
    encrypted.write_bytes(
        certificate.read_bytes()
        + loaded.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"kept to itself")
        )
    )
    return {
        "no certificate": __file__,
        "no key": certificate,
        "another's key": (certificate, other),
        "an encrypted key": encrypted,
    }


@pytest.mark.parametrize("what", ["no certificate", "no key", "another's key", "an encrypted key"])
def test_files_that_cannot_be_used_are_a_setting_to_check(rough, registry, broken, what):
    failure(registry(cert=broken[what]), ConfigurationError, match="files of cert=")

    assert rough.received == []


@pytest.mark.parametrize(
    "cert",
    [
        *("", "nowhere.pem", os.sep, "-----BEGIN PRIVATE KEY-----\nMIIE", "a\0b", b"both.pem", 7),
        *((), ("a",), ("nowhere.pem", "key.pem"), (__file__,) * 3, (__file__, 7)),
    ],
    ids=repr,
)
def test_what_is_no_file_is_refused_and_not_shown(cert):
    with pytest.raises(ConfigurationError, match="cert= is the path of a PEM file") as caught:
        Connection(cert=cert)

    assert "MIIE" not in str(caught.value)
