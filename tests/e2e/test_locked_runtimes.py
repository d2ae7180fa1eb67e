"""A runtime in `modelrunner.toml`: locked, pulled by its digest, and kept."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.e2e.test_locked_pulls import CUT_OFF
from tests.e2e.test_locking import valid
from tests.support.artifacts import Artifact
from tests.support.github_actions import assignments
from tests.support.images import Image
from tests.support.mounts import read_only
from tests.support.registry import Registry
from tests.support.runtime_image import artifact_of, elsewhere, platform, shell_image
from tests.support.signing import Signer, bundle

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("ldd") is None, reason="starts programs of images"
)
REPOSITORY = "ggml-org/llama.cpp"
HERE = "/".join(platform().values())


@pytest.fixture
def ghcr(cli: CommandLine, registry: Registry) -> CommandLine:
    """A command line for which the registry stands for ghcr.io."""
    environ = {**cli.environ, "MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}"}
    return CommandLine(cli.home, environ)


@pytest.fixture
def wanted(project: Path, registry: Registry, tiny: Artifact) -> Path:
    """A project with a model and the runtime `vulkan`."""
    registry.add(tiny, "team/tiny", ["1"])
    (project / "modelrunner.toml").write_text(
        f'[models]\nchat = "{registry.host}/team/tiny:1"\n[runtime]\nimage = "vulkan"\n'
    )
    return project


def published(registry: Registry, image: Image) -> str:
    """Gives the tag `server-vulkan` to an index of this image; its digest."""
    return registry.add(artifact_of(elsewhere(image), image), REPOSITORY, ["server-vulkan"])


@pytest.fixture
def pinned(ghcr: CommandLine, registry: Registry, wanted: Path) -> Path:
    """The project with a lock that pins the build b101."""
    published(registry, shell_image("b101"))
    assert ghcr("lock").returncode == 0
    return wanted


def locked(project: Path) -> Mapping[str, Any]:
    found: Any = valid(project)["runtime"]
    return found


def digest_of_here(project: Path) -> str:
    found: str = next(i["digest"] for i in locked(project)["images"] if i["platform"] == HERE)
    return found


def installed(cli: CommandLine) -> dict[str, bool]:
    rows = json.loads(cli("runtimes", "list", "--json").stdout)
    return {row["name"]: row["in_use"] for row in rows}


def test_a_lock_pins_the_index_and_the_image_of_every_platform(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    image = shell_image("b101")
    index = published(registry, image)
    done = ghcr("lock")
    assert done.returncode == 0, done.stderr
    sizes = [sum(map(len, each.blobs)) for each in (image, elsewhere(image))]
    runtime = locked(wanted)
    assert runtime["ref"] == "ghcr.io/ggml-org/llama.cpp:server-vulkan"
    assert runtime["manifest"] == index
    assert [(row["platform"], row["bytes"]) for row in runtime["images"]] == [
        (HERE, sizes[0]),
        ("linux/riscv64", sizes[1]),
    ]
    assert (
        f"added runtime: ghcr.io/ggml-org/llama.cpp:server-vulkan at {index[7:19]}" in done.stdout
    )
    # of the images no more than the manifests
    assert registry.count("GET", "blobs") == 0
    registry.requests.clear()
    again = ghcr("lock")
    assert again.stderr == "modelrunner.lock is up to date (1 model, 1 runtime)\n"
    assert ghcr("lock", "--check").returncode == 0
    assert registry.requests == []


def test_an_image_that_is_no_index_is_locked_with_its_platform(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    digest = registry.add(artifact_of(shell_image("b101")), REPOSITORY, ["server-vulkan"])
    assert ghcr("lock").returncode == 0
    runtime = locked(wanted)
    assert (runtime["manifest"], digest_of_here(wanted)) == (digest, digest)
    assert ghcr("pull", "--locked").returncode == 0
    assert installed(ghcr) == {"vulkan@b101": True}


def test_a_moved_tag_is_shown_and_pinned_where_that_is_asked_for(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    old = published(registry, shell_image("b101"))
    assert ghcr("lock").returncode == 0
    before = (wanted / "modelrunner.lock").read_text()
    new = published(registry, shell_image("b102"))
    moved = (
        "updated runtime: ghcr.io/ggml-org/llama.cpp:server-vulkan "
        f"from {old[7:19]} to {new[7:19]} (image)\n"
    )
    shown = ghcr("lock", "--diff")
    assert shown.stdout.startswith(moved)
    assert f"+ image  {HERE}  " in shown.stdout
    assert json.loads(ghcr("lock", "--diff", "--json").stdout)["changes"][0]["from"] == old
    assert ghcr("lock").stdout == ""
    assert (wanted / "modelrunner.lock").read_text() == before
    assert ghcr("lock", "--update", "chat").stdout == ""
    assert ghcr("lock", "--update", "runtime").stdout == moved
    published(registry, shell_image("b103"))
    assert ghcr("lock", "--upgrade").stdout.startswith("updated runtime: ")
    registry.remove_tag(REPOSITORY, "server-vulkan")
    assert ghcr("lock", "--diff").stdout.startswith("gone runtime: ")


def test_a_lock_that_does_not_have_the_runtime_is_out_of_date(
    ghcr: CommandLine, pinned: Path
) -> None:
    key = ghcr("cache-key").stdout
    intent = pinned / "modelrunner.toml"
    text = intent.read_text()
    for other, said in {
        text.replace('"vulkan"', '"cpu"'): (
            "runtime is locked as ghcr.io/ggml-org/llama.cpp:server-vulkan, "
            "expected ghcr.io/ggml-org/llama.cpp:server"
        ),
        text.partition("[runtime]")[0]: ("runtime is locked, but not listed in modelrunner.toml"),
    }.items():
        intent.write_text(other)
        done = ghcr("lock", "--check")
        assert (done.returncode, said in done.stderr) == (9, True), done.stderr
        assert ghcr("pull", "--locked").returncode == 9
    assert ghcr("lock").stdout.startswith("removed runtime: ")
    assert ghcr("cache-key").stdout != key
    intent.write_text(text)
    done = ghcr("lock", "--check")
    assert (done.returncode, "runtime is not locked" in done.stderr) == (9, True)


def test_a_locked_pull_installs_the_locked_build_whatever_the_tag_is_by_now(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    published(registry, shell_image("b101", ["RTX 4090"]))
    assert ghcr("lock").returncode == 0
    published(registry, shell_image("b102"))
    registry.requests.clear()
    done = ghcr("pull", "--locked")
    assert done.returncode == 0, done.stderr
    assert "server-vulkan: vulkan@b101 installed, " in done.stdout
    assert installed(ghcr) == {"vulkan@b101": True}
    asked = [request.path for request in registry.requests]
    assert not [path for path in asked if path.endswith("/server-vulkan")]
    registry.requests.clear()
    again = json.loads(ghcr("pull", "--locked", "--json").stdout)
    assert [(row["name"], row["status"]) for row in again] == [
        ("chat", "up-to-date"),
        ("runtime", "up-to-date"),
    ]
    assert (again[1]["runtime"], again[1]["digest"]) == ("vulkan@b101", digest_of_here(wanted))
    assert registry.requests == []
    assert ghcr("pull", "--frozen").returncode == 0
    # nothing is loaded that knows a network
    quick = subprocess.run(
        [sys.executable, "-c", CUT_OFF, "pull", "--locked"],
        env=dict(ghcr.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert quick.returncode == 0, quick.stderr


def test_a_build_that_is_in_use_stays_in_use(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    registry.add(artifact_of(shell_image("b100")), REPOSITORY, ["server"])
    assert ghcr("runtimes", "install", "cpu", "--yes").returncode == 0
    published(registry, shell_image("b101"))
    assert ghcr("lock").returncode == 0
    done = ghcr("pull", "--locked")
    said = "used in the project's directory, elsewhere with `--runtime installed:vulkan@b101`"
    assert said in done.stdout
    assert installed(ghcr) == {"cpu@b100": True, "vulkan@b101": False}


def test_a_runtime_is_unpacked_from_the_store_without_the_network(
    ghcr: CommandLine, registry: Registry, pinned: Path
) -> None:
    missing = ghcr("pull", "--frozen", "chat", "runtime")
    assert missing.returncode == 9
    assert ghcr("pull", "--locked", "chat").returncode == 0
    missing = ghcr("pull", "--frozen")
    assert missing.returncode == 9
    assert "not in the local store: runtime (ghcr.io/ggml-org/llama.cpp:" in missing.stderr
    assert (missing.stdout, installed(ghcr)) == ("", {})
    assert ghcr("pull", "--locked", "runtime").returncode == 0
    # as a cache of the store has it
    shutil.rmtree(ghcr.home / "runtimes")
    registry.requests.clear()
    assert ghcr("pull", "--locked", "--offline").returncode == 0
    assert installed(ghcr) == {"vulkan@b101": True}
    assert registry.requests == []


def test_a_platform_without_an_image_is_said_and_the_models_come(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    other = elsewhere(shell_image("b101"))
    registry.add(artifact_of(other, other), REPOSITORY, ["server-vulkan"])
    assert ghcr("lock").returncode == 0
    done = ghcr("pull", "--locked", "--json")
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert [(row["name"], row["status"]) for row in rows] == [
        ("chat", "pulled"),
        ("runtime", "unsupported"),
    ]
    assert f"has no image for {HERE}, only for linux/riscv64: nothing was installed" in done.stderr


def test_a_runtime_that_does_not_start_fails_the_pull_after_the_models(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    published(registry, shell_image("b101", script="exit 127"))
    assert ghcr("lock").returncode == 0
    done = ghcr("pull", "--locked")
    assert done.returncode == 8
    assert "team/tiny:1: pulled " in done.stdout
    assert "the server of vulkan@b101 does not start" in done.stderr
    assert installed(ghcr) == {}


@pytest.mark.parametrize("signs", ["the index", "nothing", "an index without this image"])
def test_a_policy_is_for_a_locked_runtime_too(
    cli: CommandLine, registry: Registry, wanted: Path, tmp_path: Path, signs: str
) -> None:
    image = shell_image("b101")
    made = artifact_of(elsewhere(image), image)
    registry.add(made, REPOSITORY, ["server-vulkan"])
    signer = Signer.make()
    if signs != "nothing":
        registry.add(bundle(signer, made), REPOSITORY, [])
    intent = wanted / "modelrunner.toml"
    name = f"{registry.host}/{REPOSITORY}:server-vulkan"
    intent.write_text(intent.read_text().replace('"vulkan"', f'"{name}"'))
    assert cli("lock").returncode == 0
    if signs == "an index without this image":
        other = registry.add(artifact_of(shell_image("b66")), REPOSITORY)
        lock = wanted / "modelrunner.lock"
        lock.write_text(lock.read_text().replace(digest_of_here(wanted), other))
    cli.home.mkdir(parents=True, exist_ok=True)
    (cli.home / "verify.toml").write_text(
        f'version = 1\n[[rule]]\nmatch = "{registry.host}/ggml-org/*"\nmode = "enforce"\n'
        f'keys = ["{signer.publish(tmp_path / "team.pub")}"]\n'
    )
    done = cli("pull", "--locked")
    if signs == "the index":
        assert done.returncode == 0, done.stderr
        assert installed(cli) == {"vulkan@b101": True}
    else:
        said = "not signed" if signs == "nothing" else "has no image"
        assert (done.returncode, said in done.stderr) == (6 if signs == "nothing" else 9, True)
        assert installed(cli) == {}


def test_what_a_registry_has_no_more_is_said(
    ghcr: CommandLine, registry: Registry, pinned: Path
) -> None:
    lock = pinned / "modelrunner.lock"
    lock.write_text(lock.read_text().replace(digest_of_here(pinned), "sha256:" + "0" * 64))
    done = ghcr("pull", "--locked")
    assert done.returncode == 3
    assert "hint: the registry no longer has what modelrunner.lock pins" in done.stderr


def test_an_output_directory_has_the_models_alone(ghcr: CommandLine, pinned: Path) -> None:
    assert ghcr("pull", "--locked", "--output", "out").returncode == 0
    assert [path.name for path in (pinned / "out").iterdir()] == ["chat"]


def test_prune_keeps_what_is_locked_or_unpacked(ghcr: CommandLine, pinned: Path) -> None:
    assert ghcr("pull", "--locked").returncode == 0
    assert ghcr("prune", "--keep-locked", "--yes").returncode == 0
    assert ghcr("prune").returncode == 0
    shutil.rmtree(ghcr.home / "runtimes")
    assert ghcr("pull", "--frozen").returncode == 0


def test_a_job_gets_the_runtime_as_an_output(
    ghcr: CommandLine, pinned: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    assert ghcr("pull", "--locked", "--github", GITHUB_OUTPUT=str(output)).returncode == 0
    found = assignments(output.read_text())
    assert (found["runtime"], found["cache-hit"]) == ("installed:vulkan@b101", "false")
    assert f"{found['cache-key']}\n" == ghcr("cache-key").stdout


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("auto", "image 'auto' depends on the machine, and a lock is the same everywhere"),
        ("vulcan", "unknown runtime 'vulcan'"),
        ("vulkan@new", "invalid version 'new'"),
    ],
)
def test_a_name_that_cannot_be_locked_is_refused_with_its_line(
    cli: CommandLine, project: Path, image: str, message: str
) -> None:
    (project / "modelrunner.toml").write_text(
        f'[models]\na = "ai/m"\n[runtime]\nimage = "{image}"\n'
    )
    done = cli("lock")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: modelrunner.toml:4: {message}\nhint: ")


def test_a_model_is_not_locked_as_a_runtime(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    intent = wanted / "modelrunner.toml"
    intent.write_text(intent.read_text().replace('"vulkan"', f'"{registry.host}/team/tiny:1"'))
    done = ghcr("lock")
    assert done.returncode == 10
    assert "is not an image of a runtime" in done.stderr


def test_a_runtime_whose_files_were_changed_is_unpacked_again(
    ghcr: CommandLine, pinned: Path
) -> None:
    assert ghcr("pull", "--locked").returncode == 0
    (program,) = ghcr.home.glob("runtimes/*/rootfs/app/llama-server")
    before = program.read_bytes()
    program.write_bytes(b"#!/bin/sh\n")
    assert ghcr("verify").returncode == 6
    assert ghcr("pull", "--frozen").returncode == 0
    assert program.read_bytes() == before
    assert ghcr("verify", "--deep").returncode == 0


@pytest.mark.parametrize("kind", ["compose", "k8s", "kserve", "quadlet"])
def test_an_export_has_the_locked_image_by_its_digest(
    ghcr: CommandLine, registry: Registry, wanted: Path, kind: str
) -> None:
    index = published(registry, shell_image("b101"))
    name = f"{registry.host}/team/tiny:1"
    export = ("export", kind, name, "--puller", "registry.example.com/modelrunner:1")
    unlocked = ghcr(*export)
    assert "ghcr.io/ggml-org/llama.cpp:server-vulkan" in unlocked.stdout
    assert "modelrunner.toml names a runtime that is not locked" in unlocked.stderr
    assert ghcr("lock").returncode == 0
    # where the tag points by now does not matter
    published(registry, shell_image("b102"))
    done = ghcr(*export)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ghcr.io/ggml-org/llama.cpp@{index}" in done.stdout
    assert (
        "Server image: ghcr.io/ggml-org/llama.cpp:server-vulkan, from modelrunner.lock"
        in done.stdout.replace("\n# ", " ")
    )
    other = ghcr(*export, "--image", "registry.example.com/server:1")
    assert index not in other.stdout


def test_an_export_has_the_image_of_the_installed_runtime(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    index = published(registry, shell_image("b101"))
    name = f"{registry.host}/team/tiny:1"
    (wanted / "modelrunner.toml").unlink()
    export = ("export", "compose", name, "--puller", "registry.example.com/modelrunner:1")
    assert "ghcr.io/ggml-org/llama.cpp:server" in ghcr(*export).stdout
    assert ghcr("runtimes", "install", "vulkan", "--yes").returncode == 0
    assert f"ghcr.io/ggml-org/llama.cpp@{index}" in ghcr(*export).stdout
    # another runtime was chosen
    other = ghcr(*export, MODELRUNNER_RUNTIME="llama-server").stdout
    assert index not in other


def test_a_unit_for_systemd_says_that_it_starts_no_image(
    ghcr: CommandLine, registry: Registry, pinned: Path
) -> None:
    assert ghcr("pull", "--locked", "chat").returncode == 0
    done = ghcr("export", "systemd", f"{registry.host}/team/tiny:1")
    assert done.returncode == 0
    assert "starts the llama-server of the machine, not an image" in done.stderr


def offline(cli: CommandLine, folder: Path) -> CommandLine:
    """A command line of another machine, which no registry answers."""
    environ = {**cli.environ, "MODELRUNNER_HOME": str(folder)}
    return CommandLine(folder, {**environ, "MODELRUNNER_MIRRORS": "ghcr.io=http://127.0.0.1:9"})


@pytest.mark.parametrize("tagged", [True, False], ids=["tag", "digest"])
def test_a_saved_project_is_loaded_and_installed_without_a_network(
    ghcr: CommandLine, registry: Registry, wanted: Path, tmp_path: Path, *, tagged: bool
) -> None:
    index = published(registry, shell_image("b101"))
    if not tagged:
        intent = wanted / "modelrunner.toml"
        name = f"ghcr.io/{REPOSITORY}@{index}"
        intent.write_text(intent.read_text().replace('"vulkan"', f'"{name}"'))
    assert ghcr("lock").returncode == 0
    missing = ghcr("save", "--locked", "-o", "project.tar")
    assert (missing.returncode, "locked, but not in the local store" in missing.stderr) == (9, True)
    assert ghcr("pull", "--locked", "chat").returncode == 0
    missing = ghcr("save", "--locked", "-o", "project.tar")
    assert (missing.returncode, "store: runtime (ghcr.io/" in missing.stderr) == (9, True)
    assert ghcr("pull", "--locked").returncode == 0
    assert ghcr("save", "--locked", "-o", "project.tar").returncode == 0
    other = offline(ghcr, tmp_path / "other")
    loaded = other("load", "project.tar", "--json")
    assert loaded.returncode == 0, loaded.stderr
    assert [row.get("kind") for row in json.loads(loaded.stdout)].count("runtime") == 1
    done = other("pull", "--frozen")
    assert done.returncode == 0, done.stderr
    assert installed(other) == {"vulkan@b101" if tagged else "cpu@b101": True}
    assert other("verify", "--deep").returncode == 0
    # the same bytes again
    assert other("save", "--locked", "-o", "again.tar").returncode == 0
    assert (wanted / "again.tar").read_bytes() == (wanted / "project.tar").read_bytes()


@pytest.mark.parametrize(
    "name", ["runtime:vulkan@b101", "runtime:vulkan", "ghcr.io/ggml-org/llama.cpp:server-vulkan"]
)
def test_a_saved_runtime_is_loaded_and_installed_without_a_network(
    ghcr: CommandLine, registry: Registry, project: Path, tmp_path: Path, name: str
) -> None:
    published(registry, shell_image("b101"))
    assert ghcr("runtimes", "install", "vulkan", "--yes").returncode == 0
    assert ghcr("save", name, "-o", "runtime.tar").returncode == 0
    other = offline(ghcr, tmp_path / "other")
    loaded = other("load", "runtime.tar")
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("ghcr.io/ggml-org/llama.cpp:server-vulkan: loaded (")
    hint = loaded.stderr.rpartition("`modelrunner ")[2].partition("`")[0]
    assert (other("list", "--json").stdout, installed(other)) == ("[]\n", {})
    # before it is unpacked, too
    assert other("prune").returncode == 0
    assert other("save", "runtime:vulkan", "-o", "again.tar").returncode == 0
    done = other(*hint.split(), "--yes")
    assert done.returncode == 0, done.stderr
    assert installed(other) == {"vulkan@b101": True}
    assert (project / "again.tar").read_bytes() == (project / "runtime.tar").read_bytes()


def test_a_model_that_an_archive_calls_a_runtime_is_refused(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    name = f"{registry.host}/team/tiny:1"
    assert ghcr("pull", name).returncode == 0
    assert ghcr("save", name, "-o", "model.tar").returncode == 0
    with tarfile.open("model.tar") as archive:
        archive.extractall("layout", filter="data")
    index = wanted / "layout" / "index.json"
    value = json.loads(index.read_text())
    value["manifests"][0]["annotations"]["vnd.modelrunner.kind"] = "runtime"
    index.write_text(json.dumps(value))
    assert ghcr("rm", name).returncode == 0
    done = ghcr("load", "layout")
    assert done.returncode == 10
    assert "is not an image of a runtime" in done.stderr
    assert ghcr.store.everything() == ()


def test_a_name_of_nothing_that_can_be_saved_is_refused(cli: CommandLine, project: Path) -> None:
    for arguments, code, message in (
        (["runtime:vulkan"], 8, "error: no runtime 'vulkan' is installed\n"),
        ([], 2, "error: no model given\n"),
        (["ai/x", "--file", "modelrunner.toml"], 2, "error: --file needs --locked\n"),
    ):
        done = cli("save", *arguments, "-o", "x.tar")
        assert (done.returncode, done.stderr.startswith(message)) == (code, True), done.stderr
    assert list(project.iterdir()) == []


def test_a_locked_runtime_is_pulled_from_a_shared_store(
    ghcr: CommandLine, registry: Registry, pinned: Path, tmp_path: Path
) -> None:
    assert ghcr("pull", "--locked").returncode == 0
    with subprocess.Popen(
        ghcr.argv("share", "--port", "0"), env=dict(ghcr.environ), stdout=subprocess.PIPE, text=True
    ) as share:
        assert share.stdout is not None
        address = share.stdout.readline().strip()
        try:
            other = offline(ghcr, tmp_path / "other")
            mirrors = f"ghcr.io={address},{registry.host}={address}"
            done = other("pull", "--locked", MODELRUNNER_MIRRORS=mirrors)
        finally:
            share.kill()
    assert done.returncode == 0, done.stderr
    assert installed(other) == {"vulkan@b101": True}


def chosen(cli: CommandLine, **environ: str) -> tuple[str, str | None]:
    """The runtime that a start would use, and which build of it `run` would name."""
    from modelrunner.runtime.select import select

    rows = json.loads(cli("runtimes", "--json", **environ).stdout)
    name = next(row["name"] for row in rows if row["chosen"])
    choice = environ.get("MODELRUNNER_RUNTIME", "auto")
    image = select(choice, environ=cli.environ, library=cli.home / "runtimes").image()
    return name, None if image is None else image.name


def test_a_project_is_run_with_its_locked_build_whatever_is_in_use(
    ghcr: CommandLine, registry: Registry, pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ghcr("pull", "--locked").returncode == 0
    registry.add(artifact_of(shell_image("b102")), REPOSITORY, ["server-vulkan"])
    assert ghcr("runtimes", "update", "--yes").returncode == 0
    assert installed(ghcr) == {"vulkan@b101": False, "vulkan@b102": True}
    assert chosen(ghcr) == ("installed", "vulkan@b101")
    assert chosen(ghcr, MODELRUNNER_RUNTIME="locked") == ("installed", "vulkan@b101")
    assert chosen(ghcr, MODELRUNNER_RUNTIME="installed") == ("installed", "vulkan@b102")
    (pinned / "modelrunner.lock").write_text("no lock")
    assert chosen(ghcr) == ("installed", "vulkan@b102")
    monkeypatch.chdir(pinned.parent)
    assert chosen(ghcr) == ("installed", "vulkan@b102")


def test_a_locked_runtime_that_cannot_be_used_is_said(
    ghcr: CommandLine, registry: Registry, wanted: Path
) -> None:
    run = ("run", "ai/x", "hi", "--runtime", "locked", "--offline")

    def said() -> str:
        done = ghcr(*run)
        assert done.returncode == 8
        return done.stderr.partition("\n")[0]

    assert said() == "error: locked: modelrunner.lock: file not found"
    text = (wanted / "modelrunner.toml").read_text()
    (wanted / "modelrunner.toml").write_text(text.partition("[runtime]")[0])
    assert ghcr("lock").returncode == 0
    assert said() == "error: modelrunner.lock pins no runtime"
    (wanted / "modelrunner.toml").write_text(text)
    published(registry, shell_image("b101"))
    assert ghcr("lock").returncode == 0
    name = "ghcr.io/ggml-org/llama.cpp:server-vulkan"
    assert said() == f"error: {name}, which modelrunner.lock pins, is not installed"
    # another build would be used: that is said, too
    done = ghcr("run", "ai/x", "hi", "--offline")
    assert f"warning: {name}, which modelrunner.lock pins, is not installed: `modelrunner pull" in (
        done.stderr
    )
    done = ghcr("doctor", "--offline", MODELRUNNER_RUNTIME="locked")
    assert f"the configured runtime locked is not usable: {name}" in done.stdout + done.stderr


def test_a_home_that_is_read_only_will_do(ghcr: CommandLine, pinned: Path) -> None:
    assert ghcr("pull", "--locked").returncode == 0
    (ghcr.home / "runtimes" / "current.json").unlink()
    (files,) = ghcr.home.glob("runtimes/*/files.json")
    # as in a layer of an image: every file has another inode
    files.write_text(re.sub(r",\d+\]", ",1]", files.read_text()))
    with read_only(ghcr.home):
        for command in (("pull", "--frozen"), ("verify",)):
            done = ghcr(*command)
            assert done.returncode == 0, done.stderr
        assert chosen(ghcr) == ("installed", "vulkan@b101")
