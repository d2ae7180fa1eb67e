"""Files of the Hub out of Xet storage, by the Hub's own client: the storage is a faithful one.

The large file is one that llama.cpp does not read, so that nothing reads its header meanwhile.
"""

import json
import os
import random
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.hugging_face import Hub, Repository, hugging_face
from tests.support.xet_storage import XetStorage, xet_storage

NAME = "hf.co/Org/Net"
ON = {"MODELRUNNER_HF_XET": "1"}
SIZE = 17 * 1024 * 1024 + 4321


@pytest.fixture(scope="module")
def content() -> bytes:
    # what is there twice is stored once, and zeros are compressed
    found = random.Random(7).randbytes(SIZE // 2)
    return found + bytes(1024 * 1024) + found[: SIZE - len(found) - 1024 * 1024]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> tuple[Path, str]:
    """Where the file is stored, and what it is called there."""
    folder = tmp_path_factory.mktemp("xet")
    return folder, XetStorage(folder).keep(content)


@pytest.fixture
def storage(stored: tuple[Path, str]) -> Iterator[XetStorage]:
    with xet_storage(stored[0]) as running:
        yield running


@pytest.fixture
def hub(storage: XetStorage, stored: tuple[Path, str], content: bytes) -> Iterator[Hub]:
    with hugging_face() as running:
        files = {"net.onnx": content, "README.md": b"# Net"}
        running.repositories["Org/Net"] = Repository(files, xet={"net.onnx": stored[1]})
        running.xet = storage.url
        yield running


@pytest.fixture
def here(cli: CommandLine, hub: Hub):
    def run(*arguments: str, **environ: str):
        return cli(*arguments, HF_ENDPOINT=hub.url, **environ)

    return run


def pulled(here, content: bytes, *arguments: str, **environ: str) -> dict[str, object]:
    done = here("pull", NAME, "--all", "--json", *arguments, **environ)
    assert done.returncode == 0, done.stderr
    file = Path(here("path", f"{NAME}:all").stdout.strip())
    assert file.read_bytes() == content
    return {**json.loads(done.stdout), "said": done.stderr}


def asked_bridge(hub: Hub) -> bool:
    return bool(hub.paths("/Org/Net/resolve/c0ffee" + "0" * 34 + "/net.onnx"))


def test_a_file_comes_out_of_xet_storage_where_that_is_set(here, hub, storage, content) -> None:
    told = pulled(here, content, **ON)
    # a connection may leave a small part of it to the bridge
    assert told["origins"]["Xet storage"] > SIZE // 20, told["said"]
    # nobody is told of it
    assert [line for line in storage.requests if not line.startswith("GET ")] == []


@pytest.mark.parametrize("off", [{}, {**ON, "HF_HUB_DISABLE_XET": "1"}], ids=["unset", "disabled"])
def test_the_bridge_is_asked_where_it_is_not_set(here, hub, storage, content, off) -> None:
    assert "origins" not in pulled(here, content, **off)
    assert storage.requests == []
    assert hub.paths("/api/models/Org/Net/xet-read-token") == []


def test_the_setting_may_stand_in_the_file(here, cli, storage, content) -> None:
    cli.home.mkdir(exist_ok=True)
    (cli.home / "config.toml").write_text("hf_xet = true\n")
    told = pulled(here, content)
    assert told["origins"]["Xet storage"] > SIZE // 20, told["said"]


def test_a_setting_that_is_neither(here) -> None:
    done = here("list", MODELRUNNER_HF_XET="perhaps")
    assert (done.returncode, done.stderr) == (
        2,
        (
            "error: MODELRUNNER_HF_XET must be true or false, got 'perhaps'\n"
            "hint: set MODELRUNNER_HF_XET=true, or unset it\n"
        ),
    )


@pytest.mark.parametrize("what", ["reconstructions", "xorbs"])
def test_a_storage_that_refuses_leaves_it_to_the_bridge(
    here, hub, storage, content, what: str
) -> None:
    storage.refuses[what] = 403
    told = pulled(here, content, **ON)
    assert "origins" not in told
    assert storage.requests
    assert asked_bridge(hub)


def test_the_bridge_takes_over_with_a_note(here, storage, content) -> None:
    storage.refuses["reconstructions"] = 403
    done = here("pull", NAME, "--all", **ON)
    assert done.returncode == 0, done.stderr
    (note,) = [line for line in done.stderr.splitlines() if "Xet" in line]
    assert note.startswith("Xet storage: "), note
    assert "; continuing without Xet storage; retrying " in note


def test_a_hub_that_grants_no_access_to_it(here, hub, storage, content) -> None:
    hub.xet = "http://10.1.2.3"
    # an address that a redirect may not lead to from everywhere
    pulled(here, content, **ON)
    assert storage.requests == []
    assert asked_bridge(hub)


def test_wrong_bytes_out_of_it_are_not_kept(here, hub, storage, content) -> None:
    storage.wrong = True
    told = pulled(here, content, **ON)
    assert told["status"] == "pulled"
    assert asked_bridge(hub)


def test_a_silent_storage_is_left_after_the_time_that_the_variable_says(
    here, hub, storage, content
) -> None:
    storage.stalls = threading.Event()
    pulled(here, content, HF_HUB_DOWNLOAD_TIMEOUT="1", **ON)
    assert storage.stalled.is_set()
    assert asked_bridge(hub)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_pull_that_was_ended_meanwhile_goes_on(
    cli, here, hub, storage, content, tmp_path: Path, kind: signal.Signals
) -> None:
    storage.stalls = threading.Event()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environ = {**cli.environ, "HF_ENDPOINT": hub.url, "TMPDIR": str(temporary), **ON}
    with subprocess.Popen(
        cli.argv("pull", NAME, "--all"), env=environ, stderr=subprocess.PIPE, text=True
    ) as pull:
        assert storage.stalled.wait(60)
        assert len(list(temporary.glob("modelrunner-xet-*"))) >= 1
        children = _below(pull.pid)
        pull.send_signal(kind)
        _, said = pull.communicate(timeout=60)
    assert pull.returncode == (130 if kind is signal.SIGINT else -9), said
    for child in children:
        _wait_for_end(child)
    assert list(temporary.glob("modelrunner-xet-*")) == []
    storage.stalls.set()
    storage.stalls = None
    pulled(here, content, **ON)


def _below(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for file in found for child in file.read_text().split()]


def _wait_for_end(child: int) -> None:
    try:
        handle = os.pidfd_open(child)
    except ProcessLookupError:
        return
    try:
        # one that nobody waits for has ended all the same
        assert select.select([handle], [], [], 60)[0]
    finally:
        os.close(handle)
