"""Immutable values are what frozen dataclasses are, for programs and for `dataclasses`."""

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import ClassVar

import pytest

from modelrunner.frozen import asdict, field, frozen, record, replace


@frozen
class Ours:
    """A value."""

    name: str
    size: int = 0
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)
    secret: str | None = field(default=None, repr=False)
    typed: str = field(default="", compare=False)
    kind: ClassVar[str] = "ours"

    @property
    def doubled(self) -> int:
        """Twice the size."""
        return self.size * 2


@dataclasses.dataclass(frozen=True)
class Theirs:
    """The same as a dataclass."""

    name: str
    size: int = 0
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    secret: str | None = dataclasses.field(default=None, repr=False)
    typed: str = dataclasses.field(default="", compare=False)
    kind: ClassVar[str] = "ours"


CALLS = [
    (("a",), {}),
    (("a", 1), {}),
    (("a", 1, {"k": "v"}, "s", "t"), {}),
    ((), {"name": "a", "secret": "s"}),
    (("a",), {"typed": "t", "size": 3}),
]


@pytest.mark.parametrize(("given", "named"), CALLS)
def test_fields_and_text_are_those_of_a_dataclass(given, named) -> None:
    ours, theirs = Ours(*given, **named), Theirs(*given, **named)
    assert repr(ours).removeprefix("Ours") == repr(theirs).removeprefix("Theirs")
    assert vars(ours) == vars(theirs)


@pytest.mark.parametrize(("given", "named"), CALLS)
@pytest.mark.parametrize(("others", "more"), CALLS)
def test_values_are_equal_where_those_of_a_dataclass_are(given, named, others, more) -> None:
    ours = Ours(*given, **named), Ours(*others, **more)
    theirs = Theirs(*given, **named), Theirs(*others, **more)
    assert (ours[0] == ours[1]) == (theirs[0] == theirs[1])
    assert (hash(ours[0]) == hash(ours[1])) == (hash(theirs[0]) == hash(theirs[1]))
    assert ours[0] != theirs[0]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((), {}),
        (("a", 1, {}, None, "", "six"), {}),
        (("a",), {"name": "b"}),
        (("a",), {"unknown": 1}),
    ],
)
def test_what_a_dataclass_does_not_take_is_refused(given, named) -> None:
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*given, **named)


def test_a_value_does_not_change() -> None:
    value = Ours("a")
    with pytest.raises(AttributeError, match="cannot change size of Ours"):
        value.size = 2
    with pytest.raises(AttributeError, match="cannot change more of Ours"):
        value.more = 2
    with pytest.raises(AttributeError, match="cannot change name of Ours"):
        del value.name
    assert value == Ours("a")


def test_another_value_has_what_is_not_replaced() -> None:
    value = Ours("a", 1, {"k": "v"}, "s", "t")
    for replaced in (replace(value, size=2), dataclasses.replace(value, size=2)):
        assert vars(replaced) == {**vars(value), "size": 2}
    with pytest.raises(TypeError):
        replace(value, unknown=1)
    assert replace(Theirs("a"), size=2) == Theirs("a", 2)


def test_it_is_a_dataclass_for_who_asks() -> None:
    assert dataclasses.is_dataclass(Ours)
    assert dataclasses.asdict(Ours("a", 1)) == dataclasses.asdict(Theirs("a", 1))
    told = ("name", "type", "default", "default_factory", "compare", "hash", "repr", "init")
    assert [[getattr(each, key) for key in told] for each in dataclasses.fields(Ours)] == [
        [getattr(each, key) for key in told] for each in dataclasses.fields(Theirs)
    ]


def test_each_value_has_a_default_of_its_own() -> None:
    assert Ours("a").notes is not Ours("a").notes


def test_a_default_is_read_from_the_class_too() -> None:
    assert (Ours.size, Ours.secret, Ours.kind) == (0, None, "ours")
    assert not hasattr(Ours, "notes")


def test_it_is_copied_and_pickled() -> None:
    value = Ours("a", 1, {"k": "v"})
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value


def test_methods_of_the_class_stay() -> None:
    @frozen
    class Own:
        word: str

        def __post_init__(self) -> None:
            if not self.word:
                raise ValueError(self.word)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own) and self.word.lower() == other.word.lower()

        def __hash__(self) -> int:
            return hash(self.word.lower())

    assert Own("A") == Own("a")
    assert hash(Own("A")) == hash(Own("a"))
    with pytest.raises(ValueError, match=r"^$"):
        Own("")


def test_a_class_has_the_fields_of_its_base_too() -> None:
    @frozen
    class More(Ours):
        """With a field that is always named."""

        path: str = field(kw_only=True)

    more = More("a", 1, path="p")
    assert repr(more) == (
        "test_a_class_has_the_fields_of_its_base_too.<locals>.More(name='a', size=1, notes={},"
        " typed='', path='p')"
    )
    assert (more.doubled, more == replace(more, path="q")) == (2, False)
    assert dataclasses.replace(more, size=2) == More("a", 2, path="p")
    assert more != Ours("a", 1)
    with pytest.raises(TypeError):
        More("a", 1, {}, None, "", "p")


def test_a_class_is_made_without_dataclasses() -> None:
    program = (
        "import sys\nfrom modelrunner.frozen import frozen, replace\n"
        "@frozen\nclass A:\n    b: int = 1\n"
        "print(replace(A(2), b=3), A(1) == A(), 'dataclasses' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"A(b=3) True False\n"


@record
class Changing:
    """Something that changes."""

    name: str
    size: int = 0
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.twice = self.size * 2


def test_record_has_fields_that_change() -> None:
    one, other = Changing("a", size=2), Changing("a", size=2)
    assert (one.name, one.size, one.seen, one.twice) == ("a", 2, [], 4)
    one.size += 1
    one.seen.append("x")
    assert repr(one).endswith("Changing(name='a', size=3, seen=['x'])")
    assert other.seen == []
    assert dataclasses.asdict(one) == {"name": "a", "size": 3, "seen": ["x"]}


def test_record_is_equal_to_itself_alone() -> None:
    one, other = Changing("a"), Changing("a")
    assert one == one  # noqa: PLR0124 - the question
    assert one != other
    assert {one, other} == {other, one}
    assert len({one, other}) == 2


def test_record_is_told_of_fields_it_has_not() -> None:
    with pytest.raises(TypeError, match="no such fields"):
        Changing("a", colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="needs a value for name"):
        Changing()  # type: ignore[call-arg]


@frozen(kw_only=True)
class Named(Ours):
    """Fields of its own that are given by name, after those of a base."""

    last: str
    inner: tuple[Ours, ...] = ()


def test_fields_that_are_given_by_name_alone() -> None:
    value = Named("a", 2, last="z")
    assert (value.name, value.size, value.last, value.inner) == ("a", 2, "z", ())
    assert value == Named(last="z", size=2, name="a")
    assert Named.__match_args__ == ("name", "size", "notes", "secret", "typed")
    with pytest.raises(TypeError):
        Named("a", 2, {}, None, "", "z")
    with pytest.raises(TypeError, match="needs a value for last"):
        Named("a")
    assert replace(value, last="y") == Named("a", 2, last="y")


def test_mapping_of_all_fields_is_that_of_dataclasses() -> None:
    inner = Ours("b", notes={"k": "v"})
    value = Named("a", last="z", inner=(inner, Ours("c")))
    assert asdict(value) == dataclasses.asdict(value)
    assert asdict(value)["inner"][0] == {
        "name": "b", "size": 0, "notes": {"k": "v"}, "secret": None, "typed": "",
    }  # fmt: skip
