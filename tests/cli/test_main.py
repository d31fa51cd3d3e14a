from __future__ import annotations

import pytest
from programs import run


@pytest.mark.parametrize("missing", ["typer", "rich", "aiohttp"])
def test_without_the_extras_one_line_says_what_to_install(missing):
    ended = run(
        "-c",
        f"import sys; sys.modules[{missing!r}] = None; from tokenmgr.cli import main; main()",
    )

    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"the tokenmgr command needs {missing}: pip install 'tokenmgr[cli,emulator]'"
    ]


def test_a_defect_of_our_own_is_not_taken_for_a_missing_extra():
    ended = run(
        "-c",
        "import sys; sys.modules['tokenmgr.http.requests'] = None\n"
        "from tokenmgr.cli import main; main()",
    )

    assert "ModuleNotFoundError" in ended.stderr
    assert "pip install" not in ended.stderr


def test_help_names_both_words():
    ended = run("-m", "tokenmgr", "--help")

    assert ended.returncode == 0
    assert "demo" in ended.stdout
    assert "emulator" in ended.stdout
