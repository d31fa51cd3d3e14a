"""Credentials that roll under a running program, at a service that verifies what is signed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from entra_calls import failure, fetch
from reporting import told_of
from support import EXACT, SCOPE, FakeClock
from waiting import until

from tokenmgr import (
    Authority,
    AuthorityError,
    Certificate,
    ClientAssertion,
    ConfigurationError,
    InvalidCredentialError,
    TokenManagerError,
    TokenRequestError,
)
from tokenmgr.emulator import EntraEmulator, client_certificate
from tokenmgr.emulator.certificates import ClientCertificate
from tokenmgr.entra.wire.exchange import Exchange
from tokenmgr.events import CertificateEnding, Event, TokenRequested

DAY = 86_400.0


@pytest.fixture(scope="module")
def made() -> ClientCertificate:
    return client_certificate("first", chain=True)


@pytest.fixture(scope="module")
def other() -> ClientCertificate:
    return client_certificate("second")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging callables wait for; open once the test is over."""
    event = threading.Event()
    yield event
    event.set()


def tokens_sent(entra: EntraEmulator) -> list[dict[str, str]]:
    return [request.form for request in entra.requests if request.kind == "token"]


def roll(entra: EntraEmulator, certificate: ClientCertificate) -> None:
    entra.remove_certificates()
    entra.add_certificate(certificate.certificate_pem)


# ── A certificate from a vault ──────────────────────────────────────────────────────────────


def test_a_vault_is_asked_once_and_again_when_its_certificate_is_refused(entra, made, other):
    calls, vault = [], [made]

    def ask() -> bytes:
        calls.append(1)
        return vault[0].pfx

    roll(entra, made)
    with entra.registry(policy=EXACT, credential=Certificate(ask)) as tokens:
        fetch(tokens)
        fetch(tokens)
        assert len(calls) == 1
        roll(entra, other)
        vault[0] = other
        assert fetch(tokens)
        assert len(calls) == 2
    assert entra.count() == 4


def test_a_vault_is_asked_once_for_all_who_need_it_at_a_time(entra, made, gate):
    calls, events = [], []

    def ask() -> bytes:
        calls.append(1)
        gate.wait()
        return made.pem

    roll(entra, made)
    with entra.registry(credential=Certificate(ask), on_event=events.append) as tokens:
        managers = [tokens.manager(f"api://api-{number}/.default") for number in range(8)]
        for manager in managers:
            manager.prefetch()
        until(lambda: sum(isinstance(each, TokenRequested) for each in events) == 8)
        gate.set()
        tokens.prefetch(*managers)
        assert len(calls) == 1
        entra.clear()
        with entra.paused():
            threads = [
                threading.Thread(
                    target=failure, args=(tokens, InvalidCredentialError, each.scopes[0])
                )
                for each in managers
            ]
            for thread in threads:
                thread.start()
            entra.wait_for_requests(8)
            entra.remove_certificates()
        for thread in threads:
            thread.join(30)
        assert len(calls) == 2, "it has no other, and one answer says so to all of them"


def test_a_vault_that_is_away_fails_no_fetch_before_it_is_needed(entra, made):
    answers: list[Any] = [made.pem]
    roll(entra, made)
    with entra.registry(policy=EXACT, credential=Certificate(lambda: answers.pop(0))) as tokens:
        assert fetch(tokens)
        assert fetch(tokens)
        entra.remove_certificates()
        raised = failure(tokens, TokenRequestError, match="certificate failed with IndexError")
    assert raised.retryable


def test_a_certificate_that_has_ended_is_read_anew(entra, made):
    ended, calls = client_certificate("ended", valid_days=-1), []

    def ask() -> bytes:
        calls.append(1)
        return ended.pem if len(calls) == 1 else made.pem

    entra.add_certificate(made.certificate_pem)
    with entra.registry(policy=EXACT, credential=Certificate(ask)) as tokens:
        assert fetch(tokens)
    assert len(calls) == 2
    assert entra.count() == 1


