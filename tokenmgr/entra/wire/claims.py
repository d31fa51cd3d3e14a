"""Claims that are asked for (OpenID Connect Core 1.0, section 5.5), of several that ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..._runtime.secrecy import Hidden

__all__ = ["merged"]


def merged(one: str | None, other: str) -> str:
    """Merges two JSON objects into one, member by member, as MSAL does; the other one wins.

    Args:
        one: What MSAL says; None or empty for nothing.
        other: What the app says.
    """
    one, other, given = "", "", Hidden((one, other))
    if not all(given.cell_contents):
        return str(given.cell_contents[0] or given.cell_contents[1])
    return json.dumps(_merged(*map(json.loads, given.cell_contents)))


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    one, other, given = {}, {}, Hidden((one, other))
    return {
        **given.cell_contents[0],
        **{
            name: _merged(given.cell_contents[0][name], value)
            if isinstance(value, Mapping) and isinstance(given.cell_contents[0].get(name), Mapping)
            else value
            for name, value in given.cell_contents[1].items()
        },
    }
