"""Where users sign out: at the address that is documented, or that the metadata names."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from fake_sessions import SessionApp
from support import FakeClock

from tokenmgr import Authority, TokenRegistry
from tokenmgr.emulator import EntraEmulator

READ = "https://graph.microsoft.com/User.Read"


def address_of(tokens: TokenRegistry, clock: FakeClock) -> str:
    app = SessionApp(clock, tokens._own.client.authority)
    tokens._own.begin_sessions().sign_in(app.sign_in("ann", READ, login_hint="hint"), (READ,))
    return tokens.user("ann.home").sign_out("https://app.example.com/bye")


@pytest.mark.parametrize("kind", ["entra", "b2c", "oidc"])
def test_the_address_is_one_of_the_authoritys(entra: EntraEmulator, clock, kind):
    authority = {
        "entra": entra.authority(),
        "b2c": entra.b2c_authority(),
        "oidc": Authority.oidc(entra.oidc_authority()),
    }[kind]
    with entra.registry(authority=authority, clock=clock) as tokens:
        address = urlsplit(address_of(tokens, clock))
    asked = [request.kind for request in entra.requests]
    assert asked == (["discovery"] if kind == "oidc" else [])
    assert address.path.endswith("/logout")
    assert f"https://{address.netloc}/" in f"{authority}/"
    assert parse_qs(address.query) == {
        "client_id": [entra.client_id],
        "post_logout_redirect_uri": ["https://app.example.com/bye"],
        "logout_hint": ["hint"],
    }