def test_a_certificate_that_has_ended_for_good_is_refused_and_told(entra):
    ended = client_certificate("ended", valid_days=-1)
    entra.add_certificate(ended.certificate_pem)
    events: list[Event] = []
    with entra.registry(
        policy=EXACT, credential=Certificate(ended.pem), on_event=events.append
    ) as tokens:
        raised = failure(tokens, InvalidCredentialError, match="see when it ends")
        failure(tokens, InvalidCredentialError)
    assert raised.error_codes == (700027,)
    told = [event for event in events if isinstance(event, CertificateEnding)]
    assert [(event.thumbprint, event.expires_in <= 0) for event in told] == [
        (ended.thumbprint, True)
    ]


# ── It is told before a certificate ends ────────────────────────────────────────────────────


class Ending:
    """A registry whose certificate ends on a day that a test's clock comes to."""

    def __init__(self, entra: EntraEmulator, credential: Certificate) -> None:
        self.clock = FakeClock(time.time())
        self.events: list[Event] = []
        self.tokens = entra.registry(
            policy=EXACT, credential=credential, clock=self.clock, on_event=self.events.append
        )

    @property
    def told(self) -> list[int]:
        """For how many days the certificate was told to be valid still, in whole ones."""
        self.tokens._own.app.context.settle(30)
        found = [event for event in self.events if isinstance(event, CertificateEnding)]
        return [round(event.expires_in / DAY) for event in found]

    def on_days(self, *days_left: float, ends_at: float) -> None:
        for days in days_left:
            self.clock.advance(ends_at - days * DAY - self.clock.wall())
            fetch(self.tokens)


def test_a_certificate_s_end_is_told_on_three_days_and_after_it_once_each(entra, caplog):
    made = client_certificate(valid_days=100)
    entra.add_certificate(made.certificate_pem)
    ending = Ending(entra, Certificate(made.pem))
    ends_at = Certificate(made.pem).read().ends_at
    with ending.tokens, caplog.at_level(logging.WARNING, "tokenmgr"):
        ending.on_days(90, 31, ends_at=ends_at)
        assert ending.told == []
        ending.on_days(30, 29, 8, ends_at=ends_at)
        assert ending.told == [30]
        ending.on_days(7, 6, 2, ends_at=ends_at)
        assert ending.told == [30, 7]
        ending.on_days(1, 0.5, ends_at=ends_at)
        assert ending.told == [30, 7, 1]
        ending.on_days(0, -1, -40, ends_at=ends_at)
        assert ending.told == [30, 7, 1, 0]
        other = ending.tokens.tenant("fabrikam.onmicrosoft.com")
        fetch(other)
        assert ending.told == [30, 7, 1, 0], "the tenants of an app have one certificate"
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(made.thumbprint.upper())[1][:16] for line in lines] == [
        " ends in 30.0 da",
        " ends in 7.0 day",
        " ends in 1.0 day",
        " has ended, on 2",
    ]
    assert all("upload a new one" in line for line in lines)


def test_who_starts_late_is_told_once(entra):
    made = client_certificate(valid_days=3)
    entra.add_certificate(made.certificate_pem)
    ending = Ending(entra, Certificate(made.pem))
    with ending.tokens:
        fetch(ending.tokens)
        fetch(ending.tokens)
        assert ending.told == [3]


