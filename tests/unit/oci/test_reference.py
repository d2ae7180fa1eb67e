"""What people type as a model's name, and what is made of it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.errors import ExitStatus, InvalidReferenceError
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import (
    Reference,
    is_repository,
    is_tag,
    is_whole_id,
    listed_name,
    match_id,
    names_tag,
    split_name,
)

HEX = "0123456789abcdef" * 4
SHA = f"sha256:{HEX}"

COMPONENTS = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
HOSTS = st.sampled_from(
    [
        "docker.io",
        "ghcr.io",
        "localhost",
        "localhost:5000",
        "127.0.0.1:5001",
        "[::1]",
        "[::1]:5000",
        "a-b.example.org:65535",
    ]
)
TAGS = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
DIGESTS = st.none() | st.just(Digest(HEX))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("granite-4.0-micro", "docker.io/ai/granite-4.0-micro:latest"),
        ("Granite-4.0-Micro:3B-Q4_K_M", "docker.io/ai/granite-4.0-micro:3B-Q4_K_M"),
        ("myorg/m", "docker.io/myorg/m:latest"),
        ("MyOrg/M", "docker.io/myorg/m:latest"),
        ("ai/smollm2", "docker.io/ai/smollm2:latest"),
        ("ghcr.io/o/m", "ghcr.io/o/m:latest"),
        ("GHCR.io/O/M:V1", "ghcr.io/o/m:V1"),
        ("ghcr.io/m", "ghcr.io/m:latest"),
        ("localhost/m", "localhost/m:latest"),
        ("localhost:5000/o/m", "localhost:5000/o/m:latest"),
        ("localhost:5000/o/m:tag", "localhost:5000/o/m:tag"),
        ("127.0.0.1:5001/ai/smollm2:135M-Q4_1", "127.0.0.1:5001/ai/smollm2:135M-Q4_1"),
        ("[::1]:5000/o/m", "[::1]:5000/o/m:latest"),
        ("[::1]/o/m:t", "[::1]/o/m:t"),
        ("a.b/c/d/e/f:t", "a.b/c/d/e/f:t"),
        ("hf.co/Org/Repo:Q8_0", "huggingface.co/org/repo:Q8_0"),
        ("hf.co/Org/Repo", "huggingface.co/org/repo:latest"),
        ("hf.co/Org/Repo@v1.0", "huggingface.co/org/repo@v1.0:latest"),
        ("hf.co/O/R@refs/pr/1:Q8_0", "huggingface.co/o/r@refs/pr/1:Q8_0"),
        ("hf.co/O/R@main:Q8_0", "huggingface.co/o/r:Q8_0"),
        (f"hf.co/O/R@x:Q8_0@sha256:{HEX}", f"huggingface.co/o/r@x:Q8_0@sha256:{HEX}"),
        ("https://huggingface.co/O/R", "huggingface.co/o/r:latest"),
        ("https://www.huggingface.co/O/R/", "huggingface.co/o/r:latest"),
        ("https://hf.co/O/R/tree/main/UD-Q4_K_XL", "huggingface.co/o/r:UD-Q4_K_XL"),
        ("https://hf.co/O/R/tree/refs%2Fpr%2F1", "huggingface.co/o/r@refs/pr/1:latest"),
        ("https://hf.co/O/R/blob/main/a/m.gguf", "huggingface.co/o/r:a/m.gguf"),
        ("hf.co/O/R/resolve/v1/a/m.gguf?download=true", "huggingface.co/o/r@v1:a/m.gguf"),
        ("https://hf.co/O/R?show_file_info=a%2Fm.gguf", "huggingface.co/o/r:a/m.gguf"),
        (
            "https://hf.co/O/R/blob/main/a%20b/m.gguf?download=true",
            "huggingface.co/o/r:a%20b/m.gguf",
        ),
        ("https://hf.co/O/R/blob/refs%2Fpr%2F2/a/m.gguf", "huggingface.co/o/r@refs/pr/2:a/m.gguf"),
        ("https://hf.co/O/R/blob/refs/pr/2/a/m.gguf", "huggingface.co/o/r@refs/pr/2:a/m.gguf"),
        ("https://hf.co/O/R/tree/main/a/b", "huggingface.co/o/r:a/b"),
        ("hf.co/O/R:13B/Q4_K_M", "huggingface.co/o/r:13B/Q4_K_M"),
        ("hf.co/O/R@refs/pr/2:13B/m.gguf", "huggingface.co/o/r@refs/pr/2:13B/m.gguf"),
        ("hf.co/O/R:a b (2).gguf", "huggingface.co/o/r:a%20b%20(2).gguf"),
        ("hf.co/O/R:a%20b%20%282%29.gguf", "huggingface.co/o/r:a%20b%20(2).gguf"),
        ("hf.co/O/R:%C3%A9.gguf", "huggingface.co/o/r:%C3%A9.gguf"),
        ("hf://O/R@refs%2Fpr%2F2/a/m.gguf", "huggingface.co/o/r@refs/pr/2:a/m.gguf"),
        ("huggingface.co/org/repo-GGUF:UD-Q4_K_XL", "huggingface.co/org/repo-gguf:UD-Q4_K_XL"),
        ("www.huggingface.co/org/a--b", "huggingface.co/org/a--b:latest"),
        ("name:", "docker.io/ai/name:latest"),
        ("ghcr.io/o/m:", "ghcr.io/o/m:latest"),
        ("docker.io/smollm2", "docker.io/ai/smollm2:latest"),
        ("index.docker.io/ai/smollm2", "docker.io/ai/smollm2:latest"),
        ("registry.ollama.ai/llama3.2:1b", "registry.ollama.ai/library/llama3.2:1b"),
        ("registry.ollama.ai/me/mine", "registry.ollama.ai/me/mine:latest"),
        ("registry-1.docker.io/ai/smollm2:x", "docker.io/ai/smollm2:x"),
        (f"ai/m@{SHA}", f"docker.io/ai/m@{SHA}"),
        (f"ai/m:tag@{SHA}", f"docker.io/ai/m:tag@{SHA}"),
        (f"ghcr.io/o/m@{SHA}", f"ghcr.io/o/m@{SHA}"),
        (f"localhost:5000/m@{SHA}", f"localhost:5000/m@{SHA}"),
        ("0123456789ab", "docker.io/ai/0123456789ab:latest"),
        ("deadbeef0123:7B", "docker.io/ai/deadbeef0123:7B"),
        ("a__b/c-d.e_f---g", "docker.io/a__b/c-d.e_f---g:latest"),
        (f"m:{'t' * 128}", f"docker.io/ai/m:{'t' * 128}"),
        ("localhost:5000", "docker.io/ai/localhost:5000"),
    ],
)
def test_a_reference_is_completed(text, canonical):
    assert str(Reference.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://hub.docker.com/r/ai/smollm2", "leave out https://"),
        (HEX, "write NAME@sha256:HEX"),
        (SHA, "write NAME@sha256:HEX"),
        ("http://localhost:5000/o/m", "leave out http://"),
        ("oci://https://ai/smollm2", "leave out oci://"),
        ("ai/smollm2:-tag", "a tag has up to 128 letters"),
        ("ai/smollm2:.tag", "a tag has up to 128 letters"),
        ("ai/smollm2:ta g", "a tag has up to 128 letters"),
        ("ai/smollm2:a:b", "a tag has up to 128 letters"),
        ("ai/smollm2:täg", "a tag has up to 128 letters"),
        (f"ai/m:{'t' * 129}", "a tag has up to 128"),
        ("ai/m@sha256:abc", "64 lower-case hex digits"),
        (f"ai/m@sha256:{HEX.upper()}", "64 lower-case hex digits"),
        (f"ai/m@SHA256:{HEX}", "64 lower-case hex digits"),
        (f"ai/m@sha512:{HEX}{HEX}", "64 lower-case hex digits"),
        (f"ai/m@{HEX}", "64 lower-case hex digits"),
        (f"ai/m@{SHA}\n", "64 lower-case hex digits"),
        (f"ai/m@{SHA}@{SHA}", "64 lower-case hex digits"),
        ("ai/m@", "64 lower-case hex digits"),
        ("user:secret@ghcr.io/o/m", "64 lower-case hex digits"),
        ("", "write NAME:TAG"),
        (":", "write NAME:TAG"),
        (":tag", "write NAME:TAG"),
        ("/", "`modelrunner run FILE` runs a GGUF file"),
        ("ai/", "write NAME:TAG"),
        ("/ai/m", "`modelrunner run FILE` runs a GGUF file"),
        ("ai//m", "write NAME:TAG"),
        ("ghcr.io/", "write NAME:TAG"),
        (" ", "write NAME:TAG"),
        (" ai/m", "write NAME:TAG"),
        ("ai/m ", "write NAME:TAG"),
        ("ai/m\n", "write NAME:TAG"),
        ("ai/m\x00", "write NAME:TAG"),
        ("\x00", "write NAME:TAG"),
        ("ai/\x1b[31mred", "write NAME:TAG"),
        ("../x", "`modelrunner run FILE` runs a GGUF file"),
        ("./model.gguf", "`modelrunner run FILE` runs a GGUF file"),
        ("ai/../x", "write NAME:TAG"),
        ("ai/..", "write NAME:TAG"),
        ("ghcr.io/../../etc/passwd", "write NAME:TAG"),
        ("ghcr.io/o/m/../x", "write NAME:TAG"),
        ("hf.co/../x", "write NAME:TAG"),
        ("hf.co/org/a..b", "write NAME:TAG"),
        ("ai\\m", "write NAME:TAG"),
        ("-flag", "write NAME:TAG"),
        ("--json", "write NAME:TAG"),
        ("a___b", "write NAME:TAG"),
        ("mödel", "write NAME:TAG"),
        ("\u212aimi", "write NAME:TAG"),
        ("gh\u212a.io/o/m", "write HOST or HOST:PORT"),
        ("n" * 10_000, "write NAME:TAG"),
        ("n/" * 5_000 + "n", "write NAME:TAG"),
        ("a" * 10_000 + "!", "write NAME:TAG"),
        ("-" * 10_000, "write NAME:TAG"),
        ("a-" * 5_000 + "!", "write NAME:TAG"),
        ("x." * 5_000 + "/m", "write HOST or HOST:PORT"),
        ("localhost:0/m", "write HOST or HOST:PORT"),
        ("localhost:65536/m", "write HOST or HOST:PORT"),
        ("localhost:port/m", "write HOST or HOST:PORT"),
        ("[::1/m", "write HOST or HOST:PORT"),
        ("::1/m", "write HOST or HOST:PORT"),
        ("my_host.example/m", "write HOST or HOST:PORT"),
        ("hf.co/repo", "write hf.co/ORG/REPO"),
        ("hf.co/a/b/c", "write hf.co/ORG/REPO"),
        ("https://hf.co/datasets/a/b", "write hf.co/ORG/REPO"),
        ("https://hf.co/a", "write hf.co/ORG/REPO"),
        ("https://hf.co/a/b/discussions/1", "write hf.co/ORG/REPO"),
        ("hf://a", "write hf.co/ORG/REPO"),
        ("hf.co/a/b@", "hf.co/ORG/REPO@REVISION:QUANT"),
        ("hf.co/a/b@../c", "hf.co/ORG/REPO@REVISION:QUANT"),
        ("hf.co/a/b@-x:Q8_0", "hf.co/ORG/REPO@REVISION:QUANT"),
        ("hf.co/a/b:../c.gguf", "write a quantization, a directory, or the path of a file"),
        ("hf.co/a/b:c//d.gguf", "write a quantization, a directory, or the path of a file"),
        ("hf.co/a/b:a\x1bb.gguf", "write a quantization, a directory, or the path of a file"),
        ("hf.co/a/b:" + "a" * 513, "write a quantization, a directory, or the path of a file"),
    ],
)
def test_what_is_no_reference_is_refused_with_a_hint(text, hint):
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse(text)
    error = caught.value
    assert hint in (error.hint or "")
    assert error.exit_code == ExitStatus.USAGE
    assert len(error.message) < 1000
    assert error.message.isprintable()


@given(HOSTS, st.lists(COMPONENTS, min_size=1, max_size=4), TAGS, DIGESTS)
def test_what_is_printed_is_read_back(host, parts, tag, digest):
    text = f"{host}/{'/'.join(parts)}"
    text += f":{tag}" if tag else ""
    text += f"@{digest}" if digest else ""
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.short) == reference


@given(st.text(max_size=80) | st.text("./:@-_aZ0[]", max_size=40))
def test_any_text_is_a_reference_or_refused_as_one(text):
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.short) == reference
    assert str(reference).isascii()
    assert ".." not in str(reference).split("/")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("smollm2", "ai/smollm2:latest"),
        ("docker.io/ai/smollm2:135M", "ai/smollm2:135M"),
        ("ghcr.io/o/m", "ghcr.io/o/m:latest"),
        ("hf.co/Org/Repo:Q8_0", "hf.co/Org/Repo:Q8_0"),
        ("docker.io/my.org/m", "docker.io/my.org/m:latest"),
        ("docker.io/localhost/m", "docker.io/localhost/m:latest"),
    ],
)
def test_the_short_name_is_what_people_type_and_means_the_same(text, short):
    reference = Reference.parse(text)
    assert reference.short == short
    assert Reference.parse(short) == reference


@given(st.text(alphabet="aZ0-._/é\n", max_size=8) | st.text(max_size=8))
def test_names_and_tags_are_those_of_the_distribution_specification(text):
    component = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    parts = text.split("/")
    assert is_repository(text) == all(re.fullmatch(component, part) for part in parts)
    assert is_tag(text) == bool(re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", text))


def test_a_tag_has_at_most_128_characters():
    assert (is_tag("a" * 128), is_tag("a" * 129)) == (True, False)


@given(st.text(alphabet="0af9AFg:sha256", max_size=80))
def test_digests_and_ids_are_lower_case_hex_digits(text):
    for hexes in (text, f"sha256:{text}", text[:12], f"sha256:{text[:12]}", "0" * 64, "a" * 12):
        found = re.fullmatch(r"(?:sha256:)?([0-9a-f]{64})|([0-9a-f]{12})", hexes)
        assert match_id(hexes) == (found and (found[1] or found[2]))
        assert is_whole_id(hexes) == bool(found and found[1])


def test_the_case_of_a_hugging_face_repository_is_remembered_but_does_not_tell_models_apart():
    one, other = Reference.parse("hf.co/Org/Repo:Q8_0"), Reference.parse("hf.co/org/repo:Q8_0")
    assert one == other
    assert one.original_repository == "Org/Repo"


def test_a_digest_pins_and_a_tag_unpins():
    reference = Reference.parse("ai/m:t")
    pinned = reference.with_digest(Digest(HEX))
    assert (reference.pinned, pinned.pinned) == (False, True)
    assert str(pinned) == f"docker.io/ai/m:t@{SHA}"
    assert str(pinned.with_tag("other")) == "docker.io/ai/m:other"


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        (SHA, HEX),
        (HEX, HEX),
        (HEX[:12], HEX[:12]),
        (HEX.upper(), None),
        (HEX[:11], None),
        (HEX[:13], None),
        (f"sha256:{HEX[:12]}", None),
        (f"{HEX[:12]}\n", None),
        (f"{HEX[:12]}:latest", None),
    ],
)
def test_an_id_has_twelve_or_sixty_four_digits(text, digits):
    assert match_id(text) == digits


@pytest.mark.parametrize(
    ("text", "registry", "path"),
    [
        ("ai/x", "docker.io", "ai/x"),
        ("x", "docker.io", "x"),
        ("docker.io/ai/x", "docker.io", "ai/x"),
        ("Index.Docker.io/ai/x", "docker.io", "ai/x"),
        ("ghcr.io/ai/x", "ghcr.io", "ai/x"),
        ("hf.co/org/repo", "huggingface.co", "org/repo"),
        ("localhost:5000/x", "localhost:5000", "x"),
        ("docker.io/my.org/x", "docker.io", "my.org/x"),
    ],
)
def test_full_name_on_the_wire_is_a_registry_and_a_path(text, registry, path):
    assert split_name(text) == (registry, path)
    assert split_name(listed_name(registry, path)) == (registry, path)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("local/x:1", True),
        ("Local/x", True),
        ("docker.io/local/x", True),
        ("local", False),
        ("localx/y", False),
        ("ai/local", False),
        ("localhost/local/x", False),
        ("ghcr.io/local/x", False),
        ("hf.co/local/x", False),
    ],
)
def test_name_made_on_this_machine_is_recognized(text, local):
    assert Reference.parse(text).is_local is local


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("local/x", False),
        ("local/x:", False),
        ("local/x:latest", True),
        ("localhost:5000/x", False),
        ("localhost:5000/x:1", True),
        (f"x@{SHA}", False),
        (f"x:1@{SHA}", True),
        ("hf.co/a/b@main:Q8_0", True),
    ],
)
def test_tag_is_written_or_the_default(text, written):
    assert names_tag(text) is written


def test_a_prefix_says_that_an_image_has_a_model():
    found = Reference.parse("oci://localhost:5000/team/car:1")
    assert found.image
    assert str(found) == "localhost:5000/team/car:1"
    assert found == Reference.parse("localhost:5000/team/car:1")
    assert found.with_tag("2").image
    assert not Reference.parse("team/car:1").image
