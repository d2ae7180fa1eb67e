"""Whole repositories of the Hub: files of any format, pinned, locked and kept like all models."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import COMMIT, Hub, Repository, git_digest, hugging_face
from tests.support.registry import Registry

NAME = "Org/Tiny"
STORED = "huggingface.co/org/tiny"
SAFETENSORS = b"\x02\0\0\0\0\0\0\0{}"
FILES = {
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "LICENSE": b"do as you like",
    "README.md": b"# Tiny",
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "model-00001-of-00002.safetensors": SAFETENSORS,
    "model-00002-of-00002.safetensors": SAFETENSORS + b" ",
    "onnx/model.onnx": b"onnx",
    "tokenizer.json": b"{}",
    "vocab.txt": b"",
}
SMALL = sorted(path for path in FILES if not path.endswith((".safetensors", ".onnx")))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hugging_face() as running:
        running.repositories[NAME] = Repository(dict(FILES))
        yield running


@pytest.fixture
def here(cli: CommandLine, hub: Hub):
    """The command line with the Hub's address."""

    def run(*arguments: str, **environ: str):
        return cli(*arguments, HF_ENDPOINT=hub.url, **environ)

    return run


def placed(folder: Path) -> dict[str, bytes]:
    """The files of a directory by their paths there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "SHA256SUMS"
    }


def asked(hub: Hub) -> list[str]:
    """Files that were asked for."""
    return sorted(path.partition(f"{COMMIT}/")[2] for path in hub.paths(f"/{NAME}/resolve"))


def test_a_whole_repository_is_pulled_once_and_placed_as_it_is(
    here, hub: Hub, tmp_path: Path
) -> None:
    done = here("pull", f"hf.co/{NAME}", "--all", "--json", "--output", str(tmp_path / "files"))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["reference"], told["status"]) == (f"{STORED}:all", "pulled")
    assert placed(tmp_path / "files") == FILES
    # each file was asked for once, the small ones to know their digests
    assert asked(hub) == sorted(FILES)
    assert here("verify", "--deep").returncode == 0
    (row,) = json.loads(here("list", "--json").stdout)
    assert (row["references"], row["format"]) == ([f"{STORED}:all"], "safetensors")
    assert json.loads(here("inspect", f"hf.co/{NAME}:all").stdout)["id"] == told["digest"]


def test_a_second_pull_asks_for_the_listing_and_for_no_file(here, hub: Hub) -> None:
    assert here("pull", f"hf.co/{NAME}", "--all").returncode == 0
    hub.requests.clear()
    again = json.loads(here("pull", f"hf.co/{NAME}", "--all", "--json").stdout)
    assert (again["status"], asked(hub)) == ("up-to-date", [])
    # of a file that has changed alone the content is asked for
    hub.repositories[NAME].files["README.md"] = b"# Tiny, too"
    hub.requests.clear()
    changed = json.loads(here("pull", f"hf.co/{NAME}:all", "--json").stdout)
    assert (changed["status"], asked(hub)) == ("pulled", ["README.md"])
    assert changed["digest"] != again["digest"]


def test_the_digest_is_the_same_on_every_machine(here, tmp_path: Path) -> None:
    one = json.loads(here("pull", f"hf.co/{NAME}", "--all", "--json").stdout)["digest"]
    elsewhere = {"MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
    other = json.loads(here("pull", f"hf.co/{NAME.lower()}:all", "--json", **elsewhere).stdout)
    assert other["digest"] == one
    assert one == "sha256:2f44aafab780bfe568efdb75348350eb45ed8225b4b9177dc15bb040dd3d5452"


@pytest.mark.parametrize(
    ("options", "tag", "found"),
    [
        (
            ["--include", "*.safetensors", "--include", "config.json"],
            "files=*.safetensors,config.json",
            [
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ],
        ),
        (["--include", "onnx/"], "files=onnx/*", ["onnx/model.onnx"]),
        (
            ["--exclude", "*.safetensors", "--exclude", ".*"],
            "files=!*.safetensors,!.*",
            [path for path in sorted(FILES) if path[0] != "." and "safe" not in path],
        ),
        (
            ["--include", "*", "--exclude", "?ocab*"],
            "files=!%3Focab*",
            sorted({*FILES} - {"vocab.txt"}),
        ),
    ],
)
def test_globs_choose_files_and_are_the_tag(
    here, tmp_path: Path, options: list[str], tag: str, found: list[str]
) -> None:
    done = here("pull", f"hf.co/{NAME}", *options, "--json", "--output", str(tmp_path / "files"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reference"] == f"{STORED}:{tag}"
    assert list(placed(tmp_path / "files")) == found
    # the name finds it again, also as it is printed, and in another order
    assert here("path", f"hf.co/{NAME}:{tag}").returncode == 0
    assert here("list", "-q").stdout.split() == here("list", "-q").stdout.split()
    assert here("rm", f"hf.co/{NAME}:{tag}").returncode == 0
    assert json.loads(here("list", "--json").stdout) == []


def test_a_lock_pins_it_and_finds_it_in_what_the_repository_was(
    here, hub: Hub, project: Path, tmp_path: Path
) -> None:
    (project / "modelrunner.toml").write_text(f'[models]\ntiny = "hf.co/{NAME}:all"\n')
    assert here("lock").returncode == 0
    text = (project / "modelrunner.lock").read_text()
    repository = hub.repositories[NAME]
    # three commits later
    for number in range(3):
        repository.earlier = {f"{number:040x}": repository.files, **repository.earlier}
        repository.files = {**repository.files, "README.md": f"# {number}".encode()}
    done = here("pull", "--locked", "--output", str(tmp_path / "files"))
    assert done.returncode == 0, done.stderr
    assert placed(tmp_path / "files" / "tiny") == FILES
    assert (project / "modelrunner.lock").read_text() == text
    assert here("pull", "--frozen").returncode == 0


def test_a_revision_is_listed_by_its_commit(here, hub: Hub) -> None:
    commit = f"{1:040x}"
    hub.repositories[NAME].earlier[commit] = {**FILES, "README.md": b"# Before"}
    hub.repositories[NAME].names["v1.0"] = commit
    done = here("pull", f"hf.co/{NAME}@v1.0", "--all", "--json")
    assert json.loads(done.stdout)["reference"] == f"{STORED}@v1.0:all"
    trees = hub.paths(f"/api/models/{NAME}/tree")
    assert trees
    assert all(f"/tree/{commit}" in path for path in trees)
    path = Path(here("path", f"hf.co/{NAME}@v1.0:all").stdout.strip())
    assert (path / "README.md").read_bytes() == b"# Before"


def test_it_is_saved_and_loaded(here, cli: CommandLine, tmp_path: Path) -> None:
    assert here("pull", f"hf.co/{NAME}", "--all").returncode == 0
    archive = tmp_path / "tiny.tar"
    assert here("save", f"hf.co/{NAME}:all", "-o", str(archive)).returncode == 0
    elsewhere = {"MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
    assert cli("load", str(archive), **elsewhere).returncode == 0
    (row,) = json.loads(cli("list", "--json", **elsewhere).stdout)
    assert row["references"] == [f"{STORED}:all"]


def test_it_is_pushed_to_a_registry_and_pulled_from_there(
    here, cli: CommandLine, tmp_path: Path
) -> None:
    with Registry() as registry:
        copy = registry.reference("team/tiny:1")
        pulled = json.loads(here("pull", f"hf.co/{NAME}", "--all", "--json").stdout)
        assert here("tag", f"hf.co/{NAME}:all", copy).returncode == 0
        assert here("push", copy).returncode == 0
        elsewhere = {"MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
        output = ("--output", str(tmp_path / "files"))
        again = json.loads(cli("pull", copy, "--json", *output, **elsewhere).stdout)
    assert again["digest"] == pulled["digest"]
    assert placed(tmp_path / "files") == FILES


def test_files_without_weights_are_delivered_and_not_run(here, tmp_path: Path) -> None:
    done = here(
        *("pull", f"hf.co/{NAME}", "--include", "token*", "--include", "vocab.txt"),
        *("--output", str(tmp_path / "files")),
    )
    assert done.returncode == 0, done.stderr
    assert placed(tmp_path / "files") == {"tokenizer.json": b"{}", "vocab.txt": b""}
    (row,) = json.loads(here("list", "--json").stdout)
    assert row["format"] == "files"
    assert here("verify", "--deep").returncode == 0
    assert here("run", f"hf.co/{NAME}:files=token*,vocab.txt", "hi").returncode == 10


def test_all_of_a_repository_of_gguf_has_every_quantization(here, hub: Hub, tmp_path: Path) -> None:
    files = {
        "README.md": b"# Tiny",
        "Tiny-Q4_K_M.gguf": tiny_gguf(tmp_path / "4.gguf", seed=4).read_bytes(),
        "Tiny-Q8_0.gguf": tiny_gguf(tmp_path / "8.gguf", seed=8).read_bytes(),
    }
    hub.repositories["Org/GGUF"] = Repository(files)
    done = here("pull", "hf.co/Org/GGUF", "--all", "--output", str(tmp_path / "files"))
    assert done.returncode == 0, done.stderr
    assert placed(tmp_path / "files") == files
    # what is there is not downloaded again under another name
    hub.requests.clear()
    assert here("pull", "hf.co/Org/GGUF:Q8_0").returncode == 0
    assert hub.paths("/Org") == []


def test_a_repository_without_gguf_names_what_it_has_and_how_to_pull_it(here) -> None:
    done = here("pull", f"hf.co/{NAME}")
    assert done.returncode == 3
    assert done.stderr == (
        f"error: hf.co/{NAME} has no GGUF file\nhint: it has safetensors (2 files, 21 B), ONNX "
        f"(1 file, 4 B); run them with vLLM or SGLang; `modelrunner pull hf.co/{NAME} --all` pulls "
        "everything, `modelrunner search NAME` finds GGUF\n"
    )
    assert here("tags", f"hf.co/{NAME}", "-q").stdout == "all\n"


def test_a_small_file_that_is_not_what_git_knows_is_not_kept(here, hub: Hub) -> None:
    hub.repositories[NAME].lies["config.json"] = b'{"architectures": ["LlamaForCausalLX"]}'
    done = here("pull", f"hf.co/{NAME}", "--all")
    assert done.returncode == 6
    assert done.stderr.splitlines()[0] == (
        f"error: hf.co/{NAME}:all: config.json: the content does not match its git digest"
    )
    assert json.loads(here("list", "--json").stdout) == []


def test_a_pull_is_interrupted_while_small_files_are_on_their_way(
    cli: CommandLine, hub: Hub
) -> None:
    hub.small = threading.Event()
    command = [sys.executable, "-m", "modelrunner", "pull", f"hf.co/{NAME}", "--all"]
    process = subprocess.Popen(
        command, env={**cli.environ, "HF_ENDPOINT": hub.url}, stderr=subprocess.PIPE, text=True
    )
    try:
        while not asked(hub):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    finally:
        # it has not waited for them
        hub.small.set()
        process.kill()
    assert (process.returncode, error) == (
        130,
        "interrupted; 0 B kept. Run the same command to resume.\n",
    )


def test_a_path_that_leaves_its_directory_is_refused_before_a_large_file_moves(
    here, hub: Hub
) -> None:
    hub.repositories[NAME].files["../../evil.safetensors"] = SAFETENSORS
    done = here("pull", f"hf.co/{NAME}", "--all")
    assert (done.returncode, "evil" in done.stderr) == (6, True)
    assert [path for path in asked(hub) if path.endswith(".safetensors")] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ai/smollm2", "--all"], "need a repository of the Hugging Face Hub"),
        ([f"hf.co/{NAME}:Q8_0", "--all"], "names a model or files already"),
        ([f"hf.co/{NAME}", "--all", "--include", "*.json"], "cannot be combined"),
        ([f"hf.co/{NAME}", "--all", "--fit"], "cannot be combined"),
        (["--locked", "--all"], "cannot be combined"),
        ([f"hf.co/{NAME}", "--include", "a,b"], "invalid glob 'a,b'"),
    ],
)
def test_what_cannot_be_combined_is_said(here, hub: Hub, arguments, message) -> None:
    done = here("pull", *arguments)
    assert (done.returncode, message in done.stderr, hub.requests) == (2, True, [])


def test_globs_that_match_nothing(here) -> None:
    done = here("pull", f"hf.co/{NAME}", "--include", "*.nemo")
    assert done.returncode == 3
    assert done.stderr == (
        f"error: hf.co/{NAME}:files=*.nemo: none of 9 files matches\nhint: check the globs of "
        "--include and --exclude: `*` matches `/` too, and case counts\n"
    )


@pytest.mark.parametrize(("glob", "near"), [("*.safetensor", "model"), ("README.MD", "README.md")])
def test_globs_that_nearly_match(here, glob: str, near: str) -> None:
    done = here("pull", f"hf.co/{NAME}", "--include", glob)
    assert done.returncode == 3
    hint = done.stderr.splitlines()[-1]
    assert hint.startswith("hint: did you mean `"), hint
    assert near in hint
    assert hint.endswith("? `*` matches `/` too, and case counts")


def test_the_digest_of_git() -> None:
    # `printf hello | git hash-object --stdin`
    assert git_digest(b"hello") == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
