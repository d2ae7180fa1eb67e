"""When a lock satisfies an intent, and how a change of it is told."""

from dataclasses import replace

import pytest

from modelrunner.lockfile.changes import Change, changes, disagreements
from modelrunner.lockfile.intent import parse_intent
from modelrunner.lockfile.lock import Lock, LockedModel
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import Reference
from tests.support.artifacts import Artifact, docker_artifact

OLD = docker_artifact(b"weights", template=b"{{ x }}", license=b"free")


def locked(artifact: Artifact = OLD, reference: str = "ai/m:1", name: str = "a") -> LockedModel:
    manifest = ModelArtifact.from_manifest(Manifest.from_bytes(artifact.manifest))
    return replace(LockedModel.of(name, Reference.parse(reference), manifest, None), line=4)


@pytest.mark.parametrize(
    ("intent", "reference", "found"),
    [
        ('a = "ai/m:1"', "ai/m:1", []),
        ('a = "docker.io/ai/m:1"', "m:1", []),
        ('a = "ai/m"', "ai/m:latest", []),
        (f'a = "ai/m:1@{OLD.digest}"', "ai/m:1", []),
        (f'a = "ai/m@{OLD.digest}"', f"ai/m@{OLD.digest}", []),
        ('a = "ai/m:2"', "ai/m:1", ["a is locked as ai/m:1, expected ai/m:2"]),
        ('a = "ai/m"', "ai/m:1", ["a is locked as ai/m:1, expected ai/m:latest"]),
        ('a = "ghcr.io/ai/m:1"', "ai/m:1", ["a is locked as ai/m:1, expected ghcr.io/ai/m:1"]),
        (
            f'a = "ai/m:1@sha256:{"0" * 64}"',
            "ai/m:1",
            [f"a is locked at {OLD.digest[7:19]}, expected 000000000000"],
        ),
        (
            'b = "ai/m:1"',
            "ai/m:1",
            ["a is locked, but not listed in modelrunner.toml", "b is not locked"],
        ),
        (
            'a = {ref = "ai/m:1", fit = {vram = "1GiB", context = 9}}',
            "ai/m:1",
            [("a was locked with no fit, expected 1.00 GiB at a context of 9")],
        ),
    ],
)
def test_a_lock_satisfies_or_is_told_why_not(intent: str, reference: str, found: list[str]) -> None:
    wanted = parse_intent(f"[models]\n{intent}".encode())
    assert [
        str(entry) for entry in disagreements(wanted, Lock((locked(reference=reference),)))
    ] == (found)


def test_any_variant_satisfies_that_was_chosen_for_the_same_fit() -> None:
    wanted = parse_intent(b'[models]\na = {ref = "ai/m", fit = {vram = "1GiB"}}')
    chosen = replace(locked(reference="ai/m:7B-Q4"), fit=wanted.model("a").fit)
    assert disagreements(wanted, Lock((chosen,))) == ()
    other = replace(locked(reference="ai/n:7B-Q4"), fit=wanted.model("a").fit)
    assert [entry.reason for entry in disagreements(wanted, Lock((other,)))] == [
        "is locked as ai/n:7B-Q4, expected docker.io/ai/m"
    ]


def test_a_disagreement_has_the_line_of_the_file_that_shows_it() -> None:
    wanted = parse_intent(b'[models]\n\nb = "ai/m:1"')
    assert [(entry.file, entry.line) for entry in disagreements(wanted, Lock((locked(),)))] == [
        ("modelrunner.lock", 4),
        ("modelrunner.toml", 3),
    ]


@pytest.mark.parametrize(
    ("new", "matter"),
    [
        (docker_artifact(b"weights", template=b"{{ y }}", license=b"free"), "template only"),
        (
            docker_artifact(b"weights", template=b"{{ y }}", license=b"mine"),
            "license, template only",
        ),
        (docker_artifact(b"heavier", template=b"{{ x }}", license=b"free"), "weights"),
        (
            docker_artifact(b"heavier", template=b"{{ y }}", license=b"free"),
            "template and weights",
        ),
        (
            docker_artifact(
                b"weights", template=b"{{ x }}", license=b"free", config={"parameters": "1B"}
            ),
            "config only",
        ),
    ],
)
def test_what_moved_is_told_in_a_word(new: Artifact, matter: str) -> None:
    assert Change("a", locked(), locked(new)).matter == matter


def test_a_manifest_that_says_the_same_of_other_bytes_is_told_so() -> None:
    spaced = Artifact(OLD.manifest.replace(b'","', b'", "'), OLD.media_type, OLD.blobs)
    change = Change("a", locked(), locked(spaced))
    assert (change.matter, change.new, change.gone) == ("manifest only", (), ())


def test_the_changes_of_a_lock_are_those_that_came_went_and_moved() -> None:
    before = Lock((locked(name="a"), locked(name="b"), locked(name="c")))
    moved = locked(docker_artifact(b"new"), name="b")
    found = changes(before, Lock((locked(name="a"), moved, locked(name="d"))))
    assert [(change.name, change.kind) for change in found] == [
        ("b", "updated"),
        ("c", "removed"),
        ("d", "added"),
    ]
