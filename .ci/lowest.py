"""Prints the lowest versions that pyproject.toml allows of what the library uses, for pip."""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The extras of those who develop the library. All others are part of it.
FOR_DEVELOPING = {"test", "sdks", "bench", "dev"}


def pinned(text: str) -> str:
    """Makes ``name==1`` of ``name>=1``."""
    requirement = Requirement(text)
    lowest = [each.version for each in requirement.specifier if each.operator == ">="]
    if not lowest:
        sys.exit(f"{text}: pyproject.toml does not say from which version on")
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{requirement.name}=={lowest[0]}{marker}"


project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
needed = list(project["dependencies"])
for extra, requirements in project["optional-dependencies"].items():
    if extra not in FOR_DEVELOPING:
        needed += requirements
sys.stdout.writelines(f"{pinned(text)}\n" for text in needed)
