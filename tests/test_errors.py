"""The tree of errors: drawn as it is, and each error whole wherever it travels."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

import tokenmgr
from tokenmgr import errors
from tokenmgr.errors import (
    BearerRefusedError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenTimeoutError,
)

GIVEN = {
    "retryable": True,
    "error": "invalid_client",
    "error_codes": (7000215, 7000222),
    "correlation_id": "a-correlation-id",
    "trace_id": "a-trace-id",
    "claims": '{"access_token":{}}',
    "retry_after": 1.5,
    "status": 429,
}
CLASSES = [getattr(errors, name) for name in errors.__all__]
#: What stands where it was left out.
OWN = {BearerRefusedError: {"status": 401, "error": "invalid_token"}}
RETRYABLE = {ThrottledError, ServiceUnavailableError, TokenTimeoutError}


def drawn_tree() -> set[tuple[str, str]]:
    """Each error of the module docstring, with the one that it hangs below."""
    edges, above = set(), []
    for line in (errors.__doc__ or "").splitlines():
        bare = line.lstrip(" │├└─")
        name = bare.split(" ", 1)[0]
        if not name.endswith("Error") or not line.startswith("    "):
            continue
        depth = (len(line) - len(bare)) // 4 - 1
        above[depth:] = [name]
        if depth:
            edges.add((above[depth - 1], name))
    return edges


def real_tree(root: type[Exception]) -> Iterator[tuple[str, str]]:
    for below in root.__subclasses__():
        if below.__module__ == "tokenmgr.errors":
            yield root.__name__, below.__name__
            yield from real_tree(below)


def attributes(error: TokenManagerError) -> dict[str, object]:
    return {name: getattr(error, name) for name in GIVEN}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert len(drawn_tree()) == len(errors.__all__) - 1
    assert drawn_tree() == set(real_tree(TokenManagerError))


def test_every_error_is_exported_by_its_module_and_by_the_package() -> None:
    names = {name for edge in real_tree(TokenManagerError) for name in edge}
    assert set(errors.__all__) == names
    assert names <= set(tokenmgr.__all__)
    assert all(getattr(tokenmgr, name) is getattr(errors, name) for name in names)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_says_its_message_and_carries_what_it_was_given(cls) -> None:
    error = cls("what happened", **GIVEN)
    assert (str(error), error.args) == ("what happened", ("what happened",))
    assert attributes(error) == GIVEN


@pytest.mark.parametrize("cls", CLASSES)
def test_what_was_left_out_is_none_and_the_class_says_whether_it_is_retryable(cls) -> None:
    nothing = dict.fromkeys(GIVEN) | {"error_codes": (), "retryable": cls in RETRYABLE}
    assert attributes(cls("what happened")) == nothing | OWN.get(cls, {})


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("retryable", [True, False])
def test_retryable_of_one_error_wins_over_its_class_and_leaves_the_class_alone(
    cls, retryable
) -> None:
    assert cls("what happened", retryable=retryable).retryable is retryable
    assert cls("what happened").retryable is (cls in RETRYABLE)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "travel",
    [copy.copy, copy.deepcopy]
    + [
        lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ],
)
def test_an_error_that_travels_keeps_all_it_carries(cls, travel) -> None:
    error = cls("what happened", **{**GIVEN, "retryable": cls not in RETRYABLE})
    arrived = travel(error)
    assert arrived is not error
    assert (type(arrived), str(arrived)) == (cls, "what happened")
    assert attributes(arrived) == attributes(error)


def test_what_else_an_error_carries_is_given_by_name() -> None:
    with pytest.raises(TypeError):
        TokenManagerError("what happened", True)
