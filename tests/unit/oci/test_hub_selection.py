"""Tags that stand for files of a repository, and what they choose."""

import pytest

from modelrunner.errors import InvalidReferenceError
from modelrunner.oci.hub_address import Selection, selection_of, selection_tag
from modelrunner.oci.reference import Reference


@pytest.mark.parametrize(
    ("include", "exclude", "tag"),
    [
        ([], [], "all"),
        (["*"], [], "all"),
        (["*", "a.json"], ["*.bin"], "files=!*.bin"),
        (["b.json", "a/", "b.json"], [], "files=a/*,b.json"),
        (["*.json"], ["x y", "[ab].md"], "files=*.json,![ab].md,!x%20y"),
        (["Modèle*"], [], "files=Mod%C3%A8le*"),
    ],
)
def test_globs_have_one_spelling_and_come_back(include, exclude, tag) -> None:
    assert selection_tag(include, exclude) == tag
    found = selection_of(tag)
    assert found is not None
    assert selection_tag(*found) == tag
    name = Reference.parse(f"hf.co/Org/Repo:{tag}")
    assert (name.tag, Reference.parse(str(name))) == (tag, name)


@pytest.mark.parametrize("tag", [None, "latest", "Q4_K_M", "All", "13B/all", "file=x"])
def test_other_tags_stand_for_one_model(tag: str | None) -> None:
    assert selection_of(tag) is None


def test_a_tag_as_it_may_be_typed_is_the_same_name() -> None:
    one = Reference.parse("hf.co/org/repo:files=*.safetensors,!onnx/*")
    assert Reference.parse("hf.co/Org/Repo:files=!onnx/,%2A.safetensors") == one
    assert selection_of(one.tag) == Selection(("*.safetensors",), ("onnx/*",))


@pytest.mark.parametrize("glob", ["", ",", "a,b", "!a", "/a", "a//b", "a\n", "./a", "a/../b"])
def test_a_glob_that_no_tag_can_have(glob: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Reference.parse(f"hf.co/org/repo:{selection_tag([glob], [])}")
