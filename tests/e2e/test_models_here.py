"""What is here: list, path, inspect, rm, tag, df, prune, verify, as a user types them."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.e2e.conftest import without_time
from tests.support.artifacts import Artifact
from tests.support.gguf import tiny_gguf
from tests.support.mounts import read_only as mounted_read_only
from tests.support.registry import Registry

HEADINGS = "MODEL NAME  PARAMETERS  QUANTIZATION  ARCHITECTURE  MODEL ID  CREATED  CONTEXT  SIZE\n"


@pytest.fixture
def pulled(cli: CommandLine, registry: Registry, tiny: Artifact) -> str:
    """A name that was pulled, with a second one, `team/tiny:latest` in its registry."""
    registry.add(tiny, "team/tiny", ["1", "latest"])
    names = [registry.reference("team/tiny:1"), registry.reference("team/tiny")]
    assert cli("pull", *names).returncode == 0
    return names[0]


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(content)


def weights(cli: CommandLine, tiny: Artifact) -> Path:
    hexadecimal = tiny.layer_digests[0].removeprefix("sha256:")
    return cli.home / "store" / "v1" / "blobs" / "sha256" / hexadecimal


def test_an_empty_list_is_its_headings_and_a_way_on(cli: CommandLine) -> None:
    done = cli("list")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        HEADINGS,
        "no models in the local store yet: `modelrunner pull ai/smollm2` downloads one\n",
    )
    assert cli("list", "--json").stdout == "[]\n"
    assert not cli.home.exists()


def test_list_has_a_row_a_name(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    id_ = tiny.digest.removeprefix("sha256:")[:12]
    lines = cli("list").stdout.splitlines()
    created = "CREATED"
    assert [line.split("  ")[0] for line in lines] == [
        "MODEL NAME",
        pulled,
        f"{pulled[:-1]}latest",
    ]
    assert created in lines[0]
    assert [word for word in lines[1].split() if word not in {"ago", "year", "years"}][1:5] == [
        "13K",
        "MOSTLY_Q4_0",
        "llama",
        id_,
    ]
    assert lines[1].endswith("2K       11.12 KiB")
    assert cli("ls").stdout == cli("list").stdout


def test_list_json_has_an_object_a_model(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    view = cli.home / "store" / "v1" / "views" / tiny.digest.removeprefix("sha256:")
    assert json.loads(cli("list", "--json").stdout) == [
        {
            "id": tiny.digest,
            "references": [pulled, f"{pulled[:-1]}latest"],
            "family": "docker",
            "format": "gguf",
            "architecture": "llama",
            "parameters": "13K",
            "quantization": "MOSTLY_Q4_0",
            "context_length": 2048,
            "size_bytes": tiny.size,
            "created": "2025-10-02T09:00:00Z",
            "path": str(view / "model.gguf"),
        }
    ]


def test_quiet_list_prints_an_id_a_model(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    id_ = tiny.digest.removeprefix("sha256:")[:12]
    assert cli("list", "-q").stdout == f"{id_}\n"
    assert cli("-q", "list").stdout == f"{id_}\n"
    assert cli("list", "-q", "elsewhere").stdout == ""


def test_path_is_a_file_with_its_real_name(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    path = Path(cli("path", pulled).stdout.rstrip("\n"))
    assert path.name == "model.gguf"
    assert path.read_bytes() == tiny.layers[0]
    assert json.loads(cli("--json", "path", pulled).stdout) == {
        "path": str(path),
        "files": [str(path), str(path.with_name("LICENSE"))],
    }


def test_path_knows_a_model_by_its_id(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    id_ = tiny.digest.removeprefix("sha256:")
    by_name = cli("path", pulled).stdout
    assert [cli("path", name).stdout for name in (tiny.digest, id_, id_[:12])] == [by_name] * 3


def test_inspect_knows_everything(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    found = json.loads(cli("inspect", pulled).stdout)
    assert list(found) == [
        *("id", "references", "family", "format", "architecture", "parameters", "quantization"),
        *("context_length", "size_bytes", "created", "path", "manifest", "config_digest"),
        *("config_media_type", "layers", "config_gguf", "packaged", "packaged_ignored"),
        *("blobs_good", "referrers", "gguf"),
        *("sampling", "capabilities", "configuration"),
    ]
    assert found["blobs_good"] is True
    assert found["gguf"]["parameters"] == 13472


def test_a_remote_model_is_inspected_without_being_pulled(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    done = cli("inspect", "--remote", registry.reference("team/tiny:1"))
    found = json.loads(done.stdout)
    assert (found["id"], found["created"]) == (tiny.digest, "2025-10-02T09:00:00Z")
    assert (found["path"], found["gguf"]["block_count"]) == (None, 2)
    assert not (cli.home / "store").exists()


def test_tags_lists_what_the_registry_has(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1", "1-Q4_0"])
    name = registry.reference("team/tiny")
    assert cli("tags", name, "--quiet").stdout == "1\n1-Q4_0\n"
    found = json.loads(cli("tags", name, "--json").stdout)
    assert (found["repository"], found["tags"]) == (name, ["1", "1-Q4_0"])


def test_rm_of_one_name_of_several_only_untags(
    cli: CommandLine, pulled: str, tiny: Artifact
) -> None:
    assert cli("rm", pulled).stdout == f"Untagged: {pulled}\n"
    assert cli("path", f"{pulled[:-1]}latest").returncode == 0
    last = cli("rm", f"{pulled[:-1]}latest").stdout
    assert last.startswith(f"Untagged: {pulled[:-1]}latest\nDeleted: {tiny.digest} (")
    assert not weights(cli, tiny).exists()


def test_rm_of_all_names_at_once_removes_the_model(
    cli: CommandLine, pulled: str, tiny: Artifact
) -> None:
    removed = json.loads(cli("rm", pulled, f"{pulled[:-1]}latest", "--json").stdout)
    assert [(entry["untagged"], entry["deleted"]) for entry in removed] == [
        ([pulled], None),
        ([f"{pulled[:-1]}latest"], tiny.digest),
    ]
    assert not weights(cli, tiny).exists()


def test_rm_says_a_name_twice_and_removes_it_once(cli: CommandLine, pulled: str) -> None:
    done = cli("rm", pulled, pulled)
    assert (done.returncode, done.stdout) == (0, f"Untagged: {pulled}\n")


def test_rm_of_a_missing_name_removes_nothing(cli: CommandLine, pulled: str) -> None:
    done = cli("rm", pulled, "ai/other")
    assert (done.returncode, done.stdout) == (3, "")
    assert cli("path", pulled).returncode == 0


def test_rm_by_id_needs_force_where_there_are_several_names(
    cli: CommandLine, pulled: str, tiny: Artifact
) -> None:
    id_ = tiny.digest.removeprefix("sha256:")[:12]
    latest = f"{pulled[:-1]}latest"
    done = cli("rm", id_)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        (
            f"error: {id_} has 2 names: {pulled}, {latest}\n"
            "hint: remove one by name, or all with --force\n"
        ),
    )
    forced = cli("rm", id_, "--force").stdout.splitlines()
    assert forced[:2] == [f"Untagged: {pulled}", f"Untagged: {latest}"]
    assert cli("list", "--json").stdout == "[]\n"


def test_tag_gives_one_more_name(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    done = cli("tag", pulled, "mine")
    short = tiny.digest.removeprefix("sha256:")[:12]
    assert (done.stdout, done.stderr) == ("", f"tagged {short} as ai/mine:latest\n")
    assert cli("path", "MINE").stdout == cli("path", pulled).stdout


def test_a_new_name_cannot_have_a_digest(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    assert cli("tag", pulled, f"mine@{tiny.digest}").returncode == 2


def test_df_and_prune_agree(cli: CommandLine, pulled: str) -> None:
    leftover = cli.home / "store" / "v1" / "blobs" / "sha256" / ("0" * 64)
    leftover.write_bytes(bytes(1000))
    # younger ones may belong to a download that is under way
    os.utime(leftover, (0, 0))
    found = json.loads(cli("df", "--json").stdout)
    planned = json.loads(cli("prune", "--dry-run", "--json").stdout)
    assert found["reclaimable_bytes"] == planned["freed_bytes"] == 1000
    assert [item["path"] for item in planned["items"]] == [str(leftover)]
    assert leftover.exists()
    done = cli("prune")
    assert not leftover.exists()
    assert done.stderr == "1000 B freed\n"
    assert cli("verify").returncode == 0


def test_verify_says_that_all_is_good(cli: CommandLine, pulled: str, tiny: Artifact) -> None:
    size = tiny.size + len(tiny.manifest)
    assert json.loads(cli("verify", "--deep", "--json").stdout) == {
        "models": 1,
        "blobs": 4,
        "size_bytes": size,
        "deep": True,
        "unneeded": [],
        "foreign": [],
        "runtimes": 0,
    }


def test_a_flipped_byte_is_found_and_pull_fetches_that_blob_only(
    cli: CommandLine, registry: Registry, pulled: str, tiny: Artifact
) -> None:
    flip_a_byte(weights(cli, tiny))
    done = cli("verify")
    aside = cli.home / "store" / "v1" / "quarantine" / weights(cli, tiny).name
    assert (done.returncode, done.stdout, done.stderr) == (
        6,
        "",
        (
            f"moved a damaged file to {aside}\n"
            f"error: {pulled}: the blob {tiny.layer_digests[0]} is damaged\n"
            f"hint: run `modelrunner pull {pulled}`: it downloads only the damaged files\n"
        ),
    )
    registry.requests.clear()
    again = json.loads(cli("pull", pulled, "--json").stdout)
    assert (again["status"], again["downloaded_bytes"]) == ("pulled", len(tiny.layers[0]))
    fetched = [entry.reference for entry in registry.requests if entry.kind == "blob"]
    assert fetched == [tiny.layer_digests[0]]
    assert cli("verify", "--deep").returncode == 0
    assert Path(cli("path", pulled).stdout.rstrip()).read_bytes() == tiny.layers[0]


def test_the_error_says_which_models_lack_what_and_where_it_went(
    cli: CommandLine, pulled: str, tiny: Artifact
) -> None:
    blob = weights(cli, tiny)
    flip_a_byte(blob)
    done = cli("verify", pulled, "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (6, "", "corrupt_store")
    assert error["blobs"] == [f"{tiny.layer_digests[0]} damaged"]
    assert error["models"] == [pulled]
    assert error["quarantined"] == [str(blob.parents[2] / "quarantine" / blob.name)]
    assert not blob.exists()
    # by now it is missing, which is as bad
    assert cli("verify").returncode == 6
    assert cli("pull", pulled).returncode == 0
    assert cli("prune").returncode == 0
    assert list((blob.parents[2] / "quarantine").iterdir()) == []
    assert cli("verify", "--deep").returncode == 0


def test_a_file_that_is_no_blob_is_told_and_left_alone(cli: CommandLine, pulled: str) -> None:
    notes = cli.home / "store" / "v1" / "blobs" / "sha256" / "notes.txt"
    notes.write_text("mine")
    done = cli("verify")
    assert (done.returncode, done.stderr) == (
        0,
        f"warning: {notes} does not belong to the store\n",
    )
    assert json.loads(cli("verify", "--json").stdout)["foreign"] == [str(notes)]
    assert notes.read_text() == "mine"


def test_a_download_that_stopped_is_no_damage(
    cli: CommandLine, registry: Registry, pulled: str, tmp_path: Path
) -> None:
    partial = cli.home / "store" / "v1" / "ingest" / f"{'0' * 64}.partial"
    partial.write_bytes(bytes(1000))
    assert cli("verify", "--deep").returncode == 0
    assert partial.exists()


def test_much_to_hash_is_shown_in_lines_off_a_terminal(cli: CommandLine, pulled: str) -> None:
    big = cli.home / "store" / "v1" / "blobs" / "sha256" / ("0" * 64)
    with big.open("wb") as file:
        file.truncate(300 * 1024**2)
    done = cli("verify")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("verifying 1 blob: 300.00 MiB\n")
    assert "\r" not in done.stderr
    assert done.stderr.endswith(
        f"error: the blob sha256:{'0' * 64} is damaged\n"
        "hint: no model needs it: `modelrunner prune` removes what was moved\n"
    )
    assert cli("verify").returncode == 0


def test_only_a_deep_look_finds_a_byte_that_rotted_in_secret(
    cli: CommandLine, pulled: str, tiny: Artifact
) -> None:
    blob = weights(cli, tiny)
    before = blob.stat()
    flip_a_byte(blob)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cli("verify").returncode == 0
    assert cli("verify", "--deep").returncode == 6


def test_a_missing_blob_is_an_error_that_says_how_to_repair_it(
    cli: CommandLine, pulled: str, tiny: Artifact
) -> None:
    weights(cli, tiny).unlink()
    done = cli("path", pulled, "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (6, "", "corrupt_store")
    assert error["hint"].startswith("run `modelrunner pull ")
    assert cli("verify").returncode == 6
    assert cli("pull", pulled).returncode == 0
    assert cli("verify", "--deep").returncode == 0


def test_a_model_whose_manifest_is_gone_is_listed_with_its_trouble(
    cli: CommandLine, pulled: str, tiny: Artifact
) -> None:
    blobs = cli.home / "store" / "v1" / "blobs" / "sha256"
    (blobs / tiny.digest.removeprefix("sha256:")).unlink()
    found = json.loads(cli("list", "--json").stdout)
    assert [(entry["id"], entry["size_bytes"]) for entry in found] == [(tiny.digest, None)]
    assert "problem" in found[0]
    assert cli("list").returncode == 0
    assert cli("verify").returncode == 6


def test_a_store_of_a_newer_version_is_left_alone(cli: CommandLine, pulled: str) -> None:
    (cli.home / "store" / "v1" / "oci-layout").write_text('{"imageLayoutVersion": "9.0.0"}')
    done = cli("list", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert json.loads(done.stderr)["error"]["code"] == "store_version"


@pytest.fixture
def read_only(cli: CommandLine, pulled: str, tmp_path: Path):
    """The same home on a read-only file system."""
    with mounted_read_only(cli.home):
        yield pulled


def test_a_read_only_store_can_be_read(cli: CommandLine, read_only: str) -> None:
    codes = {
        command[0]: cli(*command).returncode
        for command in (
            ["list"],
            ["inspect", read_only],
            ["path", read_only],
            ["verify", "--deep"],
            ["df"],
            ["prune", "--dry-run"],
            ["estimate", read_only],
            ["pull", read_only],
        )
    }
    assert codes == dict.fromkeys(codes, 0)


def test_damage_in_a_read_only_store_is_told_and_stays(
    cli: CommandLine, pulled: str, tiny: Artifact, request: pytest.FixtureRequest
) -> None:
    flip_a_byte(weights(cli, tiny))
    request.getfixturevalue("read_only")
    for _ in range(2):
        done = cli("verify")
        assert (done.returncode, done.stdout) == (6, "")
        first, second, _hint = done.stderr.splitlines()
        assert first.startswith("warning: cannot move damaged files away: ")
        assert second == f"error: {pulled}: the blob {tiny.layer_digests[0]} is damaged"
    assert weights(cli, tiny).exists()


def test_a_read_only_store_cannot_be_written(cli: CommandLine, read_only: str) -> None:
    done = cli("tag", read_only, "mine", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (2, "store_access")
    assert "read-only" in error["message"]


def test_package_makes_what_is_listed(cli: CommandLine, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "mine.gguf")
    done = cli("package", str(file), "mine:1", SOURCE_DATE_EPOCH="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ai/mine:1: sha256:")
    assert cli("path", "mine:1").stdout.endswith("/mine.gguf\n")


def test_garbage_is_not_packaged(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "garbage.gguf"
    file.write_bytes(b"not a model" * 100)
    done = cli("package", str(file), "mine:1", "--json")
    assert (done.returncode, done.stdout) == (6, "")
    assert json.loads(done.stderr)["error"]["code"] == "malformed_gguf"
    assert cli("list", "--json").stdout == "[]\n"


def test_a_damaged_index_says_what_to_do(cli: CommandLine, pulled: str) -> None:
    index = cli.home / "store" / "v1" / "index.json"
    index.write_text("{")
    done = cli("list")
    assert (done.returncode, done.stdout) == (6, "")
    assert without_time(done.stderr) == (
        f"error: {index} is damaged\nhint: move it away and pull again: existing blobs are reused\n"
    )
