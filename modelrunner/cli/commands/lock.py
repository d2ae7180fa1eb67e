"""`modelrunner lock`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import (
    SignerAuthorities,
    SignerIdentity,
    SignerIssuer,
    SignerKeys,
    SignerRoot,
    SignerTimestamps,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.views.lock import (
    show_agreed,
    show_differences,
    show_first,
    show_locked,
)
from modelrunner.errors import UsageError
from modelrunner.lockfile.project import INTENT_NAME, Project

if TYPE_CHECKING:
    from modelrunner.operations.trust.signatures import Signers


@command(
    examples="  modelrunner lock --init ai/smollm2 ai/embeddinggemma\n  modelrunner lock\n"
    "  modelrunner lock --check\n  modelrunner lock --update chat\n"
    "  modelrunner lock --key cosign.pub",
    github="Also report errors as GitHub Actions annotations.",
)
def lock(
    context: Context,
    references: Annotated[
        list[str] | None,
        Argument(metavar="[REF...]", help="Models to start with, for --init."),
    ] = None,
    init: Annotated[
        bool,
        Option("--init", help=f"Create {INTENT_NAME} with these models and lock them."),
    ] = False,
    check: Annotated[
        bool,
        Option(
            "--check",
            help="Only compare the two files, without the network; exit code 9 if they disagree.",
        ),
    ] = False,
    update: Annotated[
        list[str] | None,
        Option(
            metavar="NAME", help="Update the pin of this model, or of `runtime`; can be repeated."
        ),
    ] = None,
    upgrade: Annotated[
        bool, Option("--upgrade", help="Update the pins of all models and the runtime.")
    ] = False,
    diff: Annotated[
        bool,
        Option("--diff", help="Only show what has changed in the registries; write nothing."),
    ] = False,
    keys: SignerKeys = None,
    ca: SignerAuthorities = None,
    tsa: SignerTimestamps = None,
    identity: SignerIdentity = None,
    issuer: SignerIssuer = None,
    trusted_root: SignerRoot = None,
    unsigned: Annotated[
        bool, Option("--unsigned", help="Ask for no signatures, and record no signers.")
    ] = False,
    file: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help=f"File that names the models (default: {INTENT_NAME} in the current directory).",
        ),
    ] = None,
) -> None:
    """Pin the models and the runtime of modelrunner.toml. Existing pins are kept."""
    modes = {
        "--init": init,
        "--check": check,
        "--diff": diff,
        "--upgrade": upgrade,
        "--update": bool(update),
    }
    chosen = [name for name, given in modes.items() if given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} cannot be combined", hint="use one of them")
    project = Project.at(file)
    if references and not init:
        raise _unwanted(project, references)
    asked = bool(keys or ca or tsa or identity or issuer)
    if asked and (unsigned or check):
        raise UsageError(
            "--key, --ca, --tsa, --identity and --issuer cannot be combined with"
            f" {'--unsigned' if unsigned else '--check'}",
            hint="remove one of them",
        )
    if tsa and not ca:
        raise UsageError("--tsa needs --ca", hint="add --ca FILE")
    if (issuer or trusted_root) and not identity:
        named = "--issuer" if issuer else "--trusted-root"
        raise UsageError(f"{named} needs --identity", hint="add --identity WHO")
    if check:
        show_agreed(context, *project.agreed())
        return
    # what asks registries: a check does without
    from modelrunner.operations.lock import project as operation

    def signers() -> "Signers":
        # few name them
        from modelrunner.operations.trust.signatures import Signers

        return Signers.named(keys, ca, tsa, identity, issuer, trusted_root)

    locker = context.workspace.locker(
        context.console.say, signers if asked else None, unsigned=unsigned
    )
    if init:
        show_first(context, project, operation.init(project, locker, references or ()))
    elif diff:
        show_differences(context, project, *operation.differences(project, locker))
    else:
        locked = operation.update(project, locker, update or (), upgrade=upgrade)
        show_locked(context, project, locked)


def _unwanted(project: Project, references: Sequence[str]) -> UsageError:
    """Return the error for models given on the command line without --init."""
    path = project.intent_path
    if path.exists():
        hint = f"add it to {path}, then run `modelrunner lock`"
    else:
        hint = f"`modelrunner lock --init {references[0]}` writes {path} and locks it"
    return UsageError(
        f"unexpected argument {references[0][:200]!r}: lock takes its models from {path}", hint=hint
    )
