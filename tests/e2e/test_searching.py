"""`search`: Docker Hub's and the Hugging Face Hub's models, with size and fit."""

import json
import os
from collections.abc import Iterator

import pytest

from tests.conftest import CommandLine
from tests.support.docker_hub import Hub as DockerHub
from tests.support.hugging_face import Hub, Repository, hugging_face


@pytest.fixture
def docker_hub() -> Iterator[DockerHub]:
    with DockerHub() as hub:
        hub.add("ai/granite-4.0-micro", "# Granite")
        hub.add("ai/smollm2", "# SmolLM2")
        hub.add("ai/unheard-of", "# New")
        hub.add("other/model", "# Not of the namespace")
        hub.pulls = {"ai/smollm2": 2_500_000, "ai/granite-4.0-micro": 9_000}
        yield hub


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hugging_face() as running:
        header = {"total": 8_030_261_312, "architecture": "llama", "context_length": 131072}
        files = {"Big-Q4_K_M.gguf": b"", "Big-Q8_0.gguf": b"", "mmproj-F16.gguf": b"", "x.md": b""}
        running.repositories = {
            "Org/Big-GGUF": Repository(files, downloads=5_000, gguf=header),
            "Org/Huge-GGUF": Repository(
                {"Huge-Q4_K_M.gguf": b""}, gated=True, downloads=99, gguf={"total": 10**12}
            ),
            "Org/Silent-GGUF": Repository({"silent.gguf": b""}, downloads=1),
            "Org/No-Model": Repository({"model.safetensors": b""}),
        }
        yield running


@pytest.fixture
def search(cli: CommandLine, docker_hub: DockerHub, hub: Hub):
    def run(*arguments: str, **environ: str):
        places = {"MODELRUNNER_HUB_API": docker_hub.url, "HF_ENDPOINT": hub.url}
        return cli("search", *arguments, **places, **environ)

    return run


