"""Commands that take a GGUF file where they take the name of a model."""

import base64
import json
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.fixtures import script
from tests.support.openai_server import OpenAIServer

SENTENCE = "Hello! I am a tiny model: my weights were made by hand, so this is all they can say.\n"
NAME = "tiny-llama-Q8_0.gguf"


@pytest.fixture
def files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> tuple[Path, CommandLine]:
    """A folder with model files, in which commands run."""
    folder = tmp_path / "models"
    for name in ("llama", "llama-shards", "projector"):
        script("models").write_model(name, folder)
    (folder / "text.gguf").write_text("this is not a model at all")
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    return folder, CommandLine(cli.home, {**cli.environ, "MODELRUNNER_RUNTIME": "xllamacpp"})


@pytest.mark.model
@pytest.mark.parametrize("how", [f"./{NAME}", NAME, "absolute", "shards"])
def test_a_file_runs_where_it_is(files: tuple[Path, CommandLine], how: str) -> None:
    folder, command = files
    text = {
        "absolute": str(folder / NAME),
        "shards": "./tiny-llama-Q8_0-00001-of-00003.gguf",
    }.get(how, how)
    done = command("run", text, "hi")
    assert (done.returncode, done.stdout) == (0, SENTENCE)
    first, second = done.stderr.splitlines()
    assert first == f"{text}: using the file in place, nothing is copied"
    assert second.startswith(f"{text}: fits, needs ")
    assert not (command.home / "store").exists()


@pytest.mark.model
def test_a_file_runs_whatever_the_locale_calls_it(files: tuple[Path, CommandLine]) -> None:
    folder, command = files
    file = (folder / NAME).rename(folder / "größe.gguf")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command("run", str(file), "hi", **ascii_only)
    assert (done.returncode, done.stdout) == (0, SENTENCE)
    facts = json.loads(command("inspect", str(file), "--json", **ascii_only).stdout)
    assert os.fsencode(facts["path"]) == os.fsencode(file)


@pytest.mark.model
def test_a_file_whose_name_is_no_text_is_read_and_said_not_to_run(
    files: tuple[Path, CommandLine],
) -> None:
    folder, command = files
    file = (folder / NAME).rename(folder / os.fsdecode(b"gr\xf6\xdfe.gguf"))
    for name in ("inspect", "estimate"):
        assert command(name, str(file)).returncode == 0
    done = command("run", str(file), "hi")
    assert done.returncode == 8
    assert "the file name is not UTF-8, rename the file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.model
def test_a_file_with_its_projector_takes_images(files: tuple[Path, CommandLine]) -> None:
    _, command = files
    done = command("run", f"./{NAME}", "hi", "--mmproj", "mmproj-tiny-llama-F16.gguf")
    assert (done.returncode, done.stdout) == (0, SENTENCE)
    wrong = command("run", f"./{NAME}", "hi", "--mmproj", NAME)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(f"error: --mmproj {NAME}: expected a projector, got a model\n")


