"""The token as a value, its key, and the one form of scopes."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmgr import AccessToken, ConfigurationError, TokenKey
from tokenmgr.token import normalize_scopes

SECRET = "eyJ0-the-secret"
TOKEN = AccessToken(SECRET, 2_000.0, 1_500.0, ("a/.default",))
KEY = TokenKey("https://login.microsoftonline.com/contoso.com", "id", "client_credentials", ("a",))


# ── AccessToken ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(AccessToken)])
def test_no_field_of_a_token_can_be_set(name) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(TOKEN, name, getattr(TOKEN, name))


def test_the_repr_of_a_token_shows_its_times_and_scopes_and_not_its_secret() -> None:
    for shown in (repr(TOKEN), str(TOKEN), f"{TOKEN}", repr([TOKEN])):
        assert SECRET not in shown
        assert "2000.0" in shown
        assert "1500.0" in shown
        assert "a/.default" in shown


def test_a_token_knows_no_more_than_its_secret_and_its_end_when_nothing_else_was_said() -> None:
    token = AccessToken(SECRET, 2_000.0)
    assert (token.refresh_at, token.scopes, token.token_type) == (None, (), "Bearer")
    assert token.binding_key_id == ""


@pytest.mark.parametrize("token_type", ["Bearer", "pop"])
def test_authorization_is_the_token_type_and_the_secret(token_type) -> None:
    token = dataclasses.replace(TOKEN, token_type=token_type)
    assert token.authorization == f"{token_type} {SECRET}"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("what", [TOKEN, {"message": [TOKEN]}])
def test_a_token_does_not_pickle_and_the_error_says_what_to_do(what, protocol) -> None:
    with pytest.raises(TypeError, match="make a TokenRegistry there") as raised:
        pickle.dumps(what, protocol)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_token_does_not_copy_as_that_is_how_pickling_begins(duplicate) -> None:
    with pytest.raises(TypeError, match="does not pickle"):
        duplicate(TOKEN)


def test_tokens_are_equal_by_value() -> None:
    same = dataclasses.replace(TOKEN)
    assert same is not TOKEN
    assert (same, hash(same)) == (TOKEN, hash(TOKEN))
    assert dataclasses.replace(TOKEN, secret="another") != TOKEN


# ── TokenKey ────────────────────────────────────────────────────────────────────────────────


def test_keys_of_the_same_parts_are_one_key() -> None:
    same = dataclasses.replace(KEY)
    assert same is not KEY
    assert same == KEY
    assert {KEY: "found"}[same] == "found"
    assert (KEY.subject, KEY.claims, KEY.cae) == ("", "", False)


OTHER = {
    "authority": KEY.authority + "/b2c_1_signin",
    "client_id": "another",
    "grant": "on_behalf_of",
    "scopes": ("a", "b"),
    "subject": "a user",
    "claims": "{}",
    "cae": True,
    "forwarded_claims": "{}",
    "extra": (("resource", "api://orders"),),
    "token_type": "mtls_pop",
    "binding_key_id": "thumbprint",
}


def test_the_parts_below_are_all_that_a_key_has() -> None:
    assert set(OTHER) == {field.name for field in dataclasses.fields(TokenKey)}


@pytest.mark.parametrize("name", OTHER)
def test_each_part_alone_makes_another_key(name) -> None:
    other = dataclasses.replace(KEY, **{name: OTHER[name]})
    assert other != KEY
    assert {KEY: 1, other: 2}[KEY] == 1


@pytest.mark.parametrize("name", OTHER)
def test_no_part_of_a_key_can_be_set(name) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(KEY, name, OTHER[name])


def test_no_repr_shows_what_a_program_adds_to_its_requests() -> None:
    key = dataclasses.replace(KEY, forwarded_claims='{"ip":"203.0.113.7"}', extra=(("a", "b77b"),))
    assert "203.0.113.7" not in repr(key)
    assert "b77b" not in repr(key)


def test_a_key_travels() -> None:
    assert pickle.loads(pickle.dumps(KEY)) == KEY


# ── normalize_scopes ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scopes", "normal"),
    [
        ("a", ("a",)),
        (" a ", ("a",)),
        ("b a", ("a", "b")),
        ("b\ta\n\nb", ("a", "b")),
        (["b", "a"], ("a", "b")),
        (("b a", "c"), ("a", "b", "c")),
        ({"b": 1, "a": 2}, ("a", "b")),
        (iter(["a", "a", "a"]), ("a",)),
        (["", "a", "  "], ("a",)),
        ("A a", ("A", "a")),
    ],
)
def test_scopes_have_one_form(scopes, normal) -> None:
    assert normalize_scopes(scopes) == normal


@pytest.mark.parametrize("scopes", ["", "  ", [], (), iter([]), [""], ["\t", " "], None])
def test_no_scope_is_refused_with_an_example_of_one(scopes) -> None:
    with pytest.raises(ConfigurationError, match=r"no scope .*graph\.microsoft\.com/\.default"):
        normalize_scopes(scopes)


@pytest.mark.parametrize("scopes", [[None], ["a", 5], [[5]], [[["a"]]], b"a/.default", [b"a"]])
def test_what_is_no_string_is_refused_with_an_example_of_a_scope(scopes) -> None:
    with pytest.raises(ConfigurationError, match=r"is a string.*graph\.microsoft\.com/\.default"):
        normalize_scopes(scopes)


names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=8)


@given(st.lists(names, min_size=1, max_size=6), st.data())
def test_order_repetition_and_splitting_never_matter(scopes, data) -> None:
    repeated = scopes + data.draw(st.lists(st.sampled_from(scopes), max_size=3))
    shuffled = data.draw(st.permutations(repeated))
    cut = data.draw(st.integers(0, len(shuffled)))
    parts = [" ".join(shuffled[:cut]), *shuffled[cut:]]
    normal = normalize_scopes(scopes)
    assert normal == normalize_scopes(parts) == normalize_scopes("  ".join(shuffled))
    assert normal == normalize_scopes(normal)
    assert list(normal) == sorted(set(scopes))
