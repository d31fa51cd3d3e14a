"""The first call of a process: keys, and then a token on behalf of the caller."""

from __future__ import annotations

import textwrap

import programs

from tokenmgr.emulator import EntraEmulator

PROGRAM = """
    import gc, sys
    from tokenmgr import TokenRegistry
    from tokenmgr.web.bearer import BearerValidator
    with TokenRegistry.from_env() as tokens:
        caller = BearerValidator(tokens).validate(f"Bearer {sys.argv[1]}")
        assert "msal" not in sys.modules
        given = caller.assertion.cell_contents
        tokens.on_behalf_of(given, "https://graph.microsoft.com/User.Read").get_access_token()
    gc.collect()
    print("ended")
"""


def test_it_leaves_no_connection_behind(entra: EntraEmulator) -> None:
    """The one that is begun before MSAL is imported is not needed: the keys' is there."""
    assertion = entra.sign_in("ann@contoso.com")
    ended = programs.run(
        *("-X", "dev", "-c", textwrap.dedent(PROGRAM), assertion), **entra.environment()
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "ended\n")
