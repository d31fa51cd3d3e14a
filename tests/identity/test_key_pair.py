"""A private key and its certificates, out of PEM and PFX of every make."""

from __future__ import annotations

import base64
import itertools
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from tokenmgr import ConfigurationError
from tokenmgr.identity.key_pair import parse_key_pair
from tokenmgr.identity.proofs import KeyPair

PASSWORD = b"the-password"
LOCKED = BestAvailableEncryption(PASSWORD)
OPEN = NoEncryption()


class Made(NamedTuple):
    """An app's key with its certificate, and what issued that, up to the root."""

    key: rsa.RSAPrivateKey
    leaf: x509.Certificate
    issuers: list[x509.Certificate]

    @property
    def chain(self) -> list[x509.Certificate]:
        return [self.leaf, *self.issuers]


def sign(subject, key, issuer, issuer_key) -> x509.Certificate:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(issuer_key, hashes.SHA256())
    )


@pytest.fixture(scope="session")
def made() -> Made:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    root, middle = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    return Made(
        key,
        sign("app", key, "middle", middle),
        [sign("middle", middle, "root", root), sign("root", root, "root", root)],
    )


@pytest.fixture(scope="session")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key, encryption=OPEN, form=PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption)


def pems(certificates) -> tuple[str, ...]:
    return tuple(c.public_bytes(Encoding.PEM).decode() for c in certificates)


def pem_file(key, certificates, encryption=OPEN) -> bytes:
    return key_pem(key, encryption) + "".join(pems(certificates)).encode()


def pfx_file(key, leaf, issuers=(), encryption=OPEN) -> bytes:
    return pkcs12.serialize_key_and_certificates(b"app", key, leaf, list(issuers), encryption)


def parse(content, password=None, *, send_chain=False) -> KeyPair:
    return parse_key_pair(content, password, send_chain=send_chain, origin="app.pem")


def refusal(content, password=None) -> str:
    with pytest.raises(ConfigurationError) as raised:
        parse(content, password, send_chain=True)
    assert str(raised.value).count("app.pem") == 1, "the message says which file it is"
    assert PASSWORD.decode() not in str(raised.value)
    return str(raised.value)


# ── What is read ────────────────────────────────────────────────────────────────────────────


def test_the_key_and_the_thumbprint_are_those_of_the_file(made) -> None:
    pair = parse(pem_file(made.key, [made.leaf]))
    key = load_pem_private_key(pair.private_key.encode(), None)
    assert key.private_numbers() == made.key.private_numbers()
    assert pair.thumbprint == made.leaf.fingerprint(hashes.SHA1()).hex()
    assert pair.certificates == pems([made.leaf])


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_pem_is_read_in_any_order_and_the_leaf_comes_first(made, order) -> None:
    parts = [key_pem(made.key).decode(), *pems(made.chain)]
    content = "".join(parts[i] for i in order).encode()
    assert parse(content).certificates == pems([made.leaf])
    chain = parse(content, send_chain=True).certificates
    assert chain[0] == pems([made.leaf])[0]
    assert sorted(chain) == sorted(pems(made.chain))


def test_the_issuers_keep_the_order_of_the_file(made) -> None:
    content = pem_file(made.key, made.chain)
    assert parse(content, send_chain=True).certificates == pems(made.chain)


def test_a_leaf_that_the_file_has_twice_is_sent_once(made) -> None:
    content = pem_file(made.key, [made.leaf, *made.chain])
    assert parse(content, send_chain=True).certificates == pems(made.chain)


@pytest.mark.parametrize("send_chain", [True, False])
def test_a_pfx_has_its_chain_sent_only_where_that_is_asked_for(made, send_chain) -> None:
    content = pfx_file(made.key, made.leaf, made.issuers)
    pair = parse(content, send_chain=send_chain)
    assert pair == parse(pem_file(made.key, made.chain), send_chain=send_chain)
    assert pair.certificates[0] == pems([made.leaf])[0]
    assert len(pair.certificates) == (3 if send_chain else 1)


def test_an_encrypted_pem_a_pfx_and_an_open_pem_give_the_same_pair(made) -> None:
    pair = parse(pem_file(made.key, [made.leaf]))
    assert parse(pem_file(made.key, [made.leaf], LOCKED), PASSWORD) == pair
    assert parse(pfx_file(made.key, made.leaf, encryption=LOCKED), PASSWORD) == pair
    assert parse(pfx_file(made.key, made.leaf)) == pair
    assert "ENCRYPTED" not in pair.private_key, "MSAL gets it without the password"


@pytest.mark.parametrize("encryption", [OPEN, LOCKED])
def test_a_key_in_openssl_s_own_format_is_read(made, encryption) -> None:
    key = key_pem(made.key, encryption, PrivateFormat.TraditionalOpenSSL)
    content = key + "".join(pems([made.leaf])).encode()
    password = None if encryption is OPEN else PASSWORD
    assert parse(content, password) == parse(pem_file(made.key, [made.leaf]))


