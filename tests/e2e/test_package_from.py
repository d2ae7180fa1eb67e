"""Models made of other models: `package --from` and `package --from-hf`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import (
    Layer,
    docker_artifact,
    modelpack_artifact,
    plain_artifact,
    safetensors_artifact,
)
from tests.support.gguf import tiny_gguf, tiny_projector
from tests.support.hugging_face import COMMIT, Hub, Repository, hugging_face
from tests.support.model_directories import ONE
from tests.support.registry import Registry, Request, sha256
from tests.support.registry_messages import Reply

BASE, MADE = "team/base:1", "team/made:8k"
STRANGE = Layer("application/vnd.docker.ai.unknown+thing", b"strange", "strange.bin")
BASE_DIGEST = "org.opencontainers.image.base.digest"
BASE_NAME = "org.opencontainers.image.base.name"


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return tiny_gguf(tmp_path / "weights.gguf", context_length=8192).read_bytes()


def manifest_at(registry: Registry, name: str) -> dict[str, object]:
    repository, _, tag = name.partition(":")
    return json.loads(registry.manifest_bytes(repository, tag))


def config_at(registry: Registry, name: str) -> bytes:
    manifest = manifest_at(registry, name)
    return registry.blob_bytes(name.partition(":")[0], manifest["config"]["digest"])


@pytest.mark.parametrize("version", ["v0.1", "v0.2"])
def test_weights_stay_in_the_registry_and_nothing_else_is_lost(
    cli: CommandLine, registry: Registry, weights: bytes, version: str, tmp_path: Path
) -> None:
    base = docker_artifact(
        weights,
        version=version,
        license=b"be kind",
        template=b"{{ messages }}",
        more=[STRANGE],
        config={"safetensors": {"format": "pt"}, "future": {"b": 1, "a": [1.5, "<&>"]}},
    )
    registry.add(base, "team/base", ["1"])
    license_ = tmp_path / "LICENSE"
    license_.write_text("be very kind")
    done = cli(
        *("package", "--from", registry.reference(BASE), registry.reference(MADE), "--push"),
        *("--context-size", "4096", "--license", str(license_), "--json"),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    made, config = manifest_at(registry, MADE), config_at(registry, MADE)
    new = len(config) + len(b"be very kind")
    assert told == {
        "reference": registry.reference(MADE),
        "digest": sha256(registry.manifest_bytes("team/made", "8k")),
        "path": None,
        "size_bytes": base.size - len(base.config) + new,
        "uploaded_bytes": new,
        "skipped_bytes": base.size - len(base.config),
    }
    before = json.loads(base.manifest)
    assert made["layers"][:-1] == before["layers"]
    added = made["layers"][-1]
    assert added["mediaType"] == "application/vnd.docker.ai.license"
    assert added["digest"] == sha256(b"be very kind")
    # the other license has that name
    assert added["annotations"]["org.cncf.model.filepath"] == "LICENSE-2"
    assert made["config"]["mediaType"] == before["config"]["mediaType"]
    assert made["annotations"] == {
        BASE_DIGEST: base.digest,
        BASE_NAME: registry.reference(BASE),
    }
    expected = json.loads(base.config)
    expected["config"]["context_size"] = 4096
    expected["rootfs"]["diff_ids"].append(added["digest"])
    assert json.loads(config) == expected
    # as Go writes it
    assert b'"future":{"b":1,"a":[1.5,"\\u003c\\u0026\\u003e"]}' in config
    assert json.loads(cli("list", "--json").stdout) == []
    assert registry.count("GET", "blobs") == 1
    assert cli("pull", registry.reference(MADE)).returncode == 0
    shown = json.loads(cli("inspect", registry.reference(MADE)).stdout)
    assert shown["context_length"] == 4096


def test_the_same_differences_give_the_same_digest(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    registry.add(docker_artifact(weights), "team/base", ["1"])
    base = registry.reference(BASE)
    options = ("--system", "You are a pirate.", "--set", "top-k=40", "--json")
    remote = json.loads(
        cli("package", "--from", base, registry.reference(MADE), "--push", *options).stdout
    )
    assert cli("pull", base).returncode == 0
    local = json.loads(cli("package", "--from", base, "local/made:1", *options).stdout)
    assert local["digest"] == remote["digest"]
    settings = json.loads(config_at(registry, MADE))["config"]["settings"]
    assert settings == {"top_k": 40, "system": "You are a pirate."}


def test_a_model_that_is_not_pushed_is_pulled_first(
    cli: CommandLine, registry: Registry, weights: bytes, tmp_path: Path
) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{{ bos }}")
    registry.add(docker_artifact(weights, template=b"{{ old }}"), "team/base", ["1"])
    done = cli(
        *("package", "--from", registry.reference(BASE), "local/made:1"),
        *("--chat-template", str(template)),
    )
    assert done.returncode == 0, done.stderr
    folder = Path(cli("path", "local/made:1").stdout.strip()).parent
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found["own.jinja"] == b"{{ bos }}"
    assert "chat_template.jinja" not in found
    assert cli("verify", "--deep").returncode == 0


def test_a_push_takes_the_weights_over_from_the_model_that_has_them(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    base = docker_artifact(weights)
    registry.add(base, "team/base", ["1"])
    assert cli("pull", registry.reference(BASE)).returncode == 0
    name = registry.reference(MADE)
    done = cli("package", "--from", registry.reference(BASE), name, "--system", "x", "--push",
               "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["skipped_bytes"] == len(weights)


def test_a_registry_that_takes_nothing_over_is_explained(
    cli: CommandLine, registry: Registry, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = docker_artifact(weights)
    registry.add(base, "team/base", ["1"])
    begin = registry._uploads.begin

    def only_begin(request: Request, *, may_mount: bool) -> Reply:
        assert may_mount
        return begin(request, may_mount=False)

    monkeypatch.setattr(registry._uploads, "begin", only_begin)
    words = ("package", "--from", registry.reference(BASE), registry.reference(MADE), "--push")
    done = cli(*words)
    assert done.returncode == 5
    assert done.stderr.partition("\n")[2] == (
        f"error: {registry.host} does not take the blob {sha256(weights)[7:19]} over from another"
        f" repository to {registry.reference(MADE)}\n"
        "hint: pull the model that it is made of, and run the same command again: the blob is then"
        " sent from the local store\n"
    )
    assert registry.tags("team/made") == {}
    # what the hint says
    assert cli("pull", registry.reference(BASE)).returncode == 0
    assert cli(*words).returncode == 0


def test_a_family_stays_and_another_one_can_be_asked_for(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    registry.add(modelpack_artifact(weights), "team/base", ["1"])
    base = registry.reference(BASE)
    assert cli("pull", base).returncode == 0
    refused = cli("package", "--from", base, "local/made:1", "--context-size", "1024")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: --context-size is not supported by the ModelPack format\n"
        "hint: use --format docker, or leave it out\n"
    )
    options = ("--context-size", "1024", "--format", "docker")
    assert cli("package", "--from", base, "local/made:1", *options).returncode == 0
    shown = json.loads(cli("inspect", "local/made:1").stdout)
    assert (shown["family"], shown["context_length"]) == ("docker", 1024)
    back = cli("package", "--from", "local/made:1", "local/back:1", "--format", "modelpack")
    assert back.returncode == 0, back.stderr
    assert json.loads(cli("inspect", "local/back:1").stdout)["family"] == "modelpack"
    kept = cli("package", "--from", base, "local/same:1", "--chat-template", __file__)
    assert kept.returncode == 0, kept.stderr
    same = json.loads(cli("inspect", "local/same:1").stdout)
    assert same["family"] == "modelpack"


def test_plain_files_become_a_model_that_has_settings(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    registry.add(plain_artifact(weights, "tiny.gguf"), "team/base", ["1"])
    base = registry.reference(BASE)
    done = cli("package", "--from", base, "local/made:1", "--system", "Be kind.")
    assert done.returncode == 0, done.stderr
    shown = json.loads(cli("inspect", "local/made:1").stdout)
    assert (shown["family"], shown["packaged"]["system"]) == ("docker", "Be kind.")


def test_weights_of_other_formats_keep_their_family(cli: CommandLine, registry: Registry) -> None:
    registry.add(safetensors_artifact(), "team/base", ["1"])
    base = registry.reference(BASE)
    refused = cli("package", "--from", base, "local/made:1", "--format", "modelpack")
    assert refused.returncode == 10
    assert refused.stderr.endswith(
        "error: cannot convert an artifact of safetensors to another format\n"
        "hint: place its files with `modelrunner pull REF --output DIR`, and package the"
        " directory\n"
    )
    assert cli("package", "--from", base, "local/made:1", "--context-size", "64").returncode == 0


def test_a_projector_of_another_model_is_refused(
    cli: CommandLine, registry: Registry, weights: bytes, tmp_path: Path
) -> None:
    registry.add(docker_artifact(weights), "team/base", ["1"])
    wrong = tiny_gguf(tmp_path / "wrong.gguf")
    done = cli(
        *("package", "--from", registry.reference(BASE), registry.reference(MADE), "--push"),
        *("--mmproj", str(wrong)),
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: wrong.gguf is a model, not a projector\n"
        "hint: give the projector of the model with --mmproj, or leave the option out\n"
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("x.gguf",), "error: package needs a file and a name, got x.gguf\n"),
        (
            ("--from", "ai/a", "x.gguf", "ai/b"),
            "error: --from cannot be combined with a file: x.gguf\n",
        ),
        (
            ("--from", "ai/a", "--from-hf", "a/b", "ai/b"),
            "error: --from and --from-hf cannot be combined\n",
        ),
        (
            ("--from-hf", "ghcr.io/a/b/c/d", "ai/b"),
            "",
        ),
        (("--from", "local/none", "ai/b"), ""),
    ],
)
def test_what_cannot_be_meant_is_refused(
    cli: CommandLine, words: tuple[str, ...], error: str
) -> None:
    done = cli("package", *words)
    assert done.returncode in (2, 3)
    assert done.stderr.startswith(error or "error: ")
    assert "hint: " in done.stderr


# The Hugging Face Hub.


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hugging_face() as running:
        yield running


def test_a_repository_of_the_hub_becomes_a_model_of_ones_own(
    cli: CommandLine, hub: Hub, weights: bytes, tmp_path: Path
) -> None:
    projector = tiny_projector(tmp_path / "mmproj.gguf").read_bytes()
    hub.repositories["Org/Tiny-GGUF"] = Repository(
        {"Tiny-Q4_K_M.gguf": weights, "mmproj-F16.gguf": projector}
    )

    def made(home: str) -> dict[str, object]:
        done = cli(
            *("package", "--from-hf", "Org/Tiny-GGUF@main:Q4_K_M", "team/own:1", "--json"),
            HF_ENDPOINT=hub.url,
            MODELRUNNER_HOME=str(tmp_path / home),
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    one, other = made("one"), made("other")
    # the same on every machine
    assert one["digest"] == other["digest"]
    at = {"MODELRUNNER_HOME": str(tmp_path / "one")}
    (row,) = json.loads(cli("list", "--json", **at).stdout)
    assert row["references"] == ["docker.io/team/own:1"]
    manifest = json.loads(
        (tmp_path / "one/store/v1/blobs/sha256" / one["digest"].removeprefix("sha256:")).read_text()
    )
    assert manifest["annotations"] == {
        "org.opencontainers.image.source": "https://huggingface.co/Org/Tiny-GGUF",
        "org.opencontainers.image.revision": COMMIT,
    }
    shown = json.loads(cli("inspect", "team/own:1", **at).stdout)
    assert (shown["architecture"], shown["context_length"]) == ("llama", 8192)
    assert cli("verify", "--deep", **at).returncode == 0


def test_a_name_of_the_hub_that_was_there_before_stays(
    cli: CommandLine, hub: Hub, weights: bytes
) -> None:
    hub.repositories["Org/Tiny-GGUF"] = Repository({"Tiny-Q4_K_M.gguf": weights})
    at = {"HF_ENDPOINT": hub.url}
    assert cli("pull", "hf.co/Org/Tiny-GGUF", **at).returncode == 0
    assert cli("package", "--from-hf", "Org/Tiny-GGUF", "team/own:1", **at).returncode == 0
    rows = json.loads(cli("list", "--json").stdout)
    assert sorted(name for row in rows for name in row["references"]) == [
        "docker.io/team/own:1",
        "huggingface.co/org/tiny-gguf:Q4_K_M",
    ]


def test_a_whole_repository_of_the_hub_becomes_a_model_of_ones_own(
    cli: CommandLine, hub: Hub, tmp_path: Path
) -> None:
    hub.repositories["Org/Tiny"] = Repository({**ONE, ".gitattributes": b"*"})
    at = {"HF_ENDPOINT": hub.url}
    done = cli("package", "--from-hf", "Org/Tiny:all", "team/own:1", "--json", **at)
    assert done.returncode == 0, done.stderr
    shown = json.loads(cli("inspect", "team/own:1").stdout)
    assert (shown["format"], shown["architecture"]) == ("safetensors", "llama")
    assert shown["manifest"]["annotations"] == {
        "org.opencontainers.image.source": "https://huggingface.co/Org/Tiny",
        "org.opencontainers.image.revision": COMMIT,
    }
    folder = Path(cli("path", "team/own:1").stdout.strip())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == ONE
    (row,) = json.loads(cli("list", "--json").stdout)
    assert row["references"] == ["docker.io/team/own:1"]
    elsewhere = {**at, "MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
    again = cli("package", "--from-hf", "Org/Tiny:all", "team/own:1", "--json", **elsewhere)
    assert json.loads(again.stdout)["digest"] == json.loads(done.stdout)["digest"]
