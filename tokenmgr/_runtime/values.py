"""Values that do not change, made without writing code.

They are what frozen dataclasses are, and type checkers take them for such. ``dataclasses`` writes
and compiles the methods of each class whenever a program starts, which takes as long as importing
three modules: the twenty classes before a first token would be a tenth of all that it costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from .secrecy import Hidden

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> Any:
        return lambda cls: cls


__all__ = ["Value"]


@dataclass_transform(frozen_default=True)
class Value:
    """Fields by name: equal by all of them, hashable, and not to be set again.

    A subclass annotates its fields, behind those that it inherits, and gives some a default. It
    may say with ``_check`` what they have to be, and name in ``_hidden`` what no repr shows.
    """

    #: The names of the fields, in their order.
    _fields: ClassVar[tuple[str, ...]] = ()
    #: Those that no repr shows.
    _hidden: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls._fields += tuple(name for name in cls.__annotations__ if not name.startswith("_"))

    def __init__(self, *args: Any, **named: Any) -> None:
        args, named, given = (), {}, Hidden((args, named))  # some may be secret
        cls, count = type(self), sum(map(len, given.cell_contents))
        given = Hidden(
            dict(zip(cls._fields, given.cell_contents[0], strict=False)) | given.cell_contents[1]
        )
        whole = Hidden(
            {
                name: given.cell_contents[name]
                if name in given.cell_contents
                else getattr(cls, name)
                for name in cls._fields
                if name in given.cell_contents or hasattr(cls, name)
            }
        )
        names = {*given.cell_contents}
        if len(names) != count or {*whole.cell_contents} != {*cls._fields, *names}:
            raise TypeError(f"{cls.__name__} is made of {', '.join(cls._fields)}")
        vars(self).update(whole.cell_contents)
        self._check()

    def _check(self) -> None:
        """Raises what is wrong with the fields."""

    def _replace(self, **changes: Any) -> Self:
        """Makes another one with some fields changed."""
        changes, given = {}, Hidden(changes)
        return type(self)(**(vars(self) | given.cell_contents))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} does not change: make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} does not change: make another one")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        names = (name for name in self._fields if name not in self._hidden)
        shown = (f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({', '.join(shown)})"
