"""Values that do not change, made without writing code.

They are what frozen dataclasses are, and type checkers take them for such, as do ``replace()``,
``fields()`` and all else that takes dataclasses. ``dataclasses`` writes and compiles the methods of
each class whenever a program starts, which takes as long as importing three modules: the thirty
classes before a first token would be a tenth of all that it costs.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from .secrecy import Hidden

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> Any:
        return lambda cls: cls


__all__ = ["Value"]


class _OfDataclass:
    """What is found on a dataclass by that name; it is made when somebody asks."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(_dataclass_like(owner), self._name)


@cache
def _dataclass_like(cls: Any) -> Any:
    import inspect
    from dataclasses import MISSING, field, make_dataclass

    fields = [
        (name, kind, field(default=getattr(cls, name, MISSING), repr=name not in cls._hidden))
        for name, kind in cls._fields.items()
    ]
    made: Any = make_dataclass(cls.__name__, fields, frozen=True)
    made.__signature__ = inspect.signature(made)
    return made


@dataclass_transform(frozen_default=True)
class Value:
    """Fields by name: equal by all of them, hashable, and not to be set again.

    A subclass annotates its fields, behind those that it inherits, and gives some a default. It
    may say with ``_check`` what they have to be, and name in ``_hidden`` what no repr shows.
    """

    #: The fields in their order, with their types as they are written.
    _fields: ClassVar[dict[str, Any]] = {}
    #: Those that may be left out.
    _defaults: ClassVar[dict[str, Any]] = {}
    #: Those that no repr shows.
    _hidden: ClassVar[frozenset[str]] = frozenset()

    if not TYPE_CHECKING:
        __dataclass_fields__ = _OfDataclass()
        __dataclass_params__ = _OfDataclass()
        __match_args__ = _OfDataclass()
        __signature__ = _OfDataclass()

    def __init_subclass__(cls) -> None:
        own = {name: kind for name, kind in cls.__annotations__.items() if name[0] != "_"}
        cls._fields = cls._fields | own
        cls._defaults = {name: getattr(cls, name) for name in cls._fields if hasattr(cls, name)}

    def __init__(self, *args: Any, **named: Any) -> None:
        args, named, count, given = (
            *((), {}, len(args) + len(named)),
            Hidden(dict(zip(self._fields, args, strict=False)) | named),  # some may be secret
        )
        names = given.cell_contents.keys()
        if len(names) != count or names | self._defaults.keys() != self._fields.keys():
            raise TypeError(f"{type(self).__name__} is made of {', '.join(self._fields)}")
        given.cell_contents = self._defaults | given.cell_contents
        # One after another: so all values of a class have one table of names, and are half as large
        for name in self._fields:
            object.__setattr__(self, name, given.cell_contents[name])
        self._check()

    def _check(self) -> None:
        """Raises what is wrong with the fields."""

    def _replace(self, **changes: Any) -> Self:
        """Makes another one with some fields changed."""
        changes, given = {}, Hidden(changes)
        return type(self)(**(vars(self) | given.cell_contents))

    __replace__ = _replace

    def __setattr__(self, name: str, value: object) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"{type(self).__name__} does not change: make another one")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        names = (name for name in self._fields if name not in self._hidden)
        shown = (f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({', '.join(shown)})"
