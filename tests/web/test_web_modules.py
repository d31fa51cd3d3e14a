"""The modules of the frameworks: the same verbs in each, which imports its own framework alone."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

FRAMEWORKS = ("starlette", "fastapi", "flask", "django")
#: What a program does with any of them.
VERBS = {"anonymous", "caller", "on_behalf_of", "ready", "registry", "require", "required"}
#: What each has besides; Django is told of a project by its settings.
BEGINNINGS = {"django": "middleware"}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_has_the_same_verbs(framework):
    module = import_module(f"tokenmgr.web.{framework}")
    first = import_module(f"tokenmgr.web.{FRAMEWORKS[0]}")
    assert VERBS | {BEGINNINGS.get(framework, "init_app")} <= set(module.__all__)
    for name in VERBS - {"ready"}:
        ours, theirs = (
            [(each.name, each.default) for each in inspect.signature(given).parameters.values()]
            for given in (getattr(module, name), getattr(first, name))
        )
        assert ours == theirs, name


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_imports_no_other_framework(framework):
    loaded = set(run(f"import sys, tokenmgr.web.{framework}; print(*sys.modules)").split())
    assert framework in loaded
    base = {"starlette"} if framework == "fastapi" else set()
    assert loaded & set(FRAMEWORKS) == {framework} | base


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_that_is_missing_says_what_to_install(framework):
    told = run(
        f"import sys; sys.modules['{framework}'] = None\n"
        f"try: import tokenmgr.web.{framework}\n"
        "except ImportError as error: print(error)"
    )
    assert f"pip install 'tokenmgr[{framework}]'" in told