def test_both_are_asked_once_and_told_with_size_and_fit(search, docker_hub, hub) -> None:
    done = search("--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = {hit["name"]: hit for hit in json.loads(done.stdout)}
    assert list(found) == [
        "ai/smollm2",
        "ai/unheard-of",
        "ai/granite-4.0-micro",
        "hf.co/Org/Big-GGUF",
        "hf.co/Org/Huge-GGUF",
        "hf.co/Org/Silent-GGUF",
    ]
    granite = found["ai/granite-4.0-micro"]
    # the card's own row of `latest`
    assert (granite["size_bytes"], granite["size_is_estimate"]) == (1_943_472_701, False)
    assert "Q4_K_M" in granite["quantizations"]
    big = found["hf.co/Org/Big-GGUF"]
    assert big["quantizations"] == ["Q4_K_M", "Q8_0"]
    # llama.cpp's own file of these parameters has 4.92 GB
    assert abs(big["size_bytes"] / 4.92e9 - 1) < 0.02
    assert (big["size_is_estimate"], big["parameters"]) == (True, "8.0B")
    huge = found["hf.co/Org/Huge-GGUF"]
    assert (huge["gated"], huge["fit"]) == (True, "no")
    assert found["hf.co/Org/Silent-GGUF"]["size_bytes"] is None
    assert found["ai/unheard-of"]["fit"] == "unknown"
    assert len(docker_hub.requests) == 1
    assert len(hub.requests) == 1


THINKS = (
    "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}{% for t in tools or [] %}"
    "{{ t.function.name }}{% endfor %}{% if enable_thinking %}<think>{% endif %}"
)


def test_it_says_what_a_model_can_do_as_its_card_or_its_template_says(search, hub: Hub) -> None:
    hub.repositories["Org/Big-GGUF"].gguf = {"total": 8 * 10**9, "chat_template": THINKS}
    found = {hit["name"]: hit["capabilities"] for hit in json.loads(search("--json").stdout)}
    assert found == {
        "ai/smollm2": ["tools"],
        # its card is not in the catalog
        "ai/unheard-of": None,
        "ai/granite-4.0-micro": ["tools"],
        # by its template, and the projector beside it
        "hf.co/Org/Big-GGUF": ["tools", "thinking", "images"],
        "hf.co/Org/Huge-GGUF": None,
        "hf.co/Org/Silent-GGUF": None,
    }
    lines = search().stdout.splitlines()
    assert "CAPABILITIES" in lines[0]
    (big,) = [line for line in lines if "Big-GGUF" in line]
    assert "tools, thinking, images" in big


def test_words_narrow_it(search, hub: Hub) -> None:
    names = search("granite", "-q").stdout.split()
    assert names == ["ai/granite-4.0-micro"]
    assert search("big", "--source", "huggingface", "-q").stdout.split() == ["hf.co/Org/Big-GGUF"]
    assert search("sentence smollm2", "-q").stdout.split() == ["ai/smollm2"]
    assert search("-n", "1", "-q").stdout.split() == ["ai/smollm2", "hf.co/Org/Big-GGUF"]


def test_words_may_be_in_another_encoding_than_the_locales(search) -> None:
    for word in ("größe", os.fsdecode(b"gr\xf6\xdfe")):
        done = search(word, "-q", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_only_what_fits(search) -> None:
    names = search("--fits", "-q").stdout.split()
    assert "ai/smollm2" in names
    assert "hf.co/Org/Huge-GGUF" not in names
    assert "ai/unheard-of" not in names


def test_the_table_says_what_is_an_estimate(search) -> None:
    lines = search().stdout.splitlines()
    assert lines[0].split()[:4] == ["NAME", "PARAMETERS", "SIZE", "FITS"]
    (big,) = [line for line in lines if "Big-GGUF" in line]
    assert "~4.58 GiB" in big
    (huge,) = [line for line in lines if "Huge-GGUF" in line]
    assert "(gated)" in huge


def test_pages_are_followed_one_request_each(search, docker_hub: DockerHub) -> None:
    docker_hub.page_size = 2
    assert len(search("--source", "dockerhub", "-q").stdout.split()) == 3
    assert len(docker_hub.requests) == 2


def test_a_page_on_another_host_is_not_asked_for(search, docker_hub: DockerHub) -> None:
    entry = {"namespace": "ai", "name": "x", "description": 7, "pull_count": "many"}
    docker_hub.say({"results": [entry, 7, {}], "next": "https://elsewhere.example/?page=2"})
    done = search("--source", "dockerhub", "-q")
    assert (done.returncode, done.stdout.split()) == (0, ["ai/x"])


def test_one_that_fails_takes_nothing_from_the_other(search, docker_hub: DockerHub) -> None:
    docker_hub.answer(503, times=None)
    done = search("-q")
    assert done.returncode == 0
    assert "hf.co/Org/Big-GGUF" in done.stdout
    assert "503" in done.stderr


def test_where_all_fail_the_error_is_theirs(search, docker_hub: DockerHub, hub: Hub) -> None:
    docker_hub.answer(503, times=None)
    hub.limited = 99
    done = search("--json")
    assert (done.returncode, done.stdout) == (5, "")
    assert json.loads(done.stderr.splitlines()[-1])["error"]["retryable"]


@pytest.mark.parametrize(
    ("body", "code"), [(b"[]", 5), (b"{", 5), (b"<html>", 5), (b"null", 5), (b'{"results": 7}', 0)]
)
def test_nonsense_from_the_list_is_told(
    search, docker_hub: DockerHub, body: bytes, code: int
) -> None:
    docker_hub.say(body)
    done = search("--source", "dockerhub", "--json")
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout.strip()) == (code, "" if code else "[]")


def test_control_characters_do_not_reach_the_terminal(search, hub: Hub) -> None:
    hub.repositories["Org/\x1b[31mred"] = Repository({"a.gguf": b""}, downloads=10**6)
    assert "\x1b" not in search().stdout


def test_offline_says_where_to_look(cli: CommandLine) -> None:
    done = cli("search", "--offline")
    assert done.returncode == 9
