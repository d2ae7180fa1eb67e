"""Steps of GitHub Actions, played on this machine: as much of a runner as a composite action needs.

    job = Job(workspace, temp, environ, uses={"actions/cache/restore@v4": cache.restore})
    outputs = job.run_action(action, path, {"output": "models"})

Like the real one it takes an unknown name in an expression for the empty string; `unknown_names`
tells which those are.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]
Uses = Callable[[Mapping[str, str]], Mapping[str, str]]

_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_NAME = re.compile(r"\b[a-z]+(?:\.[\w-]+)+")
_LITERAL = re.compile(r"'[^']*'")
_COMPARISON = re.compile(r"(\S+)\s*(==|!=)\s*'([^']*)'")
_FILES = ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")


class StepFailedError(Exception):
    """A step ended with another code than 0."""

    def __init__(self, name: str, code: int, log: str) -> None:
        super().__init__(f"{name}: exit code {code}\n{log}")
        self.name = name
        self.code = code
        self.log = log


@dataclass
class Job:
    """What the steps of a job share.

    Attributes:
        workspace: Where the repository is checked out.
        temp: `RUNNER_TEMP`.
        environ: Variables, those that steps add to `GITHUB_ENV` and `GITHUB_PATH` among them.
        uses: What plays the actions that steps use.
        outputs: The outputs of the steps that ran last, by their ids.
        summary: What the steps wrote for people.
    """

    workspace: Path
    temp: Path
    environ: dict[str, str]
    uses: Mapping[str, Uses] = field(default_factory=dict)
    outputs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    summary: str = ""

    def run_action(self, action: Document, path: Path, given: Mapping[str, str]) -> dict[str, str]:
        """Runs a composite action; its outputs."""
        inputs = {name: given.get(name, about["default"]) for name, about in _inputs(action)}
        names = {f"inputs.{name}": value for name, value in inputs.items()}
        names["github.action_path"] = str(path)
        found = self.run(action["runs"]["steps"], names)
        declared = action["outputs"].items()
        return {name: _filled(about["value"], found) for name, about in declared}

    def run(
        self, steps: Sequence[Document], names: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Runs steps in their order; the names that expressions have behind them.

        Raises:
            StepFailedError: One failed; those behind it did not run.
        """
        outputs: dict[str, Mapping[str, str]] = {}
        known = dict(names or {})
        for step in steps:
            known |= {f"env.{name}": value for name, value in self.environ.items()}
            if not _holds(step.get("if", ""), known):
                continue
            if "uses" in step:
                found = self.uses[step["uses"]](_all_filled(step.get("with", {}), known))
            else:
                found = self._run_shell(step, known)
            identity = step.get("id", "")
            outputs[identity] = found
            known |= {f"steps.{identity}.outputs.{name}": value for name, value in found.items()}
        self.outputs = outputs
        return known

    def _run_shell(self, step: Document, known: Mapping[str, str]) -> Mapping[str, str]:
        files = {name: self.temp / name for name in _FILES}
        for file in files.values():
            file.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", _filled(step["run"], known)],
            cwd=self.workspace / _filled(step.get("working-directory", "."), known),
            env={
                **self.environ,
                **_all_filled(step.get("env", {}), known),
                **{name: str(file) for name, file in files.items()},
                "RUNNER_TEMP": str(self.temp),
                "GITHUB_WORKSPACE": str(self.workspace),
                "GITHUB_ACTIONS": "true",
                "CI": "true",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StepFailedError(step.get("name", step["run"]), done.returncode, done.stdout)
        self.environ |= assignments(files["GITHUB_ENV"].read_text())
        added = files["GITHUB_PATH"].read_text().splitlines()
        self.environ["PATH"] = ":".join([*reversed(added), self.environ["PATH"]])
        self.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        return assignments(files["GITHUB_OUTPUT"].read_text())


@dataclass(frozen=True)
class Cache:
    """`actions/cache`, over a folder."""

    folder: Path

    def restore(self, given: Mapping[str, str]) -> Mapping[str, str]:
        kept = self.folder / given["key"]
        if not kept.is_dir():
            return {"cache-hit": ""}
        shutil.copytree(kept, given["path"], symlinks=True)
        return {"cache-hit": "true"}

    def save(self, given: Mapping[str, str]) -> Mapping[str, str]:
        shutil.copytree(given["path"], self.folder / given["key"], symlinks=True)
        return {}


def unknown_names(action: Document, job: Job) -> list[str]:
    """Names in expressions that nothing gives, going by a job in which all steps ran."""
    known = {f"inputs.{name}" for name, _ in _inputs(action)}
    known |= {"github.action_path"} | {f"env.{name}" for name in job.environ}
    found = []
    for step in action["runs"]["steps"]:
        found += [name for name in _names(step) if name not in known]
        given = job.outputs.get(step.get("id", ""), {})
        known |= {f"steps.{step.get('id')}.outputs.{name}" for name in given}
    return found + [name for name in _names(action["outputs"]) if name not in known]


def _inputs(action: Document) -> Iterator[tuple[str, Document]]:
    yield from action["inputs"].items()


def _names(node: object, *, bare: bool = False) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _names(value, bare=key == "if")
    elif isinstance(node, list):
        for value in node:
            yield from _names(value)
    elif isinstance(node, str):
        for expression in [node] if bare else _EXPRESSION.findall(node):
            yield from _NAME.findall(_LITERAL.sub("", expression))


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda match: known.get(match[1], ""), text)


def _all_filled(texts: Mapping[str, object], known: Mapping[str, str]) -> dict[str, str]:
    return {name: _filled(str(text), known) for name, text in texts.items()}


def _holds(condition: str, known: Mapping[str, str]) -> bool:
    for term in filter(None, condition.split(" && ")):
        match = _COMPARISON.fullmatch(term)
        assert match is not None, f"this runner does not know {term}"
        if (known.get(match[1], "") == match[3]) != (match[2] == "=="):
            return False
    return True


def assignments(text: str) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME<<END` with lines up to `END`."""
    found = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, mark, value = re.split(r"(<<|=)", line, maxsplit=1)
        if mark == "<<":
            end = value
            value = "\n".join(iter(lambda: next(lines), end))
        found[name] = value
    return found
