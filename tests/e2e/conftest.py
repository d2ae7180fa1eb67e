"""What end-to-end tests share: a registry to pull from, and the fixture models in a store."""

import asyncio
import gc
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.share.server import ShareServer
from modelrunner.store.store import Store
from tests.conftest import ROOT, CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.fixtures import script
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.shared import made_once


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def leaving_nothing_open() -> Iterator[None]:
    """Close what somebody else's library keeps open: a later test would be blamed for it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # without one a new one is made, or it is an error
        with suppress(RuntimeError):
            asyncio.get_event_loop().close()
        asyncio.set_event_loop(None)
        gc.collect()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that commands run in."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Artifact:
    """A model of eleven kilobytes, the same in every test."""
    weights = tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    facts = {"architecture": "llama", "parameters": "13K", "quantization": "MOSTLY_Q4_0"}
    return docker_artifact(weights, license=b"free\n", config=facts | {"context_size": 2048})


@pytest.fixture(scope="session")
def fixture_home(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> Path:
    """A home with every fixture model in its store; tests read it only."""

    def make(home: Path) -> None:
        (home / "files").mkdir(exist_ok=True)
        (home / "files" / smollm2_gguf.name).symlink_to(smollm2_gguf)
        script("make").make(home)

    return made_once(tmp_path_factory, "fixtures", make)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, and those of what it needs; tests read them only."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", folder, ROOT]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    return made_once(tmp_path_factory, "wheels", make)


@pytest.fixture(scope="session")
def mirror(fixture_home: Path) -> Iterator[str]:
    """`MODELRUNNER_MIRRORS` for a registry that has the fixture models under `docker.io`."""
    with ShareServer(Store(fixture_home / "store"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"docker.io={server.address}"
        server.shutdown()
        thread.join()


@pytest.fixture
def models(cli: CommandLine, fixture_home: Path, tmp_path: Path) -> CommandLine:
    """The command line over a store that has the fixture models: its blobs are links."""
    from os import link
    from shutil import copytree

    copytree(fixture_home / "store", cli.home / "store", copy_function=link)
    # one runtime for all of these, whatever else is installed: answers differ in their last words
    return replace(cli, environ={**cli.environ, "MODELRUNNER_RUNTIME": "xllamacpp"})


def without_time(text: str) -> str:
    """Output with what differs from run to run replaced."""
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    text = re.sub(r" in \d+s", " in TIME", text)
    return re.sub(r"\d+(\.\d+)? (B|KiB|MiB|GiB) free", "SIZE free", text)
