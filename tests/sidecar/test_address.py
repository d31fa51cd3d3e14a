"""Where the sidecar may be: callers' tokens go there."""

from __future__ import annotations

import pytest
from reporting import told_of

from tokenmgr import ConfigurationError
from tokenmgr.sidecar import SidecarClient


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://localhost:5000/", "http://localhost:5000"),
        ("HTTP://LocalHost:5000", "http://localhost:5000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://127.8.9.1:8080", "http://127.8.9.1:8080"),
        ("http://[::1]:5178", "http://[::1]:5178"),
        ("http://localhost:5000/behind/a-proxy/", "http://localhost:5000/behind/a-proxy"),
        ("https://sidecar.contoso.com", "https://sidecar.contoso.com"),
        ("https://sidecar_1:8443", "https://sidecar_1:8443"),
    ],
)
def test_the_sidecar_is_here_or_behind_tls(given, taken):
    client = SidecarClient(given)
    assert client.base_url == taken
    assert repr(client) == f"<SidecarClient of {taken}>"


@pytest.mark.parametrize(
    "given",
    [
        "http://sidecar:5000",
        "http://10.0.0.1:5000",
        "http://0.0.0.0:5000",
        "http://169.254.169.254",
        "http://[fe80::1]:5000",
        "http://localhost.contoso.com",
        "http://sub.localhost",
        "http://127.1",
        "http://0x7f.0.0.1",
        "http://2130706433",
        "http://[::ffff:10.0.0.1]",
    ],
)
def test_a_sidecar_elsewhere_in_the_clear_is_refused_with_what_to_do(given):
    with pytest.raises(ConfigurationError, match="containers of one pod share their loopback"):
        SidecarClient(given)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "localhost:5000",
        "//localhost:5000",
        "ftp://localhost",
        "http://",
        "http://:5000",
        "http://localhost:0",
        "http://localhost.",
        "http://localhost:65536",
        "http://localhost:port",
        "http://[::1",
        "http://[::1%25eth0]",
        "http://localhost:5000?a=b",
        "http://localhost:5000#a",
        "http://localhost:5000/a/../b",
        "http://localhost:5000/a/%2e%2E/b",
        "http://localhost:5000//a",
        "http://localhost:5000/a b",
        "http://eve:hunter2@localhost:5000",
        "http://localhost\\@evil.com",
        "http://evil.com#@localhost",
        "http://localhost:5000\r\nX: y",
        "http://löcalhost",
        b"http://localhost",
        5000,
    ],
    ids=repr,
)
def test_what_is_no_address_is_refused_by_the_name_of_where_it_stands(monkeypatch, given):
    with pytest.raises(ConfigurationError, match="base_url=") as caught:
        SidecarClient(given)
    assert told_of(caught.value, ("hunter2",)) == []
    if isinstance(given, str) and given:
        monkeypatch.setenv("SIDECAR_URL", given)
        with pytest.raises(ConfigurationError, match="SIDECAR_URL"):
            SidecarClient()


@pytest.mark.parametrize(
    "setting",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"timeout": "10"},
        {"timeout": True},
        {"retries": -1},
        {"retries": 1.5},
        {"max_bytes": 0},
        {"verify": 5},
        {"verify": "missing.pem"},
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_right_is_refused(setting):
    with pytest.raises(ConfigurationError, match=f"{next(iter(setting))}="):
        SidecarClient(**setting)
