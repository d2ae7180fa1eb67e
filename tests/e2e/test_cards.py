"""`card`, `cards` and `tags` as they are typed: the catalogue, Docker Hub, files of any kind."""

import json
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, Layer, docker_artifact
from tests.support.docker_hub import Hub
from tests.support.registry import Registry

GIB = 1 << 30
MIB = 1 << 20
CONTRACT = {
    "": ("title", "attributes", "variants", "latest", "benchmarks", "links", "warnings"),
    "attributes": (
        *("provider", "architecture", "cutoff_date", "languages", "tool_calling"),
        *("input_modalities", "output_modalities", "license"),
    ),
    "variants": (
        *("references", "parameters", "parameters_text", "quantization", "context_tokens"),
        *("vram_bytes", "size_bytes"),
    ),
    "benchmarks": ("category", "metric", "value"),
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.add("ai/newcomer", "# Newcomer\n\nIt is \x1b[31mnew\x1b[0m.\n")
        yield running


def listed(cli: CommandLine, *options: str) -> list[dict[str, object]]:
    done = cli("cards", *options, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def rows(found: list[dict[str, object]]) -> list[dict[str, object]]:
    return [row for entry in found for row in entry["variants"]]


def aged(cli: CommandLine, days: float) -> None:
    for path in (cli.home / "cache" / "cards").rglob("*.md"):
        os.utime(path, (time.time() - days * 86400,) * 2)


def test_the_facts_of_a_card_are_those_of_the_contract(cli: CommandLine) -> None:
    found = json.loads(cli("card", "ai/granite-4.0-micro", "--json").stdout)
    parts = {
        "": found,
        "attributes": found["attributes"],
        "variants": found["variants"][0],
        "benchmarks": found["benchmarks"][0],
    }
    for name, keys in CONTRACT.items():
        assert [key for key in parts[name] if key in keys] == list(keys), name
    assert all(isinstance(link, str) for link in found["links"])
    assert (found["source"], found["fetched"]) == ("catalogue", None)
    assert found["latest"] == "ai/granite-4.0-micro:3B"


def test_cards_are_filtered_by_what_their_variants_are(cli: CommandLine) -> None:
    found = listed(cli, "--max-size", "1GiB", "--tools", "--license", "APACHE")
    assert found
    assert all(entry["attributes"]["tool_calling"] is True for entry in found)
    assert all("apache" in entry["attributes"]["license"].lower() for entry in found)
    assert all(row["size_bytes"] <= GIB for row in rows(found))
    assert all("fits" not in row for row in rows(found))


def test_what_fits_a_budget_is_listed_smallest_first(cli: CommandLine) -> None:
    found = listed(cli, "granite", "--fits", "--budget", "2GiB", "--sort", "size")
    assert rows(found)
    assert all(row["fits"] is True and row["size_bytes"] < 2 * GIB for row in rows(found))
    firsts = [entry["variants"][0]["size_bytes"] for entry in found]
    assert firsts == sorted(firsts)
    unfiltered = listed(cli, "granite", "--budget", "2GiB")
    # a row whose range has the budget in it is not known to fit
    assert {row["fits"] for row in rows(unfiltered)} == {True, False, None}


def test_people_see_what_fits_in_a_column(cli: CommandLine) -> None:
    done = cli("cards", "granite-4.0-micro", "--budget", "8GiB")
    assert done.stdout == (
        "MODEL                    PARAMETERS  QUANTIZATION  CONTEXT  VRAM      SIZE      TOOLS"
        "  FITS\n"
        "ai/granite-4.0-micro:3B  3.2B        Q4_K_M        1M       2.32 GiB  1.81 GiB  yes  "
        "  yes\n"
    )
    assert "FITS" not in cli("cards", "granite-4.0-micro").stdout


def test_this_machine_is_what_fits_means_without_a_budget(cli: CommandLine) -> None:
    names = {row["references"][0] for row in rows(listed(cli, "--fits"))}
    assert "ai/smollm2:135M-Q4_K_M" in names


def test_nothing_that_is_wanted_is_said(cli: CommandLine) -> None:
    done = cli("cards", "--max-size", "1KiB")
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, [])
    assert done.stderr == "no variant matches: remove or relax a filter\n"


@pytest.mark.parametrize(
    "options",
    [["--max-size", "big"], ["--budget", "9" * 400], ["--sort", "beauty"], ["--max-size=-1"]],
)
def test_an_option_that_makes_no_sense_is_a_usage_error(
    cli: CommandLine, options: list[str]
) -> None:
    done = cli("cards", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_variants_that_fit_are_marked(cli: CommandLine) -> None:
    text = cli("card", "ai/llama3.2", "--budget", "3GiB").stdout
    marks = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in text.splitlines()}
    assert (marks["1B-Q8_0"], marks["3B-F16"]) == ("fits", "too large")
    found = json.loads(cli("card", "ai/llama3.2", "--budget", "3GiB", "--json").stdout)
    fits = {row["references"][0]: row["fits"] for row in found["variants"]}
    assert (fits["ai/llama3.2:1B-Q8_0"], fits["ai/llama3.2:3B-F16"]) == (True, False)


def test_a_model_outside_the_catalogue_is_shown_from_docker_hub(cli: CommandLine, hub: Hub) -> None:
    done = cli("card", "ai/newcomer", MODELRUNNER_HUB_API=hub.url)
    assert done.returncode == 0
    assert done.stdout.startswith("Newcomer (ai/newcomer)\nIt is new.\n")
    assert done.stderr == "asking Docker Hub about ai/newcomer\n"
    again = cli("card", "ai/newcomer", "--json", MODELRUNNER_HUB_API=hub.url)
    found = json.loads(again.stdout)
    assert (found["title"], found["source"]) == ("Newcomer", "hub")
    assert found["fetched"].endswith("Z")
    assert hub.count() == 1


def test_config_toml_says_where_the_api_is(cli: CommandLine, hub: Hub) -> None:
    cli.home.mkdir()
    (cli.home / "config.toml").write_text(f'hub_api = "{hub.url}"\n')
    assert cli("card", "newcomer").returncode == 0
    (cli.home / "config.toml").write_text('hub_api = "http://hub.example.com"\n')
    assert cli("card", "ai/granite-4.0-micro").returncode == 0
    done = cli("card", "ai/other")
    assert (done.returncode, done.stdout) == (2, "")
    assert "uses plain http" in done.stderr


def test_an_old_copy_is_shown_as_such_where_hub_is_unreachable(cli: CommandLine, hub: Hub) -> None:
    cli("card", "ai/newcomer", MODELRUNNER_HUB_API=hub.url)
    aged(cli, 3)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        done = cli("card", "ai/newcomer", "-q", MODELRUNNER_HUB_API=address)
    assert (done.returncode, done.stdout.startswith("Newcomer")) == (0, True)
    assert done.stderr.startswith(
        f"warning: ai/newcomer: showing the card cached 3 days ago: cannot reach {address}"
    )
    done = cli("card", "ai/newcomer", "--offline")
    assert (done.returncode, done.stderr) == (
        0,
        "warning: ai/newcomer: showing the card cached 3 days ago: --offline is set\n",
    )


def test_offline_without_a_copy_is_exit_code_9(cli: CommandLine, hub: Hub) -> None:
    done = cli("card", "ai/newcomer", "--offline", "--json", MODELRUNNER_HUB_API=hub.url)
    assert (done.returncode, done.stdout) == (9, "")
    assert json.loads(done.stderr)["error"]["code"] == "not_in_store"
    assert hub.requests == []


def test_what_nobody_knows_is_exit_code_3_with_near_names(cli: CommandLine, hub: Hub) -> None:
    done = cli("card", "ai/granite-4.0-mcro", "--json", MODELRUNNER_HUB_API=hub.url)
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (3, "", "card_not_found")
    assert "ai/granite-4.0-micro" in error["near_misses"]
    assert "ai/granite-4.0-micro" in error["hint"]


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (500, "registry_unavailable")])
def test_a_hub_with_problems_is_exit_code_5(
    cli: CommandLine, hub: Hub, status: int, code: str
) -> None:
    hub.answer(status, times=None, headers={"Retry-After": "60"})
    done = cli("card", "ai/newcomer", "--json", MODELRUNNER_HUB_API=hub.url)
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (5, "", code)
    assert "try again later" in error["hint"]


