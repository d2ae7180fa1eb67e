"""What an archive calls its models: full names, and tags for tools that take no full name."""

import json

import pytest

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.operations.archive.index import entries_of, names_of, with_aliases

REF, FULL = "org.opencontainers.image.ref.name", "io.containerd.image.name"
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def entry(name: str | None, digest: Digest = ONE) -> Descriptor:
    return Descriptor("manifest/type", digest, 3, {} if name is None else {REF: name})


def tags(*names: str | None) -> list[str]:
    entries = [entry(name) for name in names]
    found = with_aliases(entries)
    assert found[: len(entries)] == entries
    return [each.annotations[REF] for each in found[len(entries) :]]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["docker.io/ai/x:latest"], ["docker.io_ai_x_latest"]),
        (["[::1]:5000/team/m:V1"], ["___1__5000_team_m_V1"]),
        (["hf.co/Org/Repo:Q8_0"], ["hf.co_Org_Repo_Q8_0"]),
        ([None, "bare-tag"], []),
        # two names that are one tag, and one that somebody else has used
        (
            ["docker.io/a/b_c:1", "docker.io/a_b/c:1"],
            ["docker.io_a_b_c_1_594e33e8c013", "docker.io_a_b_c_1_f8379a7686ab"],
        ),
        (["docker.io_a_b_1", "docker.io/a/b:1"], ["docker.io_a_b_1_1791f0ae77b8"]),
    ],
)
def test_a_full_name_has_a_tag(names: list[str | None], found: list[str]) -> None:
    assert tags(*names) == found


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    long = f"docker.io/{'a' * 100}/{'b' * 100}:1"
    (one,), (other,) = tags(long), tags(f"{long}2")

    assert len(one) <= 128
    assert one[:100] == other[:100]
    assert one != other


def test_aliases_are_not_read_as_models_of_their_own() -> None:
    entries = [entry("docker.io/ai/x:1"), entry("docker.io/ai/y:1", TWO), entry("tag", TWO)]
    raw = json.dumps({"manifests": [each.to_dict() for each in with_aliases(entries)]}).encode()

    assert list(entries_of(raw)) == entries


def test_what_others_call_so_stays() -> None:
    # of another manifest, or without the full name, or as buildx writes it
    entries = [
        entry("docker.io/ai/x:1"),
        Descriptor("t", TWO, 3, {REF: "docker.io_ai_x_1", FULL: "docker.io/ai/x:1"}),
        entry("docker.io_ai_x_1"),
        Descriptor("t", ONE, 3, {REF: "1", FULL: "docker.io/ai/x:1"}),
    ]
    raw = json.dumps({"manifests": [each.to_dict() for each in entries]}).encode()

    assert list(entries_of(raw)) == entries


def test_a_reader_that_does_not_know_aliases_takes_the_full_name() -> None:
    # it reads the annotation of containerd first
    entries = with_aliases([entry("docker.io/ai/x:1")])

    assert [str(name) for name in names_of(entries, None)[ONE]] == ["docker.io/ai/x:1"]
