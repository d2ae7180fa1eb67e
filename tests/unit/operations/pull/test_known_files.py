"""What the store has is known by git's digest, for the repository that is asked about."""

from modelrunner.huggingface.files import HubFile
from modelrunner.huggingface.repository import git_digest, repository_artifact
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.known_files import known_files
from modelrunner.store.store import Store

FILES = {"config.json": b'{"a": 1}', "model.safetensors": b"\x02\0\0\0\0\0\0\0{}", "empty": b""}


def kept(store: Store, name: str) -> Reference:
    reference = Reference.parse(name)
    files = [HubFile(path, len(text), Digest.of(text)) for path, text in FILES.items()]
    made = repository_artifact(files)
    contents = (made.config, *FILES.values())
    with store.arriving():
        for entry in made.manifest.blobs:
            store.blobs.put(entry, next(c for c in contents if Digest.of(c) == entry.digest))
        store.add(made.manifest, [reference])
    return reference


def test_files_of_the_repository_are_known_whatever_the_revision(store: Store) -> None:
    kept(store, "hf.co/Org/Repo:all")
    asked = Reference.parse("hf.co/org/repo@v1:files=*.json")
    content = FILES["config.json"]
    assert known_files(store, asked, {len(content), 99}) == {
        git_digest(content): Digest.of(content)
    }


def test_another_repository_and_other_sizes_are_not_read(store: Store) -> None:
    name = kept(store, "hf.co/Org/Repo:all")
    assert known_files(store, name, {5}) == {}
    assert known_files(store, Reference.parse("hf.co/Org/Other:all"), {8}) == {}


def test_a_damaged_file_is_not_known(store: Store) -> None:
    name = kept(store, "hf.co/Org/Repo:all")
    path = store.layout.blob(Digest.of(FILES["config.json"]))
    path.chmod(0o644)
    path.write_bytes(b'{"a": 2}')
    assert known_files(store, name, {8}) == {}
