"""Imports in the middle of a fetch: a fork waits for each of them."""

from __future__ import annotations

from pathlib import Path

import programs
import pytest

from tokenmgr.emulator import EntraEmulator

PROGRAM = str(programs.TESTS / "import_watch.py")


@pytest.mark.parametrize("missing", [(), ("msal_extensions",)], ids=["all", "no extensions"])
@pytest.mark.parametrize("kind", ["secret", "certificate"])
@pytest.mark.parametrize("store", ["no store", "sqlite"])
def test_a_fork_waits_for_every_import_of_a_fetch(
    tmp_path: Path, kind: str, missing: tuple[str, ...], store: str
) -> None:
    with EntraEmulator(host="localhost") as entra:  # a name, for which sockets may import too
        entra.unknown_resources = {"api://nobody-knows-it"}
        settings = entra.environment() | programs.with_tests()
        if kind == "certificate":
            made, file = entra.make_certificate(), tmp_path / "app.pem"
            file.write_bytes(made.pem)
            entra.add_certificate(made.certificate_pem)
            del settings["AZURE_CLIENT_SECRET"]
            settings["AZURE_CLIENT_CERTIFICATE_PATH"] = str(file)
        if store == "sqlite":
            settings["TOKENMGR_STORE"] = f"sqlite:///{tmp_path}/tokens.db"
        done = programs.run(PROGRAM, *missing, **settings)
        assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
        assert entra.count() == 4
