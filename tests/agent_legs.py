"""Agents at an emulator, and what was asked for on their way to a token."""

from __future__ import annotations

from tokenmgr.emulator import EntraEmulator

GRAPH = "https://graph.microsoft.com/.default"
READ = "https://graph.microsoft.com/User.Read"
EXCHANGE = "api://AzureADTokenExchange/.default"
NAME = "agent@contoso.onmicrosoft.com"

_OBO = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def legs(entra: EntraEmulator) -> list[str]:
    """What each token request was for: T1, T2, an agent's own token, its user's, a caller's."""
    found = []
    for request in entra.requests:
        if request.kind != "token":
            continue
        if request.grant_type != "client_credentials":
            found.append({"user_fic": "user", _OBO: "caller"}[str(request.grant_type)])
        elif str(request.scope).lower() == EXCHANGE.lower():
            found.append("T1" if "fmi_path" in request.form else "T2")
        else:
            found.append("agent")
    return found