def test_threads_that_fetch_at_once_tell_it_once(entra):
    made = client_certificate(valid_days=3)
    entra.add_certificate(made.certificate_pem)
    ending = Ending(entra, Certificate(made.pem))
    with ending.tokens:
        threads = [
            threading.Thread(target=fetch, args=(ending.tokens, f"api://{number}/.default"))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert ending.told == [3]


def test_a_vault_that_has_a_new_one_before_the_end_is_told_of_nothing(entra, made):
    old, calls = client_certificate(valid_days=31), []
    entra.add_certificate(old.certificate_pem)
    far = client_certificate(valid_days=400)
    entra.add_certificate(far.certificate_pem)

    def ask() -> bytes:
        calls.append(1)
        return old.pem if len(calls) == 1 else far.pem

    ending = Ending(entra, Certificate(ask))
    with ending.tokens:
        fetch(ending.tokens)
        ending.clock.advance(2 * DAY)
        fetch(ending.tokens)
        assert ending.told == []
    assert len(calls) == 2


def test_a_vault_that_is_away_before_the_end_fails_nothing(entra):
    old = client_certificate(valid_days=3)
    entra.add_certificate(old.certificate_pem)
    answers = [old.pem]
    ending = Ending(entra, Certificate(lambda: answers.pop(0)))
    with ending.tokens:
        assert fetch(ending.tokens)
        assert ending.told == [3]
        assert fetch(ending.tokens), "what it gave before serves until it ends"
        ending.clock.advance(4 * DAY)
        failure(ending.tokens, TokenRequestError, match="certificate failed with IndexError")


# ── A signer ────────────────────────────────────────────────────────────────────────────────


def signer(
    made: ClientCertificate, algorithm: str = "PS256", signed: list[bytes] | None = None
) -> Callable[[bytes], bytes]:
    """Signs as a vault does: it is given a digest."""
    key: Any = load_pem_private_key(made.private_key_pem, None)
    pads: dict[str, Any] = {
        "PS256": padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size),
        "RS256": padding.PKCS1v15(),
    }

    def sign(data: bytes) -> bytes:
        if signed is not None:
            signed.append(data)
        digest = hashlib.sha256(data).digest()
        return key.sign(digest, pads[algorithm], utils.Prehashed(hashes.SHA256()))

    return sign


def header_of(entra: EntraEmulator) -> dict[str, Any]:
    return jwt.get_unverified_header(tokens_sent(entra)[-1]["client_assertion"])


@pytest.mark.parametrize("send_chain", [True, False])
@pytest.mark.parametrize(
    ("algorithm", "name", "digest"), [("PS256", "x5t#S256", "sha256"), ("RS256", "x5t", "sha1")]
)
def test_a_key_that_stays_where_it_is_signs(entra, made, algorithm, name, digest, send_chain):
    entra.add_certificate(made.certificate_pem)
    chain = made.pem[made.pem.index(b"-----BEGIN CERTIFICATE") :]
    credential = Certificate(
        chain, sign=signer(made, algorithm), algorithm=algorithm, send_chain=send_chain
    )
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        fetch(tokens)
        fetch(tokens)

    header, sent = header_of(entra), tokens_sent(entra)
    der = x509.load_pem_x509_certificate(made.certificate_pem).public_bytes(Encoding.DER)
    thumbprint = base64.urlsafe_b64encode(hashlib.new(digest, der).digest()).decode().rstrip("=")
    assert (header["alg"], header["typ"], header[name]) == (algorithm, "JWT", thumbprint)
    assert [base64.b64decode(each) for each in header.get("x5c", [])][:1] == [der] * send_chain
    assert len(header.get("x5c", [])) == 2 * send_chain
    claims = [
        jwt.decode(each["client_assertion"], options={"verify_signature": False}) for each in sent
    ]
    assert len({each["jti"] for each in claims}) == 2
    assert {each["iss"] for each in claims} == {each["sub"] for each in claims} == {entra.client_id}
    assert claims[0]["aud"].endswith("/oauth2/v2.0/token")
    assert claims[0]["exp"] - claims[0]["iat"] == 600


def test_an_async_signer_signs_with_the_claims_of_the_app(entra, made):
    entra.add_certificate(made.certificate_pem)
    sign = signer(made)

    async def ask(data: bytes) -> bytes:
        await asyncio.sleep(0)
        return sign(data)

    with entra.registry(
        policy=EXACT,
        credential=Certificate(made.certificate_pem, sign=ask),
        client_claims={"client_ip": "203.0.113.7"},
    ) as tokens:
        assert fetch(tokens)
    sent = tokens_sent(entra)[-1]["client_assertion"]
    claims = jwt.decode(sent, options={"verify_signature": False})
    assert claims["client_ip"] == "203.0.113.7"


