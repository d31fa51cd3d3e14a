"""What the app adds to a token request, whatever the grant: parameters, and claims to ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..._runtime.secrecy import Hidden

__all__ = ["complete", "merged"]

#: The header of what routes a request to the user's region.
_ROUTING = "X-AnchorMailbox"


def complete(request: Hidden, claims: Hidden, extra: Hidden) -> None:
    """Adds what the app says besides; of what MSAL says itself, it adds to the claims alone.

    MSAL has a parameter for such claims in some of its grants, and not in its lowest version.

    Args:
        request: What MSAL sends, by the names that requests has.
        claims: The claims as JSON (OpenID Connect Core 1.0, section 5.5); empty when none.
        extra: The parameters, as pairs.
    """
    _drop_odd_routing(request)
    body = Hidden(request.cell_contents.get("data") or {})
    if "grant_type" not in body.cell_contents:  # a device code is asked for
        return
    claims = Hidden(merged(body.cell_contents.get("claims"), claims.cell_contents))
    request.cell_contents["data"] = {
        **dict(extra.cell_contents),
        **body.cell_contents,
        **({"claims": claims.cell_contents} if claims.cell_contents else {}),
    }


def _drop_odd_routing(request: Hidden) -> None:
    """Drops the routing where no header can say it: MSAL puts there what a user has typed.

    It is but a hint, and the user's name is in the body too.
    """
    headers = Hidden(request.cell_contents.get("headers") or {})
    if not str(headers.cell_contents.get(_ROUTING, "")).isascii():
        del headers.cell_contents[_ROUTING]


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
