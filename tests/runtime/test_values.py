"""Values: equal by their fields, never changed, and cheap to declare."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys

import pytest

from tokenmgr._runtime.values import Value


class Point(Value):
    x: int
    y: int = 0


class Place(Point):
    """One with a name, which nobody is to see."""

    _hidden = frozenset({"name"})

    name: str = "here"

    def _check(self) -> None:
        if self.x < 0:
            raise ValueError("x is 0 or more")


def test_fields_are_given_in_order_or_by_name_or_left_out():
    assert vars(Point(1, 2)) == vars(Point(y=2, x=1)) == {"x": 1, "y": 2}
    assert vars(Place(1, name="there")) == {"x": 1, "y": 0, "name": "there"}


@pytest.mark.parametrize(
    ("given", "named"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 3}), ((), {"y": 1})],
)
def test_what_is_missing_twice_or_unknown_is_refused(given, named):
    with pytest.raises(TypeError, match="Point is made of x, y"):
        Point(*given, **named)


def test_a_refusal_shows_nothing_of_what_was_given():
    with pytest.raises(TypeError) as caught:
        Place("kept-Between~us", nme="kept-Between~us")

    frame = caught.traceback[-1].frame
    assert "kept-Between~us" not in repr({n: v for n, v in frame.f_locals.items() if n != "self"})


def test_two_are_equal_that_are_of_one_class_and_have_equal_fields():
    assert Point(1, 2) == Point(1, 2)
    assert hash(Point(1, 2)) == hash(Point(1, 2))
    assert Point(1, 2) != Point(1, 3)
    assert Point(1, 0) != Place(1, 0)
    assert Point(1, 2) != (1, 2)


def test_it_does_not_change():
    point = Point(1)
    with pytest.raises(AttributeError, match="does not change"):
        point.x = 2
    with pytest.raises(AttributeError, match="does not change"):
        del point.x
    assert point == Point(1)
    assert point._replace(x=2) == Point(2)


def test_what_is_wrong_with_it_is_found_however_it_is_made():
    with pytest.raises(ValueError, match="0 or more"):
        Place(-1)
    with pytest.raises(ValueError, match="0 or more"):
        Place(1)._replace(x=-1)


def test_its_repr_shows_what_may_be_seen():
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"
    assert repr(Place(1)) == "Place(x=1, y=0)"


def test_it_pickles_and_copies():
    assert pickle.loads(pickle.dumps(Place(1))) == copy.copy(Place(1)) == Place(1)


def test_declaring_one_generates_no_code():
    # What dataclasses do, at some half a millisecond for each class.
    program = (
        # What measures coverage, where it does, has imported them before.
        "import sys; sys.modules.pop('dataclasses', None)\n"
        "import tokenmgr.registry\n"
        "sys.exit('dataclasses' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_takes_dataclasses_takes_values():
    place = Place(1, name="there")

    assert dataclasses.replace(place, x=2) == Place(2, name="there")
    assert dataclasses.asdict(place) == {"x": 1, "y": 0, "name": "there"}
    assert [each.name for each in dataclasses.fields(Place) if each.repr] == ["x", "y"]
    assert str(inspect.signature(Place)) == "(x: 'int', y: 'int' = 0, name: 'str' = 'here') -> None"
    with pytest.raises(dataclasses.FrozenInstanceError):
        place.x = 2
    match place:
        case Place(x, name=name):
            assert (x, name) == (1, "there")


def test_a_dataclass_can_be_made_of_one():
    @dataclasses.dataclass(frozen=True)
    class Town(Point):
        people: int = 0

    assert repr(Town(1, people=3)).endswith("Town(x=1, y=0, people=3)")
    assert dataclasses.replace(Town(1), people=5).people == 5
