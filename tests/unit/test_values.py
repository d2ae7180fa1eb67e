"""`values.dataclass`: what the standard library's does, done later."""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import pytest

from modelrunner import values

T = TypeVar("T", bound=type)


def made_by(dataclass: Callable[..., Callable[[T], T]]) -> SimpleNamespace:
    """The same classes, by one of the two decorators."""

    @dataclass(frozen=True, slots=True)
    class Point:
        """A place."""

        x: int
        y: int = 2
        name: str = dataclasses.field(default="here", compare=False)
        tags: list[str] = dataclasses.field(default_factory=list, hash=False)
        secret: str = dataclasses.field(default="s3cret", repr=False)

    @dataclass(frozen=True, slots=True)
    class Third(Point):
        z: int = 3

    @dataclass(frozen=True)
    class Loose:
        x: int
        kind: ClassVar[str] = "loose"

    class Looser(Loose):
        pass

    @dataclass(slots=True)
    class Changing:
        x: int
        seen: dict[str, int] = dataclasses.field(init=False, default_factory=dict)
        start: int = dataclasses.field(init=False, default=5)
        double: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            self.double = self.x * 2

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        x: int = 1
        y: int

    @dataclass(frozen=True, slots=True, order=True)
    class Ranked:
        rank: int
        name: str

    @dataclass(frozen=True, slots=True, order=True)
    class Alone:
        value: Any

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    @dataclass(eq=False, slots=True)
    class Itself:
        x: int

    @dataclass(frozen=True, slots=True)
    class Own:
        """One that has methods of its own."""

        x: int

        def __repr__(self) -> str:
            return f"<{self.x}>"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own) and abs(self.x) == abs(other.x)

        def __hash__(self) -> int:
            return abs(self.x)

    @dataclass(frozen=True, slots=True)
    class Equal:  # noqa: PLW1641 - the decorator makes it
        x: int

        def __eq__(self, other: object) -> bool:
            return type(self) is type(other)

    @dataclass
    class Plain:
        x: int

    return SimpleNamespace(**{n: c for n, c in locals().items() if n != "dataclass"})


OURS = made_by(values.dataclass)
STANDARD = made_by(dataclasses.dataclass)


def of_both(do: Callable[[SimpleNamespace], object]) -> object:
    """What both do: a value, or the type and the text of an error."""
    told = []
    for classes in (OURS, STANDARD):
        try:
            told.append(do(classes))
        except Exception as exc:  # noqa: BLE001 - whatever the standard library raises
            told.append((type(exc), str(exc)))
    ours, standard = (repr(each).replace("made_by.<locals>.", "") for each in told)
    assert ours == standard
    return told[0]


def holding_itself(classes: SimpleNamespace) -> object:
    made = classes.Point(1)
    made.tags.append(made)
    return made


MAKES: dict[str, Callable[[SimpleNamespace], object]] = {
    "with defaults": lambda c: c.Point(1),
    "with all": lambda c: c.Point(1, 3, "there", ["a"], "other"),
    "with names": lambda c: c.Point(y=4, x=2),
    "that inherits": lambda c: c.Third(1, z=9),
    "with too few": lambda c: c.Point(),
    "with too many": lambda c: c.Ranked(1, "a", 3),
    "with an unknown name": lambda c: c.Point(1, w=3),
    "with steps after it": lambda c: c.Changing(4),
    "by name alone": lambda c: c.Named(y=3),
    "in the wrong order": lambda c: c.Named(3),
    "of one": lambda c: c.Alone(None),
    "of nothing": lambda c: c.Nothing(),
    "without slots": lambda c: c.Loose(2),
    "that no decorator has seen": lambda c: c.Looser(2),
    "with a repr of its own": lambda c: c.Own(-3),
    "of defaults that are not shared": lambda c: c.Point(1).tags is c.Point(1).tags,
    "that holds itself": holding_itself,
}


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_an_object_is_made_and_shown_as_by_the_standard_library(
    make: Callable[[SimpleNamespace], object],
) -> None:
    of_both(make)


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        (lambda c: c.Point(1) == c.Point(1, name="there"), True),
        (lambda c: c.Point(1) == c.Point(1, 3), False),
        (lambda c: c.Point(1) == c.Third(1), False),
        (lambda c: c.Third(1) == c.Third(1, z=4), False),
        (lambda c: c.Loose(1) == c.Looser(1), False),
        (lambda c: c.Looser(1) == c.Looser(1), True),
        (lambda c: c.Point(1) == 1, False),
        (lambda c: c.Point(1) != c.Point(1), False),
        (lambda c: c.Nothing() == c.Nothing(), True),
        (lambda c: c.Alone(nan := float("nan")) == c.Alone(nan), True),
        (lambda c: c.Itself(1) == c.Itself(1), False),
        (lambda c: c.Own(1) == c.Own(-1), True),
        (lambda c: c.Equal(1) == c.Equal(2), True),
        (lambda c: c.Ranked(1, "b") < c.Ranked(2, "a"), True),
        (lambda c: c.Ranked(1, "b") < c.Ranked(1, "a"), False),
        (lambda c: c.Ranked(1, "a") <= c.Ranked(1, "a"), True),
        (lambda c: c.Ranked(1, "a") > c.Ranked(1, "a"), False),
        (lambda c: c.Ranked(1, "a") >= c.Ranked(1, "a"), True),
        (lambda c: max(c.Alone(2), c.Alone(1)).value, 2),
        (lambda c: len({c.Point(1), c.Point(1, name="x"), c.Point(2)}), 2),
        (lambda c: hash(c.Point(1)) == hash(c.Point(1, tags=["a"])), True),
        (lambda c: hash(c.Own(-7)), 7),
        (lambda c: hash(c.Nothing()) == hash(()), True),
        (lambda c: hash(c.Alone(5)) == hash((5,)), True),
        (lambda c: c.Changing.__hash__, None),
        (lambda c: c.Plain.__hash__, None),
        (lambda c: hash(c.Equal(4)) == hash((4,)), True),
        (lambda c: hash(c.Itself) is not None, True),
    ],
)
def test_objects_are_equal_and_in_order_as_by_the_standard_library(
    compare: Callable[[SimpleNamespace], object], expected: object
) -> None:
    assert of_both(compare) == expected


