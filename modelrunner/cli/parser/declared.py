"""How a command declares its arguments and options.

A command is a function whose annotations hold an `Argument` or an `Option`. Two parsers read these
declarations: `quick` understands usual command lines without another library, and Typer, which is
slow to load, everything else. This module imports neither.
"""

from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any

from modelrunner.frozen import frozen


@frozen
class Argument:
    """Declares an argument.

    Attributes:
        metavar: Its placeholder in help texts.
        help: What it means.
    """

    metavar: str | None = None
    help: str | None = None


class Option:
    """Declares an option.

    Attributes:
        names: What is typed; without any, `--` and the name of the parameter.
        help: What it does.
        metavar: The placeholder of its value in help texts.
        min: The smallest valid number.
        max: The largest valid number.
        hidden: Whether help texts leave it out.
    """

    __slots__ = ("help", "hidden", "max", "metavar", "min", "names")

    def __init__(
        self,
        *names: str,
        help: str | None = None,  # noqa: A002 - the word that declarations have
        metavar: str | None = None,
        min: float | None = None,  # noqa: A002 - see above
        max: float | None = None,  # noqa: A002 - see above
        hidden: bool = False,
    ) -> None:
        self.names = names
        self.help = help
        self.metavar = metavar
        self.min = min
        self.max = max
        self.hidden = hidden


@frozen
class Lent:
    """Marks a parameter of a command that stands for several options, declared by a function.

    Attributes:
        by: Returns the parameter's value; its own parameters are the options.
    """

    by: Callable[..., object]


@frozen
class Parameter:
    """A parameter of a function that declares options.

    Attributes:
        name: Its name.
        annotation: Its type, with the declaration as metadata.
        default: Its default; `...` where a value is required.
    """

    name: str
    annotation: Any
    default: Any

    @property
    def declaration(self) -> Argument | Option | None:
        """Return the declaration; None for a parameter without one."""
        found = getattr(self.annotation, "__metadata__", ())
        return next((fact for fact in found if isinstance(fact, Argument | Option)), None)

    @property
    def kind(self) -> Any:  # noqa: ANN401 - types have many types
        """Return the type of a value, without None: of one of them where there may be several."""
        kind = self._type
        return kind.__args__[0] if self.many else kind

    @property
    def many(self) -> bool:
        """Return whether there may be several values."""
        return getattr(self._type, "__origin__", None) is list

    @property
    def _type(self) -> Any:  # noqa: ANN401 - see above
        kind = getattr(self.annotation, "__origin__", self.annotation)
        if isinstance(kind, UnionType):
            return next(each for each in kind.__args__ if each is not type(None))
        return kind

    @property
    def lender(self) -> Callable[..., object] | None:
        """Return the function whose options the parameter stands for."""
        found = getattr(self.annotation, "__metadata__", ())
        return next((fact.by for fact in found if isinstance(fact, Lent)), None)


@frozen
class Declaration:
    """A command.

    Attributes:
        function: What it runs: takes a `Context` and then the parameters.
        epilog: Text below its options: examples, and what stands before them.
        name: Its name, where the function is called differently.
        rest: The option that takes each word after `--`; None where these are arguments.
        more: Parameters that the function does not take.
    """

    function: Callable[..., None]
    epilog: str
    name: str | None = None
    rest: str | None = None
    more: tuple[Parameter, ...] = ()

    def parameters(self) -> "list[Parameter]":
        """Return its own parameters, those that are lent to it included."""
        return [*(entry for _, entries in self._by_lender() for entry in entries), *self.more]

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return what the function takes, of the values of all parameters."""
        taken: dict[str, Any] = {}
        for holder, entries in self._by_lender():
            own = {entry.name: values[entry.name] for entry in entries}
            lender = holder.lender
            taken[holder.name] = own[holder.name] if lender is None else lender(**own)
        return taken

    def _by_lender(self) -> "Iterator[tuple[Parameter, list[Parameter]]]":
        for entry in parameters_of(self.function)[1:]:
            lender = entry.lender
            yield entry, [entry] if lender is None else parameters_of(lender)


def parameters_of(function: Callable[..., object]) -> list[Parameter]:
    """Return the parameters of a function whose annotations are evaluated."""
    # `inspect` would say the same, and takes longer to load than all of this
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    positional = function.__defaults__ or ()
    defaults = dict(
        zip(names[code.co_argcount - len(positional) : code.co_argcount], positional, strict=True)
    )
    defaults |= function.__kwdefaults__ or {}
    annotations = function.__annotations__
    return [Parameter(name, annotations.get(name), defaults.get(name, ...)) for name in names]
