"""Progress of transfers: a bar on a terminal, few lines in a log, JSON for programs.

Each style is a `Listener` in its own module, which is loaded on use.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from modelrunner.cli.terminal.console import Console, ProgressMode
from modelrunner.events import Listener, ignore

# late imports: a run has one style, and that of a bar brings rich


@contextmanager
def progress(console: Console, *, verb: str = "pulling", models: int = 1) -> Iterator[Listener]:
    """Show the transfer of a number of models while the block runs, in the console's style."""
    mode = console.progress
    if mode is ProgressMode.JSON:
        from modelrunner.cli.progress.json_lines import JsonListener

        yield JsonListener(console)
    elif mode is ProgressMode.NONE or ((console.quiet or console.json) and mode is mode.AUTO):
        yield ignore
    elif _has_bar(console):
        from modelrunner.cli.progress.bar import bar

        with bar(console, verb=verb, models=models) as listener:
            yield listener
    else:
        from modelrunner.cli.progress.plain import PlainListener

        yield PlainListener(console, verb=verb)


def _has_bar(console: Console) -> bool:
    """Whether progress is shown as a bar."""
    mode = console.progress
    return console.terminal if mode is ProgressMode.BAR else mode is mode.AUTO and console.bars
