"""Where the keys of the seal come from: given or derived, once, for whoever comes first."""

from __future__ import annotations

import hashlib
import random
import threading
import time
import traceback
from collections.abc import Callable

import pytest
from support import in_threads

from tokenmgr import (
    Certificate,
    ClientAssertion,
    ClientSecret,
    ConfigurationError,
    WorkloadIdentity,
)
from tokenmgr._runtime import forks
from tokenmgr._sharing import keys as sharing_keys
from tokenmgr._sharing import seal
from tokenmgr._sharing.keys import SealingKeys
from tokenmgr._sharing.seal import SealingKey
from tokenmgr.emulator.certificates import client_certificate
from tokenmgr.identity.proofs import SecretText, SignedAssertion

ONE, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2


def names(keys: SealingKeys) -> list[str]:
    return [key.name("a key") for key in keys.known()]


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What keys were derived from."""
    seen: list[bytes] = []

    class Noted(SealingKey):
        def __init__(self, material: bytes) -> None:
            seen.append(material)
            super().__init__(material)

    monkeypatch.setattr(seal, "SealingKey", Noted)
    return seen


class Vault:
    """Gives a secret, and counts how often."""

    def __init__(self, secret: str = "first") -> None:
        self.secret = secret
        self.calls = 0
        self.during: Callable[[], object] = lambda: None

    def __call__(self) -> str:
        self.calls += 1
        self.during()
        return self.secret


def test_who_has_the_credential_has_the_key():
    assert names(SealingKeys(None, ClientSecret("secret"))) == names(
        SealingKeys(None, ClientSecret("secret"))
    )
    assert names(SealingKeys(None, ClientSecret("secret"))) != names(
        SealingKeys(None, ClientSecret("another"))
    )


def test_several_keys_are_given_newest_first():
    both = names(SealingKeys([ONE, OTHER], ClientSecret("secret")))
    assert both == names(SealingKeys(ONE, ClientSecret("x"))) + names(
        SealingKeys(OTHER.encode(), ClientSecret("y"))
    )


def test_a_certificate_gives_the_same_key_in_each_of_its_forms():
    made = client_certificate(password="locked")
    pem, pfx = (Certificate(form, password="locked") for form in (made.pem, made.pfx))
    assert names(SealingKeys(None, pem)) == names(SealingKeys(None, pfx))
    another = Certificate(client_certificate().pem)
    assert names(SealingKeys(None, pem)) != names(SealingKeys(None, another))


@pytest.mark.parametrize("credential", [ClientAssertion(lambda: "jwt"), WorkloadIdentity("file")])
def test_what_changes_at_every_reading_is_nothing_to_derive_a_key_from(credential):
    with pytest.raises(ConfigurationError, match="encryption_key="):
        SealingKeys(None, credential)
    given = SealingKeys(ONE, credential)
    assert len(names(given)) == 1
    assert given.of(SignedAssertion("jwt")) is given.known()


@pytest.mark.parametrize(
    "key",
    [
        *("", "short-and-secret", b"short-and-secret", [], [ONE, "short-and-secret"], [5], 5),
        *("a" * 32, bytes(64), "abc" * 20, [ONE, "1234567" * 10]),
    ],
)
def test_a_key_that_can_be_guessed_is_refused_and_not_shown(key):
    with pytest.raises(ConfigurationError, match="32") as caught:
        SealingKeys(key, ClientSecret("secret"))
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    ours = shown[shown.index("tokenmgr/_sharing/keys.py") :]
    assert "short-and-secret" not in ours


def test_only_keys_that_are_derived_tell_of_the_credential_of_all():
    assert SealingKeys(None, ClientSecret("secret")).is_derived
    assert not SealingKeys(ONE, ClientSecret("secret")).is_derived


def test_a_key_is_derived_once_however_often_it_is_looked_for(derived):
    keys = SealingKeys(None, ClientSecret("secret"))
    first = keys.of(SecretText("secret"))
    for _ in range(100):
        assert keys.of(SecretText("secret")) is first
        assert keys.of(None) is first
        assert keys.known() is first
    given = SealingKeys([ONE, OTHER], ClientSecret("secret"))
    for _ in range(100):
        assert given.of(SecretText("secret")) is given.known()
    assert len(derived) == 3
    assert derived[1:] == [ONE.encode(), OTHER.encode()]


def test_no_key_is_derived_before_it_is_needed(derived):
    vault = Vault()
    SealingKeys(None, ClientSecret(vault))
    SealingKeys(ONE, ClientSecret("secret"))
    assert not derived
    assert not vault.calls


def test_the_credential_is_read_for_a_key_only_where_no_fetch_has_read_it():
    vault = Vault()
    keys = SealingKeys(None, ClientSecret(vault))
    keys.of(SecretText("first"))
    keys.known()
    assert vault.calls == 0
    keys = SealingKeys(None, ClientSecret(vault))
    assert keys.of(None) == ()
    for _ in range(100):
        keys.known()
    assert vault.calls == 1


def test_a_rotated_secret_makes_another_key_and_a_lost_one_leaves_the_last(tmp_path):
    file = tmp_path / "secret"
    file.write_text("first")
    credential = ClientSecret(file=file)
    keys = SealingKeys(None, credential)
    first = names(keys)
    file.write_text("second")
    assert names(keys) == first, "until a fetch has read it"
    second = keys.of(credential.read())
    assert [key.name("a key") for key in second] == names(keys) != first
    file.unlink()
    assert keys.of(None) is second
    assert keys.known() is second


def test_where_the_credential_cannot_be_read_there_is_no_key(tmp_path):
    keys = SealingKeys(None, ClientSecret(file=tmp_path / "nothing"))
    assert keys.known() == ()
    assert keys.of(None) == ()


@pytest.mark.usefixtures("threads_take_turns")
@pytest.mark.parametrize("given", [None, [ONE, OTHER]], ids=["derived", "given"])
def test_all_who_need_a_key_first_and_at_once_have_it(given):
    for _ in range(9):
        vault = Vault()
        if given is None:
            vault.during = threading.Barrier(8).wait  # all read before one has a key
        by_themselves = SealingKeys(given, ClientSecret(vault))
        with_a_proof = SealingKeys(given, ClientSecret(vault))
        found = in_threads(8, by_themselves.known)
        found += in_threads(8, lambda keys=with_a_proof: keys.of(SecretText("first")))
        assert [len(each) for each in found] == [len(given or "1")] * 16
        assert len({each[0].name("a key") for each in found}) == 1


@pytest.mark.usefixtures("threads_take_turns")
def test_each_has_the_key_of_the_proof_that_it_read_while_others_have_another():
    keys, texts = SealingKeys(None, ClientSecret("first")), ("first", "second") * 50
    expected = [names(SealingKeys(None, ClientSecret(text))) for text in texts]

    def read() -> list[list[str]]:
        return [[key.name("a key") for key in keys.of(SecretText(text))] for text in texts]

    assert in_threads(8, read) == [expected] * 8


def test_no_fork_hits_the_first_import_of_the_seal(monkeypatch):
    seen: set[bool] = set()

    def import_it(name: str) -> object:
        seen.add(forks._mine.reads)
        return SealingKey

    monkeypatch.delattr(seal, "SealingKey")
    monkeypatch.setattr(seal, "__getattr__", import_it, raising=False)
    assert len(SealingKeys(ONE, ClientSecret("secret")).known()) == 1
    assert seen == {True}


# A secret that a person has made up


def test_a_secret_is_stretched_once_in_a_process_and_under_the_fork_lock(monkeypatch):
    stretched, make = [], hashlib.pbkdf2_hmac

    def stretch(name, secret, salt, rounds):
        assert forks._mine.reads, "a fork may hit it"
        stretched.append((secret, rounds))
        return make(name, secret, salt, rounds)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", stretch)
    secret = f"made up {random.random()}"

    def use():
        keys = SealingKeys(None, ClientSecret(secret), salt="the app")
        for _ in range(3):
            keys.of(ClientSecret(secret).read())
        return names(keys)

    found = in_threads(8, use)
    assert found == found[:1] * 8
    assert stretched == [(secret.encode(), 150_000)]


def test_a_guess_has_to_be_made_for_each_app_and_costs_as_much_as_a_password():
    guess = f"made up {random.random()}"
    began = time.process_time()
    one = names(SealingKeys(None, ClientSecret(guess), salt="one app"))
    assert time.process_time() - began > 0.01
    assert one != names(SealingKeys(None, ClientSecret(guess), salt="another app"))
    assert one != [SealingKey(guess.encode()).name("a key")]


def test_of_many_secrets_the_last_are_remembered(monkeypatch):
    monkeypatch.setattr(sharing_keys, "_ROUNDS", 1)
    for number in range(200):
        SealingKeys(None, ClientSecret(f"secret {number}")).known()
    assert len(sharing_keys._remembered) <= 64


def test_given_keys_and_private_keys_are_strong_and_are_not_stretched(monkeypatch):
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", None)
    assert names(SealingKeys(ONE, ClientSecret("secret")))
    assert names(SealingKeys(None, Certificate(client_certificate().pem)))
