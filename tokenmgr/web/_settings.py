"""The dictionary ``TOKENMGR`` of a framework's settings: what may be in it, what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from ..registry import TokenRegistry
from ._api import Api, RegistryGiven

__all__ = ["Problem", "api_of", "problems_of"]

_NAMES = ("registry", "audience", "tenants", "leeway", "apps_without_roles")


class Problem(NamedTuple):
    """Something that is wrong with settings."""

    #: Which kind of problem it is, for those who silence one: 1 to 3.
    number: int
    message: str
    #: What to do, as the end of a sentence.
    hint: str


def api_of(settings: object, place: str, **given: Any) -> Api:
    """Makes the Api of settings, and of what was given in their place.

    What a dotted path leads to is imported now, and made when it is needed.

    Args:
        settings: A dictionary, or None where there is none.
        place: What the program calls it, for messages.
        **given: Settings that count more, where they are not None.

    Raises:
        ConfigurationError: A setting is none, or cannot be right.
    """
    for problem in problems_of(settings, place):
        raise ConfigurationError(f"{problem.message}: {problem.hint}")
    named: Mapping[str, Any] = settings if isinstance(settings, Mapping) else {}
    found = {**named, **{name: value for name, value in given.items() if value is not None}}
    registry = found.pop("registry", None)
    return Api(_registry_at(registry) if isinstance(registry, str) else registry, **found)


def problems_of(settings: object, place: str) -> list[Problem]:
    """Says what is wrong with settings, without making or importing anything."""
    if settings is None:
        return []
    if not isinstance(settings, Mapping):
        hint = f"make it a dictionary with {_listed(_NAMES)}, or leave it out"
        return [Problem(1, f"{place} is a {type(settings).__name__}", hint)]
    unknown = [
        Problem(2, f"{place} has {name!r}, which is no setting", _meant(name))
        for name in settings
        if name not in _NAMES
    ]
    return unknown + [
        Problem(3, f"{place}[{name!r}] is a {type(settings[name]).__name__}", f"make it {wanted}")
        for name, (fits, wanted) in _FITS.items()
        if settings.get(name) is not None and not fits(settings[name])
    ]


def _registry_at(path: str) -> RegistryGiven:
    """What is at a dotted path: a registry, or what makes one.

    Raises:
        ConfigurationError: There is neither.
    """
    module, _, name = path.rpartition(".")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"there is no registry at {path!r}: name a module and what it has, as in "
            "'project.tokens.registry'"
        ) from error
    if not _is_registry(found):
        raise ConfigurationError(
            f"what is at {path!r} is a {type(found).__name__}: make it a TokenRegistry, or what "
            "makes one"
        )
    given: RegistryGiven = found
    return given


def _is_registry(value: object) -> bool:
    return isinstance(value, TokenRegistry) or callable(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, Iterable) and all(isinstance(each, str) for each in value)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


#: What a setting has to be, and how that is said.
_FITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "registry": (
        lambda value: isinstance(value, str) or _is_registry(value),
        "a TokenRegistry, what makes one, or the dotted path of either",
    ),
    "audience": (_is_texts, "a text, or several in a list"),
    "tenants": (_is_texts, "a list of GUIDs, or '*' for all tenants"),
    "leeway": (_is_seconds, "a number of seconds"),
    "apps_without_roles": (lambda value: isinstance(value, bool), "True or False"),
}


def _meant(name: object) -> str:
    close = get_close_matches(str(name), _NAMES, 1)
    return f"did you mean {close[0]!r}?" if close else f"it may have {_listed(_NAMES)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
