"""GitHub Actions: outputs, annotations, a summary, and masks for secrets.

Outputs and the summary are appended to files that the environment names. Annotations and masks are
lines that the runner finds in a step's messages; it reads stderr as well as stdout.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from modelrunner.cli.views.pull import Result, RuntimeResult, path_of
from modelrunner.disk.files import cannot_write
from modelrunner.errors import LockOutdatedError, ModelRunnerError, UsageError
from modelrunner.operations.pull.outcome import Failed, Pulled
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

_OUTPUT = "GITHUB_OUTPUT"
_SUMMARY = "GITHUB_STEP_SUMMARY"
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELRUNNER_API_KEY", "OPENAI_API_KEY")
_SHORTEST_SECRET = 4


@dataclass(frozen=True, slots=True)
class Actions:
    """The files of one step.

    Attributes:
        output: The file of outputs.
        summary: The file of the job's summary; None if there is none.
    """

    output: Path
    summary: Path | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Return the files that the environment names.

        Raises:
            UsageError: This is not a step of GitHub Actions.
        """
        output, summary = environ.get(_OUTPUT), environ.get(_SUMMARY)
        if not output:
            raise UsageError(
                f"--github needs {_OUTPUT}, which is not set",
                hint="remove --github outside of GitHub Actions",
            )
        return cls(Path(output), Path(summary) if summary else None)

    def report(
        self,
        results: Sequence[Result],
        cache_key: str | None = None,
        runtime: RuntimeResult | None = None,
    ) -> None:
        """Write the results of a pull: outputs if all succeeded, and the summary.

        Raises:
            UsageError: The files cannot be written.
        """
        found = outputs(results, cache_key, runtime)
        try:
            if found:
                _append(self.output, "".join(output_lines(*entry) for entry in found.items()))
            if self.summary is not None:
                _append(self.summary, summary(results))
        except OSError as exc:
            raise cannot_write(
                exc,
                str(exc.filename or self.output),
                hint="check GITHUB_OUTPUT and GITHUB_STEP_SUMMARY, or remove --github outside of"
                " GitHub Actions",
            ) from exc


def outputs(
    results: Sequence[Result],
    cache_key: str | None = None,
    runtime: RuntimeResult | None = None,
) -> Mapping[str, str]:
    """Return the outputs of a pull, the first model's under plain names; none if one failed.

    Paths are absolute: the step that reads them may run in another directory.
    """
    pulled = [result.outcome for result in results if isinstance(result.outcome, Pulled)]
    if not pulled or len(pulled) < len(results):
        return {}
    installed = None if runtime is None else runtime.pulled
    if runtime is not None and installed is None:
        return {}
    paths = [
        str((result.output or path_of(entry.model)).absolute())
        for result, entry in zip(results, pulled, strict=True)
    ]
    digests = [str(entry.model.digest) for entry in pulled]
    came = [entry.downloaded_bytes for entry in pulled]
    here = all(entry.status == "up-to-date" for entry in pulled)
    named = ""
    if installed is not None:
        came.append(installed.downloaded_bytes)
        here = here and not installed.downloaded_bytes
        one = installed.runtime
        named = "" if one is None else f"installed:{one.name}"
    return {
        "path": paths[0],
        "digest": digests[0],
        "cache-key": cache_key or _cache_key(digests),
        "cache-hit": "true" if here else "false",
        "bytes": str(sum(came)),
        "paths": json.dumps(paths),
        "digests": json.dumps(digests),
        "runtime": named,
    }


def output_lines(name: str, value: str) -> str:
    """Return the lines of one output, for values of any lines."""
    end = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def summary(results: Sequence[Result]) -> str:
    """Return a table in Markdown of each model and its result."""
    rows = ["| model | digest | size | result |", "|---|---|---|---|"]
    for result in results:
        outcome = result.outcome
        name = _cell(outcome.reference.short)
        if isinstance(outcome, Pulled):
            size, digest = format_size(outcome.model.size), outcome.model.digest.short
            fetched = format_size(outcome.downloaded_bytes)
            said = "up to date" if outcome.status == "up-to-date" else f"{fetched} downloaded"
            rows.append(f"| {name} | `{digest}` | {size} | {said} |")
        else:
            said = _cell(outcome.error.message) if isinstance(outcome, Failed) else "canceled"
            rows.append(f"| {name} | | | {said} |")
    return "### Models\n\n" + "\n".join(rows) + "\n\n"


def annotations(
    error: ModelRunnerError, environ: Mapping[str, str], folder: Path | None = None
) -> Iterator[str]:
    """Yield the annotations of an error, at its line of a file if it has one.

    Args:
        error: The error; of a lock that is outdated, each disagreement is shown.
        environ: Says where the repository is: files are named from there.
        folder: The current directory.
    """
    hint = f"\nhint: {error.hint}" if error.hint else ""
    if isinstance(error, LockOutdatedError) and error.disagreements:
        for place in error.disagreements:
            file, line, text = _placed(place)
            yield _annotation(text + hint, error.code, _from_root(file, environ, folder), line)
        return
    said, number = error.facts.get("file"), error.facts.get("line")
    file = _from_root(said, environ, folder) if isinstance(said, str) else ""
    line = number if isinstance(number, int) else 0
    yield _annotation(error.message + hint, error.code, file, line)


def masks(environ: Mapping[str, str]) -> Iterator[str]:
    """Return lines that make the runner mask secrets; none outside of it, where they would show."""
    if environ.get("GITHUB_ACTIONS") != "true":
        return
    for name in _SECRETS:
        for line in environ.get(name, "").splitlines():
            if len(line) >= _SHORTEST_SECRET:
                yield f"::add-mask::{_escaped(line)}"


def _annotation(message: str, title: str, file: str, line: int) -> str:
    properties = {"file": file, "line": str(line) if file and line > 0 else "", "title": title}
    said = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value)
    return f"::error {said}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _placed(text: str) -> tuple[str, int, str]:
    """Split `FILE:LINE: TEXT` into its parts."""
    place, _, said = text.partition(": ")
    file, _, line = place.rpartition(":")
    return (file, int(line), said) if line.isdecimal() else ("", 0, text)


def _from_root(file: str, environ: Mapping[str, str], folder: Path | None) -> str:
    """Return the path of a file from the root of the repository."""
    root = environ.get("GITHUB_WORKSPACE")
    if not file or not root:
        return file
    path = ((folder or Path.cwd()) / file).resolve()
    there = Path(root).resolve()
    return path.relative_to(there).as_posix() if path.is_relative_to(there) else file


def _cache_key(digests: Sequence[str]) -> str:
    # a pull from a lock has its key
    from modelrunner.lockfile.lock import cache_key_of

    return cache_key_of(digests)


def _cell(text: str) -> str:
    plain = sanitize_line(text, 300).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")


def _append(path: Path, text: str) -> None:
    # outside: a file of the runner of GitHub Actions
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
