"""``cae=True``: the client says that it answers claims challenges, and has tokens of their own."""

from __future__ import annotations

import json

import pytest
from support import SCOPE

from tokenmgr import AccessTokenManager, ClientSecret
from tokenmgr.emulator import EntraEmulator
from tokenmgr.entra.client import Client
from tokenmgr.identity.authority import Authority
from tokenmgr.stores import MemoryStore

CP1 = {"access_token": {"xms_cc": {"values": ["CP1"]}}}


def asked(entra: EntraEmulator) -> list[object]:
    """The claims of each token request."""
    forms = [each.form for each in entra.requests if each.kind == "token"]
    return [json.loads(form["claims"]) if "claims" in form else None for form in forms]


def test_a_registry_says_so_with_every_request(entra: EntraEmulator) -> None:
    with entra.registry(cae=True) as tokens:
        graph = tokens.manager(SCOPE)
        graph.get_token()
        graph.refresh_access_token(claims='{"access_token":{"nbf":{"value":"1"}}}')
    assert graph.key.cae
    merged = {"access_token": {"nbf": {"value": "1"}, **CP1["access_token"]}}
    assert asked(entra) == [CP1, merged]


def test_it_says_so_for_users_too_at_their_own_tenants(entra: EntraEmulator) -> None:
    with entra.registry(cae=True, authority=entra.authority("organizations")) as tokens:
        user = tokens.on_behalf_of(
            entra.sign_in("ann@contoso.com"), "https://graph.microsoft.com/x"
        )
        user.get_token()
    assert user.key.cae
    assert asked(entra) == [CP1]


def test_without_it_nothing_is_said(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        graph = tokens.manager(SCOPE)
        graph.get_token()
    assert not graph.key.cae
    assert asked(entra) == [None]


@pytest.mark.parametrize("cae", [False, True])
def test_a_manager_says_what_the_registry_does_not(entra: EntraEmulator, cae: bool) -> None:
    with entra.registry(cae=not cae) as tokens:
        other = tokens.manager(SCOPE, cae=cae)
        assert other is tokens.manager(SCOPE, cae=cae)
        assert other is not tokens.manager(SCOPE)
        assert tokens.manager(SCOPE) is tokens.manager(SCOPE, cae=not cae)
        assert other.get_access_token() != tokens.manager(SCOPE).get_access_token()
    assert asked(entra) == ([CP1, None] if cae else [None, CP1])


def test_workers_keep_both_apart_in_a_store(entra: EntraEmulator) -> None:
    store = MemoryStore()
    found = []
    for cae in (True, False, True, False):
        with entra.registry(cae=cae, store=store) as tokens:
            found.append(tokens.get_access_token(SCOPE))
    assert found[0] == found[2] != found[1] == found[3]
    assert entra.count() == 2


def test_what_is_imported_is_nobodys_who_says_so(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        plain = tokens.get_access_token(SCOPE)
        text = tokens.export_cache()
    with entra.registry(cae=True) as tokens:
        tokens.import_cache(text)
        assert tokens.get_access_token(SCOPE) != plain
        assert tokens.manager(SCOPE, cae=False).get_access_token() == plain


def test_a_manager_that_stands_alone_says_so(entra: EntraEmulator) -> None:
    alone = AccessTokenManager.from_secret("contoso.com", "app", "secret", SCOPE, cae=True)
    assert alone.key.cae
    assert not AccessTokenManager.from_secret("contoso.com", "app", "secret", SCOPE).key.cae
    alone.close()
    client = Client(Authority.entra("contoso.com"), "app", ClientSecret("s"), cae=True)
    assert client.at(Authority.entra("fabrikam.com")).cae
