"""``tokenmgr emulator``: a local Entra in the foreground, for whatever wants to use it."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

from ..emulator import EntraEmulator
from .stopping import stop_on_signals

__all__ = ["emulator"]

_HOST = "127.0.0.1"
#: Seconds between two looks at the clock; a signal ends the wait sooner.
_A_WHILE = 3600.0

_EXAMPLE = """
# In Python, with these variables set:
#   from tokenmgr import TokenRegistry
#   TokenRegistry.from_env().manager("https://graph.microsoft.com/.default").get_access_token()

# It runs until Ctrl-C."""


def emulator(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")
    ] = 8443,
    token_lifetime: Annotated[
        int, typer.Option(min=1, help="How long its access tokens live, in seconds.")
    ] = 3600,
    user: Annotated[
        str, typer.Option(help="Sign this user in, and print USER_TOKEN: what they call an API by.")
    ] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A scope of USER_TOKEN, or several. [default: access_as_user]"),
    ] = None,
) -> None:
    """Run a local Microsoft Entra until Ctrl-C.

    It prints the variables with which programs find it. In bash, `source <(tokenmgr emulator)`
    starts it in the background and sets them, and `kill $!` ends it.

    With `--user ann@contoso.com` it also prints USER_TOKEN, by which to call a web API that runs
    with these variables: `curl -H "Authorization: Bearer $USER_TOKEN" ...`
    """
    with stop_on_signals() as stop:
        try:
            entra = EntraEmulator(host=_HOST, port=port, token_lifetime=token_lifetime).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            typer.echo(
                f"cannot listen on {_HOST}:{port}: {reason}. Take another port; --port 0 takes one "
                "that is free.",
                err=True,
            )
            raise typer.Exit(2) from None
        try:
            _announce(entra, _variables(entra, user, scope or ["access_as_user"]))
            while not stop.wait(_A_WHILE):
                pass
        finally:
            entra.close()


def _variables(entra: EntraEmulator, user: str, scopes: list[str]) -> dict[str, str]:
    if not user:
        return entra.environment()
    return entra.environment() | {"USER_TOKEN": entra.sign_in(user, scopes=scopes)}


def _announce(entra: EntraEmulator, variables: dict[str, str]) -> None:
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    if sys.stdout.isatty():
        typer.echo(f"# A local Entra runs at {entra.url}.\n{exports}\n{_EXAMPLE}")
        return
    typer.echo(exports)
    sys.stdout.flush()
    _hang_up()


def _hang_up() -> None:
    """Lets a shell that reads our output get to its end, while this program goes on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
