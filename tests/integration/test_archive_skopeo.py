"""Another tool reads our archives, and we read its."""

import shutil
import subprocess

import pytest

from modelrunner.oci.reference import Reference
from modelrunner.operations.archive.load import Loader
from modelrunner.operations.archive.output import to_files
from modelrunner.operations.archive.save import Archive, choose
from modelrunner.operations.archive.source import open_parts
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact, modelpack_artifact
from tests.support.docker_registry import needs_skopeo, skopeo, skopeo_copy
from tests.support.stores import put

pytestmark = [pytest.mark.registry, needs_skopeo]

MODELS = {
    "docker.io/ai/m:3B-Q4_K_M": docker_artifact([b"GGUF one", b"GGUF two"], license=b"free"),
    "localhost:5000/team/m:1": modelpack_artifact(b"GGUF weights", license=b"free"),
}


@pytest.fixture
def filled(store):
    for name, artifact in MODELS.items():
        put(store, artifact, name)
    return store


@pytest.fixture
def saved(filled, tmp_path):
    path = tmp_path / "models.tar"
    with to_files(path) as output:
        Archive(filled, [choose(filled, name) for name in MODELS]).write(output)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_skopeo_reads_a_model_of_an_archive_by_its_full_name(saved, tmp_path, name):
    source, artifact = f"oci-archive:{saved}:{name}", MODELS[name]
    assert skopeo("inspect", "--raw", source).encode() == artifact.manifest
    skopeo_copy(source, f"dir:{tmp_path / 'copy'}")
    for digest, content in artifact.blobs.items():
        assert (tmp_path / "copy" / digest.removeprefix("sha256:")).read_bytes() == content


@pytest.mark.parametrize("name", MODELS)
def test_an_archive_of_skopeo_is_loaded(filled, tmp_path, name):
    theirs = tmp_path / "theirs.tar"
    skopeo_copy(f"oci:{filled.layout.root}:{name}", f"oci-archive:{theirs}:{name}")
    other = Store(tmp_path / "other")
    with open_parts([theirs]) as stream:
        (one,) = Loader(other).load(stream)
    assert ([str(entry) for entry in one.names], str(one.model.digest)) == (
        [name],
        MODELS[name].digest,
    )
    assert one.model.weights().read_bytes() == MODELS[name].layers[0]


def test_an_archive_of_skopeo_without_a_name_is_loaded_under_one_that_is_given(filled, tmp_path):
    (name, artifact), *_more = MODELS.items()
    theirs = tmp_path / "theirs.tar"
    skopeo_copy(f"oci:{filled.layout.root}:{name}", f"oci-archive:{theirs}")
    wanted, other = Reference.parse("ai/given:1"), Store(tmp_path / "other")
    with open_parts([theirs]) as stream:
        (one,) = Loader(other, name=wanted).load(stream)
    assert (one.names, str(one.model.digest)) == ((wanted,), artifact.digest)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar on PATH")
def test_tar_unpacks_an_archive_to_a_layout_and_packs_it_again(saved, tmp_path):
    folder, again = tmp_path / "layout", tmp_path / "again.tar"
    folder.mkdir()
    subprocess.run(["tar", "-xf", saved, "-C", folder], check=True, timeout=60)
    subprocess.run(["tar", "-cf", again, "-C", folder, "."], check=True, timeout=60)
    with open_parts([again]) as stream:
        loaded = Loader(Store(tmp_path / "other")).load(stream)
    assert sorted(str(one.names[0]) for one in loaded) == sorted(MODELS)