def test_ad_fs_takes_rs256(entra, made):
    entra.add_certificate(made.certificate_pem)
    url = entra.adfs_authority()
    by_pss = Certificate(made.certificate_pem, sign=signer(made))
    with entra.registry(policy=EXACT, authority=url, credential=by_pss) as tokens:
        failure(tokens, ConfigurationError, match="pass algorithm='RS256'")
    by_rs = Certificate(made.certificate_pem, sign=signer(made, "RS256"), algorithm="RS256")
    with entra.registry(policy=EXACT, authority=url, credential=by_rs) as tokens:
        assert fetch(tokens)


def test_a_key_that_has_rolled_has_its_certificate_read_anew(entra, made, other):
    vault, signed = [made], []
    roll(entra, made)

    def sign(data: bytes) -> bytes:
        return signer(vault[0], signed=signed)(data)

    credential = Certificate(lambda: vault[0].certificate_pem, sign=sign)
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        fetch(tokens)
        vault[0] = other
        roll(entra, other)
        assert fetch(tokens)
    assert entra.count() == 2, "no signature that does not fit is sent"
    assert len(signed) == 3


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda right: b"", "is no PS256 signature by the key of the certificate"),
        (lambda right: right[:-1] + bytes([right[-1] ^ 1]), "is no PS256 signature"),
        (lambda right: b"\0" * 256, "is no PS256 signature"),
        (lambda right: right * 1000, "is no PS256 signature"),
    ],
    ids=["empty", "one bit", "zeros", "too long"],
)
def test_a_wrong_signature_is_not_sent(entra, made, spoil, says):
    entra.add_certificate(made.certificate_pem)
    sign = signer(made)
    credential = Certificate(made.certificate_pem, sign=lambda data: spoil(sign(data)))
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        failure(tokens, InvalidCredentialError, match=says)
    assert tokens_sent(entra) == []


@pytest.mark.parametrize(("signs", "told"), [("RS256", "PS256"), ("PS256", "RS256")])
def test_a_signer_of_the_other_kind_is_told_apart(entra, made, signs, told):
    credential = Certificate(made.certificate_pem, sign=signer(made, signs), algorithm=told)
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        failure(tokens, InvalidCredentialError, match=f"signs by {signs}: pass algorithm='{signs}'")


def test_a_signer_whose_key_does_not_fit_is_told(entra, made, other):
    credential = Certificate(made.certificate_pem, sign=signer(other))
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        failure(tokens, InvalidCredentialError, match=made.thumbprint.upper())


@pytest.mark.parametrize("given", [None, "c2lnbmF0dXJl", 5, [b"signature"], memoryview(b"sig")])
def test_a_signer_that_gives_no_bytes_is_told_what_it_gave(entra, made, given):
    credential = Certificate(made.certificate_pem, sign=lambda data: given)
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        failure(tokens, ConfigurationError, match=f"sign= gave a {type(given).__name__}")
    assert tokens_sent(entra) == []


def test_a_signer_that_raises_is_a_retryable_error(entra, made):
    def sign(data: bytes) -> bytes:
        raise LookupError("hunter2")

    with entra.registry(
        policy=EXACT, credential=Certificate(made.certificate_pem, sign=sign)
    ) as tokens:
        raised = failure(tokens, TokenRequestError, match="signature failed with LookupError")
    assert raised.retryable
    assert type(raised.__cause__) is LookupError
    assert "hunter2" not in str(raised)


def test_a_signer_s_error_of_ours_goes_through_as_it_is(entra, made):
    def sign(data: bytes) -> bytes:
        raise AuthorityError("as it is")

    with entra.registry(
        policy=EXACT, credential=Certificate(made.certificate_pem, sign=sign)
    ) as tokens:
        failure(tokens, AuthorityError, match="^as it is$")


