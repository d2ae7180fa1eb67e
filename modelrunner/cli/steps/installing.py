"""Installing a runtime, as `runtimes install` and a start without one do it: said, asked, shown."""

from modelrunner.cli.context import Context
from modelrunner.cli.progress.select import progress
from modelrunner.cli.steps.confirm import agrees, confirm
from modelrunner.errors import ModelRunnerError, RuntimeFailedError
from modelrunner.events import ignore
from modelrunner.oci.runtime_name import AUTO, Named, named
from modelrunner.operations import devices
from modelrunner.operations.runtimes.install import ImagePlan, InstallResult
from modelrunner.runtime.images.fitting import fitting
from modelrunner.runtime.images.library import INSTALLED, Installed, Library
from modelrunner.text import sanitize_line
from modelrunner.units import format_size


def chosen_name(context: Context, text: str, version: str | None) -> Named:
    """Return what to install; `auto` is the smallest that uses this machine's GPU."""
    if text != AUTO:
        return named(text, version)
    backend, why = fitting(devices.MACHINE)
    context.console.say(f"{backend}: {why}")
    return named(backend, version)


def install(context: Context, wanted: Named, *, yes: bool, use: bool = True) -> InstallResult:
    """Install a runtime, after its size was shown and confirmed.

    Raises:
        UsageError: Without a terminal and without `--yes`.
        CommandEnd: The user does not agree.
    """
    plan = context.workspace.installer(ignore).plan(wanted)
    if plan.installed is None:
        action = f"install {wanted.reference.short}"
        confirm(context, action, [_size(plan)], yes=yes, verb="install")
    return _install(context, plan, use=use)


def offered(context: Context, what: str) -> bool:
    """Ask whether to install a runtime, and install it; False where that is not wanted."""
    context.console.note("no runtime is installed that can run a model")
    wanted = chosen_name(context, what, None)
    plan = context.workspace.installer(ignore).plan(wanted)
    context.console.note(_size(plan))
    if not agrees(context, f"install {wanted.reference.short}"):
        return False
    result = _install(context, plan)
    context.console.say(f"installed {result.runtime.name}")
    return True


def _install(context: Context, plan: ImagePlan, *, use: bool = True) -> InstallResult:
    with progress(context.console) as listener:
        result = context.workspace.installer(listener).install(plan, use=use)
    for problem in result.lacking:
        context.console.warn(problem)
    if result.new:
        _warn_of_gpus(context, result.runtime)
    return result


def _warn_of_gpus(context: Context, one: Installed) -> None:
    """Hold the devices that a new build lists against those of the machine."""
    found = context.workspace.usable(context.workspace.runtime(f"{INSTALLED}:{one.name}"))
    if not found.unused:
        return
    gpus = " and ".join(sanitize_line(device.name, 80) for device in found.unused)
    backend, _why = fitting(devices.MACHINE)
    remedy = (
        "`modelrunner doctor` checks its driver"
        if backend in {one.backend, "cpu"}
        else f"`modelrunner runtimes install {backend}` installs a build for it"
    )
    context.console.warn(f"{one.name} does not list {gpus}: {remedy}")


def _size(plan: ImagePlan) -> str:
    return (
        f"{plan.named.reference.short}: {format_size(plan.download_bytes)} to download, about "
        f"{format_size(plan.unpacked_bytes)} unpacked"
    )


def fewer_devices(context: Context, result: InstallResult) -> ModelRunnerError | None:
    """Return what to say where a runtime was not made current since it sees less."""
    if not result.missing:
        return None
    current = Library(context.settings.runtimes).current()
    kept = "" if current is None else f"; {current.name} stays in use"
    why = f" ({result.lacking[0]})" if result.lacking else ""
    return RuntimeFailedError(
        f"{result.runtime.name} does not list {', '.join(result.missing)}{why}{kept}",
        hint=f"use it all the same with `modelrunner runtimes use {result.runtime.name}`, or try "
        "another build with --version",
        missing=list(result.missing),
        runtime=result.runtime.name,
    )
