"""`modelrunner mirror sync`, and pulls from what it makes."""

import json
import random
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact, image_artifact, index_artifact
from tests.support.docker_registry import docker_registry, needs_docker_registry
from tests.support.hugging_face import Repository, hugging_face
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MIB = 1024 * 1024


@pytest.fixture
def target() -> Iterator[Registry]:
    with Registry() as made:
        yield made


def test_report_of_a_mirror(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact, project: Path
) -> None:
    image = index_artifact(image_artifact(oci=True))
    registry.add(tiny, "team/m", ["1"])
    registry.add(image, "team/i", ["2"])
    names = [registry.reference(name) for name in ("team/m:1", "team/i:2", "team/none:3")]
    (project / "models.txt").write_text("\n".join(names))
    words = ["mirror", "sync", "models.txt", "--to", f"{target.host}/mirror"]
    one, two = (target.reference(f"mirror/{name}") for name in ("team/m:1", "team/i:2"))

    look = cli(*words, "--dry-run")
    assert look.returncode == 3
    assert look.stdout == (
        f"{one}: {tiny.digest} (11.12 KiB to copy at most)\n"
        f"{two}: {image.digest} (321 B to copy at most)\n"
    )
    assert {each.method for each in target.requests} <= {"GET", "HEAD"}

    done = cli(*words, "--progress", "none")
    assert done.returncode == 3
    assert done.stdout == (
        f"{one}: {tiny.digest} (11.12 KiB copied, 0 B skipped)\n"
        f"{two}: {image.digest} (321 B copied, 0 B skipped, 2 manifests)\n"
    )
    assert done.stderr == (
        f"error: {names[2]}: no such repository on {registry.host}\n"
        "hint: check the name: `modelrunner cards` lists known models\n"
        "2 copied, 1 failed\n"
    )

    registry.add(tiny, "team/none", ["3"])
    registry.forget()
    told = json.loads(cli(*words, "--json").stdout)
    assert told["mirrors"] == {registry.host: f"http://{target.host}/v2/mirror"}
    assert [each["status"] for each in told["results"]] == ["present", "present", "copied"]
    # what the mirror has of another model is taken over there
    assert told["results"][2]["mounted_bytes"] == tiny.size
    assert registry.count("GET", "blob") == 0


def test_a_mirror_that_is_away_is_tried_once(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact, project: Path
) -> None:
    registry.add(tiny, "team/m", ["1", "2"])
    (project / "models.txt").write_text(
        "\n".join(registry.reference(name) for name in ("team/m:1", "team/m:2"))
    )
    target.close()

    told = cli("mirror", "sync", "models.txt", "--to", target.host, "--json", "--timeout", "20")

    failed = json.loads(told.stderr.splitlines()[-1])["error"]["results"]
    assert (told.returncode, told.stdout) == (5, "")
    assert [each["error"]["code"] for each in failed] == ["registry_unavailable"] * 2
    assert [request.path for request in registry.requests if "/2" in request.path] == []


