"""Debian's `docker-registry` on loopback, with a folder of its own: a registry that is not ours.

with docker_registry(tmp_path) as registry:
    push(f"{registry.host}/ai/m:1")
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.support.artifacts import Artifact

PROGRAM = shutil.which("docker-registry")
SKOPEO = shutil.which("skopeo")

needs_docker_registry = pytest.mark.skipif(PROGRAM is None, reason="needs docker-registry on PATH")
needs_skopeo = pytest.mark.skipif(SKOPEO is None, reason="needs skopeo on PATH")
needs_umoci = pytest.mark.skipif(shutil.which("umoci") is None, reason="needs umoci on PATH")


@dataclass(frozen=True)
class DockerRegistry:
    """A running registry."""

    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def reference(self, name: str) -> str:
        return f"{self.host}/{name}"


@contextmanager
def docker_registry(folder: Path) -> Iterator[DockerRegistry]:
    """The block in which a registry runs over this folder."""
    assert PROGRAM is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'storage'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait(process, port, folder / "log")
        yield DockerRegistry(port)
    finally:
        process.terminate()
        process.wait(10)


def push_artifact(registry: DockerRegistry, artifact: Artifact, name: str, tags: list[str]) -> None:
    """Uploads an artifact, and those that it lists, as any client does."""
    import requests

    base = f"http://{registry.host}/v2/{name}"
    for child in artifact.children:
        push_artifact(registry, child, name, [child.digest])
    for digest, content in artifact.blobs.items():
        begun = requests.post(f"{base}/blobs/uploads/", timeout=30)
        begun.raise_for_status()
        done = requests.put(
            begun.headers["Location"], params={"digest": digest}, data=content, timeout=60
        )
        done.raise_for_status()
    for tag in tags:
        requests.put(
            f"{base}/manifests/{tag}",
            data=artifact.manifest,
            headers={"Content-Type": artifact.media_type},
            timeout=30,
        ).raise_for_status()


def skopeo(*arguments: object) -> str:
    """Runs skopeo; its output."""
    done = subprocess.run(
        ["skopeo", *map(str, arguments)], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def skopeo_copy(source: str, target: str) -> None:
    """`skopeo copy`, plain http allowed at both ends."""
    options = ("--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", *options, source, target)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"docker-registry ended: {log.read_text()[-2000:]}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2) as answer:
                assert answer.status == 200
        except (URLError, ConnectionError):
            time.sleep(0.02)
        else:
            return
    raise TimeoutError("docker-registry did not come up")
