"""Values with fields: what dataclasses are, without the code that is written for each.

`dataclasses` writes the methods of a class as text and compiles them, at every start: half a
millisecond a class, a twentieth of what the bare interpreter takes. `frozen` gives a class methods
that are there already, and `record` one whose fields may change. The classes that most commands
load are made so; for others a dataclass is as good.

Type checkers see a frozen dataclass, and so does `dataclasses` where it is asked: its `replace`,
`fields` and `asdict` take these values too.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    NoReturn,
    TypeVar,
    dataclass_transform,
    overload,
)

_Class = TypeVar("_Class", bound=type)
_NOTHING: Any = object()
_FIELDS = "__frozen_fields__"
_set = object.__setattr__


class _Field:
    """What is said of a field; `kind` is the type of its values."""

    __slots__ = ("compare", "default", "default_factory", "hash", "kind", "kw_only", "repr")

    def __init__(
        self,
        default: Any = _NOTHING,  # noqa: ANN401 - of the field's type
        default_factory: Any = _NOTHING,  # noqa: ANN401 - see above
        *,
        compare: bool = True,
        hash: bool = True,  # noqa: A002 - the words of `dataclasses`
        repr: bool = True,  # noqa: A002 - see above
        kw_only: bool = False,
    ) -> None:
        self.default = default
        self.default_factory = default_factory
        self.compare = compare
        self.hash = hash
        self.repr = repr
        self.kw_only = kw_only
        self.kind: Any = None


def field(
    *,
    default: Any = _NOTHING,  # noqa: ANN401 - of the field's type
    default_factory: Any = _NOTHING,  # noqa: ANN401 - see above
    compare: bool = True,
    hash: bool = True,  # noqa: A002 - the words of `dataclasses`
    repr: bool = True,  # noqa: A002 - see above
    kw_only: bool = False,
) -> Any:  # noqa: ANN401 - see above
    """Say of a field what `dataclasses.field` says, in the same words."""
    return _Field(default, default_factory, compare=compare, hash=hash, repr=repr, kw_only=kw_only)


@overload
def frozen(cls: _Class) -> _Class: ...


@overload
def frozen(*, kw_only: bool) -> Callable[[_Class], _Class]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: Any = None, *, kw_only: bool = False) -> Any:
    """Make a class one of immutable values: its annotations are the fields, after those of a base.

    Methods that the class has itself stay; `__post_init__` is called as that of a dataclass.

    Args:
        cls: The class.
        kw_only: Whether its own fields are given by name alone.
    """

    def made(cls: _Class) -> _Class:
        fields = _fields_of(cls, kw_only=kw_only)
        _give(cls, {**_methods(fields, cls), **_compared(fields, cls)})
        return cls

    return made if cls is None else made(cls)


@dataclass_transform(eq_default=False, field_specifiers=(field,))
def record(cls: _Class) -> _Class:
    """Make a class one whose annotations are fields that may change.

    Each object is equal to itself alone. What is said of `frozen` holds for the rest.
    """
    _give(cls, _methods(_fields_of(cls), cls))
    return cls


def _fields_of(cls: type, *, kw_only: bool = False) -> Mapping[str, _Field]:
    fields = {
        name: said
        for base in reversed(cls.__mro__[1:])
        for name, said in base.__dict__.get(_FIELDS, {}).items()
    }
    for name, kind in cls.__annotations__.items():
        if getattr(kind, "__origin__", kind) is not ClassVar:
            fields[name] = said = _field_of(cls, name)
            said.kind = kind
            said.kw_only |= kw_only
    made: Any = cls
    setattr(made, _FIELDS, fields)
    made.__match_args__ = _positional(fields)  # type: ignore[misc]  # mypy takes it for a constant
    made.__dataclass_fields__ = _ForDataclasses(fields)
    return fields


def _give(cls: type, methods: Mapping[str, Callable[..., Any]]) -> None:
    for name, method in methods.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)


def _replace(value: Any, /, **changes: Any) -> Any:  # noqa: ANN401 - of any type
    """Return a value with other fields, as `dataclasses.replace` does."""
    fields = getattr(type(value), _FIELDS, None)
    if fields is None:
        # a dataclass: type checkers do not tell them apart
        from dataclasses import replace as replaced

        return replaced(value, **changes)
    kept = {name: getattr(value, name) for name in fields if name not in changes}
    return type(value)(**kept, **changes)


def asdict(value: object) -> dict[str, Any]:
    """Return the fields of a value, and of those in it, by their names, as `dataclasses` does."""
    return {name: _plain(getattr(value, name)) for name in getattr(type(value), _FIELDS)}


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any type
    if hasattr(type(value), _FIELDS):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        found = [_plain(each) for each in value]
        return found if isinstance(value, list) else tuple(found)
    return value


if TYPE_CHECKING:
    # which checks the names and types of the changes
    from dataclasses import replace as replace  # noqa: PLC0414 - exports it
else:
    replace = _replace


def _field_of(cls: type, name: str) -> _Field:
    said = cls.__dict__.get(name, _NOTHING)
    if not isinstance(said, _Field):
        return _Field(said)
    # as the class of a dataclass has it: the default, or nothing
    if said.default is _NOTHING:
        delattr(cls, name)
    else:
        setattr(cls, name, said.default)
    return said


def _methods(fields: Mapping[str, _Field], cls: type) -> dict[str, Callable[..., Any]]:
    return {
        "__init__": _init(fields, prepared=hasattr(cls, "__post_init__")),
        "__repr__": _repr([name for name, said in fields.items() if said.repr]),
    }


def _compared(fields: Mapping[str, _Field], cls: type) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {"__setattr__": _refuse, "__delattr__": _refuse}
    compared = [name for name, said in fields.items() if said.compare]
    if compared and "__eq__" not in cls.__dict__:
        found["__eq__"] = _eq(attrgetter(*compared))
        found["__hash__"] = _hash(attrgetter(*(name for name in compared if fields[name].hash)))
    return found


def _init(fields: Mapping[str, _Field], *, prepared: bool) -> Callable[..., None]:
    names = _positional(fields)
    named_only = tuple(name for name in fields if name not in names)

    def __init__(self: Any, /, *given: Any, **named: Any) -> None:  # noqa: ANN401, N807 - a method
        for name, value in zip(names, given, strict=False):
            _set(self, name, value)
        if named or named_only or len(given) != len(names):
            for name in names[len(given) :] + named_only:
                _set(self, name, named.pop(name) if name in named else _default(self, fields, name))
            if named or len(given) > len(names):
                raise TypeError(f"{type(self).__name__} has no such fields: {given}, {named}")
        if prepared:
            self.__post_init__()

    return __init__


def _positional(fields: Mapping[str, _Field]) -> tuple[str, ...]:
    return tuple(name for name, said in fields.items() if not said.kw_only)


def _default(value: object, fields: Mapping[str, _Field], name: str) -> object:
    said = fields[name]
    if said.default is not _NOTHING:
        return said.default
    if said.default_factory is not _NOTHING:
        return said.default_factory()
    raise TypeError(f"{type(value).__name__} needs a value for {name}")


def _repr(names: list[str]) -> Callable[..., str]:
    def __repr__(self: object) -> str:  # noqa: N807 - a method
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return __repr__


def _eq(facts: Callable[[object], object]) -> Callable[..., bool]:
    def __eq__(self: object, other: object) -> bool:  # noqa: N807 - a method
        return facts(self) == facts(other) if type(self) is type(other) else NotImplemented

    return __eq__


def _hash(facts: Callable[[object], object]) -> Callable[..., int]:
    def __hash__(self: object) -> int:  # noqa: N807 - a method
        return hash(facts(self))

    return __hash__


def _refuse(self: object, name: str, *_: object) -> NoReturn:
    raise AttributeError(f"cannot change {name} of {type(self).__name__}: its values are immutable")


class _ForDataclasses:
    """The fields as `dataclasses` describes them, made when it asks: most starts do without."""

    def __init__(self, fields: Mapping[str, _Field]) -> None:
        self._fields = fields

    def __get__(self, value: object, cls: Any) -> Mapping[str, Any]:  # noqa: ANN401 - any class
        from dataclasses import field as described
        from dataclasses import make_dataclass

        alike = []
        for name, said in self._fields.items():
            defaults = {"default": said.default, "default_factory": said.default_factory}
            known = {key: each for key, each in defaults.items() if each is not _NOTHING}
            more: dict[str, Any] = {
                **known,
                "compare": said.compare,
                "hash": None if said.hash else False,
                "repr": said.repr,
                "kw_only": said.kw_only,
            }
            alike.append((name, said.kind, described(**more)))
        made: Any = make_dataclass(cls.__name__, alike)
        found: Mapping[str, Any] = made.__dataclass_fields__
        cls.__dataclass_fields__ = found
        return found