@pytest.mark.model
def test_a_file_is_served_and_measured_and_inspected(files: tuple[Path, CommandLine]) -> None:
    folder, command = files
    served = subprocess.Popen(
        command.argv("serve", f"./{NAME}", "--port", "0"),
        env=command.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    with served:
        assert served.stdout is not None
        url = served.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
            listed = json.load(answer)
        served.terminate()
    assert [model["id"] for model in listed["data"]] == ["local/tiny-llama:Q8_0"]
    options = ("--prompt", "16", "--parallel", "1", "--generate", "4", "--rounds", "1", "--json")
    found = json.loads(command("bench", f"./{NAME}", *options).stdout)
    assert (found["reference"], len(found["results"])) == (f"./{NAME}", 1)
    about = json.loads(command("inspect", f"./{NAME}").stdout)
    assert (about["id"], about["path"]) == (None, str(folder / NAME))
    assert about["architecture"] == "llama"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("run", "./no.gguf", "hi"), 2, "error: ./no.gguf: file not found\n"),
        (("pull", "./no.gguf"), 2, "error: ./no.gguf: file not found\n"),
        (
            ("pull", NAME),
            2,
            f"error: {NAME} is a file, not the name of a model\nhint: `modelrunner run {NAME}` ",
        ),
        (("run", "./empty", "hi"), 2, "error: ./empty is a directory, not a GGUF file\n"),
        (
            ("run", ".", "hi"),
            2,
            "error: . is a directory, not a GGUF file\nhint: name a file in it, such as mmproj-",
        ),
        (("run", "./text.gguf", "hi"), 6, "error: text.gguf: not a GGUF file\nhint: "),
        (("run", "mmproj-tiny-llama-F16.gguf", "hi"), 10, "error: mmproj-tiny-llama-F16.gguf is"),
        (("rm", "./x.gguf"), 2, "error: './x.gguf' is a path, not the name of a model\nhint: "),
        (
            ("run", "ai/none", "hi", "--mmproj", NAME),
            2,
            "error: --mmproj needs a GGUF file as the model, got the name ai/none\nhint: ",
        ),
    ],
)
def test_what_is_no_model_file_is_told(
    files: tuple[Path, CommandLine], arguments: tuple[str, ...], code: int, told: str
) -> None:
    _, command = files
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(told)


def test_a_stored_model_comes_before_a_file_of_its_name(files: tuple[Path, CommandLine]) -> None:
    folder, command = files
    assert command("package", NAME, NAME).returncode == 0
    about = json.loads(command("inspect", NAME).stdout)
    assert about["references"] == [f"docker.io/ai/{NAME.lower()}:latest"]
    assert json.loads(command("inspect", f"./{NAME}").stdout)["path"] == str(folder / NAME)


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_files_and_images_go_with_a_question(
    files: tuple[Path, CommandLine], tmp_path: Path
) -> None:
    _, command = files
    notes, picture = tmp_path / "notes.txt", tmp_path / "picture.dat"
    notes.write_text("Buy milk.\n")
    picture.write_bytes(PIXEL)
    with OpenAIServer() as server:
        done = command(
            *("run", f"./{NAME}", "Sum up @notes.txt", "--runtime", f"{server.url}/v1"),
            *("--file", str(notes), "--file", str(notes), "--image", str(picture)),
        )
        (request,) = server.requests
    assert done.returncode == 0
    data = base64.b64encode(PIXEL).decode()
    assert request.body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
                {"type": "text", "text": "Buy milk.\n\n\nBuy milk.\n\n\nSum up @notes.txt"},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--file", "nowhere.txt"), "error: nowhere.txt: file not found\nhint: "),
        (("--file", "."), "error: . is not a file\nhint: "),
        (("--image", "text.gguf"), "error: text.gguf: unsupported image format\nhint: "),
        (
            ("--image", "x.png"),
            f"error: ./{NAME} does not support images: it has no projector (mmproj)\nhint: ",
        ),
        (("--raw", "--image", "x.png"), "error: --image needs a chat template, and --raw uses no"),
    ],
)
def test_what_cannot_go_with_a_question_is_told_before_a_start(
    files: tuple[Path, CommandLine], option: tuple[str, ...], told: str
) -> None:
    folder, command = files
    (folder / "x.png").write_bytes(PIXEL)
    done = command("run", f"./{NAME}", "hi", *option, "-q")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)


@pytest.mark.model
def test_an_image_goes_to_a_model_with_a_projector(files: tuple[Path, CommandLine]) -> None:
    folder, command = files
    (folder / "x.png").write_bytes(PIXEL)
    options = ("--mmproj", "mmproj-tiny-llama-F16.gguf", "--image", "x.png", "--json")
    done = command("run", f"./{NAME}", "hi", *options)
    plain = command("run", f"./{NAME}", "hi", "--json")
    assert done.returncode == 0, done.stderr
    seen, unseen = (json.loads(each.stdout)["prompt_tokens"] for each in (done, plain))
    assert seen > unseen