def test_the_id_of_a_model_that_is_here_will_do(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "ai/smollm2", ["1"])
    mirrors = f"docker.io={registry.url}"
    assert cli("pull", "ai/smollm2:1", MODELRUNNER_MIRRORS=mirrors).returncode == 0
    for name in (tiny.digest, tiny.digest.removeprefix("sha256:")[:12]):
        assert json.loads(cli("card", name, "--json").stdout)["name"] == "smollm2"
    assert cli("card", "sha256:" + "0" * 64, "--json").returncode == 3


BAD = {
    "empty": b"",
    "blank": b"\n \n\t\n",
    "binary": random.Random(5).randbytes(300_000),
    "zeros": bytes(100_000),
    "10 MB": b"# A\n" + b"| a | `b` |\n" * 900_000,
    "10 MB in one line": b"|" * 10_000_000,
    "controls": b"# A\x1b[2J\x07 b\x9b31m\n\x1b]0;title\x07\n| \x08x | y |\n",
    "bidi": "# A \u202eB\u202c \u2066C\u2069 \u200fD\n".encode(),
    "utf-16": "# A model\n".encode("utf-16"),
    "html": b"<html><body><script>alert(1)</script><table><tr><td>x</table>",
    "missing cells": b"# A\n## Available model variants\n|Model variant|Size|\n|---|\n|`a`|\n",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_any_file_is_a_card_with_warnings(cli: CommandLine, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "card.md"
    file.write_bytes(content)
    script, people = cli("card", str(file), "--json"), cli("card", str(file))
    assert (script.returncode, script.stderr) == (0, "")
    assert (people.returncode, people.stderr) == (0, "")
    found = json.loads(script.stdout)
    assert found["source"] == "file"
    shown = people.stdout + json.dumps(found, ensure_ascii=False)
    assert not any(c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0) for c in shown)
    assert not set("\u202e\u202c\u2066\u2069\u200f") & set(shown)
    section = people.stdout.partition("\nWarnings\n")[2].splitlines()
    assert section[: len(found["warnings"])] == [f"- {line}" for line in found["warnings"]]


@pytest.mark.parametrize("name", [name for name in BAD if name not in {"html", "missing cells"}])
def test_what_is_odd_about_a_file_is_warned_of(cli: CommandLine, tmp_path: Path, name: str) -> None:
    file = tmp_path / "card.md"
    file.write_bytes(BAD[name])
    assert json.loads(cli("card", str(file), "--json").stdout)["warnings"]


def test_a_file_that_is_not_there_is_taken_for_a_reference(cli: CommandLine, hub: Hub) -> None:
    environ = {"MODELRUNNER_HUB_API": hub.url}
    assert cli("card", "team/card.md", **environ).returncode == 3
    assert [request.repository for request in hub.requests] == ["team/card.md"]
    for name in ("./card.md", "/nowhere/card.md", str(cli.home.parent), "x" * 5000 + ".md"):
        done = cli("card", name, **environ)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
    assert hub.count() == 1


def test_tags_tell_what_the_card_and_the_store_know(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "ai/smollm2", ["135M-Q4_K_M", "here", "latest"])
    mirrors = {"MODELRUNNER_MIRRORS": f"docker.io={registry.url}"}
    cli("pull", "ai/smollm2:here", **mirrors)
    registry.forget()
    done = cli("tags", "ai/smollm2", **mirrors)
    assert done.stdout == (
        "TAG          SIZE       QUANTIZATION  PARAMETERS  CONTEXT  STORED\n"
        "135M-Q4_K_M  98.87 MiB  Q4_K_M        135M        8K\n"
        "here         11.12 KiB  Q4_0          13K         2K       yes\n"
        "latest\n"
    )
    assert {request.kind for request in registry.requests} <= {"tags", "ping"}
    found = json.loads(cli("tags", "ai/smollm2", "--json", **mirrors).stdout)
    assert (found["repository"], found["tags"]) == (
        "docker.io/ai/smollm2",
        ["135M-Q4_K_M", "here", "latest"],
    )
    assert [(row["tag"], row["here"], row["source"]) for row in found["details"]] == [
        ("135M-Q4_K_M", False, "card"),
        ("here", True, "store"),
        ("latest", False, None),
    ]
    assert found["details"][1]["id"] == tiny.digest


def test_details_ask_for_each_manifest_once_and_for_fifty_at_most(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", [f"{count:02}" for count in range(60)])
    name = registry.reference("team/tiny")
    rows = json.loads(cli("tags", name, "--details", "--json").stdout)["details"]
    assert (registry.count("GET", "manifests"), registry.count("GET", "blobs")) == (50, 1)
    assert {(row["source"], row["quantization"], row["id"]) for row in rows[:50]} == {
        ("registry", "Q4_0", tiny.digest)
    }
    assert [row["source"] for row in rows[50:]] == [None] * 10


def test_a_damaged_tag_does_not_hide_the_others(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["bad", "good"])
    registry.manifest_override("bad", b"no manifest")
    done = cli("tags", registry.reference("team/tiny"), "--details", "--json")
    bad, good = json.loads(done.stdout)["details"]
    assert (done.returncode, good["source"], bad["source"]) == (0, "registry", None)
    assert bad["problem"]


def test_a_model_that_is_here_is_held_against_its_card(models: CommandLine) -> None:
    done = models("card", "ai/granite-4.0-micro", "--json")

    found = json.loads(done.stdout)["differences"]
    assert {entry["what"] for entry in found} == {"size", "vram", "parameters"}
    assert {entry["reference"] for entry in found} == {
        "ai/granite-4.0-micro:3B",
        "ai/granite-4.0-micro:3B-Q4_K_M",
        "ai/granite-4.0-micro:latest",
    }
    shown = models("card", "ai/granite-4.0-micro").stdout
    assert "in the local store differs from the card: parameters: 3.2B in the card" in shown


def test_a_stored_model_brings_its_own_card(
    cli: CommandLine, registry: Registry, tiny: Artifact, tmp_path: Path
) -> None:
    readme = b"---\nlicense: mit\ntags:\n- x\n---\r\n# Tiny of ours\n\nIt answers \x1b[2Jnothing.\n"
    layer = Layer("application/vnd.docker.ai.model.file", readme, "README.md")
    model = docker_artifact(tiny.layers[0], more=[layer])
    registry.add(model, "team/m", ["1"])
    name = registry.reference("team/m:1")
    unknown = cli("card", name, "--offline")
    pulled = cli("pull", name)
    assert pulled.returncode == 0, pulled.stderr

    found = json.loads(cli("card", name, "--json", "--offline").stdout)

    assert unknown.returncode == 3
    assert (found["title"], found["source"]) == ("Tiny of ours", "model")
    assert "license: mit" not in cli("card", name).stdout
    assert "\x1b" not in cli("card", name).stdout
    # what is attached as a card was written for this model
    other = tmp_path / "CARD.md"
    other.write_text("# A better card\n")
    assert cli("attach", name, str(other), "--type", "card").returncode == 0
    assert json.loads(cli("card", name, "--json").stdout)["title"] == "A better card"
