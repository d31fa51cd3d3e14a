"""The ``tokenmgr`` command. It needs ``pip install 'tokenmgr[cli,emulator]'``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Runs the command line, and ends the program with its exit code."""
    try:
        import typer

        from .demo import demo
        from .emulator import emulator
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        # A name of our own that is missing is a defect, and needs its traceback.
        if missing in ("", "tokenmgr"):
            raise
        raise SystemExit(
            f"the tokenmgr command needs {missing}: pip install 'tokenmgr[cli,emulator]'"
        ) from None
    app = typer.Typer(
        name="tokenmgr",
        help="Keeps Microsoft Entra access tokens ready. Both words run a local Entra.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        # Its tracebacks show locals, and locals hold secrets.
        pretty_exceptions_enable=False,
    )
    app.command()(demo)
    app.command()(emulator)
    app(prog_name="tokenmgr")