@pytest.fixture
def little_time(monkeypatch):
    """A fetch that has a moment left once it asks for an assertion."""
    monkeypatch.setattr(Exchange, "seconds_left", 0.25)


@pytest.mark.usefixtures("little_time")
def test_a_signer_that_hangs_has_the_fetch_s_time(entra, made, gate):
    credential = Certificate(made.certificate_pem, sign=lambda data: gate.wait() and b"")
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        raised = failure(tokens, TokenRequestError, match=r"signature has not ended within 0\.2 s")
    assert raised.retryable


# ── Assertions ──────────────────────────────────────────────────────────────────────────────


def with_context(issue, seen):
    return lambda context: seen.append(context) or issue()


def async_with_context(issue, seen):
    async def ask(context):
        await asyncio.sleep(0)
        seen.append(context)
        return issue()

    return ask


class Issuer:
    """An object that is called with what MSAL says."""

    def __init__(self, issue, seen):
        self.issue, self.seen = issue, seen

    async def __call__(self, context, *, unused=None):
        self.seen.append(context)
        return self.issue().encode()


@pytest.mark.parametrize("make", [with_context, async_with_context, Issuer])
def test_a_callable_is_told_what_its_assertion_is_for(entra, issue, make):
    seen: list[dict[str, str]] = []
    with entra.registry(policy=EXACT, credential=ClientAssertion(make(issue, seen))) as tokens:
        fetch(tokens)
        fetch(tokens)
    authority = Authority.parse(entra.authority())
    assert seen == 2 * [
        {
            "client_id": entra.client_id,
            "token_endpoint": f"{authority.url}/oauth2/v2.0/token",
            "tenant": authority.tenant,
        }
    ]


def test_each_tenant_is_told_as_itself(entra, issue):
    seen: list[dict[str, str]] = []
    with entra.registry(
        policy=EXACT, credential=ClientAssertion(with_context(issue, seen))
    ) as tokens:
        fetch(tokens)
        fetch(tokens.tenant("fabrikam.onmicrosoft.com"))
    assert seen[1]["tenant"] == "fabrikam.onmicrosoft.com" != seen[0]["tenant"]
    assert "fabrikam" in seen[1]["token_endpoint"]


def test_the_path_of_a_federated_identity_is_told(entra, issue):
    seen: list[dict[str, str]] = []
    with entra.registry(
        policy=EXACT, credential=ClientAssertion(with_context(issue, seen))
    ) as tokens:
        client = tokens._own.client
        client.ask(
            lambda application: application.acquire_token_for_client([SCOPE], fmi_path="a/b"),
            client.key("client_credentials", (SCOPE,)),
        )
    assert seen[0]["fmi_path"] == "a/b"


@pytest.mark.parametrize("kind", ["async", "default", "keyword"])
def test_a_callable_without_a_need_for_context_is_given_none(entra, issue, kind):
    async def ask() -> str:
        return issue()

    functions = {
        "async": ask,
        "default": lambda made=issue: made(),
        "keyword": lambda *args, made=issue, **named: made(*args, **named),
    }
    with entra.registry(policy=EXACT, credential=ClientAssertion(functions[kind])) as tokens:
        assert fetch(tokens)


def test_no_caller_s_loop_runs_an_async_callable(entra, issue):
    loops: list[object] = []

    async def ask() -> str:
        loops.append(asyncio.get_running_loop())
        return issue()

    async def main() -> None:
        with entra.registry(policy=EXACT, credential=ClientAssertion(ask)) as tokens:
            await tokens.manager(SCOPE).aget_access_token()
        loops.append(asyncio.get_running_loop())

    asyncio.run(main())
    assert loops[0] is not loops[1]


def test_an_assertion_that_is_refused_is_made_again_once(entra, issue):
    made = [issue(exp=int(time.time()) - 600), issue()]
    with entra.registry(
        policy=EXACT, credential=ClientAssertion(lambda context: made.pop(0))
    ) as tokens:
        assert fetch(tokens)
    assert entra.count() == 2


