"""What the sidecar's answers are made into."""

from __future__ import annotations

import pickle

import pytest

import tokenmgr.sidecar
from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.sidecar import DownstreamResponse, ValidatedToken


def test_headers_are_a_mapping_whose_names_count_in_any_case():
    answer = DownstreamResponse(200, {"Content-Type": "a/b", "Allow": "GET"}, Hidden("text"))
    assert dict(answer.headers) == {"Content-Type": "a/b", "Allow": "GET"}
    assert (len(answer.headers), answer.headers["CONTENT-type"]) == (2, "a/b")
    assert "allow" in answer.headers
    assert answer.headers.get("Location") is None
    assert "a/b" not in repr(answer.headers)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_what_went_well_raises_nothing(status):
    answer = DownstreamResponse(status, {}, Hidden(None))
    assert answer.raise_for_status() is answer
    assert answer.text == ""


def test_what_is_said_of_people_stays_in_this_process():
    validated = ValidatedToken(protocol="Bearer", claims={"sub": "ann"})
    for each in (validated, DownstreamResponse(200, {}, Hidden("ann"))):
        assert "ann" not in repr(each)
        with pytest.raises(TypeError, match="does not pickle"):
            pickle.dumps(each)
    assert validated == ValidatedToken(protocol="Bearer", claims={"sub": "ann"})
    assert len({validated, ValidatedToken(protocol="Bearer", claims={"sub": "ann"})}) == 1


def test_the_package_offers_its_names_and_no_others():
    for name in tokenmgr.sidecar.__all__:
        assert getattr(tokenmgr.sidecar, name).__name__ == name
    with pytest.raises(AttributeError, match="Sidecar"):
        tokenmgr.sidecar.Sidecar  # noqa: B018
