"""Small files of a repository: downloaded once each, within limits."""

from collections.abc import Iterator

import pytest

from modelrunner.errors import (
    MalformedManifestError,
    RegistryAnswerError,
    UnsupportedArtifactError,
)
from modelrunner.huggingface.repository import HubEntry
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import NO_RETRY
from modelrunner.registry.huggingface import small_files
from modelrunner.registry.huggingface.api import HubApi, Listing
from modelrunner.registry.huggingface.small_files import with_digests
from modelrunner.registry.huggingface.source import HuggingFaceHub
from modelrunner.registry.settings import HubAccess
from tests.support import hugging_face as hugging_face_server
from tests.support.hugging_face import Hub, Repository, hugging_face

NAME = Reference.parse("hf.co/Org/Many:all")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hugging_face() as running:
        yield running


@pytest.fixture
def api(hub: Hub) -> Iterator[HubApi]:
    made = HubApi(HubAccess(hub.url, "hf_secret"), NO_RETRY, None)
    yield made
    made.close()


def test_files_with_one_content_are_downloaded_once_and_the_token_is_shown(hub, api) -> None:
    files = {f"{number}/__init__.py": b"" for number in range(5)}
    files |= {f"{number}.json": b"{%d}" % number for number in range(20)}
    hub.repositories["Org/Many"] = Repository(files, token="hf_secret")
    listing = api.listing(NAME)
    chosen = list(listing.entries.values())
    found = with_digests(api, NAME, listing, chosen, lambda *_: {})
    assert {file.path: file.digest for file in found} == {
        path: Digest.of(content) for path, content in files.items()
    }
    assert len(hub.paths("/Org/Many/resolve")) == 21
    # and once for all connections
    with_digests(api, NAME, listing, chosen, lambda *_: {})
    assert len(hub.paths("/Org/Many/resolve")) == 21


def test_what_is_known_is_not_asked_for(hub, api) -> None:
    hub.repositories["Org/Many"] = Repository({"a": b"a", "b": b"b"})
    listing = api.listing(NAME)
    known = {listing.entries["a"].blob_id: Digest.of(b"a")}
    with_digests(api, NAME, listing, list(listing.entries.values()), lambda *_: known)
    (asked,) = hub.paths("/Org/Many/resolve")
    assert asked.endswith("/b")


def test_contents_that_are_large_together_are_not_kept_in_memory(hub, api, monkeypatch) -> None:
    monkeypatch.setattr(small_files, "_KEPT_TOGETHER", 2)
    hub.repositories["Org/Many"] = Repository({name: name.encode() for name in "abcd"})
    listing = api.listing(NAME)
    with_digests(api, NAME, listing, list(listing.entries.values()), lambda *_: {})
    assert len(listing.digests) == 4
    assert len(listing.contents) <= 2


def test_a_list_that_goes_on_elsewhere_is_not_taken_for_a_whole_repository(hub, api) -> None:
    hub.repositories["Org/Many"] = Repository(dict.fromkeys("abcd", b""))
    # the next page of a stand-in is at the real Hub's, which is not asked
    hub.links = "http://127.0.0.3:1"
    source = HuggingFaceHub(api, {}, lambda *_: {})
    with pytest.raises(RegistryAnswerError, match="does not list all files"):
        source.resolve(NAME)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([HubEntry("a", 65 * 1024**2)], "a has 65.00 MiB and no sha256, more than 64.00 MiB"),
        (
            [HubEntry(f"{number}", 60 * 1024**2) for number in range(9)],
            "files without a sha256 have 540.00 MiB, more than 512.00 MiB",
        ),
        ([HubEntry("a", 1)] * 10_001, "10001 files, more than 10000"),
    ],
)
def test_what_is_too_much_is_refused_before_it_is_asked_for(hub, api, entries, message) -> None:
    with pytest.raises(UnsupportedArtifactError, match=message):
        with_digests(api, NAME, Listing("c", {}), entries, lambda *_: {})
    assert hub.requests == []


@pytest.mark.parametrize("path", ["x\ud800.txt", "../x.txt", "/etc/x", "a\nb"])
def test_paths_that_are_not_to_be_trusted_are_not_asked_for(hub, api, path: str) -> None:
    listing = Listing("c0ffee", {path: HubEntry(path, 1, "0" * 40)})
    source = HuggingFaceHub(api, {NAME: listing}, lambda *_: {})
    with pytest.raises(MalformedManifestError, match="unsafe file path in a layer"):
        source.resolve(NAME)
    assert hub.requests == []


def test_a_list_with_a_file_that_is_not_understood_is_not_a_whole_repository(
    hub, api, monkeypatch
) -> None:
    hub.repositories["Org/Many"] = Repository({"a": b"a", "b": b"b"})
    of_a_file = hugging_face_server._entry

    def entry(path: str, content: bytes, xet: dict[str, str]) -> dict[str, object]:
        return of_a_file(path, content, xet) | ({"size": -1} if path == "b" else {})

    monkeypatch.setattr(hugging_face_server, "_entry", entry)
    source = HuggingFaceHub(api, {}, lambda *_: {})
    with pytest.raises(RegistryAnswerError, match="does not list all files"):
        source.resolve(NAME)