def test_an_assertion_that_stays_the_same_is_not_sent_again(entra, issue):
    stale, calls = issue(exp=int(time.time()) - 600), []

    def ask(context: dict[str, str]) -> str:
        calls.append(1)
        return stale

    with entra.registry(policy=EXACT, credential=ClientAssertion(ask)) as tokens:
        raised = failure(tokens, InvalidCredentialError)
    assert raised.error_codes == (700024,)
    assert len(calls) == 2
    assert entra.count() == 1


def test_two_assertions_that_are_refused_are_the_last(entra, issue):
    stale = int(time.time()) - 600
    with entra.registry(
        policy=EXACT, credential=ClientAssertion(lambda context: issue(exp=stale))
    ) as tokens:
        failure(tokens, InvalidCredentialError)
    assert entra.count() == 2


def test_a_caller_who_asks_early_has_no_callable_be_called(entra, issue):
    calls, clock = [], FakeClock()
    stale = issue(exp=int(time.time()) - 600)
    credential = ClientAssertion(lambda context: calls.append(1) or stale)
    with entra.registry(credential=credential, clock=clock) as tokens:
        manager = tokens.manager(SCOPE)
        for _ in range(3):
            with pytest.raises(InvalidCredentialError):
                manager.get_access_token()
    assert len(calls) == 2
    assert entra.count() == 1


def a_coroutine() -> Callable[..., Any]:
    async def inner() -> str:
        return "eyJ"

    async def outer(context: dict[str, str]) -> Any:
        return inner()

    return outer


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda context: None, "is a NoneType, not a text"),
        (lambda context: {"assertion": "hunter2"}, "is a dict, not a text"),
        (lambda context: ["hunter2"], "is a list, not a text"),
        (lambda context: "", "is empty"),
        (lambda context: b" ", "is empty"),
        (lambda context: "hunter2\udcff", "that UTF-8 cannot say"),
        (a_coroutine(), "is a coroutine, not a text"),
        (lambda: a_coroutine()({}), "is a coroutine, not a text: pass the async function itself"),
    ],
    ids=["None", "dict", "list", "empty", "blank", "surrogate", "coroutine", "a lambda's"],
)
def test_a_callable_that_gives_no_assertion_is_told(entra, ask, says):
    with entra.registry(policy=EXACT, credential=ClientAssertion(ask)) as tokens:
        raised = failure(tokens, ConfigurationError, match=says)
    assert "hunter2" not in str(raised)
    assert tokens_sent(entra) == []


def test_a_callable_that_wants_more_than_there_is_is_told(entra):
    with entra.registry(
        policy=EXACT, credential=ClientAssertion(lambda one, other: "eyJ")
    ) as tokens:
        failure(tokens, TokenRequestError, match="failed with TypeError")


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_callable_that_hangs_has_the_fetch_s_time(entra, gate, kind):
    async def hang(context: dict[str, str]) -> str:
        await asyncio.Event().wait()
        return ""

    function = hang if kind == "async" else lambda context: gate.wait() and ""
    with entra.registry(policy=EXACT, credential=ClientAssertion(function)) as tokens:
        raised = failure(tokens, TokenRequestError, match=r"has not ended within 0\.2 s")
    assert raised.retryable


# ── Nothing secret is shown ─────────────────────────────────────────────────────────────────


def test_no_error_shows_an_assertion_that_a_callable_has_made(rough, registry):
    secret = "eyJhbGciOiJSUzI1NiJ9.hunter2.c2lnbmF0dXJl"
    says = {"error": "invalid_client", "error_description": f"AADSTS700027: {secret}?"}
    rough.on_post = lambda handler: handler.answer(401, json.dumps(says))
    tokens = registry(credential=ClientAssertion(lambda context: secret))
    source = tokens.manager(SCOPE)._plain.source
    with pytest.raises(TokenManagerError) as raised:
        source.fetch_token()
    assert told_of(raised.value, (secret,)) == []
    assert "[…]" in str(raised.value)
