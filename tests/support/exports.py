"""What reads exports as the programs do that they are for: real ones, and their own rules."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.conftest import CommandLine

COMPOSE = Path(sys.executable).parent / "docker-compose"
QUADLET = shutil.which(
    "quadlet", path="/usr/local/libexec/podman:/usr/libexec/podman:/usr/lib/podman"
)
VERIFY = shutil.which("systemd-analyze")
KSERVE = find_spec("kserve")

_ESCAPE = re.compile(r"\\(?:U([0-9a-f]{8})|(.))")
_VARIABLE = re.compile(r"\$\$|\$\((\w+)\)")
_LINE = re.compile(r"^(?P<key>[A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*(?P<value>[^;#\r\n]*?)[ \t]*$")


def exported(cli: CommandLine, *arguments: str) -> dict[str, Any]:
    """What `export --json` prints."""
    done = cli("export", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def only_text(found: Mapping[str, Any]) -> str:
    """The text of the only file of an export."""
    (text,) = found["files"].values()
    return str(text)


def compose_config(file: Path) -> Any:
    """The file as Docker Compose understands it."""
    done = subprocess.run(
        [COMPOSE, "--file", file, "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": str(file.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def compose(
    project: str, file: Path, environ: Mapping[str, str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command of Docker Compose on a project."""
    return subprocess.run(
        [COMPOSE, "--project-name", project, "--file", file, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def in_container(words: list[str]) -> list[str]:
    """Words as Kubernetes gives them to a container: `$$` is `$`, and `$(X)` is looked up."""
    assert all(match[1] is None for word in words for match in _VARIABLE.finditer(word))
    return [word.replace("$$", "$") for word in words]


def kserve_fields(name: str) -> set[str]:
    """The fields of one of KServe's own models, read from its source: it is not imported."""
    assert KSERVE is not None
    assert KSERVE.origin is not None
    source = Path(KSERVE.origin).parent / "models" / f"{name}.py"
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "attribute_map":
            return set(ast.literal_eval(node.value).values())
    raise AssertionError(name)


def generated(folder: Path) -> Mapping[str, str]:
    """The services that Podman's generator makes of the units in a folder, by name."""
    done = subprocess.run(
        [str(QUADLET), "-dryrun"],
        env={"QUADLET_UNIT_DIRS": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = re.split(r"^---(\S+)---$", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def verify(unit: Path) -> None:
    """Has systemd look at a unit; it says nothing where nothing is wrong."""
    done = subprocess.run(
        [str(VERIFY), "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def values(unit: str, key: str) -> list[str]:
    """The values of a key in a unit."""
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def words(line: str) -> list[str]:
    """A command line as systemd splits it, see systemd.service(5)."""
    found = []
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line):
        text = plain or _ESCAPE.sub(_meant, quoted)
        assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", text), text
        found.append(text.replace("$$", "$").replace("%%", "%"))
    return found


def _meant(match: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t"}.get(match[2], match[2]) or chr(int(match[1], 16))


def preset(text: str) -> Mapping[str, Mapping[str, str]]:
    """A preset as llama.cpp reads it: sections of keys; `;` and `#` begin comments anywhere."""
    sections: dict[str, dict[str, str]] = {}
    for name, lines in _sections(text):
        sections[name] = {}
        for line in lines:
            match = _LINE.fullmatch(line)
            assert match is not None, line
            sections[name][match["key"]] = match["value"]
    return sections


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    before, *parts = re.split(r"^\[([^]]+)\]$", text, flags=re.MULTILINE)
    assert not _told(before)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        yield name, _told(body)


def _told(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and line[0] not in ";#"]
