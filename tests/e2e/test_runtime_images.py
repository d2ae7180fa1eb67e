"""`runtimes install|list|use|update|remove`: images of llama.cpp without a container engine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.support.images import Item, symlink, tar_of
from tests.support.registry import Registry
from tests.support.runtime_image import artifact_of, elsewhere, shell_image
from tests.support.signing import Signer, bundle

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("ldd") is None, reason="starts programs of images"
)
REPOSITORY = "ggml-org/llama.cpp"


@pytest.fixture
def ghcr(cli: CommandLine, registry: Registry) -> CommandLine:
    """A command line for which the registry stands for ghcr.io."""
    environ = {**cli.environ, "MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}"}
    return CommandLine(cli.home, environ)


def _installed(cli: CommandLine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cli("runtimes", "list", "--json").stdout)
    return found


def _names_in_use(cli: CommandLine) -> dict[str, bool]:
    return {one["name"]: one["in_use"] for one in _installed(cli)}


def _left(home: Path) -> list[str]:
    """What there is of runtimes and of blobs."""
    folders = (home / "runtimes", home / "store/v1/blobs/sha256", home / "store/v1/ingest")
    return sorted(
        path.name
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.name != "lock"
    )


def test_an_image_is_installed_listed_used_and_removed(
    ghcr: CommandLine, registry: Registry
) -> None:
    image = shell_image("b11434", ["RTX 4090"])
    index = registry.add(artifact_of(elsewhere(image), image), REPOSITORY, ["server-vulkan"])
    done = ghcr("runtimes", "install", "vulkan", "--yes")
    assert (done.returncode, done.stdout) == (
        0,
        "vulkan@b11434 installed, in use: RTX 4090, CPU\n",
    )
    (one,) = _installed(ghcr)
    assert (one["index_digest"], one["build"], one["in_use"]) == (index, "b11434", True)
    assert one["reference"] == "ghcr.io/ggml-org/llama.cpp:server-vulkan"
    assert ghcr("list", "--json").stdout == "[]\n"
    sizes = {
        each["type"]: each["count"] for each in json.loads(ghcr("df", "--json").stdout)["types"]
    }
    assert sizes["Runtimes"] == 1
    assert ghcr("prune").returncode == 0
    assert ghcr("verify", "--deep").returncode == 0
    again = json.loads(ghcr("runtimes", "install", "vulkan", "--yes", "--json").stdout)
    assert [(row["status"], row["in_use"]) for row in again] == [("up-to-date", True)]
    removed = ghcr("runtimes", "remove", "vulkan", "--yes")
    assert removed.returncode == 0
    assert _left(ghcr.home) == ["current.json"]


def test_the_size_is_shown_and_a_script_has_to_agree(ghcr: CommandLine, registry: Registry) -> None:
    registry.add(artifact_of(shell_image("b101")), REPOSITORY, ["server"])
    done = ghcr("runtimes", "install", "cpu")
    assert done.returncode == 2
    assert "to download, about" in done.stderr
    assert done.stderr.endswith("without confirmation\nhint: add --yes\n")
    assert _left(ghcr.home) == []


@pytest.mark.parametrize("signs", ["the index", "nothing"])
def test_a_policy_is_for_images_too(
    cli: CommandLine, registry: Registry, tmp_path: Path, signs: str
) -> None:
    image = shell_image("b101")
    made = artifact_of(elsewhere(image), image)
    registry.add(made, REPOSITORY, ["server-vulkan"])
    signer = Signer.make()
    if signs == "the index":
        registry.add(bundle(signer, made), REPOSITORY, [])
    cli.home.mkdir(parents=True, exist_ok=True)
    (cli.home / "verify.toml").write_text(
        f'version = 1\n[[rule]]\nmatch = "{registry.host}/ggml-org/*"\nmode = "enforce"\n'
        f'keys = ["{signer.publish(tmp_path / "team.pub")}"]\n'
    )
    done = cli("runtimes", "install", f"{registry.host}/{REPOSITORY}:server-vulkan", "--yes")
    if signs == "nothing":
        assert done.returncode == 6
        assert "not signed" in done.stderr
        assert _left(cli.home) == []
    else:
        assert done.returncode == 0, done.stderr


def test_an_update_keeps_the_old_build_and_use_goes_back(
    ghcr: CommandLine, registry: Registry
) -> None:
    registry.add(artifact_of(shell_image("b101", ["A"])), REPOSITORY, ["server-vulkan"])
    assert ghcr("runtimes", "install", "vulkan", "--yes").returncode == 0
    registry.add(artifact_of(shell_image("b102", ["A"])), REPOSITORY, ["server-vulkan"])
    assert ghcr("runtimes", "update", "--yes").returncode == 0
    assert _names_in_use(ghcr) == {"vulkan@b101": False, "vulkan@b102": True}
    # the image that has lost its tag is needed still
    assert ghcr("prune").returncode == 0
    assert ghcr("verify").returncode == 0
    assert ghcr("runtimes", "use", "b101").stdout == "vulkan@b101 is in use: A, CPU\n"
    assert _names_in_use(ghcr) == {"vulkan@b101": True, "vulkan@b102": False}


def test_a_build_that_lists_fewer_devices_is_not_used(
    ghcr: CommandLine, registry: Registry
) -> None:
    registry.add(artifact_of(shell_image("b101", ["A", "B"])), REPOSITORY, ["server-vulkan"])
    assert ghcr("runtimes", "install", "vulkan", "--yes").returncode == 0
    registry.add(artifact_of(shell_image("b102", ["A"])), REPOSITORY, ["server-vulkan"])
    done = ghcr("runtimes", "update", "--yes")
    assert done.returncode == 8
    assert "error: vulkan@b102 does not list B; vulkan@b101 stays in use\n" in done.stderr
    assert _names_in_use(ghcr) == {"vulkan@b101": True, "vulkan@b102": False}
    assert ghcr("runtimes", "use", "vulkan@b102").returncode == 0


def test_a_build_that_does_not_start_leaves_nothing(ghcr: CommandLine, registry: Registry) -> None:
    broken = shell_image("b102", script='echo "libmtmd.so.0: cannot open" >&2; exit 127')
    registry.add(artifact_of(broken), REPOSITORY, ["server"])
    done = ghcr("runtimes", "install", "cpu", "--yes")
    assert done.returncode == 8
    assert "does not start: libmtmd.so.0: cannot open" in done.stderr
    assert _left(ghcr.home) == []


def test_what_is_not_for_this_machine_leaves_nothing(ghcr: CommandLine, registry: Registry) -> None:
    other = elsewhere(shell_image("b101"))
    registry.add(artifact_of(other, other), REPOSITORY, ["server"])
    registry.add(artifact_of(other), REPOSITORY, ["server-vulkan"])
    for name in ("cpu", "vulkan"):
        done = ghcr("runtimes", "install", name, "--yes")
        assert done.returncode == 10
        assert "only for linux/riscv64" in done.stderr
    assert _left(ghcr.home) == []


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([Item("../../../outside", b"x")], 6),
        ([symlink("app/out", "../../outside")], 6),
        ([Item("app/pipe", kind=tarfile.FIFOTYPE)], 6),
        ([Item("app/sparse", b"x", pax={"GNU.sparse.realsize": "1"})], 10),
        ([Item("app/zeros", b"\0" * (70 << 20))], 6),
    ],
    ids=["path", "link", "pipe", "sparse", "bomb"],
)
def test_a_hostile_image_leaves_nothing(
    ghcr: CommandLine, registry: Registry, items: list[Item], code: int
) -> None:
    registry.add(artifact_of(shell_image("b101", extra=items)), REPOSITORY, ["server"])
    done = ghcr("runtimes", "install", "cpu", "--yes")
    assert done.returncode == code
    assert "hint: " in done.stderr
    assert _left(ghcr.home) == []
    assert not (ghcr.home.parent / "outside").exists()


def test_a_layer_other_than_the_config_says_leaves_nothing(
    ghcr: CommandLine, registry: Registry
) -> None:
    from dataclasses import replace

    image = replace(shell_image("b101"), diff_ids=["sha256:" + "0" * 64] * 2)
    registry.add(artifact_of(image), REPOSITORY, ["server"])
    assert ghcr("runtimes", "install", "cpu", "--yes").returncode == 6
    assert _left(ghcr.home) == []


def test_an_image_without_a_server_leaves_nothing(ghcr: CommandLine, registry: Registry) -> None:
    from dataclasses import replace

    image = replace(shell_image("b101"), tars=[tar_of([Item("bin/true", b"")])])
    registry.add(artifact_of(image), REPOSITORY, ["server"])
    done = ghcr("runtimes", "install", "cpu", "--yes")
    assert done.returncode == 10
    assert "has no llama-server for linux/" in done.stderr
    assert _left(ghcr.home) == []


def test_a_server_sees_the_image_and_not_the_machine(
    ghcr: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    probe = (
        f'[ -e "{tmp_path}" ] && seen="the machine" || seen="the image"\n'
        '[ -n "$LLAMA_ARG_HOST" ] && seen="$seen, $LLAMA_ARG_HOST"\n'
        'echo x 2>/dev/null >/app/new && seen="$seen, writes"\n'
        '[ "$1" = --list-devices ] && echo "  GPU0: $seen (1 MiB, 1 MiB free)" && exit 0\n'
    )
    registry.add(artifact_of(shell_image("b101", script=probe)), REPOSITORY, ["server"])
    assert ghcr("runtimes", "install", "cpu", "--yes").returncode == 0
    described = _installed(ghcr)[0]["devices"][0]["description"]
    if subprocess.run(["unshare", "-Urm", "true"], check=False).returncode != 0:
        pytest.skip("this system allows no namespaces")
    assert described == "the image"


def test_what_a_kill_has_left_is_removed_by_the_next_change(
    ghcr: CommandLine, registry: Registry
) -> None:
    slow = shell_image("b101", script="read -r line < /tmp/never || sleep 600")
    registry.add(artifact_of(slow), REPOSITORY, ["server"])
    process = subprocess.Popen(
        ghcr.argv("runtimes", "install", "cpu", "--yes"), env=dict(ghcr.environ)
    )
    runtimes = ghcr.home / "runtimes"
    while not list(runtimes.glob(".tmp-*/rootfs/app/llama-server")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _installed(ghcr) == []
    registry.add(artifact_of(shell_image("b102")), REPOSITORY, ["server"])
    assert ghcr("runtimes", "install", "cpu", "--yes").returncode == 0
    assert not list(runtimes.glob(".tmp-*"))


def test_an_image_is_shared_and_installed_from_there(
    ghcr: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    registry.add(artifact_of(shell_image("b101")), REPOSITORY, ["server"])
    assert ghcr("runtimes", "install", "cpu", "--yes").returncode == 0
    with subprocess.Popen(
        ghcr.argv("share", "--port", "0"), env=dict(ghcr.environ), stdout=subprocess.PIPE, text=True
    ) as share:
        assert share.stdout is not None
        address = share.stdout.readline().strip()
        try:
            other = CommandLine(tmp_path / "other", {**ghcr.environ})
            done = other(
                "runtimes", "install", "cpu", "--yes",
                MODELRUNNER_HOME=str(other.home), MODELRUNNER_MIRRORS=f"ghcr.io={address}",
            )  # fmt: skip
        finally:
            share.kill()
    assert done.stdout == "cpu@b101 installed, in use: CPU\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["install", "vulcan"],
            2,
            "error: unknown runtime 'vulcan'\nhint: did you mean `vulkan`?\n",
        ),
        (["install", "cpu", "--version", "new"], 2, "error: invalid version 'new'\n"),
        (["use", "vulkan"], 8, "error: no runtime 'vulkan' is installed\n"),
        (["remove"], 2, "error: `runtimes remove` needs a runtime\n"),
        (["update"], 8, "error: no installed runtime is in use\n"),
        (["list", "x"], 2, "error: unexpected argument 'x'\n"),
        (["list", "--version", "b101"], 2, "error: --version is for `runtimes install`\n"),
    ],
)
def test_what_cannot_be_done_is_said(
    cli: CommandLine, arguments: list[str], code: int, message: str
) -> None:
    done = cli("runtimes", *arguments)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert "hint: " in done.stderr


def _changed(cli: CommandLine, *options: str) -> "subprocess.CompletedProcess[str]":
    """What `verify` says where it finds something."""
    done = cli("verify", *options)
    assert (done.returncode, done.stdout) == (6, "")
    return done


@pytest.mark.parametrize("deep", [False, True], ids=["fast", "deep"])
def test_a_changed_file_of_a_runtime_is_named_and_unpacked_again(
    ghcr: CommandLine, registry: Registry, *, deep: bool
) -> None:
    registry.add(artifact_of(shell_image("b101")), REPOSITORY, ["server-vulkan"])
    assert ghcr("runtimes", "install", "vulkan", "--yes").returncode == 0
    options = ["--deep"] if deep else []
    assert ghcr("verify", *options).stdout.endswith(", 1 runtime\n")
    root = Path(_installed(ghcr)[0]["path"]) / "rootfs"
    program = root / "app/llama-server"
    before = program.read_bytes()
    program.write_bytes(before.replace(b"0.7.0", b"6.6.6"))
    (root / "app/libggml-evil.so").write_bytes(b"plug-in")
    (root / "bin").mkdir(exist_ok=True)
    next(iter((root / "lib").rglob("libc.so*"))).unlink()
    done = _changed(ghcr, *options)
    assert f"error: vulkan@b101: {root}/app/libggml-evil.so does not belong to the image and " in (
        done.stderr
    )
    files = json.loads(_changed(ghcr, *options, "--json").stderr)["error"]["files"]
    assert f"{program} is changed" in files
    assert len(files) == 3
    # without the network: the blobs are in the store
    hint = done.stderr.rpartition("`modelrunner ")[2].partition("`")[0]
    assert ghcr(*hint.split(), "--offline", "--yes").returncode == 0
    assert program.read_bytes() == before
    assert ghcr("verify", *options, "runtime:vulkan").returncode == 0
    assert _installed(ghcr)[0]["reference"] == "ghcr.io/ggml-org/llama.cpp:server-vulkan"


def test_a_byte_that_rots_is_found_by_a_deep_look(ghcr: CommandLine, registry: Registry) -> None:
    registry.add(artifact_of(shell_image("b101")), REPOSITORY, ["server-vulkan"])
    assert ghcr("runtimes", "install", "vulkan", "--yes").returncode == 0
    program = Path(_installed(ghcr)[0]["path"]) / "rootfs/app/llama-server"
    looked = program.stat()
    program.write_bytes(program.read_bytes().replace(b"0.7.0", b"6.6.6"))
    os.utime(program, ns=(looked.st_atime_ns, looked.st_mtime_ns))
    assert ghcr("verify").returncode == 0
    assert f"{program} is changed\n" in _changed(ghcr, "--deep").stderr


def test_a_home_that_was_copied_is_believed_once_it_was_read(
    ghcr: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    registry.add(artifact_of(shell_image("b101")), REPOSITORY, ["server-vulkan"])
    assert ghcr("runtimes", "install", "vulkan", "--yes").returncode == 0
    copied = shutil.copytree(ghcr.home, tmp_path / "copied", symlinks=True)
    cli = CommandLine(copied, {**ghcr.environ, "MODELRUNNER_HOME": str(copied)})
    (note,) = copied.glob("runtimes/*/files.json")
    before = note.read_bytes()
    assert cli("verify").returncode == 0
    again = note.read_bytes()
    assert again != before
    assert cli("verify").returncode == 0
    assert note.read_bytes() == again


def test_a_damaged_blob_of_an_image_is_downloaded_again_by_the_hint(
    ghcr: CommandLine, registry: Registry
) -> None:
    digest = registry.add(artifact_of(shell_image("b101")), REPOSITORY, ["server-vulkan"])
    assert ghcr("runtimes", "install", "vulkan", "--yes").returncode == 0
    # the tag moves on, and this image is wanted still
    registry.add(artifact_of(shell_image("b102")), REPOSITORY, ["server-vulkan"])
    (image,) = ghcr.store.images()
    layer = ghcr.store.blobs.path(image.manifest.layers[1].digest)
    layer.chmod(0o644)
    layer.write_bytes(b"x" * layer.stat().st_size)
    done = _changed(ghcr, "--deep")
    hint = done.stderr.rpartition("`modelrunner ")[2].partition("`")[0]
    assert hint == f"runtimes install ghcr.io/{REPOSITORY}:server-vulkan@{digest}"
    assert ghcr(*hint.split(), "--yes").returncode == 0
    assert ghcr("verify", "--deep").returncode == 0
    assert _names_in_use(ghcr) == {"vulkan@b101": True}
