"""The emulator's sidecar is asked all that the contract allows, and answers nothing else."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from sidecar_compliance import ANN
from sidecar_openapi import OPENAPI, QUERY_NAMES, check_401

from tokenmgr.emulator import EntraEmulator
from tokenmgr.emulator.sidecar import _ROUTES, ALLOWED
from tokenmgr.sidecar.overrides import _WRITERS

#: No more, so that it takes seconds.
_MOST = 10
_CHECKS = [
    check_401,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
SCHEMA = schemathesis.openapi.from_dict(OPENAPI)
OPERATIONS = [each.ok() for each in SCHEMA.get_all_operations()]


@pytest.mark.parametrize("opened", [ALLOWED, _ROUTES], ids=["as it is", "opened"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_the_emulators_sidecar_keeps_to_the_contract(entra: EntraEmulator, operation, opened):
    with entra.sidecar(allow_overrides=opened) as sidecar:
        ann = {"Authorization": f"Bearer {entra.sign_in(ANN)}"}

        @hypothesis.settings(max_examples=_MOST, database=None, derandomize=True)
        def ask(case: schemathesis.Case) -> None:
            for headers in ({}, ann):
                case.call_and_validate(base_url=sidecar.url, headers=headers, checks=_CHECKS)

        hypothesis.given(operation.as_strategy())(ask)()
        if operation.query:  # what it does not allow, where there is anything to ask for
            wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
            hypothesis.given(wrong)(ask)()
    statuses = {each.status for each in entra.requests if each.kind == "sidecar"}
    assert 200 in statuses, f"the contract was hardly seen: {statuses}"


def test_the_client_knows_each_name_of_the_contract():
    sent = {wire for wire, _ in _WRITERS.values()}
    of_its_own = {
        "optionsOverride.ExtraHeaderParameters",
        "optionsOverride.ExtraQueryParameters",
    }
    assert sent - of_its_own == QUERY_NAMES - {"optionsOverride.BaseUrl"}, "which is passed over"