def test_a_certificate_with_the_older_name_of_its_kind_is_read(made) -> None:
    content = pem_file(made.key, [made.leaf])
    older = content.replace(b" CERTIFICATE-----", b" X509 CERTIFICATE-----")
    assert parse(older) == parse(content)


def test_what_openssl_writes_between_the_blocks_of_pem_is_passed_over(made) -> None:
    content = b"Bag Attributes\n    friendlyName: app\n" + pem_file(made.key, [made.leaf])
    assert parse(content.replace(b"\n", b"\r\n")) == parse(pem_file(made.key, [made.leaf]))


# ── What is refused ─────────────────────────────────────────────────────────────────────────


def test_a_missing_password_is_asked_for(made) -> None:
    for content in (
        pem_file(made.key, [made.leaf], LOCKED),
        pfx_file(made.key, made.leaf, encryption=LOCKED),
        key_pem(made.key, LOCKED, PrivateFormat.TraditionalOpenSSL),
    ):
        assert "is encrypted: pass its password=" in refusal(content)


def test_a_wrong_password_is_called_wrong(made) -> None:
    for content in (
        pem_file(made.key, [made.leaf], LOCKED),
        pfx_file(made.key, made.leaf, encryption=LOCKED),
    ):
        assert "the password of app.pem is wrong" in refusal(content, b"another")
        assert "is encrypted: pass" not in refusal(content, b"another")


def looks_broken(key: bytes, password: bytes) -> bool:
    with pytest.raises(ValueError, match=r".") as raised:
        load_pem_private_key(key, password)
    return not any(word in str(raised.value).lower() for word in ("password", "decrypt"))


def test_a_password_that_happens_to_decrypt_to_garbage_is_called_wrong_too(made) -> None:
    # One wrong password in 256 leaves good padding: then the key, not the password, looks broken.
    key = key_pem(made.key, LOCKED, PrivateFormat.TraditionalOpenSSL)
    password = next((p for p in (b"%d" % n for n in range(5_000)) if looks_broken(key, p)), None)
    if password is None:
        pytest.skip("this version of cryptography tells the two apart")
    assert "the password of app.pem is wrong" in refusal(key, password)


def test_a_password_for_what_is_not_encrypted_is_refused(made) -> None:
    content = pem_file(made.key, [made.leaf])
    assert "is not encrypted: leave password= out" in refusal(content, PASSWORD)


def test_an_ec_key_is_refused_as_entra_takes_rsa_only(made, ec_key) -> None:
    own = sign("app", ec_key, "app", ec_key)
    for content in (pem_file(ec_key, [own]), pfx_file(ec_key, own)):
        assert "no RSA private key" in refusal(content)


def test_a_pfx_without_a_key_is_refused(made) -> None:
    assert "no RSA private key" in refusal(pfx_file(None, made.leaf))


def test_a_key_and_a_certificate_that_are_no_pair_are_refused(made, ec_key) -> None:
    other = sign("app", ec_key, "app", ec_key)
    assert "no certificate for its private key" in refusal(pem_file(made.key, [other]))
    assert "no certificate for its private key" in refusal(pem_file(made.key, made.issuers))


def test_a_key_without_any_certificate_is_refused(made) -> None:
    assert "no certificate for its private key" in refusal(key_pem(made.key))
    assert "no certificate for its private key" in refusal(pfx_file(made.key, None))
    assert "no certificate" in refusal(key_pem(made.key, LOCKED), PASSWORD)


def test_certificates_without_a_key_are_refused(made) -> None:
    assert "neither a PEM" in refusal("".join(pems(made.chain)).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\x30\x82\x00\x01",
        b"-----BEGIN",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_garbage_is_neither_pem_nor_pfx(content, password) -> None:
    assert "is neither a PEM with a private key" in refusal(content, password)


def test_a_key_with_a_broken_certificate_is_refused(made) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert "is neither a PEM with a private key" in refusal(key_pem(made.key) + broken)


def test_a_key_of_a_kind_that_cryptography_does_not_know_is_refused() -> None:
    # PKCS #8 whose algorithm has the object identifier 1.2.3.4.
    key = base64.encodebytes(bytes.fromhex("3010020100300506032a0304040430820001")).decode()
    content = f"-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n".encode()
    with pytest.raises((UnsupportedAlgorithm, ValueError), match=r"(?i)unknown|unsupported"):
        load_pem_private_key(content, None)
    assert "is neither a PEM with a private key" in refusal(content)


def test_a_certificate_that_cannot_be_read_is_refused_without_showing_the_key(
    made, monkeypatch
) -> None:
    def refuse(content: bytes) -> None:
        raise x509.InvalidVersion("7 is not a valid X509 version", 7)

    monkeypatch.setattr(x509, "load_pem_x509_certificates", refuse)
    content = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, OPEN)
    content += made.leaf.public_bytes(Encoding.PEM)
    with pytest.raises(ConfigurationError, match="neither a PEM") as caught:
        parse_key_pair(content, None, send_chain=False, origin="app.pem")
    assert caught.value.__cause__ is None
    for entry in caught.traceback[1:]:
        assert "PRIVATE KEY" not in repr(entry.frame.f_locals)
