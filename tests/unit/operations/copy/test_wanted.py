"""Lists of what a mirror is to have."""

import pytest

from modelrunner.errors import ModelRunnerError
from modelrunner.oci.reference import Reference
from modelrunner.operations.copy.mirror import MirrorPlace, mirror_settings
from modelrunner.operations.copy.wanted import parse_wanted, read_wanted

HEX = "ab" * 32
LOCK = f"""version = 1

[[model]]
name = "chat"
ref = "docker.io/ai/m:1"
manifest = "sha256:{HEX}"
media_type = "application/vnd.oci.image.manifest.v1+json"
size = 3
format = "docker"
blobs = [
  {{ digest = "sha256:{HEX}", size = 3, media_type = "x", role = "config" }},
]
"""


@pytest.mark.parametrize(
    ("content", "file", "expected"),
    [
        (b"ai/a:1\n\n# all of it\n ghcr.io/x/b # that too\nai/a:1\n", "l", ["ai/a:1", "b"]),
        (b"\xef\xbb\xbfai/a:1\r\n", "stdin", ["ai/a:1"]),
        (b'references = ["ai/a:1", "ai/b@sha256:' + HEX.encode() + b'"]', "l", ["ai/a:1", "@"]),
        (b'[models]\nchat = "ai/a:1"\n', "modelrunner.toml", ["ai/a:1"]),
        (b'models.chat = "ai/a:1"\n', "x.toml", ["ai/a:1"]),
        (LOCK.encode(), "modelrunner.lock", [f"ai/m:1@sha256:{HEX}"]),
        (LOCK.encode(), "stdin", [f"ai/m:1@sha256:{HEX}"]),
    ],
)
def test_lists_of_every_form(content, file, expected):
    full = {"b": "ghcr.io/x/b:latest", "@": f"ai/b@sha256:{HEX}"}
    found = [each.short for each in parse_wanted(content, file)]
    assert found == [full.get(text, text) for text in expected]


@pytest.mark.parametrize(
    ("content", "file", "said"),
    [
        (b"", "l.txt", "l.txt: no models listed"),
        (b"# nothing\n", "l.txt", "l.txt: no models listed"),
        (b"references = []", "stdin", "stdin: no models listed"),
        (b"ai/a\nAI/-b\n", "l.txt", "l.txt:2: 'AI/-b' is not a valid model reference"),
        (b"\xff\xfe", "l.txt", "l.txt is not UTF-8 text"),
        (b"references = 1", "l.toml", "l.toml:1: references must be a list of strings"),
        (b"references = []\nmodel = 1", "l.toml", "l.toml:2: unknown key"),
        (b"x" * 9_000_000, "l.txt", "l.txt exceeds 8388608 bytes"),
        (
            b"\n".join(b"ai/m:%d" % number for number in range(10_001)),
            "l.txt",
            "l.txt: more than 10000 models",
        ),
        (
            b'[models.chat]\nref = "ai/m"\nfit = { vram = "8GiB" }\n',
            "modelrunner.toml",
            "modelrunner.toml: which variant of chat is meant is not chosen yet",
        ),
    ],
)
def test_what_is_wrong_with_a_list_is_said(content, file, said):
    with pytest.raises(ModelRunnerError) as caught:
        parse_wanted(content, file)
    assert caught.value.message.startswith(said)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelRunnerError, match=r"cannot read .*none"):
        read_wanted(tmp_path / "none")


@pytest.mark.parametrize(
    ("to", "scoped", "reference", "expected"),
    [
        ("r.example", False, "ai/m:1", "r.example/ai/m:1"),
        ("r.example:5000/", False, "ghcr.io/x/m:1", "r.example:5000/x/m:1"),
        ("r.example/a/b", False, "ai/m:1", "r.example/a/b/ai/m:1"),
        ("R.example/UP", False, "ai/m:1", "r.example/up/ai/m:1"),
        ("r.example/a", True, "ghcr.io/x/m:1", "r.example/a/ghcr.io/x/m:1"),
        ("r.example", True, "localhost:5000/m:1", "r.example/localhost-5000/m:1"),
        ("r.example", False, f"ai/m:1@sha256:{HEX}", "r.example/ai/m:1"),
        ("r.example", False, f"ai/m@sha256:{HEX}", f"r.example/ai/m@sha256:{HEX}"),
        ("r.example", False, "hf.co/Org/Repo-GGUF:Q4_K_M", "r.example/org/repo-gguf:Q4_K_M"),
    ],
)
def test_names_at_a_mirror(to, scoped, reference, expected):
    place = MirrorPlace.parse(to, scoped=scoped)
    assert str(place.name_of(Reference.parse(reference))) == expected


@pytest.mark.parametrize("to", ["https://r.example", "", "/", "r.example/-x", "r ex/a", "x:99999"])
def test_place_that_is_none_is_refused(to):
    with pytest.raises(ModelRunnerError) as caught:
        MirrorPlace.parse(to, scoped=False)
    assert caught.value.exit_code == 2


def test_addresses_for_pulls():
    names = [Reference.parse(text) for text in ("ai/m", "ghcr.io/x/m", "ai/n")]
    assert mirror_settings(MirrorPlace("r.example"), "https", names) == {
        "docker.io": "https://r.example",
        "ghcr.io": "https://r.example",
    }
    assert mirror_settings(MirrorPlace("r.example", "a", scoped=True), "http", names) == {
        "docker.io": "http://r.example/v2/a/docker.io",
        "ghcr.io": "http://r.example/v2/a/ghcr.io",
    }
