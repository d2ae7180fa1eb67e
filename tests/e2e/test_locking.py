"""`lock`, `cache-key` and `prune --keep-locked`, as a project uses them."""

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact, image_artifact, modelpack_artifact
from tests.support.gguf import tiny_gguf
from tests.support.mounts import read_only
from tests.support.registry import Registry
from tests.support.schemas import is_valid

Write = Callable[[str], None]


@pytest.fixture
def want(project: Path, registry: Registry) -> Write:
    """Writes `modelrunner.toml`, with the registry for HOST."""

    def write(text: str) -> None:
        (project / "modelrunner.toml").write_text(text.replace("HOST", registry.host))

    return write


@pytest.fixture
def templates(tmp_path: Path) -> tuple[Artifact, Artifact]:
    """Twice the same weights, with two templates."""
    weights = tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    old, new = (docker_artifact(weights, template=text) for text in (b"{{ x }}", b"{{ long }}"))
    return old, new


def valid(project: Path) -> dict[str, object]:
    """Both files, held against their schemas; what the lock says."""
    found: dict[str, object] = {}
    for name in ("modelrunner.toml", "modelrunner.lock"):
        found = tomllib.loads((project / name).read_text())
        is_valid(name, found)
    return found


def test_a_first_lock_pins_every_model_and_a_second_changes_nothing(
    cli: CommandLine, registry: Registry, want: Write, project: Path, tiny: Artifact
) -> None:
    pack = modelpack_artifact(b"GGUF")
    registry.add(tiny, "team/tiny", ["1"])
    registry.add(pack, "team/pack", ["latest"])
    want('[models]\nz = "HOST/team/pack"\n[models.chat]\nref = "HOST/team/tiny:1"\noutput = "m"')
    done = cli("lock")
    assert (done.returncode, done.stdout.replace(registry.host, "HOST"), done.stderr) == (
        0,
        (
            f"added chat: HOST/team/tiny:1 at {tiny.digest[7:19]}, 11.12 KiB\n"
            f"added z: HOST/team/pack:latest at {pack.digest[7:19]}, {pack.size} B\n"
        ),
        "",
    )
    assert registry.count("GET", "blobs") == 0
    models = valid(project)["model"]
    assert [(model["name"], model["manifest"], model["format"]) for model in models] == [
        ("chat", tiny.digest, "docker"),
        ("z", pack.digest, "modelpack"),
    ]
    before = (project / "modelrunner.lock").stat()
    registry.requests.clear()
    done = cli("lock")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "",
        "modelrunner.lock is up to date (2 models)\n",
    )
    assert registry.requests == []
    # not even written anew: what watches files sees nothing
    after = (project / "modelrunner.lock").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_lock_of_foreign_line_ends_is_left_as_it_is(
    cli: CommandLine, registry: Registry, want: Write, project: Path, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    want('[models]\na = "HOST/team/tiny:1"')
    cli("lock")
    lock = project / "modelrunner.lock"
    lock.write_bytes(lock.read_bytes().replace(b"\n", b"\r\n"))
    assert json.loads(cli("lock", "--json").stdout)["status"] == "up-to-date"
    assert b"\r\n" in lock.read_bytes()


def test_a_moved_tag_stays_locked_until_it_is_looked_up_again(
    cli: CommandLine,
    registry: Registry,
    want: Write,
    project: Path,
    templates: tuple[Artifact, Artifact],
) -> None:
    old, new = templates
    registry.add(old, "team/m", ["1"])
    registry.add(old, "team/n", ["1"])
    want('[models]\nm = "HOST/team/m:1"\nn = "HOST/team/n:1"')
    cli("lock")
    locked = (project / "modelrunner.lock").read_text()
    for repository in ("team/m", "team/n"):
        registry.add(new, repository, ["1"])
    assert cli("lock").stdout == ""
    moved = f"HOST/team/m:1 from {old.digest[7:19]} to {new.digest[7:19]} (template only)\n"
    done = cli("lock", "--diff")
    assert done.returncode == 0
    assert done.stdout.replace(registry.host, "HOST").startswith(
        f"updated m: {moved}"
        f"  - config  config  {len(old.config)} B  {digest(old.config)}\n"
        f"  + config  config  {len(new.config)} B  {digest(new.config)}\n"
        f"  - template  chat_template.jinja  7 B  {digest(b'{{ x }}')}\n"
        f"  + template  chat_template.jinja  10 B  {digest(b'{{ long }}')}\n"
        "updated n: "
    )
    assert (project / "modelrunner.lock").read_text() == locked
    done = cli("lock", "--update", "m")
    assert done.stdout.replace(registry.host, "HOST") == f"updated m: {moved}"
    assert [entry["manifest"] for entry in valid(project)["model"]] == [new.digest, old.digest]
    found = json.loads(cli("lock", "--upgrade", "--json").stdout)
    assert [(entry["name"], entry["change"], entry["to"]) for entry in found["changes"]] == [
        ("n", "updated", new.digest)
    ]


def digest(content: bytes) -> str:
    from hashlib import sha256

    return sha256(content).hexdigest()[:12]


def test_a_tag_that_is_gone_is_told_and_hides_no_other(
    cli: CommandLine, registry: Registry, want: Write, templates: tuple[Artifact, Artifact]
) -> None:
    for repository in ("team/a", "team/b"):
        registry.add(templates[0], repository, ["1", "2"])
    want('[models]\na = "HOST/team/a:1"\nb = "HOST/team/b:1"')
    cli("lock")
    registry.remove_tag("team/a", "1")
    registry.add(templates[1], "team/b", ["1"])
    done = cli("lock", "--diff")
    first, second = done.stdout.replace(registry.host, "HOST").splitlines()[:2]
    assert (done.returncode, first) == (0, "gone a: HOST/team/a:1: no such tag on HOST")
    assert second.startswith("updated b: ")
    assert json.loads(cli("lock", "--diff", "--json").stdout)["changes"][0]["change"] == "gone"
    done = cli("lock", "--update", "a", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"], error["model"], error["file"], error["line"]) == (
        3,
        "manifest_not_found",
        "a",
        "modelrunner.toml",
        2,
    )


def test_a_check_names_every_disagreement_without_a_network(
    cli: CommandLine, registry: Registry, want: Write, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1", "2"])
    want('[models]\na = "HOST/team/tiny:1"\nb = "HOST/team/tiny:1"\n')
    cli("lock")
    assert cli("lock", "--check").returncode == 0
    want('[models]\na = "HOST/team/tiny:2"\nc = "HOST/team/tiny:1"\n')
    registry.requests.clear()
    done = cli("lock", "--check")
    assert (done.returncode, done.stdout, done.stderr.replace(registry.host, "HOST")) == (
        9,
        "",
        (
            "error: modelrunner.lock does not satisfy modelrunner.toml: a is locked as "
            "HOST/team/tiny:1, expected HOST/team/tiny:2; b is locked, but not listed in "
            "modelrunner.toml; c is not locked\nhint: run `modelrunner lock` and commit "
            "modelrunner.lock\n"
        ),
    )
    error = json.loads(cli("lock", "--check", "--json").stderr)["error"]
    assert (error["code"], error["file"], error["line"]) == (
        "lock_outdated",
        "modelrunner.lock",
        4,
    )
    assert [entry.partition(": ")[0] for entry in error["disagreements"]] == [
        "modelrunner.lock:4",
        "modelrunner.lock:17",
        "modelrunner.toml:3",
    ]
    assert registry.requests == []
    assert cli("lock").stdout.splitlines()[1].startswith("removed b: ")
    assert cli("lock", "--check").returncode == 0


def test_without_an_intent_the_hint_shows_one(cli: CommandLine, project: Path) -> None:
    for command in (["lock"], ["lock", "--check"], ["lock", "--file", "modelrunner.toml"]):
        done = cli(*command)
        assert (done.returncode, done.stderr) == (
            2,
            (
                "error: modelrunner.toml: file not found\nhint: create it with `modelrunner "
                "lock --init REF...`\n"
            ),
        )
    (project / "modelrunner.toml").write_text('models.chat = "ai/smollm2:135M-Q4_K_M"')
    assert cli("lock", "--check").returncode == 9


@pytest.mark.parametrize(
    "arguments",
    [
        ["--check", "--upgrade"],
        ["--diff", "--update", "a"],
        ["--update", "b"],
        ["--file", "modelrunner.lock"],
    ],
)
def test_what_contradicts_itself_is_a_usage_error(
    cli: CommandLine, want: Write, arguments: list[str]
) -> None:
    want('[models]\na = "HOST/team/tiny:1"')
    done = cli("lock", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "hint: " in done.stderr


def test_an_intent_elsewhere_has_its_lock_beside_it(
    cli: CommandLine, registry: Registry, want: Write, project: Path, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    want('[models]\na = "HOST/team/tiny:1"')
    (project / "ci").mkdir()
    (project / "modelrunner.toml").rename(project / "ci" / "small.toml")
    assert cli("lock", "--file", "ci/small.toml").returncode == 0
    assert (project / "ci" / "small.lock").exists()
    done = cli("lock", "--check", "--file", "ci/small.toml", "--json")
    assert json.loads(done.stdout)["lock"] == "ci/small.lock"


def test_a_lock_is_made_offline_of_what_is_here(
    cli: CommandLine, registry: Registry, want: Write, project: Path, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    want('[models]\na = "HOST/team/tiny:1"')
    done = cli("--offline", "lock")
    assert (done.returncode, "--offline is set" in done.stderr) == (9, True)
    assert not (project / "modelrunner.lock").exists()
    cli("pull", registry.reference("team/tiny:1"))
    registry.requests.clear()
    assert cli("--offline", "lock").returncode == 0
    assert (registry.requests, valid(project)["model"][0]["manifest"]) == ([], tiny.digest)


@pytest.mark.parametrize("option", [["--diff"], ["--upgrade"], ["--update", "a"]])
def test_offline_nothing_is_said_of_what_a_registry_has_now(
    cli: CommandLine,
    registry: Registry,
    want: Write,
    project: Path,
    tiny: Artifact,
    option: list[str],
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    want('[models]\na = "HOST/team/tiny:1"')
    assert cli("lock").returncode == 0
    cli("pull", registry.reference("team/tiny:1"))
    before = (project / "modelrunner.lock").read_bytes()
    registry.requests.clear()
    done = cli("--offline", "lock", *option)
    assert (done.returncode, done.stdout) == (9, "")
    assert "cannot ask the registry what it has now: --offline is set" in done.stderr
    assert (registry.requests, (project / "modelrunner.lock").read_bytes()) == ([], before)
    assert cli("--offline", "lock").returncode == 0


def test_the_variant_that_fits_is_chosen_and_stays(
    cli: CommandLine, registry: Registry, want: Write, project: Path, tmp_path: Path
) -> None:
    files = {
        "small": tiny_gguf(tmp_path / "small.gguf"),
        "large": tiny_gguf(tmp_path / "large.gguf", layers=8),
    }
    for tag, file in files.items():
        config = {"parameters": "13K" if tag == "small" else "1M"}
        artifact = docker_artifact(file.read_bytes(), config=config)
        registry.add(artifact, "team/m", [tag])
    want('[models.a]\nref = "HOST/team/m"\nfit = { vram = "8GiB", context = 512 }')
    done = cli("lock")
    assert done.returncode == 0, done.stderr
    assert valid(project)["model"][0]["ref"] == registry.reference("team/m:large")
    assert valid(project)["model"][0]["fit"] == {"vram": 8 * 1024**3, "context": 512}
    registry.requests.clear()
    assert (cli("lock").returncode, registry.requests) == (0, [])
    want('[models.a]\nref = "HOST/team/m"\nfit = { vram = "1KiB" }')
    assert cli("lock", "--check").returncode == 9
    done = cli("lock")
    assert (done.returncode, done.stdout) == (7, "")
    want('[models.a]\nref = "HOST/team/m:small"\nfit = { vram = "1KiB" }')
    done = cli("lock")
    assert (done.returncode, "team/m:small does not fit into 1.00 KiB" in done.stderr) == (7, True)
    assert valid(project)["model"][0]["ref"] == registry.reference("team/m:large")


def test_what_is_no_model_is_not_locked(
    cli: CommandLine, registry: Registry, want: Write, project: Path, tiny: Artifact
) -> None:
    registry.add(image_artifact(), "team/box", ["1"])
    registry.add(tiny, "team/tiny", ["1"])
    want('[models]\na = "HOST/team/tiny:1"\nb = "HOST/team/box:1"')
    assert cli("lock").returncode == 10
    assert not (project / "modelrunner.lock").exists()


def test_a_folder_that_may_not_be_written_is_told(
    cli: CommandLine, registry: Registry, want: Write, project: Path, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    want('[models]\na = "HOST/team/tiny:1"')
    with read_only(project):
        done = cli("lock")
    assert (done.returncode, "cannot write" in done.stderr) == (2, True)


def test_branches_that_change_different_models_merge(
    cli: CommandLine,
    registry: Registry,
    want: Write,
    project: Path,
    templates: tuple[Artifact, Artifact],
) -> None:
    names = ("a", "b", "c", "d")
    intent = "[models]\n" + "".join(f'{name} = "HOST/team/{name}:1"\n' for name in names)
    for name in names:
        registry.add(templates[0], f"team/{name}", ["1"])
    want(intent)
    cli("lock")
    base = (project / "modelrunner.lock").read_text()
    for name in names:
        registry.add(templates[1], f"team/{name}", ["1"])
    sides = []
    for name in ("a", "d"):
        (project / "modelrunner.lock").write_text(base)
        assert cli("lock", "--update", name).returncode == 0
        sides.append((project / "modelrunner.lock").read_text())
    for file, text in zip(("ours", "base", "theirs"), (sides[0], base, sides[1]), strict=True):
        (project / file).write_text(text)
    merged = subprocess.run(
        ["git", "merge-file", "-p", "ours", "base", "theirs"], capture_output=True, check=True
    )
    (project / "modelrunner.lock").write_bytes(merged.stdout)
    assert cli("lock", "--check").returncode == 0
    assert cli("lock", "--upgrade").stdout.count("updated") == 2


def test_a_conflict_is_named_and_either_side_of_it_will_do(
    cli: CommandLine, registry: Registry, want: Write, project: Path, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    want('[models]\na = "HOST/team/tiny:1"')
    cli("lock")
    good = (project / "modelrunner.lock").read_text()
    lines = good.splitlines(keepends=True)
    sides = ["<<<<<<< HEAD\n", lines[6], "=======\n", lines[6], ">>>>>>> other\n"]
    (project / "modelrunner.lock").write_text("".join([*lines[:6], *sides, *lines[7:]]))
    for command in (["lock"], ["lock", "--check"], ["cache-key"], ["prune", "--keep-locked"]):
        done = cli(*command)
        assert (done.returncode, done.stdout, done.stderr) == (
            9,
            "",
            (
                "error: modelrunner.lock:7: unresolved merge conflict\nhint: keep either "
                "side, such as with `git checkout --ours`, and run `modelrunner lock`\n"
            ),
        )


def test_a_cache_key_is_one_line_and_changes_with_the_content(
    cli: CommandLine,
    registry: Registry,
    want: Write,
    project: Path,
    templates: tuple[Artifact, Artifact],
) -> None:
    assert cli("cache-key").returncode == 9
    registry.add(templates[0], "team/m", ["1"])
    want('[models]\nm = "HOST/team/m:1"')
    cli("lock")
    registry.requests.clear()
    done = cli("cache-key")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    lock = project / "modelrunner.lock"
    lock.write_text(lock.read_text().replace(" = ", "="))
    assert cli("cache-key").stdout == done.stdout
    blobs = cli("cache-key", "--per-blob").stdout.splitlines()
    assert blobs == sorted({templates[0].digest, *templates[0].blobs})
    found = json.loads(cli("cache-key", "--json", "--lock", str(lock)).stdout)
    assert (found["key"], [blob["digest"] for blob in found["blobs"]]) == (
        done.stdout.strip(),
        blobs,
    )
    assert (registry.requests, cli.home.exists()) == ([], False)
    registry.add(templates[1], "team/m", ["1"])
    cli("lock", "--upgrade")
    assert cli("cache-key").stdout != done.stdout


def test_what_no_lock_names_is_pruned_and_what_it_shares_stays(
    cli: CommandLine,
    registry: Registry,
    want: Write,
    project: Path,
    templates: tuple[Artifact, Artifact],
) -> None:
    old, new = templates
    registry.add(old, "team/old", ["1"])
    registry.add(new, "team/new", ["1"])
    want('[models]\nm = "HOST/team/new:1"')
    assert cli("prune", "--keep-locked").returncode == 9
    cli("lock")
    for name in ("team/old:1", "team/new:1"):
        cli("pull", registry.reference(name))
    own = len(old.manifest) + sum(len(old.blobs[key]) for key in set(old.blobs) - set(new.blobs))
    done = cli("prune", "--keep-locked", "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert (found["freed_bytes"], found["items"][0]["references"]) == (
        own,
        [registry.reference("team/old:1")],
    )
    assert len(json.loads(cli("list", "--json").stdout)) == 2
    done = cli("prune", "--keep-locked", "--lock", "modelrunner.lock", "--yes")
    assert done.stdout.startswith(f"model  {own / 1024:.2f} KiB  {registry.host}/team/old:1\n")
    assert [entry["id"] for entry in json.loads(cli("list", "--json").stdout)] == [new.digest]
    assert cli("verify", "--deep").returncode == 0
    assert {path.name for path in cli.store.layout.blobs.iterdir()} == {
        key[7:] for key in (new.digest, *new.blobs)
    }


def test_several_locks_keep_what_each_names(
    cli: CommandLine,
    registry: Registry,
    want: Write,
    project: Path,
    templates: tuple[Artifact, Artifact],
) -> None:
    locks = []
    for name, artifact in zip(("a", "b"), templates, strict=True):
        registry.add(artifact, f"team/{name}", ["1"])
        want(f'[models]\n{name} = "HOST/team/{name}:1"')
        cli("lock")
        (project / "modelrunner.lock").rename(project / f"{name}.lock")
        locks += ["--lock", f"{name}.lock"]
        cli("pull", registry.reference(f"team/{name}:1"))
    assert cli("prune", "--keep-locked", *locks).stdout == ""
    assert cli("prune", *locks).returncode == 2
    done = cli("prune", "--keep-locked", "--lock", "a.lock", "-y")
    assert done.stdout.startswith("model  ")
    assert len(json.loads(cli("list", "--json").stdout)) == 1


def test_a_file_that_cannot_be_read_is_told_with_what_to_do(
    cli: CommandLine, project: Path
) -> None:
    (project / "modelrunner.toml").mkdir()
    done = cli("lock")
    assert (done.returncode, done.stderr) == (
        2,
        (
            "error: cannot read modelrunner.toml: is a directory\nhint: name a file, not a "
            "directory\n"
        ),
    )


class TestInit:
    """`lock --init`: the first `modelrunner.toml`."""

    @pytest.fixture
    def names(self, registry: Registry, templates: tuple[Artifact, Artifact]) -> list[str]:
        registry.add(templates[0], "team/chat", ["1", "2"])
        registry.add(templates[1], "team/granite-4.0", ["latest"])
        return [registry.reference(name) for name in ("team/chat:1", "team/granite-4.0")]

    def test_it_writes_both_files_and_what_they_name_can_be_pulled(
        self, cli: CommandLine, names: list[str], project: Path
    ) -> None:
        done = cli("lock", "--init", *names, names[0])
        assert (done.returncode, done.stderr) == (
            0,
            (
                "wrote modelrunner.toml and modelrunner.lock; `modelrunner pull --locked`"
                " downloads what they name\n"
            ),
        )
        assert (project / "modelrunner.toml").read_text() == (
            f'[models]\nchat = "{names[0]}"\n"granite-4.0" = "{names[1]}"\n'
        )
        valid(project)
        assert cli("lock", "--check").returncode == 0
        assert cli("pull", "--locked").returncode == 0
        before = (project / "modelrunner.lock").read_bytes()
        assert cli("lock").returncode == 0
        assert (project / "modelrunner.lock").read_bytes() == before

    def test_models_of_one_name_are_told_apart(
        self, cli: CommandLine, names: list[str], registry: Registry, project: Path
    ) -> None:
        host = registry.host.replace(":", "-")
        cli("lock", "--init", names[0], registry.reference("team/chat:2"))
        models = tomllib.loads((project / "modelrunner.toml").read_text())["models"]
        assert list(models) == [f"{host}-team-chat-1", f"{host}-team-chat-2"]

    def test_json_has_what_was_written(
        self, cli: CommandLine, names: list[str], project: Path
    ) -> None:
        found = json.loads(cli("lock", "--init", *names, "--json").stdout)
        assert (found["intent"], found["lock"], found["status"]) == (
            "modelrunner.toml",
            "modelrunner.lock",
            "written",
        )
        assert [model["name"] for model in found["models"]] == ["chat", "granite-4.0"]

    @pytest.mark.parametrize("name", ["modelrunner.toml", "modelrunner.lock"])
    def test_nothing_is_overwritten(
        self, cli: CommandLine, names: list[str], project: Path, name: str
    ) -> None:
        (project / name).write_text("mine")
        done = cli("lock", "--init", *names)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {name} already exists\nhint: ")
        assert [path.read_text() for path in project.iterdir()] == ["mine"]

    @pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
    def test_a_first_try_that_was_killed_is_gone_on_with(
        self, cli: CommandLine, names: list[str], project: Path, part: float
    ) -> None:
        assert cli("lock", "--init", *names).returncode == 0
        whole = (project / "modelrunner.toml").read_bytes()
        (project / "modelrunner.toml").write_bytes(whole[: int(len(whole) * part)])
        (project / "modelrunner.lock").unlink()
        done = cli("lock", "--init", *names)
        assert (done.returncode, "wrote" in done.stderr) == (0, True)
        assert (project / "modelrunner.toml").read_bytes() == whole
        assert cli("lock", "--check").returncode == 0

    def test_what_cannot_be_locked_leaves_no_file(
        self, cli: CommandLine, registry: Registry, project: Path
    ) -> None:
        assert cli("lock", "--init", registry.reference("team/none:1")).returncode == 3
        assert cli("lock", "--init", "not a reference").returncode == 2
        assert list(project.iterdir()) == []

    def test_without_models_the_file_explains_itself(self, cli: CommandLine, project: Path) -> None:
        done = cli("lock", "--init")
        assert (done.returncode, done.stdout) == (0, "")
        text = (project / "modelrunner.toml").read_text()
        assert tomllib.loads(text) == {"models": {}}
        filled = text.replace("\n# ", "\n")
        (project / "modelrunner.toml").write_text(filled)
        is_valid("modelrunner.toml", tomllib.loads(filled))

    @pytest.mark.parametrize("exists", [False, True])
    def test_models_without_init_are_told_where_they_go(
        self, cli: CommandLine, names: list[str], project: Path, exists: bool
    ) -> None:
        if exists:
            (project / "modelrunner.toml").write_text("")
        done = cli("lock", *names)
        assert done.returncode == 2
        hint = (
            "add it to modelrunner.toml, then run `modelrunner lock`"
            if exists
            else f"`modelrunner lock --init {names[0]}` writes modelrunner.toml and locks it"
        )
        assert done.stderr == (
            f"error: unexpected argument {names[0]!r}: lock takes its models from"
            " modelrunner.toml\n"
            f"hint: {hint}\n"
        )
