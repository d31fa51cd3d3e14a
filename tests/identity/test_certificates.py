"""Certificates that roll: what gives them, what signs for them, and all that these can do wrong."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from reporting import told_of

from tokenmgr import (
    AuthorityError,
    Certificate,
    ConfigurationError,
    TokenManagerError,
    TokenRegistry,
    TokenRequestError,
)
from tokenmgr.emulator.certificates import ClientCertificate
from tokenmgr.identity import callables
from tokenmgr.identity.proofs import KeyPair, RemoteKey
from tokenmgr.stores import MemoryStore

SECRET = "Abc8Q~the-secret"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging callables wait for; open once the test is over."""
    event = threading.Event()
    yield event
    event.set()


def key_line(made: ClientCertificate) -> str:
    return made.private_key_pem.decode().splitlines()[2]


def fails(call: Callable[[], object], *secrets: str) -> TokenManagerError:
    """The error that it raises, which shows none of these."""
    with pytest.raises(TokenManagerError) as raised:
        call()
    assert told_of(raised.value, secrets) == []
    assert not any(secret in f"{raised.value!r}" for secret in secrets)
    return raised.value


# ── A callable gives it ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "give",
    [
        lambda made: made.pem,
        lambda made: bytearray(made.pem),
        lambda made: made.pem.decode(),
        lambda made: made.pfx,
        lambda made: base64.b64encode(made.pfx).decode(),
        lambda made: base64.encodebytes(made.pfx).decode(),
    ],
    ids=["pem", "bytearray", "text", "pfx", "base64", "base64 in lines"],
)
def test_a_callable_gives_a_certificate_in_whatever_form_vaults_have_it(give, made) -> None:
    pair = Certificate(lambda: give(made), send_chain=True).read()
    assert isinstance(pair, KeyPair)
    assert (pair.thumbprint, len(pair.certificates)) == (made.thumbprint, 2)


def test_a_coroutine_gives_a_certificate(made) -> None:
    async def ask() -> bytes:
        return made.pem

    assert Certificate(ask).read().thumbprint == made.thumbprint


def test_a_certificate_says_when_it_ends(made) -> None:
    ends = x509.load_pem_x509_certificate(made.certificate_pem).not_valid_after_utc
    assert Certificate(made.pem).read().ends_at == ends.timestamp()


def test_a_callable_is_called_for_the_first_fetch_and_when_what_it_gave_is_refused(
    made, other
) -> None:
    answers, calls = [made, made, other], []

    def ask() -> bytes:
        calls.append(1)
        return answers.pop(0).pem

    credential = Certificate(ask)
    assert calls == []
    refused = credential.read()
    assert credential.read() is refused
    assert len(calls) == 1
    assert credential.reread(refused) is None
    assert credential.reread(refused) is None, "another thread has asked since it was read"
    assert len(calls) == 2
    renewed = credential.reread(credential.read())
    assert renewed.thumbprint == other.thumbprint
    assert len(calls) == 3
    assert credential.reread(refused) is renewed, "another thread was refused the old one too"
    assert len(calls) == 3


def test_who_has_no_time_has_no_vault_be_asked(made) -> None:
    calls = []
    credential = Certificate(lambda: calls.append(1) or made.pem)
    assert credential.peek() is None
    assert calls == []
    assert credential.read() is credential.peek()


@pytest.mark.parametrize("given", [None, 5, {"private_key": SECRET}, [SECRET], object()])
def test_a_callable_that_gives_no_content_is_told_what_it_gave(given) -> None:
    error = fails(Certificate(lambda: given).read, SECRET)
    assert isinstance(error, ConfigurationError)
    assert f"gave a {type(given).__name__}" in str(error)


@pytest.mark.parametrize("given", ["", b"", " ", SECRET, "/run/app.pem", "ünicode", "\udcff"])
def test_a_callable_that_gives_nothing_or_no_certificate_is_told(given) -> None:
    with pytest.raises(ConfigurationError, match="the callable that gives the certificate gave"):
        Certificate(lambda: given).read()
    fails(Certificate(lambda: given).read, SECRET)


@pytest.mark.parametrize("given", [b"garbage", SECRET.encode(), "-----BEGIN " + SECRET])
def test_content_that_is_no_certificate_is_named_by_its_origin(given) -> None:
    error = fails(Certificate(lambda: given).read, SECRET)
    assert "the certificate from a callable is neither a PEM" in str(error)


def test_a_key_that_does_not_fit_its_certificate_is_told(made, other) -> None:
    mixed = made.private_key_pem + other.certificate_pem
    error = fails(Certificate(lambda: mixed).read, key_line(made))
    assert "has no certificate for its private key" in str(error)


def test_a_callable_that_raises_is_a_retryable_error_with_its_own_chained() -> None:
    failure = LookupError(SECRET)

    def fail() -> bytes:
        raise failure

    with pytest.raises(TokenRequestError, match="certificate failed with LookupError") as raised:
        Certificate(fail).read()
    assert raised.value.retryable
    assert raised.value.__cause__ is failure
    assert SECRET not in str(raised.value)


