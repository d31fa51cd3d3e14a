"""What a user's call brings is looked at before anybody is asked, and shown to nobody."""

from __future__ import annotations

import json
import traceback

import pytest
from fake_users import TENANT, _part, assertion
from hypothesis import given
from hypothesis import strategies as st
from reporting import told_at_every_line, told_of

from tokenmgr import ConfigurationError, InteractionRequiredError, TokenManagerError
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.identity.assertions import UserAssertion, text_of

ANN = "ann@contoso.com"
HEADER = _part('{"alg": "RS256"}')


def read(text):
    return UserAssertion(text_of(Hidden(text)))


def test_its_end_and_its_tenant_are_read():
    taken = read(assertion(ANN, exp=1_800_000_000, tid=TENANT.upper()))

    assert (taken.expires_at, taken.tenant) == (1_800_000_000.0, TENANT)
    taken.check_time(1_799_999_999.0)
    with pytest.raises(InteractionRequiredError, match="expired: answer the caller with 401"):
        taken.check_time(1_800_000_000.0)


@pytest.mark.parametrize("prefix", ["Bearer ", "bearer ", "BEARER ", "Bearer   ", ""])
def test_bearer_before_it_makes_no_difference(prefix):
    text = assertion(ANN)

    assert read(prefix + text).text() == text


@pytest.mark.parametrize(
    "tid", [None, "", "contoso.com", 5, ["x"], "../../evil", f"{TENANT}/oauth2", "common"]
)
def test_a_tenant_is_a_guid_or_none(tid):
    assert read(assertion(ANN, tid=tid)).tenant is None


@pytest.mark.parametrize(
    ("exp", "end"),
    [
        (1e300, 1e11),
        (-5, -5.0),
        (10**400, 1e11),
        (-(10**400), -1e11),
        (float("inf"), 1e11),
        (1.5, 1.5),
    ],
    ids=str,
)
def test_an_end_may_be_any_number(exp, end):
    assert read(assertion(ANN, exp=exp)).expires_at == end


@pytest.mark.parametrize("exp", [None, True, "1800000000", float("nan"), [], {}], ids=repr)
def test_what_does_not_say_when_it_ends_is_refused(exp):
    with pytest.raises(InteractionRequiredError, match="does not say when it expires"):
        read(assertion(ANN, exp=exp))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer ",
        "opaque",
        "a.b",
        "a.b.c",
        "..",
        f"{HEADER}.{HEADER}",
        f"{HEADER}.{_part('{}')}.",
        f"{HEADER}.{_part('[]')}.x",
        f"{HEADER}.{_part('5')}.x",
        f"{_part('[]')}.{_part('{}')}.x",
        f"{HEADER}.{_part('{}')}.x.y",
        f"{HEADER}.{_part('{}')}.x.y.z",
        f" {assertion(ANN)}",
        f"{assertion(ANN)}\n",
        f"{assertion(ANN)} ",
        f"Bearer\t{assertion(ANN)}",
        f"{assertion(ANN)}\ud800",
        f"{assertion(ANN)}\u00e9",
        assertion(ANN).replace(".", "\u3002"),
        f"{HEADER}.{_part('[' * 5_000 + ']' * 5_000)}.x",
    ],
    ids=range(21),
)
def test_what_is_no_jwt_is_refused_without_showing_it(text):
    with pytest.raises(
        InteractionRequiredError, match="is no JWT: pass the access token"
    ) as caught:
        read(text)
    shown = "".join(traceback.format_exception(caught.value))
    assert len(text) < 10 or text[-20:] not in shown.replace(__file__, "")


@pytest.mark.parametrize("given", [None, 5, b"a.b.c", ["a.b.c"]], ids=repr)
def test_what_is_no_text_is_refused(given):
    with pytest.raises(ConfigurationError, match="an assertion is a string"):
        read(given)


def test_sixteen_kibibytes_are_taken_and_no_more():
    text = assertion(ANN)
    most = text + "A" * (16 * 1024 - len(text))
    assert read(f"Bearer {most}").text() == most
    with pytest.raises(InteractionRequiredError, match="larger than 16 KiB"):
        read(f"{most}A")
    with pytest.raises(InteractionRequiredError, match="larger than 16 KiB"):
        read("A" * 50_000_000)


def test_every_bit_of_it_makes_another_digest():
    text = assertion(ANN)
    changed = {
        text[:at] + chr(ord(text[at]) ^ 1 << bit) + text[at + 1 :]
        for at in range(len(text))
        for bit in range(7)
    }
    swapped = {text.swapcase(), f"{text}=", f"{text}A", text[:-1] + "V"}
    kinds = [("entra", "app"), ("oidc", "app"), ("entra", "other")]

    digests = {read(text).digest(*each) for each in kinds}
    for each in changed | swapped - {text}:
        digests.add(digest_or_text(each))

    assert len(digests) == len(kinds) + len(changed | swapped - {text})


def digest_or_text(text):
    try:
        return read(text).digest("entra", "app")
    except TokenManagerError:
        return text


def test_neither_its_repr_nor_its_digest_shows_anything_of_it():
    text = assertion(ANN)
    taken = read(text)

    shown = f"{taken!r} {taken.digest('entra', 'app')} {Hidden(taken)!r}"
    assert not any(part in shown for part in (*text.split("."), "ann", "contoso"))
    with pytest.raises(TypeError, match="does not pickle"):
        taken.__reduce__()


@pytest.mark.traces
def test_no_frame_tells_anything_of_it_wherever_it_breaks():
    text = f"Bearer {assertion(ANN)}"
    secrets = (*text.removeprefix("Bearer ").split(".")[1:], ANN)

    assert (
        told_at_every_line(lambda: read(text).check_time(0.0), secrets, within=("identity",)) == []
    )


@pytest.mark.parametrize("changes", [{"exp": "soon"}, {"exp": 5}])
def test_an_error_tells_nothing_of_it(changes):
    text = assertion(ANN, **changes)

    with pytest.raises(TokenManagerError) as caught:
        read(text).check_time(10.0)

    assert told_of(caught.value, (text.split(".")[1], ANN)) == []


@given(
    st.one_of(
        st.text(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["exp", "tid", "x"]), inner)
            ),
        ).map(lambda said: f"{HEADER}.{_part(json.dumps(said))}.x"),
    )
)
def test_nothing_but_a_typed_error_comes_of_any_text(text):
    try:
        taken = read(text)
    except TokenManagerError:
        return
    assert -1e11 <= taken.expires_at <= 1e11
