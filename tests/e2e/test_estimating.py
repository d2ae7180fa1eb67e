"""`estimate`, from the best source that knows, and down to the worst."""

import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact, modelpack_artifact
from tests.support.gguf import tiny_gguf, tiny_shards
from tests.support.images import MANIFEST, Image, Item, Packed, digest_of, tar_of
from tests.support.registry import Registry

MIB = 1024 * 1024
KEYS = [
    *(
        "reference",
        "source",
        "context",
        "parallel",
        "context_source",
        "kv_type",
        "kv_type_v",
        "bytes",
        "low_bytes",
    ),
    *("high_bytes", "card", "devices", "fit", "retained", "trained_context", "notes", "referrers"),
]


def estimate(cli: CommandLine, *arguments: str, **environ: str) -> dict[str, object]:
    done = cli("estimate", *arguments, "--json", **environ)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_a_file_is_estimated_from_its_header(cli: CommandLine, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    found = estimate(cli, str(file), "--context", "512", "--budget", "8GiB")
    assert list(found) == KEYS
    devices, sizes = found.pop("devices"), found.pop("bytes")
    assert {tuple(device) for device in devices} == {
        ("name", "kind", "total_bytes", "free_bytes", "backend")
    }
    assert list(sizes) == [
        *(
            "weights",
            "kv_cache",
            "recurrent",
            "compute",
            "output",
            "projector",
            "draft",
            "kept",
            "total",
        )
    ]
    assert (sizes["weights"], sizes["recurrent"], sizes["projector"]) == (8128, 0, None)
    # two layers, keys and values, two heads of eight, two bytes each
    assert sizes["kv_cache"] == 2 * 2 * 2 * 8 * 2 * 512
    assert sizes["total"] == sum(size or 0 for name, size in sizes.items() if name != "total")
    assert found["low_bytes"] <= sizes["total"] <= found["high_bytes"]
    del found["low_bytes"], found["high_bytes"]
    assert found == {
        "reference": str(file),
        "source": "header",
        "context": 512,
        "parallel": 1,
        "context_source": "requested",
        "kv_type": "f16",
        "kv_type_v": "f16",
        "card": None,
        "fit": {
            "verdict": "fits",
            "gpu_layers": 3,
            "cpu_moe_layers": 0,
            "max_context": 2048,
            "budget_bytes": 2**33,
            "devices": [],
        },
        "retained": {
            "prompt_bytes": 512 * MIB,
            "checkpoint_bytes": 0,
            "checkpoints": 8,
            "prompt_tokens": 512,
        },
        "trained_context": 2048,
        "notes": [],
        "referrers": None,
    }


def test_people_read_where_each_byte_goes(cli: CommandLine, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    done = cli("estimate", str(file), "--context", "512", "--budget", "8GiB")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{file}: ")
    assert lines[0].endswith(" of 8.00 GiB memory; context 512")
    assert [line.split("  ")[0] for line in lines[1:]] == [
        *("WHERE", "weights", "kv cache", "compute", "output", "total"),
        "earlier prompts while it serves: up to 512.00 MiB of memory besides",
        "longest context that fits: 2048 of 2048 trained",
    ]


def test_shards_are_estimated_as_one_model(cli: CommandLine, tmp_path: Path) -> None:
    whole = tiny_gguf(tmp_path / "whole.gguf")
    shards = tiny_shards(tmp_path)
    one, many = estimate(cli, str(whole)), estimate(cli, str(shards[1]))
    assert one["bytes"] == many["bytes"]


def test_a_stored_model_needs_no_network(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    name = registry.reference("team/tiny:1")
    cli("pull", name)
    registry.requests.clear()
    assert estimate(cli, name, "--offline")["source"] == "header"
    assert registry.requests == []


def test_a_remote_header_is_read_in_part(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    weights = tiny_gguf(tmp_path / "large.gguf").read_bytes() + bytes(48 * MIB)
    artifact = docker_artifact(weights)
    registry.add(artifact, "team/large", ["1"])
    found = estimate(cli, registry.reference("team/large:1"))
    assert (found["source"], found["bytes"]["weights"]) == ("header", 8128)
    blobs = [entry for entry in registry.requests if entry.kind == "blob"]
    assert sum(entry.sent for entry in blobs) <= MIB
    assert not (cli.home / "store").exists()


def test_a_registry_without_ranges_is_read_from_the_start(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    registry.ignore_ranges()
    assert estimate(cli, registry.reference("team/tiny:1"))["source"] == "header"


@pytest.fixture
def nobody() -> Iterator[str]:
    """A mirror of Docker Hub that refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"docker.io=http://127.0.0.1:{bound.getsockname()[1]}"


def test_a_card_answers_offline(cli: CommandLine) -> None:
    found = estimate(cli, "ai/granite-4.0-micro", "--offline", "--budget", "8GiB")
    assert list(found) == KEYS
    assert found["source"] == "config"
    gib = 1024**3
    assert found["card"] == {
        "vram_bytes": round(2.32 * gib),
        "size_bytes": round(1.81 * gib),
        "context": 4096,
    }
    assert found["low_bytes"] <= found["bytes"]["total"] <= found["high_bytes"]
    assert found["fit"]["verdict"] == "fits"


def test_a_variant_that_no_card_knows_is_missing_offline(cli: CommandLine) -> None:
    done = cli("estimate", "ai/granite-4.0-micro:99B", "--offline", "--json")
    assert (done.returncode, done.stdout) == (9, "")
    assert json.loads(done.stderr)["error"]["code"] == "not_in_store"


def test_an_unknown_architecture_is_told_as_such(cli: CommandLine, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "new.gguf", architecture="newcomer")
    found = estimate(cli, str(file))
    assert found["notes"] == ["unknown architecture newcomer: computed from its keys and tensors"]
    assert found["low_bytes"] < found["bytes"]["total"] < found["high_bytes"]
    # a guess is a range: what it can need at most fits, may fit, or is too much at least
    assert found["fit"]["verdict"] == "fits"
    middle = estimate(cli, str(file), "--context", "512", "--budget", "1GiB")["bytes"]["total"]
    between = estimate(cli, str(file), "--context", "512", "--budget", str(middle))
    assert between["fit"]["verdict"] == "maybe"
    assert cli("estimate", str(file), "--budget", "1KiB").returncode == 7


def test_a_context_is_that_of_each_conversation(cli: CommandLine, tmp_path: Path) -> None:
    file = str(tiny_gguf(tmp_path / "tiny.gguf"))

    def estimated(*options: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(cli("estimate", file, *options, "--json").stdout)
        return found

    one, four = (estimated("--context", "512", "--parallel", number) for number in ("1", "4"))
    assert (one["context"], one["parallel"]) == (512, 1)
    assert (four["context"], four["parallel"]) == (512, 4)
    assert four["bytes"]["kv_cache"] == 4 * one["bytes"]["kv_cache"]
    # the longest one that fits is that of each too: it fits, and one step more does not
    budget = ("--parallel", "4", "--budget", str(four["high_bytes"]))
    assert estimated("--context", "512", *budget)["fit"]["max_context"] == 512
    assert estimated(*budget)["context"] == 512
    assert cli("estimate", file, "--context", "768", *budget).returncode == 7
    shown = cli("estimate", file, "--context", "512", "--parallel", "4").stdout
    assert "; context 512 for each of 4 conversations\n" in shown
    assert "f16, 4 conversations of 512 tokens" in shown


@pytest.mark.parametrize("options", [("--parallel", "2"), ("--set", "parallel=2")])
def test_what_has_to_fit_is_every_conversation(
    cli: CommandLine, tmp_path: Path, options: tuple[str, ...]
) -> None:
    pytest.importorskip("xllamacpp", reason="needs a runtime")
    file = str(tiny_gguf(tmp_path / "tiny.gguf"))

    def needed(*options: str) -> int:
        done = cli(
            "run", file, "hi", "--require-fit", "--context", "2000000000", "--json", *options
        )
        assert done.returncode == 7, done.stderr
        return int(json.loads(done.stderr.splitlines()[-1])["error"]["total_bytes"])

    # the cache of two; what is computed at once is the same
    assert needed(*options) > 1.1 * needed()


def test_a_context_that_no_runtime_can_count_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    done = cli("estimate", str(tiny_gguf(tmp_path / "tiny.gguf")), "--context", str(2**31))
    assert (done.returncode, done.stdout) == (2, "")


def test_a_context_beyond_the_trained_one_is_told(cli: CommandLine, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    found = estimate(cli, str(file), "--context", "4096")
    assert (found["context"], found["trained_context"]) == (4096, 2048)
    assert found["notes"] == ["a context of 4096 exceeds the trained context of 2048"]


def test_a_quantized_cache_is_smaller(cli: CommandLine, tmp_path: Path) -> None:
    file = str(tiny_gguf(tmp_path / "tiny.gguf"))
    sizes = {
        kind: estimate(cli, file, "--kv-type", kind)["bytes"]["kv_cache"] for kind in ("f16", "f32")
    }
    assert sizes["f32"] == 2 * sizes["f16"]
    mixed = estimate(cli, file, "--kv-type", "f32", "--kv-type-v", "f16")
    assert (mixed["kv_type"], mixed["kv_type_v"]) == ("f32", "f16")
    assert mixed["bytes"]["kv_cache"] == (sizes["f32"] + sizes["f16"]) // 2
    shown = cli("estimate", file, "--kv-type", "f32", "--kv-type-v", "f16", "--context", "512")
    assert "f32 for keys, f16 for values, 512 tokens" in shown.stdout
    packed = cli("estimate", file, "--kv-type", "q8_0")
    assert (packed.returncode, packed.stdout) == (2, "")
    assert packed.stderr.splitlines() == [
        "error: KV cache type q8_0 packs 32 numbers, which do not divide this model's keys of 8",
        "hint: use f32, f16 or bf16",
    ]
    done = cli("estimate", file, "--kv-type", "q9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "use one of f32, f16, bf16, q8_0" in done.stderr


def test_a_budget_that_is_too_small_is_exit_code_7(cli: CommandLine, tmp_path: Path) -> None:
    file = str(tiny_gguf(tmp_path / "tiny.gguf"))
    people = cli("estimate", file, "--budget", "9KiB")
    assert people.returncode == 7
    assert " of 9.00 KiB memory; " in people.stdout
    assert people.stderr.startswith(f"error: {file} does not fit into 9.00 KiB: it needs ")
    script = cli("estimate", file, "--budget", "9KiB", "--json")
    error = json.loads(script.stderr)["error"]
    assert (script.returncode, error["code"]) == (7, "does_not_fit")
    assert json.loads(script.stdout)["fit"]["verdict"] == "no"
    assert error["budget_bytes"] == 9216 < error["total_bytes"]


@pytest.mark.parametrize("budget", ["8quux", "-1GiB", "", "GiB"])
def test_a_budget_that_is_no_size_is_a_usage_error(
    cli: CommandLine, tmp_path: Path, budget: str
) -> None:
    done = cli("estimate", str(tiny_gguf(tmp_path / "tiny.gguf")), f"--budget={budget}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "invalid size " in done.stderr


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_garbage_is_an_integrity_error(cli: CommandLine, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "garbage.gguf"
    file.write_bytes(content)
    done = cli("estimate", str(file), "--json")
    assert (done.returncode, done.stdout) == (6, "")
    assert json.loads(done.stderr)["error"]["code"] == "malformed_gguf"


def test_a_file_that_is_not_there_is_a_usage_error(cli: CommandLine) -> None:
    done = cli("estimate", "nowhere/model.gguf")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: nowhere/model.gguf: file not found\nhint: name a GGUF file, or check the path\n"
    )


# Models in archives that were not pulled.


def modelcar(weights: bytes, how: Packed, folder: str = "models") -> Artifact:
    """An image whose layers are a base, and a model with a large file before and after it."""
    noise = random.Random(3).randbytes(6 * MIB)
    base = tar_of([Item(f"usr/share/{number}", b"x" * 100) for number in range(2000)])
    items = [
        Item(f"{folder}/LICENSE", b"free"),
        Item(f"{folder}/tiny.gguf", weights),
        Item(f"{folder}/noise.bin", noise),
    ]
    says = {"org.containers.type": "ai.image.model.raw"}
    image = Image([base, tar_of(items)], how=how, annotations=says)
    blobs = {digest_of(blob): blob for blob in image.blobs}
    return Artifact(image.manifest, MANIFEST, blobs)


@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
def test_a_model_in_an_image_is_estimated_without_a_download(
    cli: CommandLine, registry: Registry, tmp_path: Path, how: Packed
) -> None:
    weights = tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    registry.add(modelcar(weights, how), "team/car", ["1"])
    name = registry.reference("team/car:1")
    use = (name, "--context", "512", "--budget", "8GiB")
    remote = estimate(cli, *use)
    whole = [
        request
        for request in registry.requests
        if request.kind == "blob" and "Range" not in request.headers
    ]
    # the config alone is read as a whole
    assert len(whole) <= 1
    assert cli("pull", name).returncode == 0
    local = estimate(cli, *use)
    assert remote["bytes"] == local["bytes"]
    assert remote["fit"] == local["fit"]
    assert remote["source"] == "header"


@pytest.mark.parametrize("compressed", [False, True])
def test_a_modelpack_archive_is_estimated_without_a_download(
    cli: CommandLine, registry: Registry, tmp_path: Path, *, compressed: bool
) -> None:
    shards = [path.read_bytes() for path in tiny_shards(tmp_path)]
    names = [path.name for path in sorted(tmp_path.glob("*.gguf"))]
    packed = modelpack_artifact(shards, filenames=names, compressed=compressed)
    registry.add(packed, "team/pack", ["1"])
    name = registry.reference("team/pack:1")
    remote = estimate(cli, name, "--context", "512", "--budget", "8GiB")
    assert cli("pull", name).returncode == 0
    assert remote["bytes"] == estimate(cli, name, "--context", "512", "--budget", "8GiB")["bytes"]


def test_an_image_without_a_model_at_its_front_is_to_be_pulled(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    weights = tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    registry.add(modelcar(weights, "", "elsewhere"), "team/car", ["1"])
    name = registry.reference("team/car:1")
    done = cli("estimate", name, "--budget", "8GiB")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        10,
        f"hint: run `modelrunner pull {name}`, which unpacks them",
    )


def test_a_name_in_an_archive_that_is_not_unicode_is_refused(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    layer = bytearray(tar_of([Item("models/X.gguf", b"text"), Item("models/b.gguf", b"text")]))
    layer[7] = 0xFF
    layer[148:156] = b"%06o\0 " % (sum(layer[:148]) + 8 * ord(" ") + sum(layer[156:512]))
    image = Image([bytes(layer)], annotations={"org.containers.type": "ai.image.model.raw"})
    blobs = {digest_of(blob): blob for blob in image.blobs}
    registry.add(Artifact(image.manifest, MANIFEST, blobs), "team/car", ["1"])
    done = cli("estimate", registry.reference("team/car:1"), "--budget", "8GiB")
    assert done.returncode == 6
    assert done.stderr == (
        "error: unsafe file path in a layer: '\\udcff.gguf'\n"
        "hint: the artifact is broken or hostile; nothing was stored\n"
    )
