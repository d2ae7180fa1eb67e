"""`modelrunner runtimes`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.confirm import Yes, confirm
from modelrunner.cli.steps.installing import chosen_name, fewer_devices, install
from modelrunner.cli.views.runtimes import (
    emit_rows,
    listed,
    show_all,
    show_installed,
    show_result,
)
from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.events import ignore
from modelrunner.oci.reference import Reference
from modelrunner.oci.runtime_name import AUTO, Named, moving
from modelrunner.operations.runtimes.check import list_devices
from modelrunner.runtime.images.library import Library
from modelrunner.units import counted, format_size


class Action(StrEnum):
    """What to do with the runtimes that are installed from images."""

    INSTALL = "install"
    LIST = "list"
    USE = "use"
    UPDATE = "update"
    REMOVE = "remove"


@command(
    examples="  modelrunner runtimes\n"
    "  modelrunner runtimes install auto\n"
    "  modelrunner runtimes install vulkan --version b11434 --yes\n"
    "  modelrunner runtimes install ghcr.io/ggml-org/llama.cpp:server-cuda13\n"
    "  modelrunner runtimes list --json\n"
    "  modelrunner runtimes update\n"
    "  modelrunner runtimes use vulkan@b11434\n"
    "  modelrunner runtimes remove vulkan@b11401 --yes"
)
def runtimes(
    context: Context,
    action: Annotated[
        Action | None,
        Argument(
            metavar="[ACTION]",
            help="install, list, use, update or remove; without one, list every runtime.",
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        Argument(
            metavar="[RUNTIME...]",
            help="auto, cpu, vulkan, cuda12, cuda13, rocm, intel, musa, openvino, or an image;"
            " installed ones also by name (vulkan@b11434), build or digest.",
        ),
    ] = None,
    version: Annotated[
        str | None,
        Option(metavar="BUILD", help="Build to install, such as b11434, or latest."),
    ] = None,
    yes: Yes = False,
) -> None:
    """List the runtimes; install llama.cpp builds from images, choose, update or remove them."""
    given = names or []
    if version is not None and action is not Action.INSTALL:
        raise UsageError("--version is for `runtimes install`", hint="remove --version")
    if action is None:
        show_all(context)
    elif action is Action.LIST:
        _refuse_names(action, given)
        show_installed(context)
    elif action is Action.INSTALL:
        _install(context, given or [AUTO], version, yes=yes)
    elif action is Action.UPDATE:
        _update(context, given, yes=yes)
    elif action is Action.USE:
        _use(context, given)
    else:
        _remove(context, given, yes=yes)


def _install(context: Context, texts: Sequence[str], version: str | None, *, yes: bool) -> None:
    rows = []
    for text in texts:
        wanted = chosen_name(context, text, version)
        result = install(context, wanted, yes=yes)
        rows.append(show_result(context, result))
        error = fewer_devices(context, result)
        if error is not None:
            raise error
    emit_rows(context, rows)


def _update(context: Context, texts: Sequence[str], *, yes: bool) -> None:
    library = Library(context.settings.runtimes)
    current = library.current()
    chosen = [library.require(text) for text in texts]
    if not texts and current is not None:
        chosen = [current]
    if not chosen:
        raise RuntimeUnavailableError(
            "no installed runtime is in use", hint="`modelrunner runtimes install`"
        )
    rows = []
    for one in chosen:
        wanted = Named(moving(Reference.parse(one.reference)), one.backend)
        in_use = current is not None and current.digest == one.digest
        result = install(context, wanted, yes=yes, use=in_use)
        rows.append(show_result(context, result))
        error = fewer_devices(context, result)
        if error is not None:
            raise error
    emit_rows(context, rows)


def _use(context: Context, texts: Sequence[str]) -> None:
    if len(texts) != 1:
        raise UsageError(
            "`runtimes use` needs one runtime",
            hint="`modelrunner runtimes list` lists those that are installed",
        )
    library = Library(context.settings.runtimes)
    one = library.require(texts[0])
    # one that does not start any more is not chosen
    devices = list_devices(one, context.environ)
    library.use(one)
    if context.console.json:
        context.console.emit({**one.to_dict(), "in_use": True})
        return
    context.console.print(f"{one.name} is in use: {listed(devices)}")


def _remove(context: Context, texts: Sequence[str], *, yes: bool) -> None:
    if not texts:
        raise UsageError(
            "`runtimes remove` needs a runtime",
            hint="`modelrunner runtimes list` lists those that are installed",
        )
    library = Library(context.settings.runtimes)
    chosen = [library.require(text) for text in texts]
    size = sum(one.unpacked_bytes + one.download_bytes for one in chosen)
    action = f"remove {counted(len(chosen), 'runtime')} ({format_size(size)})"
    confirm(context, action, [one.name for one in chosen], yes=yes)
    rows = []
    for one in chosen:
        freed = context.workspace.installer(ignore).remove(one)
        rows.append({"name": one.name, "digest": str(one.digest), "freed_bytes": freed})
        if not context.console.json:
            context.console.print(f"removed {one.name}, {format_size(freed)} freed")
    emit_rows(context, rows)


def _refuse_names(action: Action, names: Sequence[str]) -> None:
    if names:
        raise UsageError(
            f"unexpected argument {names[0][:80]!r}", hint=f"`runtimes {action}` takes no names"
        )
