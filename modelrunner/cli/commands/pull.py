"""`modelrunner pull`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import CaFile, Fit, LimitRate, LockedFile, RequireFit
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.network import bytes_per_second, limited_workspace
from modelrunner.cli.views.pull import Result, RuntimeResult, print_failure, show_all, show_one
from modelrunner.errors import ModelRunnerError, NotInStoreError, UsageError
from modelrunner.frozen import frozen, replace
from modelrunner.operations.pull.outcome import Failed, Outcome
from modelrunner.operations.pull.placement import Placement, folders

# late imports: where the store has all that a lock pins, nothing that downloads is loaded
if TYPE_CHECKING:
    from modelrunner.cli.github import Actions
    from modelrunner.lockfile.project import Project
    from modelrunner.oci.reference import Reference
    from modelrunner.operations.pull.locked import Check
    from modelrunner.transfer.limits import Limits


@command(
    examples="  modelrunner pull ai/granite-4.0-micro\n"
    "  modelrunner pull ai/smollm2:135M-Q4_K_M ai/embeddinggemma --output models\n"
    "  modelrunner pull hf.co/ORG/REPO --include '*.safetensors' --output model\n"
    "  modelrunner pull --locked",
    github="Write outputs, annotations and a summary for GitHub Actions.",
)
def pull(
    context: Context,
    references: Annotated[
        list[str] | None,
        Argument(metavar="[REF...]", help="Models to pull; with --locked, names in the lock."),
    ] = None,
    locked: Annotated[
        bool,
        Option(
            "--locked",
            help="Pull exactly what modelrunner.lock pins, by digest, and install its runtime.",
        ),
    ] = False,
    frozen: Annotated[
        bool, Option("--frozen", help="Like --locked, but never use the network.")
    ] = False,
    file: LockedFile = None,
    everything: Annotated[
        bool,
        Option(
            "--all", help="Pull all files of a repository of the Hugging Face Hub, of any format."
        ),
    ] = False,
    include: Annotated[
        list[str] | None,
        Option(
            metavar="GLOB",
            help="Pull only the files of a repository of the Hugging Face Hub that match; can be"
            " repeated.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        Option(
            metavar="GLOB",
            help="Pull all files of a repository of the Hugging Face Hub but those that match; can"
            " be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="Also place the files in FOLDER, under their real names."),
    ] = None,
    link: Annotated[
        bool,
        Option(
            "--link", help="Hard-link the files to the local store; fail if that is impossible."
        ),
    ] = False,
    copy: Annotated[
        bool, Option("--copy", help="Copy the files, so that they can be modified.")
    ] = False,
    force: Annotated[
        bool,
        Option("--force", help="Overwrite files in FOLDER that modelrunner did not create."),
    ] = False,
    fail_fast: Annotated[
        bool, Option("--fail-fast", help="Stop all downloads as soon as one fails.")
    ] = False,
    connections: Annotated[
        int | None,
        Option(
            min=1,
            max=16,
            metavar="N",
            help="Maximum number of connections per download (default: 16).",
        ),
    ] = None,
    limit_rate: LimitRate = None,
    timeout: Annotated[
        float | None,
        Option(
            min=0.001,
            metavar="SECONDS",
            help="Overall time limit in seconds; partial downloads are kept.",
        ),
    ] = None,
    ca_file: CaFile = None,
    also: Annotated[
        list[str] | None,
        Option(metavar="REF|URL", help="Additional source for the same content; can be repeated."),
    ] = None,
    lan: Annotated[
        bool, Option("--lan", help="Look in shared stores on the local network first.")
    ] = False,
    referrers: Annotated[
        str | None,
        Option(
            metavar="all|signatures|none",
            help="What to keep of that which refers to a model, also of one that is stored already"
            " (default: signatures, with what is downloaded).",
        ),
    ] = None,
    fit: Fit = False,
    require_fit: RequireFit = False,
    budget: Annotated[
        str | None,
        Option(metavar="SIZE", help="Fit into this much memory, instead of this machine's."),
    ] = None,
    gpu: Annotated[
        str | None,
        Option(
            "--for",
            metavar="DEVICES",
            help='Fit on these GPUs, such as "2x RTX 4090" or 24GiB+ram:64GiB, instead of this'
            " machine.",
        ),
    ] = None,
) -> None:
    """Download models, verify them and add them to the local store. Existing blobs are reused."""
    actions = _actions(context) if context.options.github else None
    rate = bytes_per_second(limit_rate)
    workspace = limited_workspace(context, timeout, ca_file)
    if also or lan or context.settings.lan:
        workspace = workspace.asking_also(also or (), lan=lan or context.settings.lan)
    # a policy's signatures are not asked for then either
    context = context.over(workspace.ruled_offline() if frozen else workspace)
    from_lock = locked or frozen
    placement = _placement(output, link=link, copy=copy, force=force, locked=from_lock)
    fitting = fit or require_fit or budget is not None or gpu is not None
    files = _files(everything, include, exclude, alone=not (from_lock or fitting))
    request = _Request(
        connections, rate, fail_fast, actions, _wanted(referrers, context, frozen=frozen)
    )
    if from_lock:
        if fitting:
            raise UsageError(
                "--fit, --require-fit, --budget and --for cannot be combined with --locked",
                hint="remove them: the lock pins which variant to pull",
            )
        _pull_locked(context, references or (), request, placement, file=file)
        return
    if not references:
        raise UsageError(
            "no model given",
            hint="name a model, or use --locked for the models of modelrunner.lock",
        )
    if file is not None:
        raise UsageError("--file needs --locked", hint="add --locked, or --frozen")
    if fitting:
        references = _fitted(context, references, fit, require_fit, budget, gpu)
    _pull_named(context, references, request, placement, files)


@frozen
class _Request:
    """Limits of a pull, the outputs of GitHub Actions, and what refers to models."""

    connections: int | None
    rate: int | None
    fail_fast: bool
    actions: "Actions | None" = None
    referrers: str | None = None

    @property
    def limits(self) -> "Limits":
        from modelrunner.transfer.limits import Limits

        return Limits(self.connections, self.rate)


def _wanted(text: str | None, context: Context, *, frozen: bool) -> str | None:
    """Return what to keep of that which refers to models; None where nothing was said.

    Raises:
        UsageError: The word is unknown, or the network is ruled out.
    """
    if text is None:
        return None
    # few say it
    from modelrunner.oci.referrers import parse_choice

    if parse_choice(text) != "none" and (frozen or context.offline):
        raise UsageError(
            f"--referrers {text} needs the network, but "
            f"{'--frozen' if frozen else '--offline'} is set",
            hint="remove --referrers, or run the command with a network",
        )
    return text


def _placement(
    output: Path | None, *, link: bool, copy: bool, force: bool, locked: bool
) -> Placement:
    """Return the options as one value.

    Raises:
        UsageError: They cannot be combined.
    """
    if link and copy:
        raise UsageError("--link and --copy cannot be combined", hint="use one of them")
    if (link or copy or force) and output is None and not locked:
        raise UsageError("--link, --copy and --force need --output", hint="add --output FOLDER")
    return Placement(output, "link" if link else "copy" if copy else "auto", force)


@frozen
class _Files:
    """Globs that choose files of repositories; none stand for all files."""

    include: Sequence[str]
    exclude: Sequence[str]


def _files(
    everything: bool, include: list[str] | None, exclude: list[str] | None, *, alone: bool
) -> _Files | None:
    """Return which files are wanted; None where a model is.

    Args:
        everything: The option.
        include: The option.
        exclude: The option.
        alone: Whether nothing else says what is pulled.

    Raises:
        UsageError: The options cannot be combined.
    """
    if not (everything or include or exclude):
        return None
    if everything and include:
        raise UsageError("--all and --include cannot be combined", hint="use one of them")
    if not alone:
        raise UsageError(
            "--all, --include and --exclude cannot be combined with --locked, --frozen and --fit",
            hint="remove them: a lock has the files that it was made with, and --fit chooses GGUF",
        )
    return _Files(include or (), exclude or ())


def _pull_named(
    context: Context,
    texts: Sequence[str],
    request: _Request,
    placement: Placement,
    files: _Files | None,
) -> None:
    from modelrunner.cli.steps.pulling import pull_many, pull_one
    from modelrunner.operations.pull.reference import files_to_pull, reference_to_pull

    if files is None:
        references = [reference_to_pull(context.store, text) for text in texts]
    else:
        references = [files_to_pull(text, files.include, files.exclude) for text in texts]
    if len(references) == 1:
        pulled = pull_one(
            context,
            references[0],
            request.limits,
            shows_need=True,
            referrers=request.referrers,
        )
        result = Result(pulled, output=placement.place(pulled, placement.folder))
        if request.actions is not None:
            request.actions.report([result])
        show_one(context, result)
        return
    outcomes = pull_many(
        context,
        references,
        request.limits,
        fail_fast=request.fail_fast,
        shows_need=True,
        referrers=request.referrers,
    )
    places = folders(placement.folder, [outcome.reference for outcome in outcomes])
    results = [Result(outcome) for outcome in outcomes]
    shown = _placed(context, results, places, placement, _errors(outcomes))
    _finish(context, shown, request)


def _pull_locked(
    context: Context,
    names: Sequence[str],
    request: _Request,
    placement: Placement,
    *,
    file: Path | None,
) -> None:
    from modelrunner.lockfile.project import Project

    def fetch(references: "Sequence[Reference]", also: "Check | None") -> Sequence[Outcome]:
        from modelrunner.cli.steps.pulling import pull_many

        checking = context if also is None else context.over(context.workspace.checking(also))
        outcomes = pull_many(
            checking,
            references,
            request.limits,
            fail_fast=request.fail_fast,
            referrers=request.referrers,
        )
        reported.extend(_errors(outcomes))
        return outcomes

    reported: list[ModelRunnerError] = []
    puller = context.workspace.locked_puller(
        fetch, on_gone=lambda hint: context.console.say(f"hint: {hint}")
    )
    project = Project.at(file)
    found = puller.pull(project, names)
    runtime = _runtime_of(context, project, names, request)
    results = [Result(entry.outcome, entry.locked.name) for entry in found]
    places = [
        entry.output if placement.folder is None else placement.folder / entry.locked.name
        for entry in found
    ]
    shown = _placed(context, results, places, placement, reported)
    key = None if request.actions is None else project.lock().cache_key()
    _finish(context, shown, request, key, runtime)


def _runtime_of(
    context: Context, project: "Project", names: Sequence[str], request: _Request
) -> "RuntimeResult | None":
    """Install the runtime of a lock; what fails is reported after the models."""
    locked = project.lock().runtime
    if locked is None or (names and locked.name not in names):
        return None
    settled = context.workspace.runtime_puller().look(locked)
    if settled is not None:
        return RuntimeResult(settled)
    from modelrunner.cli.steps.pulling import pull_runtime

    try:
        pulled = pull_runtime(context, project, names, request.limits)
    except NotInStoreError:
        # nothing is pulled in part where the network is ruled out
        raise
    except ModelRunnerError as exc:
        failed = Failed(locked.reference, context.explained(exc))
        print_failure(context, failed)
        return RuntimeResult(failed)
    return None if pulled is None else RuntimeResult(pulled)


def _placed(
    context: Context,
    results: Sequence[Result],
    places: Sequence[Path | None],
    placement: Placement,
    reported: Sequence[ModelRunnerError],
) -> Sequence[Result]:
    """Place downloaded files, and report failures that were not reported yet."""
    shown = []
    for result, folder in zip(results, places, strict=True):
        outcome, weights = placement.try_place(result.outcome, folder)
        shown.append(replace(result, outcome=outcome, output=weights))
    for result in shown:
        failed = result.outcome
        if isinstance(failed, Failed) and not any(failed.error is error for error in reported):
            print_failure(context, failed)
    return shown


def _finish(
    context: Context,
    results: Sequence[Result],
    request: _Request,
    cache_key: str | None = None,
    runtime: "RuntimeResult | None" = None,
) -> None:
    """Print the results, and write them for GitHub Actions with --github."""
    if request.actions is not None:
        from modelrunner.cli.github import annotations

        request.actions.report(results, cache_key, runtime)
        outcomes = [result.outcome for result in results]
        outcomes += [] if runtime is None or runtime.failed is None else [runtime.failed]
        failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
        for entry in failed:
            for line in annotations(entry.named(), context.environ):
                context.console.note(line)
    show_all(context, results, runtime)


def _actions(context: Context) -> "Actions":
    """Return the files of this step, after masking secrets of the environment."""
    from modelrunner.cli.github import Actions, masks

    found = Actions.of(context.environ)
    for line in masks(context.environ):
        context.console.note(line)
    return found


def _errors(outcomes: Sequence[Outcome]) -> list[ModelRunnerError]:
    return [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]


def _fitted(
    context: Context,
    references: list[str],
    fit: bool,
    require_fit: bool,
    budget: str | None,
    gpu: str | None,
) -> list[str]:
    from modelrunner.cli.steps.pulling import fitted
    from modelrunner.operations.pull.fit import Fitting, devices_named, request_of

    if gpu is None and budget is None:
        _warn_of_runtime(context)
    wanted = Fitting(fit, require_fit, devices_named(gpu), request_of(budget))
    return [fitted(context, text, wanted) for text in references]


def _warn_of_runtime(context: Context) -> None:
    """Says where what fits into this machine could not be run on it as it is."""
    from modelrunner.runtime.select import unable

    found = unable(context.environ, context.settings.container_image, context.settings.runtimes)
    if found is not None:
        context.console.warn(f"{found.name} cannot run models: {found.detail}; {found.hint}")
