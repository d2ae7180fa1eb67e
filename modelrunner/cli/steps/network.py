"""What the options of a transfer mean: its rate, its time limit, the certificates to trust."""

from pathlib import Path

from modelrunner.cli.context import Context
from modelrunner.errors import UsageError
from modelrunner.text import sanitize_line
from modelrunner.units import SIZE_HINT, parse_size
from modelrunner.workspace import Workspace


def bytes_per_second(text: str | None) -> int | None:
    """Return the value of --limit-rate; None for no limit.

    Raises:
        UsageError: It is not a size, or zero.
    """
    if text is None:
        return None
    try:
        rate = parse_size(text)
    except ValueError as exc:
        raise UsageError(f"--limit-rate: {exc}", hint=SIZE_HINT) from exc
    if rate <= 0:
        raise UsageError("--limit-rate must be greater than 0", hint=SIZE_HINT)
    return rate


def limited_workspace(context: Context, timeout: float | None, ca_file: Path | None) -> Workspace:
    """Return the workspace of a command with --timeout and --ca-file.

    Raises:
        UsageError: The file does not exist.
    """
    workspace = context.workspace if timeout is None else context.workspace.within(timeout)
    if ca_file is None:
        return workspace
    if not ca_file.is_file():
        raise UsageError(
            f"--ca-file {sanitize_line(str(ca_file), 200)}: file not found",
            hint="name a file with certificates in PEM format",
        )
    return workspace.trusting(ca_file)
