"""What people write into `modelrunner.toml`, and what they are told where it is wrong."""

from contextlib import suppress
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.errors import ExitStatus, UsageError
from modelrunner.lockfile.intent import (
    Fit,
    Intent,
    ModelIntent,
    first_intent,
    parse_intent,
    read_intent,
)
from modelrunner.oci.reference import Reference


def refused(text: str) -> tuple[str, str | None]:
    with pytest.raises(UsageError) as caught:
        parse_intent(text.encode())
    assert caught.value.exit_code is ExitStatus.USAGE
    return caught.value.message, caught.value.hint


def test_a_model_has_a_reference_and_may_have_a_fit_and_a_place() -> None:
    intent = parse_intent(
        b"""
        [models]
        embed = "ai/embed:Q8"

        [models.chat]
        ref = "ai/granite-4.0-micro:3B-Q4_K_M"
        fit = { vram = "8GiB", context = 8192 }
        output = "models/chat"
        """
    )
    assert intent == Intent(
        "modelrunner.toml",
        (
            ModelIntent(
                "chat",
                Reference.parse("ai/granite-4.0-micro:3B-Q4_K_M"),
                "ai/granite-4.0-micro:3B-Q4_K_M",
                Fit(8 * 1024**3, 8192),
                PurePosixPath("models/chat"),
            ),
            ModelIntent("embed", Reference.parse("ai/embed:Q8"), "ai/embed:Q8"),
        ),
    )
    assert [model.line for model in intent.models] == [5, 3]


def test_the_long_spellings_mean_the_same() -> None:
    short = b'[models.a]\nref = "ai/m"\nfit = {vram = 1024, context = 5}'
    assert parse_intent(short) == parse_intent(
        b'[models.a]\nreference = "ai/m"\nfit = {vram = "1KiB", ctx = 5}'
    )


@pytest.mark.parametrize(
    ("text", "is_chosen"),
    [("ai/m", True), ("host:5000/m", True), ("ai/m:1", False), (f"m@sha256:{'0' * 64}", False)],
)
def test_a_variant_is_chosen_where_no_tag_says_which(text: str, is_chosen: bool) -> None:
    for fit, expected in (('\nfit = {vram = "1GiB"}', is_chosen), ("", False)):
        intent = parse_intent(f'[models.a]\nref = "{text}"{fit}'.encode())
        assert intent.model("a").is_chosen is expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "modelrunner.toml:1: no models listed", "add one, such as"),
        ("[models]\n", "modelrunner.toml:1: no models listed", "add one, such as"),
        ('[modles]\na = "ai/m"', "modelrunner.toml:1: unknown key 'modles'", "`models`?"),
        (
            '[models.a]\nref = "ai/m"\noutptu = "x"',
            "modelrunner.toml:3: unknown key 'outptu'",
            "did you mean `output`?",
        ),
        (
            '[models.a]\nref = "ai/m"\nfit = {vram = "1GiB", contxt = 1}',
            "modelrunner.toml:3: unknown key 'contxt'",
            "did you mean `context`?",
        ),
        (
            '[models.a]\nref = "ai/m"\nreference = "ai/m"',
            "modelrunner.toml:3: reference and ref mean the same: set only one",
            None,
        ),
        ('[models.a]\noutput = "x"', "modelrunner.toml:1: a: missing `ref`", 'ref = "ai/..."'),
        ("[models]\na = 1", "modelrunner.toml:2: models.a must be a reference or a table", None),
        ('[models]\n"a b" = "ai/m"', "modelrunner.toml:2: invalid model name 'a b'", "letters"),
        (
            '[models.a]\nref = "AI:/m"',
            "modelrunner.toml:2: 'AI:/m': 'ai:' is not a valid registry",
            "host",
        ),
        ('[models.a]\nref = "ai/m"\nfit = 1', "modelrunner.toml:3: fit must be a table", "vram"),
        (
            '[models.a]\nref = "ai/m"\nfit = {context = 1}',
            "modelrunner.toml:3: fit needs vram",
            "vram",
        ),
        (
            '[models.a]\nref = "ai/m"\nfit = {vram = "lots"}',
            "modelrunner.toml:3: vram: invalid size 'lots' (examples: 8GiB, 20MB, 512k)",
            None,
        ),
        (
            '[models.a]\nref = "ai/m"\nfit = {vram = true}',
            "modelrunner.toml:3: vram must be an amount of memory",
            "8GiB",
        ),
        (
            '[models.a]\nref = "ai/m"\nfit = {vram = 1, context = 0}',
            "modelrunner.toml:3: context must be a number of tokens",
            None,
        ),
        (
            '[models]\na = {ref = "ai/m", output = "x"}\nb = {ref = "ai/n", output = "./x"}',
            "modelrunner.toml:3: a and b have the same output 'x'",
            "give each model its own directory",
        ),
        (
            '[models]\na = "ai/m"\n[modelz.chat]\nref = "ai/m"',
            "modelrunner.toml:3: unknown key 'modelz'",
            "`models`?",
        ),
        (
            'models.a.ref = "ai/m"\nmodelz.b.ref = "ai/m"',
            "modelrunner.toml:2: unknown key 'modelz'",
            "`models`?",
        ),
        ("[models\n", "modelrunner.toml:1: invalid TOML", "text needs quotes"),
        (
            '[models]\na = "ai/m"\na = "ai/n"',
            "modelrunner.toml:3: invalid TOML",
            "text needs quotes",
        ),
        (
            '[models]\n<<<<<<< HEAD\na = "ai/m"\n=======\na = "ai/n"\n>>>>>>> other\n',
            "modelrunner.toml:2: unresolved merge conflict",
            "run `modelrunner lock`",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, message: str, hint: str | None) -> None:
    found = refused(text)
    assert found[0].startswith(message)
    assert (hint or "") in (found[1] or "")