def test_a_registry_behind_a_mirror_need_not_be_in_reach(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/m", ["1"])
    mirrors = f"registry.invalid=http://{registry.host}"

    done = cli(
        *("copy", "registry.invalid/team/m:1", target.reference("team/m:1")),
        MODELRUNNER_MIRRORS=mirrors,
    )

    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


@pytest.mark.parametrize("options", [[], ["--scoped"]])
@pytest.mark.parametrize("prefix", ["", "/mirror/of"])
def test_pulls_come_from_the_mirror(
    cli: CommandLine,
    registry: Registry,
    target: Registry,
    tiny: Artifact,
    project: Path,
    options: list[str],
    prefix: str,
) -> None:
    registry.add(tiny, "team/m", ["1"])
    assert cli("lock", "--init", registry.reference("team/m:1")).returncode == 0
    assert (project / "modelrunner.lock").exists() or cli("lock").returncode == 0
    # the tag moves on, and the lock does not
    registry.add(docker_artifact(b"GGUF new"), "team/m", ["1"])
    words = ["mirror", "sync", "--to", f"{target.host}{prefix}", *options]
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    told = json.loads(cli(*words, "--json").stdout)
    assert [each["digest"] for each in told["results"]] == [tiny.digest]
    setting = ",".join(f"{name}={address}" for name, address in told["mirrors"].items())
    assert done.stderr.endswith(f"1 copied\npull from it with MODELRUNNER_MIRRORS={setting}\n")

    registry.close()
    locked = cli("pull", "--locked", "--json", MODELRUNNER_MIRRORS=setting)
    assert locked.returncode == 0, locked.stderr
    named = cli("pull", registry.reference("team/m:1"), "--json", MODELRUNNER_MIRRORS=setting)
    assert json.loads(named.stdout)["digest"] == tiny.digest
    assert cli("tags", registry.reference("team/m"), MODELRUNNER_MIRRORS=setting).returncode == 0


def test_models_of_the_hub_are_mirrored(cli: CommandLine, target: Registry, tiny: Artifact) -> None:
    with hugging_face() as hub:
        hub.repositories["Org/Tiny-GGUF"] = Repository({"Tiny-Q4_0.gguf": tiny.layers[0]})
        done = cli(
            *("mirror", "sync", "-", "--to", target.host, "--json"),
            stdin=b"hf.co/Org/Tiny-GGUF:Q4_0\n",
            HF_ENDPOINT=hub.url,
        )
        assert done.returncode == 0, done.stderr
        gone = hub.url
    told = json.loads(done.stdout)
    assert told["mirrors"] == {"huggingface.co": f"http://{target.host}"}
    pulled = cli(
        *("pull", "hf.co/Org/Tiny-GGUF:Q4_0", "--json"),
        HF_ENDPOINT=gone,
        MODELRUNNER_MIRRORS=f"huggingface.co=http://{target.host}",
    )
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["digest"] == told["results"][0]["digest"]


def test_a_name_at_the_mirror_is_of_one_model(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact
) -> None:
    with Registry(host="localhost") as other:
        registry.add(tiny, "team/m", ["1"])
        other.add(docker_artifact(b"GGUF other"), "team/m", ["1"])
        names = f"{registry.reference('team/m:1')}\n{other.reference('team/m:1')}\n".encode()
        done = cli("mirror", "sync", "-", "--to", target.host, "--quiet", stdin=names)
        assert done.returncode == 2
        assert done.stderr == (
            f"error: {other.reference('team/m:1')}: {registry.reference('team/m:1')} has the name "
            f"{target.reference('team/m:1')} at the mirror\n"
            "hint: use --scoped: each registry gets a prefix of its own\n"
        )
        assert target.tags("team/m") == {"1": tiny.digest}
        again = cli("mirror", "sync", "-", "--to", target.host, "--scoped", stdin=names)
        assert again.returncode == 0


def test_a_list_is_needed(cli: CommandLine, project: Path) -> None:
    for words, said in (
        (["sync", "--to", "r.example"], "error: cannot read modelrunner.lock: "),
        (["sync", "none.txt", "--to", "r.example"], "error: cannot read none.txt: "),
        (["sync", "-", "--to", "r.example"], "error: stdin: no models listed\n"),
        (["sync", "-", "--to", "http://r.example"], "error: --to 'http://r.example' is not a"),
    ):
        done = cli("mirror", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(said)


# kill -9.


def content_of(host: str, path: str) -> bytes:
    accept = "application/vnd.oci.image.manifest.v1+json"
    request = Request(f"http://{host}/v2/{path}", headers={"Accept": accept})
    with urlopen(request, timeout=30) as answer:
        found: bytes = answer.read()
    return found


def state_of(host: str, name: str, tag: str) -> str | None:
    """The digest under a tag, with all that it needs there and right; None without the tag."""
    try:
        raw = content_of(host, f"{name}/manifests/{tag}")
    except HTTPError as exc:
        if exc.code != 404:
            raise
        return None
    manifest = json.loads(raw)
    for blob in (manifest["config"], *manifest["layers"]):
        content = content_of(host, f"{name}/blobs/{blob['digest']}")
        assert f"sha256:{sha256(content).hexdigest()}" == blob["digest"]
    return f"sha256:{sha256(raw).hexdigest()}"


@needs_docker_registry
@pytest.mark.registry
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["copy", "mirror"])
def test_what_is_killed_leaves_nothing_wrong_and_is_resumed(
    cli: CommandLine, registry: Registry, tmp_path: Path, what: str
) -> None:
    chance = random.Random(f"kill {what}")
    models = [docker_artifact(b"GGUF" + chance.randbytes(3 * MIB)) for _ in range(5)]
    for number, model in enumerate(models):
        registry.add(model, "team/m", [str(number)])
    source = registry.reference("team/m")
    names = "".join(f"{source}:{number}\n" for number in range(5))
    (tmp_path / "models.txt").write_text(names)
    registry.slow(24 * MIB)
    with docker_registry(tmp_path / "registry") as away:
        words = ["copy", "--all-tags", source, away.reference("team/m")]
        if what == "mirror":
            words = ["mirror", "sync", str(tmp_path / "models.txt"), "--to", away.host]
        for _ in range(15):
            enough = registry.bytes_sent() + chance.randrange(1, 4 * MIB)
            with subprocess.Popen(
                cli.argv(*words, "--progress", "none"),
                env=dict(cli.environ),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as running:
                wait_until(
                    lambda: registry.bytes_sent() > enough or running.poll() is not None,  # noqa: B023
                    120,
                )
                running.kill()
            found = [state_of(away.host, "team/m", str(number)) for number in range(5)]
            assert all(
                state in {None, model.digest} for state, model in zip(found, models, strict=True)
            )
        registry.calm()
        done = cli(*words)
        assert done.returncode == 0, done.stderr
        found = [state_of(away.host, "team/m", str(number)) for number in range(5)]
        assert found == [model.digest for model in models]


# Archives.


@pytest.mark.parametrize("end", ["archive:models.tar", "dir:models"])
def test_a_list_goes_into_an_archive(
    cli: CommandLine, registry: Registry, tiny: Artifact, project: Path, end: str
) -> None:
    other = docker_artifact(tiny.layers[0], license=b"other\n")
    registry.add(tiny, "team/m", ["1"])
    registry.add(other, "team/o", ["1"])
    names = [registry.reference(name) for name in ("team/m:1", "team/o:1")]
    text = "".join(f"{name}\n" for name in (*names, registry.reference("team/none:1")))
    words = ["mirror", "sync", "-", "--to", end, "--quiet"]
    look = cli(*words, "--dry-run", stdin=text.encode())
    assert look.returncode == 3
    assert [line.split(": ")[0] for line in look.stdout.splitlines()] == names
    assert not list(project.iterdir())
    done = cli(*words, stdin=text.encode())
    assert done.returncode == 3
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == names
    assert done.stderr.startswith(f"error: {registry.reference('team/none:1')}: no such repository")
    registry.close()
    loaded = cli("load", end.partition(":")[2], "--json")
    assert loaded.returncode == 0, loaded.stderr
    assert {entry["digest"] for entry in json.loads(loaded.stdout)} == {tiny.digest, other.digest}
    nothing = cli(
        "mirror", "sync", "-", "--to", end.replace("models", "none"), stdin=b"127.0.0.1:9/x"
    )
    assert nothing.returncode == 5
    assert sorted(path.name for path in project.iterdir()) == [end.partition(":")[2]]
    again = cli(*words, "--dry-run", stdin=text.encode())
    assert again.returncode == 5
    for place in (f"{end}:x/y:1", end):
        refused = cli("mirror", "sync", "-", "--to", place, "--scoped", stdin=b"ai/m:1")
        assert refused.returncode == 2


def test_a_list_that_is_missing_is_named(cli: CommandLine, tmp_path: Path) -> None:
    missing = tmp_path / "none.txt"
    done = cli("mirror", "sync", str(missing), "--to", "127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: cannot read {missing}: no such file or directory\n"
        "hint: name a lock or a file with one reference per line; - is stdin\n"
    )


def test_list_goes_through_an_archive_into_a_mirror_that_serves_it(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact, project: Path
) -> None:
    registry.add(tiny, "team/m", ["1"])
    registry.add(tiny, "team/n", ["1"])
    (project / "models.txt").write_text(registry.reference("team/m:1"))
    assert cli("mirror", "sync", "models.txt", "--to", "archive:out.tar").returncode == 0
    registry.close()
    words = ["mirror", "sync", "--from", "archive:out.tar", "--to", target.host]
    done = cli(*words, "--progress", "none", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [one["digest"] for one in told["results"]] == [tiny.digest]
    assert target.tags("team/m") == {"1": tiny.digest}
    pulled = cli(
        *("pull", registry.reference("team/m:1")),
        MODELRUNNER_MIRRORS=f"{registry.host}={told['mirrors'][registry.host]}",
    )
    assert pulled.returncode == 0, pulled.stderr
    again = cli("mirror", "sync", "models.txt", *words[2:], "--progress", "none")
    assert again.returncode == 0
    assert "1 present" in again.stderr, again.stderr


def test_hub_is_not_a_mirror(cli: CommandLine, project: Path) -> None:
    (project / "models.txt").write_text("ai/smollm2:1")
    done = cli("mirror", "sync", "models.txt", "--to", "hf.co/org")
    assert (done.returncode, done.stderr) == (
        2,
        (
            "error: --to hf.co/org: the Hugging Face Hub is not an OCI registry\n"
            "hint: name a registry, or archive:FILE; `hf upload` puts files on the Hub\n"
        ),
    )