def test_what_cannot_be_compared_or_hashed_says_so() -> None:
    of_both(lambda c: c.Ranked(1, "a") < c.Alone(1))
    of_both(lambda c: hash(c.Changing(1)))
    of_both(lambda c: hash(c.Alone([])))


def test_a_frozen_object_does_not_change() -> None:
    def set_it(made: object, name: str) -> object:
        setattr(made, name, 1)
        return getattr(made, name)

    assert of_both(lambda c: set_it(c.Point(1), "x")) == (
        dataclasses.FrozenInstanceError,
        "cannot assign to field 'x'",
    )
    of_both(lambda c: delattr(c.Point(1), "x"))
    of_both(lambda c: set_it(c.Loose(1), "new"))
    of_both(lambda c: delattr(c.Loose(1), "new"))
    of_both(lambda c: set_it(c.Looser(1), "x"))
    # a class that inherits and is no dataclass has attributes of its own
    assert of_both(lambda c: set_it(c.Looser(1), "new")) == 1
    assert of_both(lambda c: set_it(c.Changing(4), "x")) == 1
    of_both(lambda c: set_it(c.Changing(4), "new"))


def test_the_functions_of_the_standard_library_know_the_classes() -> None:
    assert of_both(lambda c: [f.name for f in dataclasses.fields(c.Third)])
    of_both(lambda c: dataclasses.is_dataclass(c.Point))
    of_both(lambda c: dataclasses.asdict(c.Point(1, tags=["a"])))
    of_both(lambda c: dataclasses.astuple(c.Third(1)))
    of_both(lambda c: dataclasses.replace(c.Point(1), y=9))
    of_both(lambda c: dataclasses.replace(c.Named(y=1), y=9))
    of_both(lambda c: dataclasses.replace(c.Changing(1), x=9))
    of_both(lambda c: c.Point.__match_args__)
    of_both(lambda c: c.Named.__match_args__)
    of_both(lambda c: c.Point.__slots__)
    of_both(lambda c: c.Third.__slots__)
    of_both(lambda c: c.Point.__doc__)
    of_both(lambda c: inspect.signature(c.Point))
    of_both(lambda c: inspect.signature(c.Named))
    of_both(lambda c: inspect.signature(c.Nothing))
    of_both(lambda c: c.Point.__init__.__qualname__)
    of_both(lambda c: c.Point.__eq__.__qualname__)


def test_copies_are_equal_and_frozen() -> None:
    made = OURS.Point(1, tags=["a"])
    for copied in (copy.copy(made), copy.deepcopy(made)):
        assert copied == made
        with pytest.raises(dataclasses.FrozenInstanceError):
            copied.x = 2
    assert copy.copy(made).tags is made.tags
    assert copy.deepcopy(made).tags is not made.tags
    assert copy.copy(OURS.Loose(4)) == OURS.Loose(4)
    assert copy.copy(OURS.Changing(4)).double == 8


@values.dataclass(frozen=True, slots=True)
class Kept:
    """One that pickle finds."""

    x: int
    y: list[int]


def test_a_frozen_object_is_pickled() -> None:
    assert pickle.loads(pickle.dumps(Kept(1, [2]))) == Kept(1, [2])
