"""A record opens under its own name, with its own key, whole: at every other bit it does not."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmgr._runtime import forks
from tokenmgr._sharing import seal
from tokenmgr._sharing.seal import BrokenSealError, SealingKey

KEY = SealingKey(b"the client secret's value")
NAME = KEY.name("a key")
CONTENT = b'{"secret":"eyJ0"}'


def test_what_is_sealed_opens_again():
    assert KEY.open(KEY.seal(CONTENT, NAME), NAME) == CONTENT
    assert SealingKey(b"the client secret's value").open(KEY.seal(CONTENT, NAME), NAME) == CONTENT


def test_equal_records_are_sealed_unlike_each_other_and_show_nothing():
    one, other = KEY.seal(CONTENT, NAME), KEY.seal(CONTENT, NAME)
    assert one != other
    assert b"eyJ0" not in one


def test_a_name_tells_nothing_and_is_the_same_for_who_has_the_key():
    assert KEY.name("a key") == SealingKey(b"the client secret's value").name("a key")
    assert KEY.name("a key") != KEY.name("another key")
    assert KEY.name("a key") != SealingKey(b"another secret").name("a key")
    assert len(NAME) == 64
    assert set(NAME) <= set("0123456789abcdef")


def test_any_flipped_bit_breaks_the_seal():
    sealed = KEY.seal(CONTENT, NAME)
    for at in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[at] ^= 1 << bit
            with pytest.raises(BrokenSealError):
                KEY.open(bytes(flipped), NAME)


def test_any_cut_and_anything_added_breaks_the_seal():
    sealed = KEY.seal(CONTENT, NAME)
    for length in range(len(sealed)):
        with pytest.raises(BrokenSealError):
            KEY.open(sealed[:length], NAME)
        with pytest.raises(BrokenSealError):
            KEY.open(sealed[len(sealed) - length :], NAME)
    with pytest.raises(BrokenSealError):
        KEY.open(sealed + b"\0", NAME)


def test_a_record_does_not_open_under_another_name_or_with_another_key():
    sealed = KEY.seal(CONTENT, NAME)
    with pytest.raises(BrokenSealError, match="another"):
        KEY.open(sealed, KEY.name("another key"))
    with pytest.raises(BrokenSealError, match="another"):
        SealingKey(b"another secret").open(sealed, NAME)


@given(st.binary(max_size=100))
def test_what_was_not_sealed_is_refused(foreign):
    with pytest.raises(BrokenSealError):
        KEY.open(foreign, NAME)


@pytest.mark.parametrize("foreign", [CONTENT, "text", None, 5, {"secret": "eyJ0"}])
def test_plain_text_and_what_is_no_bytes_at_all_is_refused(foreign):
    with pytest.raises(BrokenSealError, match="no sealed record"):
        KEY.open(foreign, NAME)


def test_a_key_neither_shows_itself_nor_travels():
    assert "secret" not in repr(KEY)
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(KEY)


def test_no_fork_hits_the_middle_of_a_seal_whoever_asks_for_it(monkeypatch):
    seen: list[tuple[str, bool]] = []

    def note(module: Any, name: str) -> None:
        call = getattr(module, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            seen.append((name, forks._mine.reads))
            return call(*args, **kwargs)

        monkeypatch.setattr(module, name, noted)

    for module, name in (
        (seal, "HKDF"),
        (seal.hmac, "new"),
        (seal.secrets, "token_bytes"),
        (seal, "HKDFExpand"),
        (seal, "AESGCM"),
    ):
        note(module, name)
    key = SealingKey(b"the client secret's value")
    sealed = key.seal(CONTENT, key.name("a key"))
    assert key.open(sealed, NAME) == CONTENT
    for foreign in (sealed[:-1], b"", None):
        with pytest.raises(BrokenSealError):
            key.open(foreign, NAME)
    ciphers = ["HKDFExpand", "AESGCM"]
    expected = ["HKDF", "HKDF", "new", "token_bytes", *ciphers, *ciphers, *ciphers]
    assert seen == [(name, True) for name in expected]
    assert not forks._mine.reads
    assert not forks._lock._readers
