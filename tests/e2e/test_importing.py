"""Weights that are here already: files, and what other programs keep."""

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact
from tests.support.foreign_stores import docker_models, hugging_face_cache, ollama_model
from tests.support.gguf import tiny_gguf, tiny_projector, tiny_shards
from tests.support.hugging_face import Repository, hugging_face
from tests.support.mounts import sharing_disk, small_disk


@pytest.fixture
def weights(tmp_path: Path) -> list[bytes]:
    return [tiny_gguf(tmp_path / f"{seed}.gguf", seed=seed).read_bytes() for seed in range(4)]


def shape_of(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    """Everything about a folder that an import must leave alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        looked = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (looked.st_mode, looked.st_mtime_ns, looked.st_ino, content)
    return found


class TestFiles:
    """`import FILE` and `import DIR`."""

    def test_a_file_is_linked_named_after_itself_and_runs_offline(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        file = tmp_path / "Tiny Model-Q4_K_M.gguf"
        file.write_bytes(weights[0])
        file.chmod(0o640)
        before = file.stat()
        (told,) = json.loads(cli("import", str(file), "--json").stdout)
        assert told["reference"] == "docker.io/local/tiny-model:Q4_K_M"
        assert told["status"] == "imported"
        assert sum(told["bytes_by_way"].values()) == len(weights[0])
        path = Path(told["path"])
        assert (path.name, path.read_bytes()) == (file.name, weights[0])
        after = file.stat()
        assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
        shared = "hardlink" in told["bytes_by_way"]
        assert shared or "reflink" in told["bytes_by_way"]
        assert os.path.samestat(path.stat(), after) == shared
        assert cli("verify", "--deep").returncode == 0
        (row,) = json.loads(cli("list", "--json").stdout)
        assert (row["architecture"], row["format"]) == ("llama", "gguf")
        (again,) = json.loads(cli("import", str(file), "--json").stdout)
        assert (again["status"], again["digest"]) == ("up-to-date", told["digest"])
        assert again["bytes_by_way"] == {"here": len(weights[0])}

    @pytest.mark.parametrize("command", [("import",), ("package",)])
    def test_a_name_that_is_no_text_is_replaced_and_one_beyond_the_locale_refused(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes], command: tuple[str, ...]
    ) -> None:
        file = tmp_path / os.fsdecode(b"gr\xf6\xdfe.gguf")
        file.write_bytes(weights[0])
        name = ("team/model:1",) if command == ("package",) else ("--name", "team/model:1")
        ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = cli(*command, str(file), *name, **ascii_only)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-2:] == [
            "error: cannot create the file gr??e.gguf: this locale limits file names to ASCII",
            "hint: use a locale with UTF-8: LC_ALL=C.UTF-8",
        ]
        assert json.loads(cli("list", "--json").stdout) == []
        assert cli("df", "--json").stdout.count(str(len(weights[0]))) == 0
        done = cli(*command, str(file), *name)
        assert done.returncode == 0, done.stderr
        path = Path(cli("path", "team/model:1").stdout.strip())
        assert (path.name, path.read_bytes()) == ("gr\ufffd\ufffde.gguf", weights[0])

    def test_the_artifact_is_the_same_wherever_it_is_made(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        digests = set()
        for place in ("one", "other"):
            file = tmp_path / place / "m-Q8_0.gguf"
            file.parent.mkdir()
            file.write_bytes(weights[0])
            home = {"MODELRUNNER_HOME": str(tmp_path / f"{place}-home")}
            digests.add(json.loads(cli("import", str(file), "--json", **home).stdout)[0]["digest"])
        assert len(digests) == 1

    def test_removing_the_model_leaves_the_file(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        file = tmp_path / "m.gguf"
        file.write_bytes(weights[0])
        assert cli("import", str(file)).returncode == 0
        assert cli("rm", "local/m").returncode == 0
        assert cli("prune").returncode == 0
        assert file.read_bytes() == weights[0]
        assert stat.S_IMODE(file.stat().st_mode) & stat.S_IWUSR

    def test_a_linked_file_that_is_written_into_is_told(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        file = tmp_path / "m.gguf"
        file.write_bytes(weights[0])
        done = cli("import", str(file), "--link")
        assert done.returncode == 0, done.stderr
        with file.open("r+b") as changed:
            changed.seek(200)
            changed.write(b"\xff" * 8)
        assert cli("verify").returncode == 6

    def test_a_copy_may_be_written_into(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        file = tmp_path / "m.gguf"
        file.write_bytes(weights[0])
        assert cli("import", str(file), "--copy").returncode == 0
        file.write_bytes(b"something else")
        assert cli("verify", "--deep").returncode == 0

    def test_another_disk_is_copied_from_and_link_says_so(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        with small_disk(tmp_path / "disk", "8m") as disk:
            file = disk / "m.gguf"
            file.write_bytes(weights[0])
            refused = cli("import", str(file), "--link")
            assert refused.returncode == 2
            assert "cannot link" in refused.stderr
            (told,) = json.loads(cli("import", str(file), "--json").stdout)
        assert told["bytes_by_way"] == {"copy": len(weights[0])}
        assert Path(told["path"]).read_bytes() == weights[0]

    def test_blocks_are_shared_where_the_file_system_can(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        with sharing_disk(tmp_path / "disk") as disk:
            file = disk / "m.gguf"
            file.write_bytes(weights[0])
            home = {"MODELRUNNER_HOME": str(disk / "home")}
            (told,) = json.loads(cli("import", str(file), "--json", **home).stdout)
            assert told["bytes_by_way"] == {"reflink": len(weights[0])}
            path = Path(told["path"])
            assert not os.path.samestat(path.stat(), file.stat())
            file.write_bytes(b"something else")
            assert path.read_bytes() == weights[0]
            assert cli("verify", "--deep", **home).returncode == 0

    def test_a_folder_is_taken_with_its_projector_and_its_folders(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        one, several = tmp_path / "models/one", tmp_path / "models/several"
        one.mkdir(parents=True)
        several.mkdir()
        projector = tiny_projector(tmp_path / "p.gguf", seed=9).read_bytes()
        (one / "seer-Q4_K_M.gguf").write_bytes(weights[0])
        (one / "mmproj-F16.gguf").write_bytes(projector)
        (several / "b-Q8_0.gguf").write_bytes(weights[1])
        (several / "c-Q4_0.gguf").write_bytes(weights[2])
        (several / "mmproj.gguf").write_bytes(projector)
        (several / "notes.txt").write_text("nothing")
        done = cli("import", str(tmp_path / "models"))
        assert done.returncode == 0, done.stderr
        names = {line.partition(": ")[0] for line in done.stdout.splitlines()}
        assert names == {"local/seer:Q4_K_M", "local/b:Q8_0", "local/c:Q4_0"}
        assert (
            done.stderr.count("not imported: mmproj.gguf: ambiguous: there are several models") == 2
        )
        seen = Path(cli("path", "local/seer:Q4_K_M").stdout.strip()).parent
        assert (seen / "mmproj-F16.gguf").read_bytes() == projector

    def test_a_projector_is_taken_where_its_header_fits(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        (folder / "seer-Q4_K_M.gguf").write_bytes(weights[0])
        (folder / "seer-Q8_0.gguf").write_bytes(weights[1])
        tiny_projector(folder / "mmproj-other-F16.gguf", width=96)
        done = cli("import", str(folder))
        assert done.returncode == 0, done.stderr
        assert (
            "seer-Q4_K_M.gguf: not imported: mmproj-other-F16.gguf: its output has 96 "
            "dimensions, the model needs 32"
        ) in done.stderr
        seen = Path(cli("path", "local/seer:Q4_K_M").stdout.strip()).parent
        assert [path.name for path in seen.iterdir()] == ["seer-Q4_K_M.gguf"]
        # with one that fits, all quantizations of the model get it
        tiny_projector(folder / "mmproj-own-BF16.gguf")
        done = cli("import", str(folder), "--json")
        for told in json.loads(done.stdout):
            files = {path.name for path in Path(told["path"]).parent.iterdir()}
            assert "mmproj-own-BF16.gguf" in files
            assert "mmproj-other-F16.gguf" not in files

    def test_models_of_one_name_are_told_apart_as_the_dry_run_shows(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        for number, path in enumerate(("a/7B/m-Q8_0.gguf", "a/13B/m-Q8_0.gguf", "a/M-q8_0.gguf")):
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(weights[number])
        (tmp_path / "a/M_-q8_0.gguf").write_bytes(weights[3])
        shown = json.loads(cli("import", str(tmp_path / "a"), "--dry-run", "--json").stdout)
        names = {Path(entry["title"]).relative_to(tmp_path).as_posix(): entry for entry in shown}
        assert {path: entry["reference"] for path, entry in names.items()} == {
            "a/13B/m-Q8_0.gguf": "docker.io/local/13b-m:Q8_0",
            "a/7B/m-Q8_0.gguf": "docker.io/local/7b-m:Q8_0",
            "a/M-q8_0.gguf": "docker.io/local/a-m:Q8_0",
            "a/M_-q8_0.gguf": "docker.io/local/a-m-2:Q8_0",
        }
        done = cli("import", str(tmp_path / "a"), "--json")
        assert done.returncode == 0, done.stderr
        assert [entry["reference"] for entry in json.loads(done.stdout)] == [
            entry["reference"] for entry in shown
        ]
        again = cli("import", str(tmp_path / "a"), "--json")
        assert {entry["status"] for entry in json.loads(again.stdout)} == {"up-to-date"}

    def test_what_goes_with_a_model_is_not_imported_as_one(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        (folder / "granite-4.0-h-micro-Q4_K_M.gguf").write_bytes(weights[0])
        (folder / "granite-4.0-h-micro-draft-Q4_K_M.gguf").write_bytes(weights[1])
        (folder / "imatrix.gguf").write_bytes(weights[2])
        done = cli("import", str(folder))
        assert done.returncode == 0, done.stderr
        assert {line.partition(": ")[0] for line in done.stdout.splitlines()} == {
            "local/granite-4.0-h-micro:Q4_K_M",
            "local/granite-4.0-h-micro-draft:Q4_K_M",
        }
        assert "not imported: imatrix.gguf: an importance matrix" in done.stderr

    def test_shards_come_together_and_a_missing_one_is_told(
        self, cli: CommandLine, tmp_path: Path
    ) -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        names = [path.name for path in tiny_shards(folder, stem="big-Q4_0")]
        assert cli("import", str(folder / names[1])).returncode == 0
        path = Path(cli("path", "local/big:Q4_0").stdout.strip())
        assert path.name == names[0]
        assert (path.parent / names[1]).exists()
        (folder / names[0]).unlink()
        done = cli("import", str(folder / names[1]))
        assert done.returncode == 10
        assert "1 of 2 shards are missing" in done.stderr

    @pytest.mark.parametrize(
        ("name", "content", "code", "said"),
        [
            ("m.gguf", b"no model", 6, "m.gguf"),
            ("m.gguf", b"", 6, "m.gguf"),
            ("m.safetensors", b"\x08" + bytes(7) + b"{}", 10, "m.safetensors"),
        ],
    )
    def test_what_is_no_model_is_refused_and_nothing_is_left(
        self, cli: CommandLine, tmp_path: Path, name: str, content: bytes, code: int, said: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        done = cli("import", str(tmp_path / name), "--json")
        assert (done.returncode, done.stdout) == (code, "")
        assert said in json.loads(done.stderr)["error"]["message"]
        assert json.loads(cli("list", "--json").stdout) == []
        assert json.loads(cli("verify", "--json").stdout)["blobs"] == 0

    def test_a_name_that_is_another_models_stays_so(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        for place, content in (("a", weights[0]), ("b", weights[1])):
            (tmp_path / place).mkdir()
            (tmp_path / place / "m-Q8_0.gguf").write_bytes(content)
        assert cli("import", str(tmp_path / "a/m-Q8_0.gguf")).returncode == 0
        done = cli("import", str(tmp_path / "b/m-Q8_0.gguf"))
        assert done.returncode == 2
        assert "the name local/m:Q8_0 already belongs to another model" in done.stderr
        assert "--name" in done.stderr
        path = Path(cli("path", "local/m:Q8_0").stdout.strip())
        assert path.read_bytes() == weights[0]
        named = cli("import", str(tmp_path / "b/m-Q8_0.gguf"), "--name", "team/m:2")
        assert named.returncode == 0, named.stderr
        path = Path(cli("path", "team/m:2").stdout.strip())
        assert path.read_bytes() == weights[1]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "nothing to import: no file given"),
            (["nowhere.gguf"], "nowhere.gguf: file or directory not found"),
            (["."], ".: no GGUF file found"),
            (["--all"], "--all and --folder need --from"),
            (["x", "--link", "--copy"], "cannot be combined"),
            (["--from", "ollama", "--all", "x"], "cannot be combined"),
            (["--from", "ollama", "--folder", "nowhere"], "nowhere: directory not found"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(
        self, cli: CommandLine, tmp_path: Path, monkeypatch, arguments: list[str], said: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        done = cli("import", *arguments, OLLAMA_MODELS=str(tmp_path / "none"))
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


class TestOllama:
    """`import --from ollama`."""

    @pytest.fixture
    def folder(self, tmp_path: Path, weights: list[bytes]) -> Path:
        folder = tmp_path / "ollama"
        layers = [
            ("model", weights[0]),
            ("template", b"{{ .Prompt }}"),
            ("license", b"Apache"),
            ("license", b"More"),
            ("params", b'{"stop": ["<end>"]}'),
            ("brand.new", b"?"),
        ]
        ollama_model(folder, "library/tiny:1b", layers)
        ollama_model(folder, "library/tiny:latest", layers)
        ollama_model(folder, "Org/Repo-GGUF:Q8_0", [("model", weights[1])], host="hf.co")
        ollama_model(folder, "library/tuned:7b", [("model", weights[2]), ("adapter", b"lora")])
        ollama_model(folder, "library/cloud:480b", [])
        return folder

    def test_what_there_is_is_shown_first(self, cli: CommandLine, folder: Path) -> None:
        done = cli("import", "--from", "ollama", OLLAMA_MODELS=str(folder))
        assert done.returncode == 0
        titles = [line.split()[0] for line in done.stdout.splitlines()[1:]]
        assert titles == [
            "hf.co/Org/Repo-GGUF:Q8_0",
            "cloud:480b",
            "tiny:1b",
            "tiny:latest",
            "tuned:7b",
        ]
        assert "adapter" in done.stdout
        assert "--all" in done.stderr
        assert json.loads(cli("list", "--json").stdout) == []

    def test_one_is_taken_and_nothing_of_theirs_changes(
        self, cli: CommandLine, folder: Path, weights: list[bytes]
    ) -> None:
        before = shape_of(folder)
        here = {"OLLAMA_MODELS": str(folder)}
        done = cli("import", "--from", "ollama", "tiny:1b", **here)
        assert done.returncode == 0, done.stderr
        assert "an unknown layer (brand.new)" in done.stderr
        assert "template" in done.stderr
        name = "registry.ollama.ai/library/tiny:1b"
        assert done.stdout.startswith(f"{name}: imported")
        path = Path(cli("path", name).stdout.strip())
        assert path.read_bytes() == weights[0]
        assert (path.parent / "LICENSE").read_bytes() == b"Apache"
        assert (path.parent / "LICENSE-2").read_bytes() == b"More"
        assert cli("verify", "--deep").returncode == 0
        assert shape_of(folder) == before
        listed = json.loads(cli("import", "--from", "ollama", "--json", **here).stdout)
        states = {entry["title"]: entry["status"] for entry in listed}
        assert (states["tiny:1b"], states["hf.co/Org/Repo-GGUF:Q8_0"]) == ("here", "new")

    def test_how_it_was_run_becomes_settings_of_the_model(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        folder = tmp_path / "run"
        params = {
            "temperature": 0.5,
            "top_k": 20,
            "num_ctx": 1024,
            "seed": 7,
            "stop": ["<end>"],
            "num_gpu": 99,
            "rpc": "evil.example:1",
        }
        layers = [
            ("model", weights[0]),
            ("params", json.dumps(params).encode()),
            ("system", b"You are a pirate.\n"),
            ("template", b"{{ .Prompt }}"),
        ]
        ollama_model(folder, "library/pirate:1b", layers)
        here = {"OLLAMA_MODELS": str(folder)}
        name = "registry.ollama.ai/library/pirate:1b"
        done = cli("import", "--from", "ollama", "pirate:1b", **here)
        assert done.returncode == 0
        assert done.stderr.splitlines()[1:] == [
            (
                f"{name} sets context=1024, temperature=0.5, top-k=20, seed=7,"
                ' system="You are a pirate."'
            ),
            (
                "warning: pirate:1b: not imported: its Go template is not supported: the template"
                " in the GGUF file is used"
            ),
            (
                "warning: pirate:1b: not imported: its parameters stop, num_gpu, rpc; end-of-turn"
                " tokens end an answer, --stop adds others"
            ),
        ]
        shown = json.loads(cli("inspect", name).stdout)
        assert shown["packaged"] == {
            "context": 1024,
            "temperature": 0.5,
            "top_k": 20,
            "seed": 7,
            "system": "You are a pirate.",
        }
        assert shown["sampling"]["top_k"] == {"value": 20, "source": "artifact"}
        assert json.loads(cli("estimate", name, "--json").stdout)["context"] == 1024

    def test_other_settings_replace_those_of_an_earlier_import(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        folder = tmp_path / "run"
        here = {"OLLAMA_MODELS": str(folder)}
        for temperature in (0.5, 0.7):
            params = json.dumps({"temperature": temperature}).encode()
            ollama_model(folder, "library/m:1", [("model", weights[0]), ("params", params)])
            done = cli("import", "--from", "ollama", "m:1", "--json", **here)
            assert json.loads(done.stdout)[0]["packaged"] == {"temperature": temperature}
        shown = json.loads(cli("inspect", "registry.ollama.ai/library/m:1").stdout)
        assert shown["sampling"]["temperature"]["value"] == 0.7

    def test_what_cannot_be_read_of_it_is_left_out(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        folder = tmp_path / "run"
        layers = [("model", weights[0]), ("params", b"[1]"), ("system", b"\xff")]
        ollama_model(folder, "library/m:1", layers)
        done = cli("import", "--from", "ollama", "m:1", OLLAMA_MODELS=str(folder))
        assert done.returncode == 0
        assert done.stderr.splitlines()[1:] == [
            "warning: m:1: not imported: its system: cannot be read",
            "warning: m:1: not imported: its params: cannot be read",
        ]

    def test_all_takes_what_can_be_taken_and_tells_the_rest(
        self, cli: CommandLine, folder: Path
    ) -> None:
        done = cli("import", "--from", "ollama", "--all", OLLAMA_MODELS=str(folder))
        assert done.returncode == 10
        assert "tuned:7b: adapters are not supported" in done.stderr
        assert "cloud:480b: no weights on this machine" in done.stderr
        assert done.stderr.rstrip().endswith("5 models: 2 failed")
        names = {
            name for row in json.loads(cli("list", "--json").stdout) for name in row["references"]
        }
        assert names == {
            "huggingface.co/org/repo-gguf:Q8_0",
            "registry.ollama.ai/library/tiny:1b",
            "registry.ollama.ai/library/tiny:latest",
        }

    def test_a_blob_that_is_not_what_it_is_called_is_refused(
        self, cli: CommandLine, folder: Path, weights: list[bytes]
    ) -> None:
        blob = folder / "blobs" / f"sha256-{hashlib.sha256(weights[0]).hexdigest()}"
        blob.write_bytes(weights[0][:-1] + b"?")
        done = cli("import", "--from", "ollama", "tiny:1b", "--json", OLLAMA_MODELS=str(folder))
        assert (done.returncode, done.stdout) == (6, "")
        assert "is damaged" in json.loads(done.stderr)["error"]["message"]
        assert json.loads(cli("verify", "--json").stdout)["blobs"] == 0

    @pytest.mark.parametrize(
        ("manifest", "said"),
        [
            (b"{", "cannot read its manifest"),
            (b"[]", "cannot read its manifest"),
            (b'{"layers": [7]}', "no weights on this machine"),
            (b'{"layers": [{"mediaType": "application/vnd.ollama.image.model"}]}', "digest"),
            (
                json.dumps(
                    {
                        "layers": [
                            {
                                "mediaType": "application/vnd.ollama.image.model",
                                "digest": f"sha256:{'0' * 64}",
                            }
                        ]
                    }
                ).encode(),
                "is missing",
            ),
        ],
    )
    def test_a_manifest_that_is_broken_is_told(
        self, cli: CommandLine, folder: Path, manifest: bytes, said: str
    ) -> None:
        path = folder / "manifests/registry.ollama.ai/library/tiny/1b"
        path.write_bytes(manifest)
        done = cli("import", "--from", "ollama", "tiny:1b", OLLAMA_MODELS=str(folder))
        assert done.returncode == 10
        assert said in done.stderr

    def test_a_name_that_is_not_there(self, cli: CommandLine, folder: Path) -> None:
        done = cli("import", "--from", "ollama", "tini", OLLAMA_MODELS=str(folder))
        assert done.returncode == 3
        assert "tiny:1b" in done.stderr


class TestHuggingFace:
    """`import --from hf`, of a cache that the Hub's own package has filled."""

    def test_it_becomes_what_a_pull_makes(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        files = {
            "Tiny-Q4_K_M.gguf": weights[0],
            "Tiny-Q8_0.gguf": weights[1],
            "mmproj-F16.gguf": weights[2],
            "README.md": b"# Tiny",
        }
        with hugging_face() as hub:
            hub.repositories["Org/Tiny-GGUF"] = Repository(files)
            taken = ["Tiny-Q4_K_M.gguf", "mmproj-F16.gguf", "README.md"]
            hugging_face_cache(tmp_path / "hf", hub.url, "Org/Tiny-GGUF", taken)
            before = shape_of(tmp_path / "hf")
            here = {"HF_HOME": str(tmp_path / "hf")}
            (told,) = json.loads(cli("import", "--from", "hf", "--all", "--json", **here).stdout)
            assert told["reference"] == "huggingface.co/org/tiny-gguf:Q4_K_M"
            assert shape_of(tmp_path / "hf") == before
            hub.requests.clear()
            pulled = cli("pull", "hf.co/Org/Tiny-GGUF:Q4_K_M", "--json", HF_ENDPOINT=hub.url)
            result = json.loads(pulled.stdout)
            assert (result["digest"], result["status"]) == (told["digest"], "up-to-date")
            assert hub.paths("/Org/") == []

    def test_parameters_come_along_as_with_a_pull(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        files = {"Tiny-Q4_K_M.gguf": weights[0], "generation_config.json": b'{"temperature": 0.6}'}
        with hugging_face() as hub:
            hub.repositories["Org/Tiny-GGUF"] = Repository(files)
            hugging_face_cache(tmp_path / "hf", hub.url, "Org/Tiny-GGUF", list(files))
            here = {"HF_HOME": str(tmp_path / "hf")}
            (told,) = json.loads(cli("import", "--from", "hf", "--all", "--json", **here).stdout)
            name = "hf.co/Org/Tiny-GGUF:Q4_K_M"
            pulled = json.loads(cli("pull", name, "--json", HF_ENDPOINT=hub.url).stdout)
        assert (pulled["digest"], pulled["status"]) == (told["digest"], "up-to-date")
        shown = json.loads(cli("inspect", name).stdout)
        assert shown["sampling"] == {"temperature": {"value": 0.6, "source": "artifact"}}
        (listed,) = json.loads(cli("import", "--from", "hf", "--json", **here).stdout)
        assert listed["status"] == "here"

    def test_what_lacks_the_projector_does_not_replace_what_has_it(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        files = {"Tiny-Q4_K_M.gguf": weights[0], "mmproj-F16.gguf": weights[2]}
        with hugging_face() as hub:
            hub.repositories["Org/Tiny-GGUF"] = Repository(files)
            name = "hf.co/Org/Tiny-GGUF:Q4_K_M"
            pulled = json.loads(cli("pull", name, "--json", HF_ENDPOINT=hub.url).stdout)
            hugging_face_cache(tmp_path / "hf", hub.url, "Org/Tiny-GGUF", ["Tiny-Q4_K_M.gguf"])
        here = {"HF_HUB_CACHE": str(tmp_path / "hf/hub")}
        (told,) = json.loads(cli("import", "--from", "hf", "--all", "--json", **here).stdout)
        assert (told["status"], told["digest"]) == ("up-to-date", pulled["digest"])


class TestLMStudio:
    """`import --from lmstudio`."""

    @pytest.mark.parametrize("place", [".lmstudio", ".cache/lm-studio", "pointed"])
    def test_its_folders_are_repositories_of_the_hub(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes], place: str
    ) -> None:
        user = tmp_path / "user"
        folder = user / place / "models/Org/Tiny-GGUF"
        folder.mkdir(parents=True)
        if place == "pointed":
            (user / ".lmstudio-home-pointer").write_text(str(user / place))
        (folder / "Tiny-Q4_K_M.gguf").write_bytes(weights[0])
        (folder / "Tiny-Q8_0.gguf").write_bytes(weights[1])
        done = cli("import", "--from", "lmstudio", "Org/Tiny-GGUF:Q8_0", HOME=str(user))
        assert done.returncode == 0, done.stderr
        path = Path(cli("path", "hf.co/Org/Tiny-GGUF:Q8_0").stdout.strip())
        assert path.read_bytes() == weights[1]
        whole = cli("import", "--from", "lmstudio", "org/tiny-gguf", "--json", HOME=str(user))
        assert [entry["status"] for entry in json.loads(whole.stdout)] == ["imported", "up-to-date"]


class TestDocker:
    """`import --from docker`."""

    def test_an_artifact_stays_what_it_is(
        self, cli: CommandLine, tmp_path: Path, weights: list[bytes]
    ) -> None:
        artifact = docker_artifact(weights[0], license=b"Apache")
        other = docker_artifact(weights[1])
        docker_models(
            tmp_path / "docker",
            {"docker.io/ai/tiny:Q4": artifact, "docker.io/ai/other:latest": other},
        )
        before = shape_of(tmp_path / "docker")
        here = {"MODELS_PATH": str(tmp_path / "docker")}
        done = cli("import", "--from", "docker", "ai/tiny:Q4", "--json", **here)
        (told,) = json.loads(done.stdout)
        assert (told["reference"], told["digest"]) == ("docker.io/ai/tiny:Q4", artifact.digest)
        assert shape_of(tmp_path / "docker") == before
        assert cli("verify", "--deep").returncode == 0
        blob = tmp_path / "docker/blobs/sha256" / other.layer_digests[0].removeprefix("sha256:")
        blob.unlink()
        refused = cli("import", "--from", "docker", "ai/other", **here)
        assert refused.returncode == 10
        assert "some of its files are missing" in refused.stderr

    def test_its_list_may_be_anything(self, cli: CommandLine, tmp_path: Path) -> None:
        (tmp_path / "models.json").write_text('{"models": [7, {"id": "x"}, {"tags": ["a b"]}]}')
        listed = cli("import", "--from", "docker", "--json", MODELS_PATH=str(tmp_path))
        assert listed.returncode == 0
        assert [entry["status"] for entry in json.loads(listed.stdout)] == ["unusable"] * 2


def test_a_program_without_models_is_no_mistake_wherever_it_has_none(
    cli: CommandLine, tmp_path: Path
) -> None:
    absent = cli("import", "--from", "ollama")
    assert (absent.returncode, absent.stdout.splitlines()[1:]) == (0, [])
    assert absent.stderr.startswith("no Ollama models in ")
    empty = cli("import", "--from", "lmstudio", "--folder", str(tmp_path))
    assert (empty.returncode, "no LM Studio models in" in empty.stderr) == (0, True)
    cache = cli("import", "--from", "hf", "--folder", str(tmp_path))
    assert cache.stderr.startswith("no Hugging Face cache models in ")
    assert cli("import", "--from", "ollama", "llama3").returncode == 3
