"""Models of the Hugging Face Hub: chosen by quantisation, verified, kept like all others."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelrunner.huggingface.artifact import hub_artifact
from modelrunner.huggingface.files import HubFile, HubModel
from modelrunner.lockfile.lock import Lock, LockedModel
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import Reference
from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf, tiny_projector
from tests.support.hugging_face import COMMIT, Hub, Repository, hugging_face

NAME = "Org/Tiny-GGUF"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hugging_face() as running:
        yield running


@pytest.fixture
def here(cli: CommandLine, hub: Hub):
    """The command line with the Hub's address."""

    def run(*arguments: str, **environ: str):
        return cli(*arguments, HF_ENDPOINT=hub.url, **environ)

    return run


@pytest.fixture
def weights(tmp_path: Path) -> list[bytes]:
    return [tiny_gguf(tmp_path / f"{seed}.gguf", seed=seed).read_bytes() for seed in range(4)]


@pytest.fixture
def tiny(hub: Hub, weights: list[bytes]) -> Repository:
    files = {
        "README.md": b"# Tiny",
        "Tiny-Q4_K_M.gguf": weights[0],
        "Tiny-Q8_0.gguf": weights[1],
        "UD-Q4_K_XL/Tiny-UD-Q4_K_XL.gguf": weights[2],
        "mmproj-BF16.gguf": b"bf16",
        "mmproj-F16.gguf": weights[3],
    }
    hub.repositories[NAME] = Repository(files)
    return hub.repositories[NAME]