@pytest.mark.parametrize("output", ["/etc", "../x", "a/../../x", "C:x", "", "a\\b"])
def test_an_output_stays_inside_the_project(output: str) -> None:
    message, hint = refused(f"[models.a]\nref = 'ai/m'\noutput = '{output}'")
    assert message.startswith("modelrunner.toml:3: output ")
    assert message.endswith(" is outside of the project")
    assert hint == "write a directory below this file, such as models/chat"


def test_the_line_is_a_fact_of_the_error() -> None:
    with pytest.raises(UsageError) as caught:
        parse_intent(b"\n\n[models]\na = 1\n", "ci/modelrunner.toml")
    assert caught.value.facts == {"file": "ci/modelrunner.toml", "line": 4}


def test_a_name_that_is_not_there_has_near_ones() -> None:
    intent = parse_intent(b'[models]\nchat = "ai/m"')
    with pytest.raises(UsageError) as caught:
        intent.model("chta")
    assert caught.value.hint == "did you mean `chat`?"


def test_without_a_file_the_hint_is_one_that_would_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"modelrunner\.toml: file not found") as caught:
        read_intent(tmp_path / "modelrunner.toml")
    assert caught.value.hint == ("create it with `modelrunner lock --init REF...`")


@pytest.mark.parametrize(
    ("references", "names"),
    [
        (["ai/smollm2"], ["smollm2"]),
        (["ai/granite-4.0-micro:3B", "ai/x:1", "ai/x:1"], ["granite-4.0-micro", "x"]),
        (["ai/x:1", "ghcr.io/other/x:1"], ["ai-x-1", "ghcr.io-other-x-1"]),
        (["hf.co/Org/Model_GGUF:Q4_K_M"], ["model_gguf"]),
        ([f"ai/m@sha256:{'0' * 64}"], ["m"]),
        ([f"ai/{'long' * 30}:1"], [("long" * 30)[-64:]]),
    ],
)
def test_the_first_file_names_models_after_their_repositories(
    references: list[str], names: list[str]
) -> None:
    found = parse_intent(first_intent(references).encode()).models
    assert [wanted.name for wanted in found] == names
    assert {wanted.text for wanted in found} == set(references)


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "modelrunner.toml"
    with path.open("wb") as file:
        file.truncate(2 * 1024 * 1024)
    with pytest.raises(UsageError, match="exceeds 1048576 bytes"):
        read_intent(path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a = " + b"[" * 100_000, b"a = " + b"9" * 10_000, b"\0", b"a = 1-1-1"]
)
def test_hostile_files_are_refused_in_our_words(content: bytes) -> None:
    with pytest.raises(UsageError):
        parse_intent(content)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("filling", [" ", "[", "a.", '"', "= "])
def test_a_line_without_end_takes_no_time_without_end(filling: str) -> None:
    for text in (
        f"{filling * 300_000}x",
        f"{filling * 4000}x",
        f'[models]\na = "ai/m"\n{filling * 300_000}x\nb = 1',
    ):
        with pytest.raises(UsageError):
            parse_intent(text.encode())


def test_a_byte_order_mark_and_foreign_line_ends_do_no_harm() -> None:
    intent = parse_intent(b'\xef\xbb\xbf[models]\r\na = "ai/m"\r\n')
    assert intent.model("a").line == 2


@given(st.text())
def test_no_text_is_met_with_anything_but_our_errors(text: str) -> None:
    for content in (text, f"[models]\n{text}", f"[models.a]\nref = {text}", f"[models.a]{text}"):
        with suppress(UsageError):
            parse_intent(content.encode("utf-8", "replace"))