def test_a_callable_s_error_of_ours_and_an_interrupt_go_through_as_they_are() -> None:
    for failure in (AuthorityError("as it is"), KeyboardInterrupt()):

        def fail(failure: BaseException = failure) -> bytes:
            raise failure

        with pytest.raises(type(failure)) as raised:
            Certificate(fail).read()
        assert raised.value is failure


def test_a_callable_that_hangs_is_given_up(gate, monkeypatch) -> None:
    monkeypatch.setattr(callables.ProgramCall.__call__, "__kwdefaults__", {"seconds": 0.01})
    with pytest.raises(TokenRequestError, match=r"has not ended within 0\.0 s") as raised:
        Certificate(gate.wait).read()
    assert raised.value.retryable


def test_a_broken_answer_is_forgotten(made) -> None:
    answers = [b"", made.pem]
    credential = Certificate(lambda: answers.pop(0))
    with pytest.raises(ConfigurationError):
        credential.read()
    assert credential.read().thumbprint == made.thumbprint


# ── What signs in the key's place ───────────────────────────────────────────────────────────


def sign(data: bytes) -> bytes:
    raise AssertionError("nothing is signed before a request")


@pytest.mark.parametrize("form", ["pem", "der", "file", "callable"])
def test_a_signer_s_certificate_is_public(form, made, tmp_path) -> None:
    der = x509.load_pem_x509_certificate(made.certificate_pem).public_bytes(Encoding.DER)
    file = tmp_path / "app.cer"
    file.write_bytes(der)
    source = {"pem": made.certificate_pem, "der": der, "file": file, "callable": lambda: der}[form]
    credential = Certificate(source, sign=sign)
    proof = credential.read()
    assert isinstance(proof, RemoteKey)
    assert proof.thumbprint == made.thumbprint
    assert credential.reread(proof) is None


def test_a_signer_s_certificate_that_is_replaced_is_another_proof(made, other, tmp_path) -> None:
    file = tmp_path / "app.cer"
    file.write_bytes(made.certificate_pem)
    credential = Certificate(file, sign=sign)
    refused = credential.read()
    file.write_bytes(other.certificate_pem)
    assert credential.reread(refused).thumbprint == other.thumbprint


@pytest.mark.parametrize("content", [b"", b"garbage", SECRET.encode(), b"-----BEGIN " + b"x" * 9])
def test_what_is_no_public_certificate_is_told(content) -> None:
    error = fails(Certificate(content, sign=sign).read, SECRET)
    assert "the bytes given is no certificate" in str(error)


def test_a_key_in_the_place_of_the_certificate_is_not_shown(made) -> None:
    error = fails(Certificate(made.private_key_pem, sign=sign).read, key_line(made))
    assert "give the public certificate" in str(error)


def test_a_certificate_of_another_kind_of_key_is_told(made) -> None:
    leaf = x509.load_pem_x509_certificate(made.certificate_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    from cryptography.hazmat.primitives import hashes

    odd = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(ConfigurationError, match="not for an RSA key"):
        Certificate(odd.public_bytes(Encoding.PEM), sign=sign).read()


@pytest.mark.parametrize("given", [SECRET, SECRET.encode(), 5, object()])
def test_a_signer_that_is_no_callable_is_refused_at_once(given, made) -> None:
    error = fails(lambda: Certificate(made.certificate_pem, sign=given), SECRET)
    assert "sign= is a callable" in str(error)


@pytest.mark.parametrize("algorithm", ["", "ES256", "HS256", "none", None, 5])
def test_an_algorithm_that_entra_does_not_take_is_refused_at_once(algorithm, made) -> None:
    with pytest.raises(ConfigurationError, match="'PS256' or 'RS256'"):
        Certificate(made.certificate_pem, sign=sign, algorithm=algorithm)


def test_a_signer_has_no_key_for_a_password_to_open(made) -> None:
    error = fails(lambda: Certificate(made.certificate_pem, sign=sign, password=SECRET), SECRET)
    assert "leave one out" in str(error)


def test_a_store_needs_a_key_of_its_own_where_the_private_key_is_elsewhere(made) -> None:
    settings = {
        "client_id": "id",
        "credential": Certificate(made.certificate_pem, sign=sign),
        "authority": "https://login.microsoftonline.com/contoso.com",
        "store": MemoryStore(),
    }
    with pytest.raises(ConfigurationError, match=r"is handed to nobody .*pass encryption_key="):
        TokenRegistry(**settings)
    TokenRegistry(**settings, encryption_key="what the records are sealed with").close()


def test_a_repr_says_where_a_certificate_is_from_and_shows_nothing_of_it(made, tmp_path) -> None:
    file = tmp_path / "app.cer"
    assert repr(Certificate(lambda: made.pem)) == "<Certificate from a callable>"
    assert repr(Certificate(file, sign=sign)) == f"<Certificate from {file}, signed with elsewhere>"
    proof = repr(Certificate(made.certificate_pem, sign=sign).read())
    assert made.thumbprint in proof
    assert "BEGIN" not in proof
    assert "sign" not in proof
