"""AccessTokenProvider for clients that Kiota has generated, asked as Kiota asks."""

from __future__ import annotations

import asyncio
import base64
import sys

import pytest
from kiota_abstractions.authentication import (
    AccessTokenProvider,
    BaseBearerTokenAuthenticationProvider,
)
from kiota_abstractions.method import Method
from kiota_abstractions.request_information import RequestInformation
from support import SCOPE

import tokenmgr.http.kiota as ours
from tokenmgr import (
    AccessToken,
    ConfigurationError,
    HostNotAllowedError,
    ServiceUnavailableError,
)

CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"},"x":{"value":"~?>~?>"}}}'
GRAPH = "https://graph.microsoft.com/v1.0/users"


def sent(provider, url: str = GRAPH, claims: str | None = None) -> list[str]:
    """The Authorization headers of a request."""
    request = RequestInformation(Method.GET, "{+baseurl}", {})
    request.url = url
    context = {} if claims is None else {"claims": claims}
    authentication = BaseBearerTokenAuthenticationProvider(provider)
    asyncio.run(authentication.authenticate_request(request, context))
    return sorted(request.headers.get("Authorization"))


def test_the_token_goes_with_each_request_and_is_fetched_once(manager, source):
    provider = ours.AccessTokenProvider(manager)
    assert isinstance(provider, AccessTokenProvider)
    assert [sent(provider) for _ in range(3)] == [["Bearer token-1"]] * 3
    assert source.fetches == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://upload.contoso.com/session",
        "http://graph.microsoft.com/v1.0/users",
        "https://graph.microsoft.com:8443/",
        "https://graph.microsoft.com@contoso.com/",
        "graph.microsoft.com",
    ],
)
def test_a_host_that_is_not_bound_gets_no_token(manager, source, url):
    provider = ours.AccessTokenProvider(manager)
    assert sent(provider, url) == []
    assert not provider.get_allowed_hosts_validator().is_url_host_valid(url)
    assert source.fetches == 0


def test_hosts_are_bound_as_for_every_client(manager):
    provider = ours.AccessTokenProvider(manager, hosts=["*.contoso.com", "localhost:8443"])
    validator = provider.get_allowed_hosts_validator()
    assert validator.get_allowed_hosts() in (
        ["*.contoso.com", "localhost:8443"],
        ["localhost:8443", "*.contoso.com"],
    )
    for url in ("https://api.contoso.com/x", "https://localhost:8443/"):
        assert sent(provider, url) == ["Bearer token-1"]
        assert validator.is_url_host_valid(url)
    assert sent(provider) == []
    assert repr(provider) == (
        f"<tokenmgr.http.kiota.AccessTokenProvider of {SCOPE} for *.contoso.com, localhost:8443>"
    )


@pytest.mark.parametrize("url", ["http://localhost:5000/x", "HTTP://localhost:5000/x"])
def test_a_proxy_might_read_what_goes_to_this_machine_without_tls(manager, source, url):
    provider = ours.AccessTokenProvider(manager, hosts="localhost")
    with pytest.raises(HostNotAllowedError, match=r"to localhost .* use https"):
        sent(provider, url)
    assert source.fetches == 0


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padding", ["", "="])
def test_claims_of_a_challenge_are_asked_for_once_and_stay(manager, source, encode, padding):
    provider = ours.AccessTokenProvider(manager)
    sent(provider)
    encoded = encode(CLAIMS.encode()).decode().rstrip("=") + padding
    assert [sent(provider, claims=encoded) for _ in range(2)] == [["Bearer token-2"]] * 2
    assert sent(provider) == ["Bearer token-2"]
    assert source.claims == [None, CLAIMS]


def test_claims_that_cannot_be_read_ask_for_nothing(manager, source):
    provider = ours.AccessTokenProvider(manager)
    assert sent(provider, claims="%%%") == ["Bearer token-1"]
    assert source.claims == [None]


def test_what_is_wrong_is_told_as_by_every_client(manager, source, clock):
    with pytest.raises(ConfigurationError, match=r"AccessTokenProvider\(registry"):
        ours.AccessTokenProvider("a-token")
    source.error = ServiceUnavailableError("the service is down")
    with pytest.raises(ServiceUnavailableError):
        sent(ours.AccessTokenProvider(manager))
    source.error = None
    clock.advance(60)
    source.fetch_token = lambda *, claims=None: AccessToken(
        "token-1", clock.wall() + 3600, token_type="pop"
    )
    with pytest.raises(ConfigurationError, match="'pop'"):
        sent(ours.AccessTokenProvider(manager))


def test_without_kiota_its_import_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "tokenmgr.http.kiota")
    monkeypatch.setitem(sys.modules, "kiota_abstractions", None)
    with pytest.raises(ImportError, match=r"pip install 'tokenmgr\[kiota\]'"):
        import tokenmgr.http.kiota  # noqa: F401
