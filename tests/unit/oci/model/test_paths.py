"""Paths out of foreign manifests stay inside the folder that they are put in."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.errors import MalformedManifestError
from modelrunner.oci import media_types
from modelrunner.oci.model.paths import annotated_path, checked_path, same_names


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "./",
        "..",
        "../x",
        "a/../x",
        "a/..",
        "a/b/../../../x",
        "/etc/passwd",
        "//etc/passwd",
        "\\windows",
        "a\\b",
        "..\\x",
        "C:x",
        "c:/x",
        "a\x00b",
        "a\nb",
        "a\tb",
        "a\x1b[31mb",
        "a\x7fb",
        "a\u202eb",
        "a\u200bb",
        "\ud800",
        "n" * 256,
        "é" * 128,
        "n/" * 600,
    ],
)
def test_a_path_that_could_leave_its_folder_or_hide_is_refused(text):
    with pytest.raises(MalformedManifestError) as caught:
        checked_path(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("model.gguf", "model.gguf"),
        ("text_encoder/model.gguf", "text_encoder/model.gguf"),
        ("./a//b/./c/", "a/b/c"),
        ("...", "..."),
        ("a..b", "a..b"),
        ("~/x", "~/x"),
        ("-m", "-m"),
        ("naïve 模型.gguf", "naïve 模型.gguf"),
        ("n" * 255, "n" * 255),
    ],
)
def test_a_path_inside_is_kept(text, path):
    assert str(checked_path(text)) == path


@given(st.text(max_size=40) | st.text("./\\aC:", max_size=12))
def test_no_text_makes_a_path_that_leaves(text):
    try:
        path = checked_path(text)
    except MalformedManifestError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    str(path).encode()


def test_the_families_annotation_comes_before_the_one_of_oras_and_the_metadata():
    path, title = media_types.ANNOTATION_PATH, media_types.ANNOTATION_TITLE
    metadata = json.dumps({"name": "c.gguf"})
    found = {path: "a.gguf", title: "b.gguf", media_types.ANNOTATION_FILE: metadata}
    assert str(annotated_path(found)) == "a.gguf"
    del found[path]
    assert str(annotated_path(found)) == "b.gguf"
    del found[title]
    assert str(annotated_path(found)) == "c.gguf"


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"name": 3}', "{}", "[" * 100_000])
def test_metadata_without_a_name_gives_no_path(text):
    assert annotated_path({media_types.ANNOTATION_FILE: text}) is None


def test_a_hostile_name_in_the_metadata_is_refused():
    with pytest.raises(MalformedManifestError):
        annotated_path({media_types.ANNOTATION_FILE: '{"name": "\\ud800/../x"}'})


@pytest.mark.parametrize(
    ("paths", "same"),
    [
        (["a/b", "a/c", "b"], None),
        (["README", "readme"], ("README", "readme")),
        (["x/model", "X/other"], ("x", "X")),
        (["caf\u00e9", "cafe\u0301"], ("caf\u00e9", "cafe\u0301")),
        (["stra\u00dfe", "STRASSE"], ("stra\u00dfe", "STRASSE")),
    ],
)
def test_names_that_are_one_elsewhere_are_found(paths, same):
    assert same_names(paths) == same


def test_many_long_paths_are_compared_name_by_name(monkeypatch):
    compared = []
    normalize = unicodedata.normalize

    def counted(form, text):
        compared.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr("modelrunner.oci.model.paths.unicodedata.normalize", counted)
    deep = "\u00e9/" * 500
    paths = [f"{number}/{deep}b" for number in range(30)]
    last = f"29/{deep}"
    assert same_names([*paths, f"{last}B"]) == (f"{last}b", f"{last}B")
    # all of it twice, not each directory above each again
    assert sum(compared) <= 2 * 31 * len(paths[-1])