def test_the_usual_quantisation_is_pulled_and_runs_offline(
    here, hub: Hub, tiny: Repository, weights: list[bytes]
) -> None:
    done = here("pull", f"hf.co/{NAME}", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    name = f"huggingface.co/{NAME.lower()}"
    assert (told["reference"], told["requested"]) == (f"{name}:Q4_K_M", f"{name}:latest")
    assert (told["file"], told["projector"]) == ("Tiny-Q4_K_M.gguf", "mmproj-F16.gguf")
    assert told["status"] == "pulled"
    path = Path(here("path", f"hf.co/{NAME}").stdout.strip())
    assert (path.name, path.read_bytes()) == ("Tiny-Q4_K_M.gguf", weights[0])
    # the projector that goes with it is the one of F16
    projectors = [file for file in path.parent.iterdir() if "mmproj" in file.name]
    assert [file.read_bytes() for file in projectors] == [weights[3]]
    assert here("verify", "--deep").returncode == 0
    (row,) = json.loads(here("list", "--json").stdout)
    assert row["architecture"] == "llama"
    again = here("pull", f"hf.co/{NAME}", "--json")
    assert json.loads(again.stdout)["status"] == "up-to-date"


@pytest.mark.parametrize(
    ("tag", "index", "name"),
    [
        ("Q8_0", 1, "Tiny-Q8_0.gguf"),
        ("q8_0", 1, "Tiny-Q8_0.gguf"),
        ("UD-Q4_K_XL", 2, "Tiny-UD-Q4_K_XL.gguf"),
        ("Tiny-Q8_0.gguf", 1, "Tiny-Q8_0.gguf"),
    ],
)
def test_a_quantisation_or_a_file_is_asked_for(
    here, tiny: Repository, weights: list[bytes], tag: str, index: int, name: str
) -> None:
    assert here("pull", f"hf.co/{NAME}:{tag}").returncode == 0
    path = Path(here("path", f"hf.co/{NAME}:{tag}").stdout.strip())
    assert (path.name, path.read_bytes()) == (name, weights[index])


def test_what_there_is_not_is_refused_with_what_there_is(here, tiny: Repository) -> None:
    done = here("pull", f"hf.co/{NAME}:Q5_K_M", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert all(f"{name} (" in error["hint"] for name in ("Q4_K_M", "Q8_0", "UD-Q4_K_XL"))
    assert error["near"] == ["Q4_K_M", "Q8_0", "UD-Q4_K_XL"]
    assert here("tags", f"hf.co/{NAME}", "-q").stdout.split() == ["Q4_K_M", "Q8_0", "UD-Q4_K_XL"]


def test_a_blob_that_is_here_is_not_fetched_again(
    here, hub: Hub, tiny: Repository, weights: list[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(weights[1])
    assert here("package", str(file), "me/mine").returncode == 0
    assert here("pull", f"hf.co/{NAME}:Q8_0").returncode == 0
    assert not [path for path in hub.paths() if "Q8_0.gguf" in path]


def test_the_digest_is_the_same_on_every_machine(here, cli, tiny: Repository, tmp_path) -> None:
    one = json.loads(here("pull", f"hf.co/{NAME}", "--json").stdout)["digest"]
    elsewhere = {"MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
    other = json.loads(here("pull", f"hf.co/{NAME.lower()}", "--json", **elsewhere).stdout)
    assert other["digest"] == one


def test_the_token_is_for_the_hub_alone(here, hub: Hub, tiny: Repository) -> None:
    tiny.token = "hf_secret"
    done = here("pull", f"hf.co/{NAME}")
    assert done.returncode == 4
    assert "set HF_TOKEN" in done.stderr
    assert here("pull", f"hf.co/{NAME}", HF_TOKEN="hf_secret").returncode == 0
    shown = {(place, token) for place, path, token in hub.requests if "Q4_K_M" in path}
    assert shown == {("hub", "Bearer hf_secret"), ("cdn", None)}


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_hub_is_not_asked_where_its_own_variable_forbids_it(
    here, hub: Hub, tiny: Repository, variable: str
) -> None:
    done = here("pull", f"hf.co/{NAME}", **{variable: "1"})
    assert (done.returncode, hub.requests) == (9, [])
    assert done.stderr == (
        f"error: the model is on the Hugging Face Hub, but {variable} is set\nhint: unset "
        f"{variable}, or pull the model once without it\n"
    )
    assert here("pull", f"hf.co/{NAME}", **{variable: "0"}).returncode == 0
    assert here("path", f"hf.co/{NAME}", **{variable: "1"}).returncode == 0


def test_the_stored_token_counts(here, tiny: Repository, tmp_path: Path) -> None:
    tiny.token = "hf_secret"
    (tmp_path / "token").write_text("hf_secret\n")
    assert here("pull", f"hf.co/{NAME}", HF_TOKEN_PATH=str(tmp_path / "token")).returncode == 0


def test_a_gated_repository_says_where_to_ask(here, tiny: Repository) -> None:
    tiny.gated, tiny.token = True, "hf_secret"
    done = here("pull", f"hf.co/{NAME}")
    assert done.returncode == 4
    assert f"request access at https://huggingface.co/{NAME}" in done.stderr
    assert here("pull", f"hf.co/{NAME}", HF_TOKEN="hf_secret").returncode == 0


def test_a_repository_that_is_not_there(here, hub: Hub) -> None:
    assert here("pull", "hf.co/org/none").returncode == 4
    assert here("pull", "hf.co/org/none", HF_TOKEN="hf_x").returncode == 3


def test_a_repository_without_gguf_says_what_would_run_it(here, hub: Hub) -> None:
    hub.repositories["org/weights"] = Repository({"model.safetensors": b"x", "config.json": b"{}"})
    done = here("pull", "hf.co/org/weights")
    assert done.returncode == 3
    assert "vLLM" in done.stderr


def test_a_file_that_is_listed_and_gone(here, tiny: Repository) -> None:
    tiny.gone.add("Tiny-Q8_0.gguf")
    done = here("pull", f"hf.co/{NAME}:Q8_0")
    assert done.returncode == 3
    assert "listed, but not found on" in done.stderr
    assert json.loads(here("list", "--json").stdout) == []


def test_bytes_that_do_not_match_are_not_kept(here, tiny: Repository, weights) -> None:
    tiny.lies["Tiny-Q8_0.gguf"] = bytes(len(weights[1]))
    done = here("pull", f"hf.co/{NAME}:Q8_0")
    assert done.returncode == 6
    assert json.loads(here("list", "--json").stdout) == []


def test_a_shard_that_is_missing(here, hub: Hub) -> None:
    files = {f"Big-Q4_K_M-0000{number}-of-00003.gguf": b"x" for number in (1, 3)}
    hub.repositories["org/big"] = Repository(files)
    done = here("pull", "hf.co/org/big")
    assert done.returncode == 6
    assert "1 of 3 shards missing, the first is number 2" in done.stderr


@pytest.mark.parametrize("header", ["Retry_After", "RateLimit"])
def test_a_rate_limit_is_waited_for(here, hub: Hub, tiny: Repository, header: str) -> None:
    hub.limited = 1
    hub.limit = {header: "1" if header == "Retry_After" else '"api";r=0;t=1'}
    assert here("pull", f"hf.co/{NAME}:Q8_0").returncode == 0


def test_a_rate_limit_that_lasts_says_what_raises_it(here, hub: Hub, tiny: Repository) -> None:
    hub.limited = 99
    hub.limit = {"RateLimit": '"api";r=0;t=290', "RateLimit_Policy": '"api";q=500;w=300'}
    done = here("pull", f"hf.co/{NAME}:Q8_0", "--json")
    assert done.returncode == 5
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (error["code"], error["retry_after_s"]) == ("rate_limited", 290)
    assert "HF_TOKEN" in error["hint"]
    assert len(hub.requests) == 1


def test_the_estimate_comes_before_the_weights(here, hub: Hub, tiny: Repository) -> None:
    done = here("estimate", f"hf.co/{NAME}:Q8_0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["source"] == "header"


@pytest.mark.parametrize("address", ["ftp://x", "http://example.com", "x y"])
def test_an_address_that_is_none(cli: CommandLine, address: str) -> None:
    done = cli("pull", f"hf.co/{NAME}", HF_ENDPOINT=address)
    assert done.returncode == 2
    assert "HF_ENDPOINT" in done.stderr


@pytest.mark.parametrize("at", ["", "@v1.0"])
def test_it_can_be_locked(
    here, hub: Hub, tiny: Repository, tmp_path: Path, monkeypatch, at: str
) -> None:
    tiny.names = {"v1.0": COMMIT}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modelrunner.toml").write_text(f'[models]\na = "hf.co/{NAME}{at}:Q8_0"\n')
    assert here("lock").returncode == 0
    assert f'ref = "huggingface.co/{NAME}{at}:Q8_0"' in (tmp_path / "modelrunner.lock").read_text()
    assert here("lock", "--check").returncode == 0
    done = here("pull", "--locked")
    assert done.returncode == 0, done.stderr
    hub.requests.clear()
    assert here("pull", "--locked").returncode == 0
    assert hub.requests == []


def test_a_pinned_model_whose_files_have_changed_is_told(
    here, tiny: Repository, weights: list[bytes], tmp_path: Path
) -> None:
    digest = json.loads(here("pull", f"hf.co/{NAME}:Q8_0", "--json").stdout)["digest"]
    tiny.files["Tiny-Q8_0.gguf"] = weights[2]
    elsewhere = {"MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
    done = here("pull", f"hf.co/{NAME}:Q8_0@{digest}", **elsewhere)
    assert done.returncode == 3
    assert "the files on" in done.stderr


def test_where_a_quantisation_says_not_which_the_files_are_named(here, hub: Hub, weights) -> None:
    files = {f"{name}-Q4_K_M.gguf": weights[at] for at, name in enumerate(("One", "Two"))}
    hub.repositories["org/both"] = Repository(files)
    done = here("pull", "hf.co/org/both")
    assert done.returncode == 3
    assert "hf.co/org/both has several models" in done.stderr
    assert "hf.co/org/both:One-Q4_K_M.gguf (" in done.stderr
    assert here("pull", "hf.co/org/both:Q4_K_M").returncode == 3
    assert here("pull", "hf.co/org/both:Two-Q4_K_M.gguf").returncode == 0
    path = Path(here("path", "hf.co/org/both:Two-Q4_K_M.gguf").stdout.strip())
    assert path.read_bytes() == weights[1]


def test_a_pinned_model_is_found_in_what_the_repository_was(
    here, hub: Hub, tiny: Repository, weights: list[bytes], tmp_path: Path
) -> None:
    digest = json.loads(here("pull", f"hf.co/{NAME}:Q8_0", "--json").stdout)["digest"]
    tiny.earlier["beef" * 10] = {"README.md": b"# nothing yet"}
    tiny.earlier["dead" * 10] = dict(tiny.files)
    tiny.files["Tiny-Q8_0.gguf"] = weights[2]
    elsewhere = {"MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
    done = here("pull", f"hf.co/{NAME}:Q8_0@{digest}", **elsewhere)
    assert done.returncode == 0, done.stderr
    path = here("path", f"hf.co/{NAME}:Q8_0@{digest}", **elsewhere).stdout.strip()
    assert Path(path).read_bytes() == weights[1]
    assert "dead" * 10 in hub.paths()[-1]


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1", "dead" * 10])
def test_a_revision_is_a_model_of_its_own(
    here, tiny: Repository, weights: list[bytes], revision: str
) -> None:
    tiny.names = {"v1.0": "dead" * 10, "refs/pr/1": "dead" * 10}
    tiny.earlier["dead" * 10] = {"Tiny-Q8_0.gguf": weights[3]}
    assert here("pull", f"hf.co/{NAME}:Q8_0").returncode == 0
    done = here("pull", f"hf.co/{NAME}@{revision}:Q8_0", "--json")
    assert done.returncode == 0, done.stderr
    name = f"huggingface.co/{NAME.lower()}@{revision}:Q8_0"
    assert json.loads(done.stdout)["reference"] == name
    path = Path(here("path", name).stdout.strip())
    assert path.read_bytes() == weights[3]
    other = Path(here("path", f"hf.co/{NAME}:Q8_0").stdout.strip())
    assert other.read_bytes() == weights[1]
    assert here("tags", f"hf.co/{NAME}@{revision}", "-q").stdout.split() == ["Q8_0"]
    assert here("rm", name).returncode == 0
    (row,) = json.loads(here("list", "--json").stdout)
    assert row["references"] == [f"huggingface.co/{NAME.lower()}:Q8_0"]


def test_a_revision_that_is_not_there(here, tiny: Repository) -> None:
    done = here("pull", f"hf.co/{NAME}@v9:Q8_0")
    assert done.returncode == 3
    assert "has no such revision" in done.stderr


@pytest.mark.parametrize(
    ("address", "index"),
    [
        (f"https://huggingface.co/{NAME}", 0),
        (f"https://huggingface.co/{NAME}/tree/main", 0),
        (f"https://huggingface.co/{NAME}/tree/main/UD-Q4_K_XL", 2),
        (f"https://huggingface.co/{NAME}/blob/main/Tiny-Q8_0.gguf", 1),
        (f"huggingface.co/{NAME}/resolve/main/UD-Q4_K_XL/Tiny-UD-Q4_K_XL.gguf?download=true", 2),
        (f"https://huggingface.co/{NAME}?show_file_info=Tiny-Q8_0.gguf", 1),
    ],
)
def test_an_address_on_the_site(
    here, tiny: Repository, weights: list[bytes], address: str, index: int
) -> None:
    assert here("pull", address).returncode == 0
    assert Path(here("path", address).stdout.strip()).read_bytes() == weights[index]


def test_what_there_is_is_told_with_what_fits(here, hub: Hub, tiny: Repository) -> None:
    done = here("pull", f"hf.co/{NAME}:Q2_K", "--json")
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["fit"] == ["fits"] * 3
    assert error["hint"].count(", fits)") == 3


@pytest.fixture
def projectors(tmp_path: Path) -> list[bytes]:
    return [tiny_projector(tmp_path / f"p{n}.gguf", seed=n).read_bytes() for n in range(2)]


@pytest.fixture
def sizes(hub: Hub, weights: list[bytes], projectors: list[bytes]) -> Repository:
    """A directory for each model, with files of the same names in both."""
    files = {
        "7B/model-Q4_K_M.gguf": weights[0],
        "13B/model-Q4_K_M.gguf": weights[1],
        "7B/mmproj-f16.gguf": projectors[0],
        "13B/mmproj-f16.gguf": projectors[1],
    }
    hub.repositories["org/sizes"] = Repository(files)
    return hub.repositories["org/sizes"]


@pytest.mark.parametrize(
    "name",
    [
        "https://huggingface.co/org/sizes/blob/main/13B/model-Q4_K_M.gguf",
        "hf.co/org/sizes/resolve/main/13B%2Fmodel-Q4_K_M.gguf?download=true",
        "https://huggingface.co/org/sizes/tree/main/13B",
        "hf://org/sizes/13B/model-Q4_K_M.gguf",
        "hf.co/org/sizes:13B/model-Q4_K_M.gguf",
        "hf.co/org/sizes:13B/Q4_K_M",
        "hf.co/org/sizes:13B",
    ],
)
def test_of_files_with_one_name_the_one_that_is_asked_for_comes_with_its_projector(
    here, sizes: Repository, weights: list[bytes], projectors: list[bytes], name: str
) -> None:
    done = here("pull", name, "--json")
    assert done.returncode == 0, done.stderr
    path = Path(json.loads(done.stdout)["path"])
    assert path.read_bytes() == weights[1]
    assert (path.parent / "mmproj-f16.gguf").read_bytes() == projectors[1]
    assert Path(here("path", name).stdout.strip()) == path
    assert here("tags", "hf.co/org/sizes", "-q").stdout.split() == ["13B/Q4_K_M", "7B/Q4_K_M"]


@pytest.mark.parametrize("name", ["hf.co/org/sizes", "hf.co/org/sizes:Q4_K_M"])
def test_of_several_models_none_is_taken_and_the_names_can_be_pasted(
    here, sizes: Repository, name: str
) -> None:
    done = here("pull", name)
    assert done.returncode == 3
    for choice in ("hf.co/org/sizes:13B/Q4_K_M", "hf.co/org/sizes:7B/Q4_K_M"):
        assert f"{choice} (" in done.stderr
        assert here("pull", choice).returncode == 0


def test_a_lock_of_an_older_rule_is_still_found(
    here, sizes: Repository, weights: list[bytes], projectors, tmp_path: Path, monkeypatch
) -> None:
    """Pinned when a projector of any directory was taken, and some quantizations not understood."""
    sizes.files["13B/model-fp16.gguf"] = weights[2]
    listed = {path: HubFile(path, len(raw), Digest.of(raw)) for path, raw in sizes.files.items()}
    model = HubModel(None, (listed["13B/model-fp16.gguf"],), listed["7B/mmproj-f16.gguf"])
    made = hub_artifact(model)
    reference = Reference.parse("hf.co/org/sizes:13B/model-fp16.gguf")
    artifact = ModelArtifact.from_manifest(made.manifest)
    lock = Lock((LockedModel.of("a", reference, artifact, None),))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modelrunner.toml").write_text(f'[models]\na = "{reference.short}"\n')
    (tmp_path / "modelrunner.lock").write_text(lock.emit())
    done = here("pull", "--locked", "--json")
    assert done.returncode == 0, done.stderr
    path = Path(json.loads(done.stdout)[0]["path"])
    assert path.read_bytes() == weights[2]
    assert (path.parent / "mmproj-f16.gguf").read_bytes() == projectors[0]


PARAMETERS = b'{"temperature": 0.6, "top_k": 20, "stop": ["<end>"]}'


@pytest.mark.parametrize("file", ["params", "generation_config.json"])
def test_the_sampling_of_a_repository_comes_with_its_models(
    here, cli, hub: Hub, tiny: Repository, tmp_path: Path, file: str
) -> None:
    tiny.files |= {file: PARAMETERS, f"other/{file}": b'{"temperature": 1.5}'}
    done = here("pull", f"hf.co/{NAME}:Q8_0", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(here("inspect", f"hf.co/{NAME}:Q8_0").stdout)
    assert shown["sampling"] == {
        "temperature": {"value": 0.6, "source": "artifact"},
        "top_k": {"value": 20, "source": "artifact"},
    }
    assert shown["layers"][-1] == {
        "digest": str(Digest.of(PARAMETERS)),
        "media_type": "application/vnd.docker.ai.model.file",
        "size_bytes": len(PARAMETERS),
        "role": "file",
        "path": file,
    }
    # with the model, and wherever that goes
    assert (Path(shown["path"]).parent / file).read_bytes() == PARAMETERS
    archive = str(tmp_path / "m.tar")
    assert here("save", f"hf.co/{NAME}:Q8_0", "-o", archive).returncode == 0
    elsewhere = {"MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
    assert cli("load", archive, **elsewhere).returncode == 0
    loaded = json.loads(cli("inspect", f"hf.co/{NAME}:Q8_0", **elsewhere).stdout)
    assert (loaded["id"], loaded["sampling"]) == (shown["id"], shown["sampling"])
    again = here("pull", f"hf.co/{NAME}:Q8_0", "--json")
    assert json.loads(again.stdout)["status"] == "up-to-date"


def test_of_two_files_of_parameters_the_one_for_this_format_counts(here, tiny: Repository) -> None:
    tiny.files |= {"params": PARAMETERS, "generation_config.json": b'{"temperature": 1.0}'}
    assert here("pull", f"hf.co/{NAME}:Q8_0").returncode == 0
    shown = json.loads(here("inspect", f"hf.co/{NAME}:Q8_0").stdout)
    assert shown["sampling"]["temperature"]["value"] == 0.6
    assert [layer["path"] for layer in shown["layers"]][-1] == "params"


def test_a_model_that_was_pinned_without_its_parameters_is_still_found(
    here, tiny: Repository, tmp_path: Path
) -> None:
    digest = json.loads(here("pull", f"hf.co/{NAME}:Q8_0", "--json").stdout)["digest"]
    tiny.files["params"] = PARAMETERS
    elsewhere = {"MODELRUNNER_HOME": str(tmp_path / "elsewhere")}
    done = here("pull", f"hf.co/{NAME}:Q8_0@{digest}", "--json", **elsewhere)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == digest
    new = json.loads(here("pull", f"hf.co/{NAME}:Q8_0", "--json").stdout)
    assert (new["status"], new["downloaded_bytes"] < 2048) == ("pulled", True)


def test_parameters_that_are_listed_and_do_not_come_end_the_pull(here, tiny: Repository) -> None:
    tiny.files["params"] = PARAMETERS
    tiny.gone.add("params")
    done = here("pull", f"hf.co/{NAME}:Q8_0")
    assert done.returncode == 5
    assert f"hf.co/{NAME}:Q8_0: params: listed, but not found on" in done.stderr


def test_a_file_that_is_no_model_is_refused_by_what_it_is(here, tiny: Repository) -> None:
    done = here("pull", f"https://huggingface.co/{NAME}/blob/main/mmproj-F16.gguf")
    assert done.returncode == 10
    assert "is a projector (mmproj) by its name, not a model" in done.stderr
    assert "hint: " in done.stderr


def references(here) -> list[list[str]]:
    return [row["references"] for row in json.loads(here("list", "--json").stdout)]


def test_what_was_chosen_is_said_and_is_part_of_the_name(here, tiny: Repository) -> None:
    done = here("pull", f"hf.co/{NAME}")
    assert done.stderr.splitlines()[0] == (
        f"hf.co/{NAME}: using Q4_K_M, Tiny-Q4_K_M.gguf, projector mmproj-F16.gguf"
        " (also available: mmproj-BF16.gguf)"
    )
    assert done.stdout.startswith("hf.co/org/tiny-gguf:Q4_K_M: pulled ")
    assert here("list", "-q").stdout.count("\n") == 1
    assert references(here) == [["huggingface.co/org/tiny-gguf:Q4_K_M"]]


def test_nothing_is_said_where_the_name_says_all(here, hub: Hub, tiny: Repository) -> None:
    del tiny.files["mmproj-BF16.gguf"]
    assert "using" not in here("pull", f"hf.co/{NAME}:Q8_0").stderr
    assert "using" not in here("pull", f"hf.co/{NAME}:q4_k_m").stderr
    assert "using" not in here("pull", f"hf.co/{NAME}:Tiny-Q8_0.gguf").stderr


def test_one_model_has_one_name_however_it_is_written(
    here, cli, hub: Hub, tiny: Repository
) -> None:
    tiny.files = {"Tiny-F16.gguf": tiny.files["Tiny-Q8_0.gguf"], "Tiny-Q2_K.gguf": b"x"}
    spellings = [
        f"hf.co/{NAME}",
        f"hf.co/{NAME}:F16",
        f"hf.co/{NAME}:f16",
        f"huggingface.co/{NAME.upper()}:fp16",
        f"https://huggingface.co/{NAME}/blob/main/Tiny-F16.gguf",
        f"hf://{NAME}/Tiny-F16.gguf",
    ]
    for spelling in spellings:
        assert here("pull", spelling).returncode == 0
    name = "huggingface.co/org/tiny-gguf:F16"
    assert references(here) == [[name]]
    # every one of them is found without the Hub
    for spelling in spellings:
        assert cli("path", spelling, "--offline").returncode == 0
        done = cli("pull", spelling, "--offline", "--json")
        assert json.loads(done.stdout)["reference"] == name
    assert cli("tag", f"hf.co/{NAME}", "me/copy").returncode == 0
    assert cli("rm", f"hf.co/{NAME}").stdout == "Untagged: hf.co/org/tiny-gguf:F16\n"
    assert references(here) == [["docker.io/me/copy:latest"]]
    for spelling in spellings:
        assert cli("path", spelling).returncode == 3


def test_spellings_move_with_the_name(here, tiny: Repository, weights: list[bytes]) -> None:
    assert here("pull", f"hf.co/{NAME}").returncode == 0
    tiny.files["Tiny-Q4_K_M.gguf"] = weights[2]
    assert here("update", f"hf.co/{NAME}").returncode == 0
    assert references(here) == [["huggingface.co/org/tiny-gguf:Q4_K_M"]]
    path = Path(here("path", f"hf.co/{NAME}").stdout.strip())
    assert path.read_bytes() == weights[2]


def test_the_name_of_an_older_store_becomes_the_new_one(here, tiny: Repository) -> None:
    assert here("pull", f"hf.co/{NAME}:Q4_K_M").returncode == 0
    assert here("tag", f"hf.co/{NAME}:Q4_K_M", f"hf.co/{NAME}:latest").returncode == 0
    assert here("rm", f"hf.co/{NAME}:Q4_K_M").returncode == 0
    assert references(here) == [["huggingface.co/org/tiny-gguf:latest"]]
    assert json.loads(here("outdated", "--json").stdout) == []
    assert here("update", "--all").returncode == 0
    assert references(here) == [["huggingface.co/org/tiny-gguf:Q4_K_M"]]


def test_a_lock_without_a_tag_names_what_it_pulls(
    here, cli, tiny: Repository, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modelrunner.toml").write_text(f'[models]\na = "hf.co/{NAME}"\n')
    assert here("lock").returncode == 0
    assert here("lock", "--check").returncode == 0
    done = here("pull", "--locked")
    assert done.returncode == 0, done.stderr
    assert references(here) == [["huggingface.co/org/tiny-gguf:Q4_K_M"]]
    assert cli("pull", "--frozen").returncode == 0
    assert cli("path", f"hf.co/{NAME}").returncode == 0
    assert references(here) == [["huggingface.co/org/tiny-gguf:Q4_K_M"]]
