"""Which of several: `estimate --variants`, `--for`, `pull --fit`; pictures; card against header."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry


@pytest.fixture
def many(registry: Registry, tmp_path: Path) -> str:
    """A repository of two models; the small one has two tags."""
    for tags, layers in ((["small", "small-Q4_0", "latest"], 1), (["large"], 40)):
        content = tiny_gguf(tmp_path / "model.gguf", layers=layers).read_bytes()
        registry.add(docker_artifact(content), "team/many", tags)
    return registry.reference("team/many")


def test_all_variants_have_a_verdict_each(cli: CommandLine, many: str) -> None:
    done = cli("estimate", many, "--variants", "--budget", "4MiB")
    assert (done.returncode, done.stderr) == (0, "")
    title, heads, large, small = done.stdout.splitlines()
    assert title == f"{many}: 2 variants at a context of 2048, memory 4.00 MiB"
    assert heads.split("  ")[0] == "TAG"
    assert heads.split()[1:] == ["QUANT", "SIZE", "NEEDS", "VERDICT", "MAX", "CONTEXT"]
    assert (large.split()[:2], large.split()[6]) == (["large", "Q4_0"], "no")
    assert small.startswith("small, latest, small-Q4_0  Q4_0  ")
    assert small.split()[-2:] == ["fits", "2048"]


def test_all_variants_as_json_are_estimates_with_their_tags(cli: CommandLine, many: str) -> None:
    found = json.loads(cli("estimate", many, "--variants", "--json").stdout)
    assert list(found) == [
        *("repository", "kv_type", "kv_type_v", "devices", "budget_bytes", "variants"),
        "unseen_tags",
    ]
    assert found["repository"] == many
    large, small = found["variants"]
    assert list(large)[:6] == [
        *("tags", "digest", "quantization", "size_bytes", "reference", "source")
    ]
    assert large["tags"] == ["large"]
    assert set(small["tags"]) == {"small", "small-Q4_0", "latest"}
    assert small["fit"]["verdict"] == "fits"


def test_where_no_variant_fits_the_budget_it_is_exit_code_7(cli: CommandLine, many: str) -> None:
    done = cli("estimate", many, "--variants", "--budget", "1KiB", "--json")
    assert (done.returncode, done.stdout) == (7, "")
    assert json.loads(done.stderr)["error"]["code"] == "does_not_fit"


def test_a_variant_that_cannot_have_the_cache_type_is_marked_and_the_others_are_estimated(
    cli: CommandLine, registry: Registry, many: str, tmp_path: Path
) -> None:
    sizes = {f"llama.attention.{part}_length": 32 for part in ("key", "value")}
    content = tiny_gguf(tmp_path / "wide.gguf", metadata=sizes).read_bytes()
    registry.add(docker_artifact(content), "team/many", ["wide"])
    done = cli("estimate", many, "--variants", "--budget", "4MiB", "--kv-type", "q8_0")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()[2:5]]
    assert {row[0].rstrip(","): row[-2:] for row in rows}["wide"] == ["fits", "2048"]
    assert done.stdout.splitlines()[5:] == [
        f"note: {tag}: KV cache type q8_0 packs 32 numbers, which do not divide this model's keys"
        " of 8"
        for tag in ("large", "small-Q4_0")
    ]


def test_variants_are_those_of_a_repository(cli: CommandLine, many: str) -> None:
    done = cli("estimate", f"{many}:large", "--variants")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: --variants needs a repository, but {many}:large names one model\n"
        "hint: remove the tag, or --variants\n"
    )


def test_one_answer_stays_one_answer(cli: CommandLine, registry: Registry, many: str) -> None:
    found = json.loads(cli("estimate", many, "--json").stdout)
    assert found["reference"] == f"{many}:latest"
    assert not any(entry.kind == "tags" for entry in registry.requests)


def test_a_gpu_stands_for_the_machine(cli: CommandLine, tmp_path: Path) -> None:
    file = str(tiny_gguf(tmp_path / "tiny.gguf"))
    found = json.loads(cli("estimate", file, "--for", "nvidia geforce rtx 4070", "--json").stdout)
    (device,) = found["devices"]
    assert (device["name"], device["total_bytes"]) == ("RTX 4070", 12282 * 1024**2)
    assert found["fit"]["verdict"] == "fits"
    # as the driver shows it, less what it takes for itself
    assert found["fit"]["budget_bytes"] == (12282 - 330) * 1024**2


def test_a_gpu_that_nobody_knows_is_a_usage_error(cli: CommandLine, tmp_path: Path) -> None:
    file = str(tiny_gguf(tmp_path / "tiny.gguf"))
    done = cli("estimate", file, "--for", "RTX 4071")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --for: unknown GPU 'RTX 4071'\nhint: did you mean `RTX")
    both = cli("estimate", file, "--for", "T4", "--budget", "1GiB")
    assert both.stderr.startswith("error: --budget and --for cannot be combined")


def test_a_model_too_large_for_the_gpu_is_exit_code_7(cli: CommandLine) -> None:
    done = cli("estimate", "ai/qwen3:30B-A3B-F16", "--offline", "--for", "RTX 4070")
    assert done.returncode == 7
    assert "ai/qwen3:30B-A3B-F16 does not fit into " in done.stderr


def test_the_picture_is_under_the_answer(cli: CommandLine, tmp_path: Path) -> None:
    file = str(tiny_gguf(tmp_path / "tiny.gguf"))
    # what is free on this machine changes from one run to the next
    asked = ("estimate", file, "--budget", "8GiB")
    plain, drawn = cli(*asked), cli(*asked, "--graph")
    assert drawn.stdout.startswith(plain.stdout)
    picture = drawn.stdout.splitlines()[len(plain.stdout.splitlines()) :]
    assert max(map(len, picture)) <= 80
    assert "# weights   = cache and states   : compute and output" in drawn.stdout
    curve = json.loads(cli("estimate", file, "--graph", "--json").stdout)["curve"]
    assert (curve[-1]["context"], len(curve)) == (2048, 64)


def test_a_plot_is_a_file_beside_the_answer(cli: CommandLine, tmp_path: Path) -> None:
    file, plot = str(tiny_gguf(tmp_path / "tiny.gguf")), tmp_path / "plot.svg"
    done = cli("estimate", file, "--plot", str(plot))
    assert (done.returncode, done.stderr) == (0, f"wrote {plot}\n")
    assert ElementTree.parse(plot).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    refused = cli("estimate", file, "--plot", str(tmp_path / "plot.gif"))
    assert (refused.returncode, refused.stdout) == (2, "")


def test_the_source_can_be_chosen(cli: CommandLine, registry: Registry, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "mine.gguf")
    cli("package", str(file), "ai/mine:1", SOURCE_DATE_EPOCH="0")
    sources = {
        source: json.loads(cli("estimate", "ai/mine:1", "--source", source, "--json").stdout)
        for source in ("auto", "header", "config")
    }
    assert {name: found["source"] for name, found in sources.items()} == {
        "auto": "header",
        "header": "header",
        "config": "config",
    }
    header, config = (sources[name]["bytes"]["total"] for name in ("header", "config"))
    assert config == pytest.approx(header, rel=0.01)
    card = cli("estimate", "ai/granite-4.0-micro", "--source", "card", "--offline", "--json")
    assert json.loads(card.stdout)["source"] == "card"


def test_a_source_that_does_not_have_it_is_an_error(cli: CommandLine, tmp_path: Path) -> None:
    file = str(tiny_gguf(tmp_path / "tiny.gguf"))
    done = cli("estimate", file, "--source", "card")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        (
            f"error: {file} is a file: --source card is not available for it\n"
            "hint: leave out --source\n"
        ),
    )
    remote = cli("estimate", "ai/granite-4.0-micro", "--source", "measured")
    assert (remote.returncode, remote.stdout) == (2, "")
    assert "hint: run `modelrunner pull ai/granite-4.0-micro:latest`" in remote.stderr
    none = cli("estimate", "ai/nobody:1", "--source", "card")
    assert none.returncode == 3
    absent = cli("estimate", "ai/granite-4.0-micro", "--source", "header", "--offline")
    assert absent.returncode == 9


def test_pull_fit_takes_the_largest_that_fits(cli: CommandLine, many: str) -> None:
    done = cli("pull", many, "--fit")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{many}:large: pulled ")
    chosen = done.stderr.splitlines()[0]
    assert chosen.startswith(f"{many}:large: ")
    assert chosen.endswith("; chosen from 2 variants")
    small = cli("pull", many, "--fit", "--budget", "4MiB", "--json")
    assert (small.returncode, small.stderr) == (0, "")
    assert json.loads(small.stdout)["reference"] == f"{many}:small-Q4_0"


def test_pull_fit_warns_where_nothing_fits_and_require_fit_refuses(
    cli: CommandLine, registry: Registry, many: str
) -> None:
    refused = cli("pull", many, "--fit", "--require-fit", "--budget", "1KiB", "--json")
    assert (refused.returncode, refused.stdout) == (7, "")
    assert json.loads(refused.stderr)["error"]["code"] == "does_not_fit"
    assert not (cli.home / "store").exists()
    warned = cli("pull", many, "--fit", "--budget", "1KiB")
    assert warned.returncode == 0
    assert f"warning: {many}:small-Q4_0 does not fit into 1.00 KiB" in warned.stderr


def test_require_fit_looks_at_the_model_that_was_named(cli: CommandLine, many: str) -> None:
    refused = cli("pull", f"{many}:large", "--require-fit", "--budget", "4MiB")
    assert (refused.returncode, refused.stdout) == (7, "")
    assert cli("pull", f"{many}:small", "--require-fit", "--budget", "4MiB").returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["NAME:small", "--fit"], "--fit needs a repository, but NAME:small names one model"),
        (["NAME", "--budget", "1GiB"], "--budget and --for need --fit or --require-fit"),
        (["NAME", "--fit", "--for", "RTX 1"], "--for: unknown GPU 'RTX 1'"),
        (
            ["NAME", "--fit", "--for", "T4", "--budget", "1GiB"],
            "--budget and --for cannot be combined",
        ),
    ],
)
def test_what_contradicts_itself_is_a_usage_error(
    cli: CommandLine, many: str, options: list[str], message: str
) -> None:
    done = cli("pull", *(option.replace("NAME", many) for option in options))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message.replace('NAME', many)}")


def test_offline_only_what_is_here_is_chosen_from(cli: CommandLine, many: str) -> None:
    absent = cli("pull", many, "--fit", "--offline")
    assert (absent.returncode, absent.stdout) == (9, "")
    cli("pull", f"{many}:small")
    here = cli("pull", many, "--fit", "--offline")
    assert here.returncode == 0
    assert here.stdout.startswith(f"{many}:small: up to date")


def test_a_pull_says_what_the_model_needs_where_its_config_tells(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    content = tiny_gguf(tmp_path / "told.gguf").read_bytes()
    keys = {
        "general.architecture": "llama",
        "llama.block_count": "2",
        "llama.embedding_length": "32",
        "llama.attention.head_count": "4",
        "llama.attention.head_count_kv": "2",
        "llama.feed_forward_length": "32",
        "llama.context_length": "2048",
        "llama.vocab_size": "32",
    }
    registry.add(docker_artifact(content, config={"gguf": keys}), "team/told", ["1"])
    name = registry.reference("team/told:1")
    done = cli("pull", name)
    _, need, sets = done.stderr.splitlines()
    assert need.startswith(f"{name}: ")
    assert need.endswith(" memory; context 2048")
    assert sets == f"{name} sets context=8192"
    assert sum(entry.kind == "blob" for entry in registry.requests) == 2
    assert cli("pull", name).stderr == ""


@pytest.mark.parametrize(
    "hostile", ["9" * 400, "-1", "nan", "inf", "nan, 4, inf", "1e308", "1, -1, x", ""]
)
def test_a_config_that_lies_fails_no_pull(
    cli: CommandLine, registry: Registry, tmp_path: Path, hostile: str
) -> None:
    content = tiny_gguf(tmp_path / "lies.gguf").read_bytes()
    names = ("block_count", "embedding_length", "attention.head_count", "context_length")
    keys = {"general.architecture": "llama"} | {f"llama.{name}": hostile for name in names}
    registry.add(docker_artifact(content, config={"gguf": keys}), "team/lies", ["1"])
    done = cli("pull", registry.reference("team/lies:1"))
    assert done.returncode == 0, done.stderr


def test_inspect_says_where_card_and_header_differ(cli: CommandLine, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "not-that.gguf")
    cli("package", str(file), "ai/granite-4.0-micro:3B-Q4_K_M", SOURCE_DATE_EPOCH="0")
    found = json.loads(cli("inspect", "ai/granite-4.0-micro:3B-Q4_K_M").stdout)
    differences = found["card_differences"]
    assert [entry["what"] for entry in differences] == [
        *("size", "vram", "parameters", "context", "quantization")
    ]
    assert differences[0]["sentence"] == "size: 1.81 GiB in the card, 7.94 KiB in the tensors"


@pytest.mark.model
def test_the_next_estimate_knows_what_the_runtime_reported(models: CommandLine) -> None:
    name = "fixtures/tiny-llama:docker"
    before = json.loads(cli_json(models, "estimate", name, "--context", "1024"))
    done = models("run", name, "hi", "-q", "--context", "1024", "--max-tokens", "2")
    assert done.returncode == 0
    (kept,) = json.loads((models.home / "state" / "observations.json").read_text())
    assert (kept["runtime"], kept["context"]) == ("xllamacpp", 1024)
    assert kept["predicted"] == before["bytes"]["total"]
    # the estimate is for llama.cpp, so what it reports is near
    assert kept["observed"] == pytest.approx(kept["predicted"], rel=0.5)
    after = json.loads(cli_json(models, "estimate", name, "--context", "1024"))
    assert after["bytes"]["total"] == kept["observed"]
    assert after["notes"][-1].startswith("measured in an earlier run: ")


def cli_json(cli: CommandLine, *arguments: str) -> str:
    return cli(*arguments, "--json").stdout
