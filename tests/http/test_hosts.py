"""Which hosts a token may go to: what is taken, what is refused, and what looks alike."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tokenmgr import ConfigurationError, HostNotAllowedError
from tokenmgr.http.hosts import HostBinding

GRAPH = "graph.microsoft.com"

# ── What a host matches ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (GRAPH, "https://graph.microsoft.com/v1.0/me?$select=id"),
        (GRAPH, "https://graph.microsoft.com"),
        (GRAPH, "https://graph.microsoft.com:443/"),
        (GRAPH, "HTTPS://Graph.Microsoft.COM/"),
        (GRAPH, "https://graph.microsoft.com./"),
        (GRAPH, "https://somebody@graph.microsoft.com/"),
        ("Graph.Microsoft.com.", "https://graph.microsoft.com/"),
        ("graph.microsoft.com:443", "https://graph.microsoft.com/"),
        ("api.contoso.com:8443", "https://api.contoso.com:8443/"),
        ("xn--bcher-kva.example", "https://XN--BCHER-kva.example/"),
        ("*.blob.core.windows.net", "https://account.blob.core.windows.net/container"),
        ("*.blob.core.windows.net", "https://a.b.blob.core.windows.net/"),
        ("*.Contoso.com:8443", "https://API.contoso.com:8443/"),
        ("my_api", "https://my_api/"),
        ("localhost", "https://localhost:50123/"),
        ("localhost", "http://localhost:5000/"),
        ("localhost", "http://LOCALHOST./"),
        ("localhost:8443", "https://localhost:8443/"),
        ("127.0.0.1", "http://127.0.0.1:5000/"),
        ("127.8.9.1:8443", "http://127.8.9.1:8443/"),
        ("[::1]", "http://[::1]:5000/"),
        ("[::1]:8443", "https://[0:0:0:0:0:0:0:1]:8443/"),
        ("10.1.2.3", "https://10.1.2.3/"),
        ("[2001:db8::1]", "https://[2001:DB8::1]/"),
    ],
)
def test_a_request_to_a_bound_host_is_allowed(host, url):
    binding = HostBinding(host)
    binding.check(url)
    assert binding.allows(url)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        # Look-alikes.
        (GRAPH, "https://graph.microsoft.com.evil.example/"),
        (GRAPH, "https://evilgraph.microsoft.com/"),
        (GRAPH, "https://evil.graph.microsoft.com/"),
        (GRAPH, "https://graph-microsoft.com/"),
        (GRAPH, "https://graphxmicrosoft.com/"),
        (GRAPH, "https://grаph.microsoft.com/"),  # noqa: RUF001 - its a is Cyrillic
        (GRAPH, "https://graph.microsoft.com../"),
        ("*.microsoft.com", "https://evilgraph.microsoft.com.evil.example/"),
        ("*.microsoft.com", "https://graph.evilmicrosoft.com/"),
        ("*.microsoft.com", "https://evilmicrosoft.com/"),
        ("*.microsoft.com", "https://microsoft.com/"),
        ("*.microsoft.com", "https://.microsoft.com/"),
        # URLs that hide their host, or that two parsers read differently.
        (GRAPH, "https://graph.microsoft.com@evil.example/"),
        (GRAPH, "https://graph.microsoft.com:443@evil.example/"),
        (GRAPH, r"https://graph.microsoft.com\@evil.example/"),
        (GRAPH, r"https://evil.example\@graph.microsoft.com/"),
        (GRAPH, r"https://evil.example\.graph.microsoft.com/"),
        (GRAPH, "https://evil.example#@graph.microsoft.com/"),
        (GRAPH, "https://evil.example?@graph.microsoft.com/"),
        (GRAPH, "https://evil.example/graph.microsoft.com"),
        (GRAPH, "https://graph.microsoft.com%5C@evil.example/"),
        (GRAPH, "https://graph.microsoft.com%2Eevil.example/"),
        (GRAPH, "https://graph.micro\tsoft.com/"),
        (GRAPH, "https://graph.microsoft.com\x00.evil.example/"),
        (GRAPH, "//graph.microsoft.com/"),
        (GRAPH, "graph.microsoft.com"),
        (GRAPH, "ftp://graph.microsoft.com/"),
        (GRAPH, "https:///v1.0"),
        (GRAPH, "https://graph.microsoft.com:99999/"),
        (GRAPH, "https://[graph.microsoft.com]/"),
        (GRAPH, ""),
        # Ports.
        (GRAPH, "https://graph.microsoft.com:8443/"),
        (GRAPH, "https://graph.microsoft.com:0/"),
        ("api.contoso.com:8443", "https://api.contoso.com/"),
        ("api.contoso.com:8443", "https://api.contoso.com:8444/"),
        ("*.contoso.com:8443", "https://api.contoso.com/"),
        ("localhost:8443", "https://localhost:8444/"),
        ("127.0.0.1:8443", "https://127.0.0.1/"),
        ("[::1]:8443", "https://[::1]:8444/"),
        # Without TLS, and hosts that only look like loopback.
        (GRAPH, "http://graph.microsoft.com/"),
        (GRAPH, "http://graph.microsoft.com:443/"),
        ("10.1.2.3:80", "http://10.1.2.3/"),
        ("api.localhost", "http://api.localhost/"),
        ("localhost.example", "http://localhost.example:443/"),
        ("127.0.0.1.example", "http://127.0.0.1.example:443/"),
        ("[::ffff:127.0.0.1]", "http://[::ffff:127.0.0.1]:443/"),
        # Other ways to write an address, and other addresses of this machine.
        ("127.0.0.1", "https://127.1/"),
        ("127.0.0.1", "https://2130706433/"),
        ("127.0.0.1", "https://0x7f.0.0.1/"),
        ("127.0.0.1", "https://127.0.0.2/"),
        ("127.0.0.1", "https://localhost/"),
        ("localhost", "https://127.0.0.1/"),
        ("[fe80::1]", "https://[fe80::1%25eth0]/"),
    ],
)
def test_a_request_to_any_other_host_is_refused(host, url):
    binding = HostBinding(host)
    assert not binding.allows(url)
    with pytest.raises(HostNotAllowedError):
        binding.check(url)


def test_a_name_outside_ascii_matches_in_the_form_that_requests_sends():
    prepared = requests.Request("GET", "https://Bücher.example/").prepare()
    assert HostBinding("xn--bcher-kva.example").allows(prepared.url)
    assert not HostBinding("xn--bcher-kva.example").allows("https://bücher.example/")


def test_one_of_several_hosts_is_enough():
    binding = HostBinding(iter(["api.contoso.com", "*.vault.azure.net"]))
    assert binding.allows("https://api.contoso.com/")
    assert binding.allows("https://mine.vault.azure.net/")
    assert not binding.allows("https://vault.azure.net/")


_PARTS = [GRAPH, "evil.example", "localhost", "@", "\\", "/", "//", ":", "443", ".", "#", "?", "%"]
_PARTS += ["%2e", "%40", "%5c", "\t", " ", "[", "]", "::1", "é", "。", "．"]  # noqa: RUF001


@given(st.lists(st.sampled_from(_PARTS), max_size=8).map("".join))
def test_no_url_is_allowed_that_requests_takes_elsewhere(rest):
    binding = HostBinding(GRAPH)
    try:
        prepared = requests.Request("GET", f"https://{rest}").prepare().url or ""
    except (requests.RequestException, ValueError):
        prepared = ""  # requests refuses it by itself
    for url in (prepared, f"https://{rest}"):
        if binding.allows(url):
            # This is how the adapter of requests finds out where to connect to.
            assert (urlsplit(url).hostname or "").rstrip(".") == GRAPH


# ── What a refusal says ─────────────────────────────────────────────────────────────────────


def test_a_refusal_names_the_host_and_the_next_action_and_nothing_else_of_the_url():
    url = "https://me:password@api.contoso.com:8443/path-of-it?sig=signature#fragment"
    with pytest.raises(HostNotAllowedError) as caught:
        HostBinding(GRAPH).check(url)
    message = str(caught.value)
    assert GRAPH in message
    assert 'hosts="api.contoso.com:8443"' in message
    for secret in ("password", "path-of-it", "signature", "fragment"):
        assert secret not in message


def test_a_refusal_of_http_says_to_use_https():
    with pytest.raises(HostNotAllowedError, match=r"graph\.microsoft\.com in the clear: use https"):
        HostBinding(GRAPH).check("http://graph.microsoft.com/?sig=signature")


def test_a_refusal_of_a_doubtful_url_repeats_nothing_of_it():
    with pytest.raises(HostNotAllowedError, match="for certain") as caught:
        HostBinding(GRAPH).check(r"https://password\@graph.microsoft.com/")
    assert "password" not in str(caught.value)


# ── What can be given as hosts ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["*", "*.", "*.com", "*.net", "*.localhost", "*.com:443"])
def test_a_pattern_as_wide_as_a_top_level_domain_is_refused(host):
    with pytest.raises(ConfigurationError, match="host 1 of hosts="):
        HostBinding(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        ".",
        "a..b",
        ".contoso.com",
        "-api.contoso.com",
        "api contoso.com",
        "api.contoso.com,b.contoso.com",
        "api.contoso.com\n",
        "api.*.contoso.com",
        "api*.contoso.com",
        "*.*.contoso.com",
        "*.[::1]",
        "*.127.0.0.1",
        "api.contoso.com:",
        "api.contoso.com:0",
        "api.contoso.com:65536",
        "api.contoso.com:https",
        ":8443",
        "::1",
        "::1:8443",
        "[::1",
        "[localhost]",
        "[1::2::3]",
        "[fe80::1%eth0]",
        "127.1",
        "1.2.3.4.5",
        "api.0x7f",
        f"{'a' * 64}.contoso.com",
        ".".join(["a" * 60] * 5),
    ],
)
def test_what_is_no_host_is_refused_with_examples(host):
    with pytest.raises(ConfigurationError, match="host 1 of hosts= is "):
        HostBinding(host)


def test_a_url_is_no_host_and_is_not_repeated():
    with pytest.raises(ConfigurationError, match="give the host alone") as caught:
        HostBinding([GRAPH, "https://me:password@api.contoso.com"])
    assert "host 2 of" in str(caught.value)
    assert "password" not in str(caught.value)


def test_a_host_outside_ascii_is_refused_and_its_xn_form_asked_for():
    with pytest.raises(ConfigurationError, match="xn--"):
        HostBinding("bücher.example")


def test_no_hosts_at_all_are_refused():
    with pytest.raises(ConfigurationError, match="hosts= is empty"):
        HostBinding([])


def test_a_host_that_is_no_string_is_refused():
    with pytest.raises(ConfigurationError, match="of type bytes"):
        HostBinding([b"api.contoso.com"])


# ── What follows from the scopes ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scopes", "hosts"),
    [
        (["https://graph.microsoft.com/.default"], GRAPH),
        (["https://GRAPH.microsoft.com/User.Read", "offline_access", "openid"], GRAPH),
        (["https://graph.microsoft.com/Mail.Read", "https://graph.microsoft.com/User.Read"], GRAPH),
        (["https://graph.microsoft.us/.default"], "graph.microsoft.us"),
        (["https://dod-graph.microsoft.us/.default"], "dod-graph.microsoft.us"),
        (["https://microsoftgraph.chinacloudapi.cn/.default"], "microsoftgraph.chinacloudapi.cn"),
        (["https://management.azure.com//.default"], "management.azure.com"),
        (["https://api.contoso.com:8443/.default"], "api.contoso.com:8443"),
        (["https://[::1]:8443/.default"], "[::1]:8443"),
    ],
)
def test_a_scope_that_is_an_https_url_names_its_host(scopes, hosts):
    assert str(HostBinding.of(scopes)) == hosts


@pytest.mark.parametrize(
    "scope",
    [
        "api://11111111-2222-3333-4444-555555555555/.default",
        "11111111-2222-3333-4444-555555555555/.default",
        "User.Read",
        "https://contoso.onmicrosoft.com/11111111-2222-3333-4444-555555555555/.default",
        "https://Contoso.OnMicrosoft.com./api/.default",
        "https://contoso.onmicrosoft.us/api/.default",
        "https://contoso.partner.onmschina.cn/api/.default",
        "https://onmicrosoft.com/.default",
        "http://graph.microsoft.com/.default",
        "http://localhost:5000/.default",
        "https://graph.microsoft.com@evil.example/.default",
        r"https://graph.microsoft.com\@evil.example/.default",
        "https://*.contoso.com/.default",
        "https:///.default",
    ],
)
def test_a_scope_that_names_no_server_asks_for_hosts(scope):
    with pytest.raises(ConfigurationError) as caught:
        HostBinding.of([scope])
    assert scope in str(caught.value)
    assert 'BearerAuth(manager, hosts="api.contoso.com")' in str(caught.value)


def test_a_scope_that_graph_alone_knows_is_to_be_named_in_full():
    with pytest.raises(ConfigurationError, match="in full, as in https://graph"):
        HostBinding.of(["User.Read"])
    with pytest.raises(ConfigurationError) as caught:
        HostBinding.of(["api://orders/.default"])
    assert "in full" not in str(caught.value)


def test_hosts_that_are_given_replace_those_of_the_scopes():
    binding = HostBinding.of(["https://graph.microsoft.com/.default"], hosts="api.contoso.com")
    assert binding.allows("https://api.contoso.com/")
    assert not binding.allows("https://graph.microsoft.com/")
    assert repr(binding) == "<HostBinding to api.contoso.com>"


@pytest.mark.parametrize(
    "url",
    [
        "https://graph.microsoft.comx",
        "https://graph.microsoft.com.evil.example/",
        "https://graph.microsoft.com@evil.example/",
        "https://graph.microsoft.com:443@evil.example/",
        "https://graph.microsoft.com:1/",
        r"https://graph.microsoft.com\@evil.example/",
        r"https://graph.microsoft.com\.evil.example",
        "https://graph.microsoft.com?@evil.example/",
        "https://graph.microsoft.com#@evil.example/",
        "https://evil.example/https://graph.microsoft.com/",
        "https:///graph.microsoft.com/",
        "http://graph.microsoft.com/",
        "https://",
        "https:/",
        "",
    ],
)
def test_what_was_allowed_before_allows_nothing_that_begins_like_it(url):
    binding = HostBinding("graph.microsoft.com")
    fresh = HostBinding("graph.microsoft.com")
    for known in (
        "https://graph.microsoft.com/",
        "https://graph.microsoft.com",
        "https://graph.microsoft.com?x=/",
        "https://graph.microsoft.com:443/",
    ):
        binding.check(known)
        binding.check(known)
    assert binding.allows(url) == fresh.allows(url)
    try:
        fresh.check(url)
    except HostNotAllowedError:
        with pytest.raises(HostNotAllowedError):
            binding.check(url)
    else:
        binding.check(url)


def test_what_is_remembered_is_bounded():
    binding = HostBinding("*.blob.core.windows.net")
    for number in range(2_000):
        binding.check(f"https://account-{number}.blob.core.windows.net/")
        binding.check_target("https", f"account-{number}.blob.core.windows.net", None)
    assert len(binding._known) <= 256
    with pytest.raises(HostNotAllowedError):
        binding.check_target("https", b"blob.core.windows.net", None)
    with pytest.raises(HostNotAllowedError):
        binding.check_target("wss", "a.blob.core.windows.net", None)
