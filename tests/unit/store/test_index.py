"""The index of the store: names, and the same names as tags for tools that find no full name."""

import json
from pathlib import Path

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.store.index import Entry, read_index, write_index
from modelrunner.store.layout import Layout

REF = "org.opencontainers.image.ref.name"
ONE, TWO = (
    Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(raw), 3)
    for raw in (b"one", b"two")
)


def written(layout: Layout, *entries: Entry) -> dict[str, str]:
    """The digest that each name in the file stands for."""
    layout.create()
    write_index(layout, entries)
    listed = json.loads(layout.index.read_bytes())["manifests"]
    return {entry["annotations"][REF]: entry["digest"] for entry in listed}


def read(layout: Layout) -> list[tuple[str | None, Digest, str | None]]:
    """Names, digests, and what they are spellings of."""
    return [
        (each.reference and str(each.reference), each.descriptor.digest, each.alias_of)
        for each in read_index(layout)
    ]


def entry(name: str, descriptor: Descriptor = ONE) -> Entry:
    return Entry(Reference.parse(name), descriptor)


def test_each_name_is_there_as_a_tag_too_and_read_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert written(layout, entry("ai/x"), entry("ghcr.io/team/m:V1", TWO)) == {
        "docker.io/ai/x:latest": str(ONE.digest),
        "docker.io_ai_x_latest": str(ONE.digest),
        "ghcr.io/team/m:V1": str(TWO.digest),
        "ghcr.io_team_m_V1": str(TWO.digest),
    }
    assert read(layout) == [
        ("docker.io/ai/x:latest", ONE.digest, None),
        ("ghcr.io/team/m:V1", TWO.digest, None),
    ]


def test_names_that_would_be_one_tag_have_their_digests_in_it(tmp_path: Path) -> None:
    assert written(
        Layout(tmp_path), entry("docker.io/a/b_c:1"), entry("docker.io/a_b/c:1", TWO)
    ) == {
        "docker.io/a/b_c:1": str(ONE.digest),
        "docker.io/a_b/c:1": str(TWO.digest),
        "docker.io_a_b_c_1_594e33e8c013": str(ONE.digest),
        "docker.io_a_b_c_1_f8379a7686ab": str(TWO.digest),
    }


def test_another_spelling_and_a_model_without_a_name_get_no_tag(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    name, spelling = Reference.parse("ai/x"), Reference.parse("ai/y")
    alias = Entry.alias(spelling, name, ONE)
    assert sorted(written(layout, Entry(name, ONE), alias)) == [
        "docker.io/ai/x:latest",
        "docker.io/ai/y:latest",
        "docker.io_ai_x_latest",
    ]
    assert read(layout) == [
        ("docker.io/ai/x:latest", ONE.digest, None),
        ("docker.io/ai/y:latest", ONE.digest, "docker.io/ai/x:latest"),
    ]
    write_index(layout, [Entry(None, TWO)])
    assert read(layout) == [(None, TWO.digest, None)]
