"""What is written at a view: that anybody may call it, or what a caller has to have.

A mark is an attribute of whatever was marked: a function, a class of views, a blueprint. So it does
not matter whether the framework is told of a function before or after it was marked, and every
decorator that uses ``functools.wraps`` passes marks on. One that does not loses ``anonymous``, and
the view is refused to strangers, which is the safe side. So is a class that is derived from one
that is anonymous, as it has methods that nobody has looked at; what is required, it inherits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from ..errors import ConfigurationError

__all__ = ["Needs", "anonymous", "is_anonymous", "mark_needs", "needs", "needs_of"]

_ANONYMOUS = "__tokenmgr_anonymous__"
_NEEDS = "__tokenmgr_needs__"

T = TypeVar("T")


class Needs(NamedTuple):
    """Of what a caller needs one: of the scopes as a user, of the roles as an app."""

    scopes: tuple[str, ...]
    roles: tuple[str, ...]


def needs(scopes: object, roles: object) -> Needs:
    """Makes one of what a program has written.

    Raises:
        ConfigurationError: It is no text, and no list of texts.
    """
    return Needs(_texts("scopes", scopes), _texts("roles", roles))


def _texts(name: str, given: object) -> tuple[str, ...]:
    if callable(given):  # @required without its parentheses
        raise ConfigurationError("required takes scopes and roles: write @required()")
    # A text with spaces holds several, as in a token (RFC 6749, section 3.3).
    listed = given.split() if isinstance(given, str) else given
    found = tuple(listed) if isinstance(listed, Iterable) else (listed,)
    blank = isinstance(given, str) and not found  # which would let everybody in
    if blank or not all(isinstance(each, str) and each for each in found):
        raise ConfigurationError(f"{name} of required() are texts, such as 'Orders.Read'")
    return found


def anonymous(view: T) -> T:
    """Lets everybody call a view: who sends a bearer that is accepted is the caller there too.

    To send none is as good as one that is refused: there is no caller then, and whoever asks for
    one anyhow (``caller()``) answers as a view that is not anonymous.

    Args:
        view: A function, or a class of views, which does not open those derived from it. It is
            marked itself, and given back: so it is open by each route that leads to it, and not
            only by the one that was written so.

    Raises:
        ConfigurationError: It is marked by ``required`` as well.
    """
    if getattr(view, _NEEDS, ()):
        raise ConfigurationError("a view that requires a caller cannot be anonymous: take one away")
    setattr(view, _ANONYMOUS, True)
    return view


def mark_needs(view: object, needs: Needs) -> None:
    """Marks that a view is for those only who have this too.

    Raises:
        ConfigurationError: It is marked by ``anonymous`` as well.
    """
    if is_anonymous(view):
        raise ConfigurationError("a view that requires a caller cannot be anonymous: take one away")
    setattr(view, _NEEDS, (*needs_of(view), needs))


def is_anonymous(*marked: object) -> bool:
    """Whether one of these is marked so, and none requires a caller: that wins."""
    return any(map(_is_open, marked)) and not needs_of(*marked)


def _is_open(marked: object) -> bool:
    """Whether it was marked itself, or is an object of a class that was."""
    kind = marked if isinstance(marked, type) else type(marked)
    return _ANONYMOUS in vars(kind) or (
        kind is not marked and _ANONYMOUS in getattr(marked, "__dict__", ())
    )


def needs_of(*marked: object) -> tuple[Needs, ...]:
    """All that callers of a view need, which is marked in several places."""
    return tuple(dict.fromkeys(need for each in marked for need in getattr(each, _NEEDS, ())))
