"""docs/msal.md has a row for whatever MSAL's classes offer, and names what there is here."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import msal
import pytest

import tokenmgr
from tokenmgr.agents import Agent
from tokenmgr.flows import SignInOptions
from tokenmgr.manager import AccessTokenManager
from tokenmgr.registry import TokenRegistry
from tokenmgr.sessions import UserSession

PAGE = Path(__file__).parents[1] / "docs" / "msal.md"
CLASSES = [
    *(msal.ConfidentialClientApplication, msal.PublicClientApplication),
    msal.ManagedIdentityClient,
]
#: What the page calls things, and what they are.
OURS = {
    "agent": Agent,
    "registry": TokenRegistry,
    "manager": AccessTokenManager,
    "session": UserSession,
}
OPTIONS = {"Unpack[SignInOptions]": SignInOptions.__annotations__}
COMMON, WHOLE = "several", "the method"


def tables() -> dict[str, dict[str, str]]:
    """By method, what the page says of each of its parameters."""
    found: dict[str, dict[str, str]] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [each.strip() for each in line.strip("|").split(" | ")]
        if line.startswith("| of "):
            rows = found.setdefault(cells[0].removeprefix("of ").strip("`"), {})
        elif line.startswith("|") and not line.startswith("|-"):
            name = cells[0].lstrip("| ").strip("`")
            assert name not in rows, f"{name} has two rows"
            rows[name] = line
    return found


TABLES = tables()


def methods() -> list[tuple[str, str]]:
    """Each method, and each of its parameters."""
    names = {
        (name, parameter)
        for each in CLASSES
        for name, method in inspect.getmembers(each, callable)
        if name == "__init__" or not name.startswith("_")
        for parameter in (WHOLE, *inspect.signature(method).parameters)
        if inspect.isfunction(method) and parameter != "self"
    }
    return sorted(names - {("__init__", WHOLE)})


@pytest.mark.parametrize(("method", "parameter"), methods())
def test_whatever_msal_offers_has_a_row(method: str, parameter: str) -> None:
    assert method in TABLES, f"docs/msal.md says nothing of {method}()"
    known = parameter in TABLES[method] or (parameter != WHOLE and parameter in TABLES[COMMON])
    assert known, f"docs/msal.md says nothing of {parameter}= of {method}()"


def test_the_newest_version_has_what_the_page_has() -> None:
    offered = methods()
    of_table = {(m, p) for m, rows in TABLES.items() for p in rows if m != COMMON}
    # The lowest version that is allowed lacks some.
    new = (
        {
            ("acquire_token_by_user_federated_identity_credential", p)
            for p in TABLES["acquire_token_by_user_federated_identity_credential"]
        }
        | {(m, "fmi_path") for m in TABLES}
        | {("__init__", "enable_broker_on_wsl")}
    )
    assert of_table - set(offered) <= new


def spans() -> list[str]:
    """The code on the page that names something of ours."""
    rows = [line for table in TABLES.values() for line in table.values()]
    found = {span for row in rows for span in re.findall(r"`([^`]+)`", row.split(" | ", 1)[1])}
    return sorted(each for each in found if re.match(r"\w+\.\w|TokenRegistry\(|[A-Z]\w+$", each))


def thing_of(span: str) -> object:
    """What a piece of code names; fails where it is not there."""
    owner, _, name = re.match(r"(\w+)(\.(\w+))?", span).group(1, 2, 3)
    if owner == "flow":
        from tokenmgr.flows import DeviceCodeFlow

        return getattr(DeviceCodeFlow, name)
    if owner == "BearerAuth":
        from tokenmgr.http.requests import BearerAuth

        return BearerAuth
    thing = OURS[owner] if owner in OURS else _offered(owner)
    return thing if name is None else getattr(thing, name)


def _offered(name: str) -> object:
    if name in tokenmgr.__all__:
        return getattr(tokenmgr, name)
    from tokenmgr import errors

    return getattr(errors, name)


@pytest.mark.parametrize("span", spans())
def test_what_a_row_names_is_there(span: str) -> None:
    thing = thing_of(span)
    for parameter in re.findall(r"[(,]\s*(\w+)=", span):
        assert parameter in _parameters(thing)


def _parameters(thing: Any) -> set[str]:
    """What it takes by name, the options of a TypedDict among that."""
    parameters = inspect.signature(thing).parameters
    options = [OPTIONS.get(str(each.annotation), {}) for each in parameters.values()]
    return set(parameters).union(*options)
