"""`dataclass` as the standard library has it, for a program that is started often.

The standard library compiles up to eight methods for each class when its module is imported. A
command imports many classes and makes objects of few, and compiling took almost half of the time
until it began. Here a method is made when it is first needed, and most need no compiling. `field`,
`fields`, `replace`, `asdict`, `match` and `copy` work as with the standard library's classes.

What nothing here needs is missing: `InitVar`, weak references to objects with slots, and classes
that inherit from the standard library's frozen ones.
"""

import dataclasses
import operator
from collections.abc import Callable
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # type checkers have rules for it by this name
    from dataclasses import dataclass as dataclass  # noqa: PLC0414, TID251
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:  # noqa: ANN401 - a class
        """Return the class with the methods of a dataclass, or a decorator that does."""
        return _decorator(**options) if cls is None else _decorator(**options)(cls)


_standard = dataclasses.dataclass  # noqa: TID251 - finds the fields and makes the slots
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "__lt__": operator.lt,
    "__le__": operator.le,
    "__gt__": operator.gt,
    "__ge__": operator.ge,
}


def _decorator(
    *,
    eq: bool = True,
    order: bool = False,
    frozen: bool = False,
    kw_only: bool = False,
    slots: bool = False,
) -> Callable[[type], type]:
    def decorate(cls: type) -> type:
        written = vars(cls)
        methods: dict[str, Any] = {"__init__": _Later(_init, frozen=frozen), "__repr__": _repr}
        if eq:
            methods["__eq__"] = _Later(_comparison, compare=operator.eq)
            methods["__hash__"] = _Later(_hash) if frozen else None
        if order:
            methods |= {n: _Later(_comparison, compare=c) for n, c in _COMPARISONS.items()}
        if frozen:
            methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
            methods |= {"__getstate__": _state, "__setstate__": _set_state} if slots else {}
        # a class with `__eq__` and no `__hash__` has None there, by Python itself
        kept = {n for n in written if n != "__hash__" or written[n] or "__eq__" not in written}
        if not cls.__doc__:
            # the standard library would describe the signature, which takes longer than the rest
            cls.__doc__ = cls.__name__
        made: type = _standard(init=False, repr=False, eq=False, kw_only=kw_only, slots=slots)(cls)
        for name in methods.keys() - kept:
            method = methods[name]
            setattr(made, name, method)
            if isinstance(method, _Later):
                method.belong(made, name)
        return made

    return decorate


class _Later:
    """A method that is made when it is first looked up, and then takes this one's place."""

    def __init__(self, make: Callable[..., Any], **options: object) -> None:
        self.make, self.options = make, options

    def belong(self, owner: type, name: str) -> None:
        """Note the class that it is a method of."""
        self.owner, self.name = owner, name

    def __get__(self, instance: object, owner: type) -> Any:  # noqa: ANN401 - any method
        method = self.make(self.owner, **self.options)
        method.__name__, method.__module__ = self.name, self.owner.__module__
        method.__qualname__ = f"{self.owner.__qualname__}.{self.name}"
        setattr(self.owner, self.name, method)
        return method if instance is None else method.__get__(instance)


def _init(cls: type, *, frozen: bool) -> Callable[..., None]:
    """Compile `__init__`."""
    fields = dataclasses.fields(cls)
    space: dict[str, Any] = {"__set": object.__setattr__, "__made": _MADE}
    ordered = [field for field in fields if field.init and not field.kw_only]
    named = [field for field in fields if field.init and field.kw_only]
    parameters = ["self", *(_parameter(field, space) for field in ordered)]
    if named:
        parameters += ["*", *(_parameter(field, space) for field in named)]
    lines = []
    for field in fields:
        value = _value(field, space)
        if value:
            line = (
                f"__set(self, {field.name!r}, {value})"
                if frozen
                else f"self.{field.name} = {value}"
            )
            lines.append(line)
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    text = f"def __init__({', '.join(parameters)}):\n  " + "\n  ".join(lines or ["pass"])
    exec(text, space)  # noqa: S102 - of the names in our own classes
    made: Callable[..., None] = space["__init__"]
    made.__annotations__ = {field.name: field.type for field in (*ordered, *named)}
    made.__annotations__["return"] = None
    return made


class _Made:
    """What stands in a signature for a default that a function makes."""

    def __repr__(self) -> str:
        return "<factory>"


_MADE = _Made()


def _parameter(field: "dataclasses.Field[Any]", space: dict[str, Any]) -> str:
    """Return a parameter as it is written, and add its default to the names of the function."""
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}=__made"
    if field.default is dataclasses.MISSING:
        return field.name
    space[f"__default_{field.name}"] = field.default
    return f"{field.name}=__default_{field.name}"


def _value(field: "dataclasses.Field[Any]", space: dict[str, Any]) -> str | None:
    """Return what a field is set to as it is written; None leaves it unset."""
    if field.default_factory is not dataclasses.MISSING:
        space[f"__make_{field.name}"] = field.default_factory
        make = f"__make_{field.name}()"
        return f"{make} if {field.name} is __made else {field.name}" if field.init else make
    if field.init:
        return field.name
    if field.default is dataclasses.MISSING:
        return None
    space[f"__default_{field.name}"] = field.default
    return f"__default_{field.name}"


@recursive_repr("...")
def _repr(self: Any) -> str:  # noqa: ANN401 - any of the classes
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _key(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return the function that takes the values of attributes from an object."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


def _comparison(cls: type, *, compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    key = _key([field.name for field in dataclasses.fields(cls) if field.compare])

    def compared(self: object, other: object) -> Any:  # noqa: ANN401 - NotImplemented has no type
        return compare(key(self), key(other)) if type(other) is type(self) else NotImplemented

    return compared


def _hash(cls: type) -> Callable[[Any], int]:
    fields = dataclasses.fields(cls)
    key = _key([f.name for f in fields if (f.compare if f.hash is None else f.hash)])
    return lambda self: hash(key(self))


def _refuse_to_set(self: object, name: str, value: object) -> None:
    if _is_fixed(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _refuse_to_delete(self: object, name: str) -> None:
    if _is_fixed(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _is_fixed(self: Any, name: str) -> bool:  # noqa: ANN401 - any of the classes
    """Whether an attribute is a field; of a class that is no dataclass itself, others are free."""
    return "__dataclass_fields__" in vars(type(self)) or name in self.__dataclass_fields__


def _state(self: Any) -> list[Any]:  # noqa: ANN401 - any of the classes
    """Return what `copy` and `pickle` keep."""
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:  # noqa: ANN401 - any of the classes
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
