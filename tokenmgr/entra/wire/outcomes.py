"""What a request comes to: an answer that MSAL may see, or the error that stands in its place."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import DecodeError, EmptyPoolError, InvalidHeader
from urllib3.exceptions import TimeoutError as WireTimeoutError
from urllib3.util import Retry

from ..._runtime.secrecy import Hidden
from ...errors import (
    AuthorityError,
    ConfigurationError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
)
from ..answers import Answer, error_from_answer
from .transport import Response

__all__ = ["connection_error", "host_of", "no_metadata", "outcome_of", "parsed"]

_MOST_BYTES = 1 << 20
#: What is said of a client certificate that cannot be used: by OpenSSL, then by urllib3.
_OF_CLIENT_CERTIFICATES = ("PEM", "KEY_VALUES_MISMATCH", "Client private key")


def outcome_of(
    answer: requests.Response, host: str, secret: Hidden
) -> Response | TokenManagerError:
    """Reads an answer, as far as MSAL is to see it; else gives the error that it stands for."""
    try:
        body = Hidden(answer.raw.read(_MOST_BYTES + 1, decode_content=True))
    except DecodeError:
        return ServiceUnavailableError(
            f"{host} answered HTTP {answer.status_code} with what cannot be decoded",
            status=answer.status_code,
        )
    if len(body.cell_contents) > _MOST_BYTES:
        return ServiceUnavailableError(
            f"{host} answered HTTP {answer.status_code} with more than an answer is long",
            status=answer.status_code,
        )
    response = Response(
        answer.status_code, body.cell_contents.decode("utf-8", errors="replace"), answer.headers
    )
    return _failure(response, host, secret) or response


def _failure(response: Response, host: str, secret: Hidden) -> TokenManagerError | None:
    status = response.status_code
    if 300 <= status < 400:
        return AuthorityError(
            f"{host} answered with a redirect (HTTP {status}), which is not followed, since the "
            "request carries the app's credential: set the authority that it leads to",
            status=status,
        )
    if status == 429 or status >= 500:
        return error_from_answer(
            parsed(response) or Answer({}),
            kind=ThrottledError if status == 429 else ServiceUnavailableError,
            retry_after=_retry_after(response),
            status=status,
            host=host,
            secret=secret,
        )
    if status == 200 and parsed(response) is None:
        return ServiceUnavailableError(
            f"{host} answered HTTP 200 with what is not a JSON object", status=status
        )
    return None


def _retry_after(response: Response) -> float | None:
    """Reads ``Retry-After``, in seconds or as a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, Retry(0).parse_retry_after(value.strip()))
    except (InvalidHeader, OverflowError):
        return None


def parsed(response: Response) -> Answer | None:
    """Reads an answer as a JSON object; None where it is none."""
    try:
        said = Hidden(json.loads(response.text))
    except (ValueError, RecursionError):
        return None
    return Answer(said.cell_contents) if isinstance(said.cell_contents, dict) else None


def no_metadata(url: str, response: Response, metadata: Answer | None) -> TokenManagerError:
    """Says that what an authority answered is no OpenID metadata."""
    status = response.status_code
    if metadata and "error" in metadata:
        return error_from_answer(metadata, kind=AuthorityError, host=host_of(url), status=status)
    return AuthorityError(
        f"there is no OpenID metadata at {url} (HTTP {status}): check the authority's address, its "
        "tenant and its policy",
        status=status,
    )


def _out_of_time(host: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(f"{host} gave no answer in time: it is asked again later")


def connection_error(exc: Exception, host: str, trust: str) -> TokenManagerError:
    """Says why there was no answer; ``trust`` is what to do to have a certificate trusted."""
    if isinstance(exc, requests.exceptions.ProxyError):
        return ServiceUnavailableError(
            f"the proxy on the way to {host} cannot be used: check proxies= and HTTPS_PROXY"
        )
    if isinstance(exc, requests.exceptions.SSLError):
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            return AuthorityError(f"the certificate of {host} is not trusted here: {trust}")
        if "NO_CERTIFICATE_OR_CRL_FOUND" in str(exc):
            return ConfigurationError(
                "the file of certificate authorities holds none: check verify=, "
                "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
            )
        if any(words in str(exc) for words in _OF_CLIENT_CERTIFICATES):
            return ConfigurationError(
                "the files of cert= are no client certificate with its private key, or the key is "
                "encrypted: check them"
            )
        return ServiceUnavailableError(f"TLS with {host} failed: it is tried again later")
    if isinstance(exc, (requests.Timeout, WireTimeoutError, TimeoutError)):
        return _out_of_time(host)
    if isinstance(exc, EmptyPoolError):
        return ServiceUnavailableError(
            f"as many requests as there may be at once wait for {host}: find out why it is slow, "
            "or raise the number of files that this process may have open"
        )
    if isinstance(exc, OSError) and "CA certificate bundle" in str(exc):
        return ConfigurationError(
            "the file of certificate authorities cannot be found: check verify=, "
            "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
        )
    return ServiceUnavailableError(
        f"the connection to {host} failed ({type(exc).__name__}): check the network and the "
        "authority's address"
    )


def host_of(url: str) -> str:
    """Gives the host of a URL, with its port, for messages."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or "the authority"
