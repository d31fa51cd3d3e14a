"""Runs the README's and the docstrings' examples against a local Entra."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

from tokenmgr.emulator import EntraEmulator

#: So many test processes for each core: half of their time they wait for what they have started.
_FOR_A_CORE, _MOST = 2, 16


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Says what ``--numprocesses=auto`` means here."""
    return min(_MOST, _FOR_A_CORE * (os.cpu_count() or 1))


@pytest.fixture(scope="module")
def entra_in_the_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with (
        EntraEmulator() as entra,
        entra.sidecar() as sidecar,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SIDECAR_URL", sidecar.url)
        patch.chdir(tmp_path_factory.mktemp("examples"))  # where they leave their files
        for name, value in entra.environment().items():
            patch.setenv(name, value)
        yield


_FIXTURES = ["entra_in_the_environment"]


def _as_a_program(namespace: dict[str, object]) -> None:
    """Has an example find itself in a module, as one does that a person pastes into a file."""
    namespace["__name__"] = "__main__"


def _ends(namespace: dict[str, object]) -> None:
    """Lets go of what a document has made, as its program's end does: its threads end too."""
    for value in namespace.values():
        if type(value).__module__.startswith("tokenmgr."):
            with contextlib.suppress(AttributeError):
                value.close()  # type: ignore[attr-defined]
    namespace.clear()
    gc.collect()


_markdown = Sybil(
    parsers=[SkipParser(), PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_as_a_program,
    teardown=_ends,
    fixtures=_FIXTURES,
)
_docstrings = Sybil(
    parsers=[DocTestParser()], pattern="tokenmgr/**/*.py", teardown=_ends, fixtures=_FIXTURES
)

pytest_collect_file = (_markdown + _docstrings).pytest()
