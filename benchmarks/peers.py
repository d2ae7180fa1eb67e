"""The tools that a transfer is measured against, and how each of them is asked.

`make peers` builds those that few distributions have, at pinned versions, outside the checkout.
The figures of one that is not there are left out.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Address, MissingToolError, Model, free_port, running, tool

BUILT = ("crane", "oras", "regctl", "modctl", "dmr")
LAYOUT_TAG = "latest"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PLACE = Path(os.environ.get("MODELRUNNER_PEERS") or _CACHE / "modelrunner-peers")
"""Where `make peers` puts what it builds."""


def built(name: str) -> str:
    """The path of a tool that `make peers` builds.

    Raises:
        MissingToolError: It is not there.
    """
    path = PLACE / name
    if path.is_file():
        return str(path)
    found = shutil.which(name)
    if found is None:
        raise MissingToolError(f"{name} is not there: `make peers` builds it")
    return found


def versions() -> str:
    """The tools that are there, with their versions, for people."""
    found = [
        f"{name} {(PLACE / f'{name}.version').read_text().strip()}"
        for name in BUILT
        if (PLACE / f"{name}.version").is_file()
    ]
    system = {"curl": ["--version"], "skopeo": ["--version"], "aria2c": ["--version"]}
    for name, words in system.items():
        program = shutil.which(name)
        if program is None:
            continue
        said = subprocess.run([program, *words], check=False, capture_output=True, text=True)
        number = next((word for word in said.stdout.split() if word[:1].isdigit()), "")
        found.append(f"{name} {number}")
    return ", ".join(found)


@dataclass(frozen=True)
class Task:
    """What a peer is to do.

    Attributes:
        registry: Which registry is asked.
        model: What is to come or to go.
        out: An empty folder, where a pull puts what it gets.
        layout: The model as an OCI layout, for a push; its tag is `LAYOUT_TAG`.
    """

    registry: Address
    model: Model
    out: Path
    layout: Path | None = None

    @property
    def name(self) -> str:
        """The model's name in the registry."""
        return self.model.on(self.registry.host)

    @property
    def trust(self) -> dict[str, str]:
        """The environment in which a Go program trusts the registry's certificate."""
        if self.registry.certificate is None:
            return {}
        return {"SSL_CERT_FILE": str(self.registry.certificate)}


Words = Callable[[Task], list[str]]
"""The command line for a task."""


def curl_pull(task: Task) -> list[str]:
    """The layers alone, all at once, and verified by nobody."""
    trust = task.registry.certificate
    words = [tool("curl"), "-sS", "-Z", *([] if trust is None else ["--cacert", str(trust)])]
    for number, layer in enumerate(task.model.layers):
        words += ["-o", str(task.out / f"blob{number}"), task.registry.base + layer.path]
    return words


def skopeo_pull(task: Task) -> list[str]:
    """By Debian's skopeo."""
    return [tool("skopeo"), "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false",
            f"docker://{task.name}", f"dir:{task.out}"]  # fmt: skip


def crane_pull(task: Task) -> list[str]:
    """Into a layout."""
    return [built("crane"), "pull", *_plain(task, "--insecure"), "--format=oci", task.name,
            str(task.out)]  # fmt: skip


def crane_pull_cached(task: Task) -> list[str]:
    """The same, with layers kept for the next time."""
    return [built("crane"), "pull", *_plain(task, "--insecure"), "--format=oci", "--cache_path",
            str(task.out / "cache"), task.name, str(task.out / "layout")]  # fmt: skip


def oras_pull(task: Task) -> list[str]:
    """Into a layout."""
    return [built("oras"), "cp", "--no-tty", *_plain(task, "--from-plain-http"), task.name,
            "--to-oci-layout", f"{task.out}:{LAYOUT_TAG}"]  # fmt: skip


def regctl_pull(task: Task) -> list[str]:
    """Into a layout."""
    return [built("regctl"), "image", "copy", *_regctl_host(task), task.name,
            f"ocidir://{task.out}:{LAYOUT_TAG}"]  # fmt: skip


def modctl_pull(task: Task) -> list[str]:
    """Into its own storage."""
    return [built("modctl"), "pull", *_plain(task, "--plain-http"), "--storage-dir", str(task.out),
            "--no-progress", task.name]  # fmt: skip


def skopeo_push(task: Task) -> list[str]:
    """From a layout."""
    return [tool("skopeo"), "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false",
            f"oci:{task.layout}:{LAYOUT_TAG}", f"docker://{task.name}"]  # fmt: skip


def crane_push(task: Task) -> list[str]:
    """From a layout."""
    return [built("crane"), "push", *_plain(task, "--insecure"), str(task.layout), task.name]


def oras_push(task: Task) -> list[str]:
    """From a layout."""
    return [built("oras"), "cp", "--no-tty", "--from-oci-layout", f"{task.layout}:{LAYOUT_TAG}",
            *_plain(task, "--to-plain-http"), task.name]  # fmt: skip


def regctl_push(task: Task) -> list[str]:
    """From a layout."""
    return [built("regctl"), "image", "copy", *_regctl_host(task),
            f"ocidir://{task.layout}:{LAYOUT_TAG}", task.name]  # fmt: skip


def _plain(task: Task, option: str) -> list[str]:
    return [option] if task.registry.certificate is None else []


def _regctl_host(task: Task) -> list[str]:
    secure = "disabled" if task.registry.certificate is None else "enabled"
    return ["--host", f"reg={task.registry.host},tls={secure}"]


PULLS: dict[str, Words] = {
    "crane": crane_pull,
    "`oras cp`": oras_pull,
    "regctl": regctl_pull,
    "modctl": modctl_pull,
    "skopeo": skopeo_pull,
}
"""Those that verify what they pull."""

PUSHES: dict[str, Words] = {
    "crane": crane_push,
    "`oras cp`": oras_push,
    "regctl": regctl_push,
    "skopeo": skopeo_push,
}
AGAIN: dict[str, Words] = {**PULLS, "crane": crane_pull_cached}
"""Pulls of what is there; crane looks only into a cache of its own."""


def layout_of(model: Model, folder: Path) -> Path:
    """The model as an OCI layout whose blobs share their bytes with the registry's."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layer in model.layers:
        os.link(layer.blob, blobs / layer.digest.partition(":")[2])
    for name, content in model.small.items():
        (blobs / name.partition(":")[2]).write_bytes(content)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_bytes(model.index(LAYOUT_TAG))
    return folder


@contextmanager
def docker_model_runner(folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Docker Model Runner's server: how its command line begins, and its environment.

    Raises:
        MissingToolError: It is not there.
    """
    program, port = built("dmr"), free_port()
    home = folder / "docker-model"
    home.mkdir()
    environ = {"HOME": str(home), "MODELS_PATH": str(home / "models")}
    words = ["env", *(f"{name}={value}" for name, value in environ.items()), program, "serve",
             "--port", str(port)]  # fmt: skip
    with running(words, port, folder / "docker-model.log"):
        yield [program], {**environ, "MODEL_RUNNER_HOST": f"http://127.0.0.1:{port}"}
