"""Where the keys of the seal come from."""

from __future__ import annotations

import traceback

import pytest

from tokenmgr import (
    Certificate,
    ClientAssertion,
    ClientSecret,
    ConfigurationError,
    WorkloadIdentity,
)
from tokenmgr._sharing.keys import Keyring
from tokenmgr.emulator.certificates import client_certificate

ONE, OTHER = "1" * 32, "2" * 32


def names(keyring):
    return [key.name("a key") for key in keyring.sealing_keys()]


def test_who_has_the_credential_has_the_key():
    assert names(Keyring(None, ClientSecret("secret"))) == names(
        Keyring(None, ClientSecret("secret"))
    )
    assert names(Keyring(None, ClientSecret("secret"))) != names(
        Keyring(None, ClientSecret("another"))
    )


def test_several_keys_are_given_newest_first():
    both = names(Keyring([ONE, OTHER], ClientSecret("secret")))
    assert both == names(Keyring(ONE, ClientSecret("x"))) + names(
        Keyring(OTHER.encode(), ClientSecret("y"))
    )


def test_a_certificate_gives_the_same_key_in_each_of_its_forms():
    made = client_certificate(password="locked")
    pem, pfx = (Certificate(form, password="locked") for form in (made.pem, made.pfx))
    assert names(Keyring(None, pem)) == names(Keyring(None, pfx))
    assert names(Keyring(None, pem)) != names(Keyring(None, Certificate(client_certificate().pem)))


@pytest.mark.parametrize("credential", [ClientAssertion(lambda: "jwt"), WorkloadIdentity("file")])
def test_what_changes_at_every_reading_is_nothing_to_derive_a_key_from(credential):
    with pytest.raises(ConfigurationError, match="encryption_key="):
        Keyring(None, credential)
    assert len(names(Keyring(ONE, credential))) == 1


@pytest.mark.parametrize(
    "key", ["", "short-and-secret", b"short-and-secret", [], [ONE, "short-and-secret"], [5], 5]
)
def test_a_key_that_can_be_guessed_is_refused_and_not_shown(key):
    with pytest.raises(ConfigurationError, match="32") as caught:
        Keyring(key, ClientSecret("secret"))
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    ours = shown[shown.index("tokenmgr/_sharing/keys.py") :]
    assert "short-and-secret" not in ours


def test_a_rotated_secret_is_read_anew_and_a_lost_one_leaves_the_last(tmp_path):
    file = tmp_path / "secret"
    file.write_text("first")
    keyring = Keyring(None, ClientSecret(file=file))
    first = names(keyring)
    file.write_text("second")
    assert names(keyring) == first
    assert keyring.sealing_keys(anew=True)[0].name("a key") != first[0]
    second = names(keyring)
    file.unlink()
    assert [key.name("a key") for key in keyring.sealing_keys(anew=True)] == second


def test_where_the_credential_cannot_be_read_there_is_no_key(tmp_path):
    assert Keyring(None, ClientSecret(file=tmp_path / "nothing")).sealing_keys() == ()
