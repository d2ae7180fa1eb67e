"""Sentences that people read say things in the words of docker, git, uv and kubectl."""

from pathlib import Path

import pytest

import modelrunner
from tests.support.words import (
    NAMES,
    docstrings,
    faults,
    names,
    odd_in_docstring,
    prose,
    sentences,
)

pytestmark = pytest.mark.xdist_group("sources")

ROOT = Path(modelrunner.__file__).parent

ALLOWED = {
    # names an option
    "--all and --folder need --from",
    "--folder {}: directory not found",
    "no {} models in {}; if they are elsewhere, add --folder DIR",
    "{}; if its models are elsewhere, add --folder DIR",
    "name its directory with --folder",
    # what models write before an answer
    "here is my thought process:",
    "here's my thought process:",
    "here is my response:",
    "here's my response:",
}
"""Sentences with a word that is odd elsewhere and right in them."""


RIGHT_ON_PAGES = ("fetch", "default: ", "contradict")
"""Beginnings of what is odd in a message, and not in a text that explains."""

PAGES = sorted(
    [
        *(ROOT.parent / "docs").rglob("*.md"),
        *(ROOT.parent / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ]
)


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def test_the_sentences_of_the_program_have_plain_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in modules()
        for line, text in sentences(path.read_text())
        if text not in ALLOWED
        for fault in faults(text)
    ]
    assert not found, "\n".join(found)


def test_what_the_program_names_has_the_terms_of_the_field() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}: {NAMES[name.strip('_')]}"
        for path in modules()
        for line, name in names(path.read_text())
        if name.strip("_") in NAMES
    ]
    assert not found, "\n".join(found)


def test_public_names_are_described_in_plain_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in modules()
        for line, text in docstrings(path.read_text())
        for fault in odd_in_docstring(text)
    ]
    assert not found, "\n".join(found)


def test_docstrings_of_public_names_are_found_without_code() -> None:
    source = '''"""It is `told`."""
class A:
    """A class."""
    def f(self):
        """Whoever asks."""
    def _f(self):
        """Nobody."""
async def _g():
    """Nobody."""
def h():
    pass
'''
    assert list(docstrings(source)) == [(1, "It is ."), (3, "A class."), (5, "Whoever asks.")]
    assert odd_in_docstring("There is none, and whoever is told of it. Two are told apart.") == [
        "'told' in 'There is none, and whoever is told of it. Two are told apart.'",
        "'whoever' in 'There is none, and whoever is told of it. Two are told apart.'",
    ]
    assert odd_in_docstring("a tar that is no tar") == ["'is no' in 'a tar that is no tar'"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT.parent)))
def test_the_pages_of_the_documentation_have_plain_words(page: Path) -> None:
    found = [
        f"{page.name}:{number}: {fault}"
        for number, line in prose(page.read_text())
        for fault in faults(line)
        if not fault.lower().startswith(tuple(f"'{word}" for word in RIGHT_ON_PAGES))
    ]
    assert not found, "\n".join(found)


def test_code_on_a_page_is_no_sentence() -> None:
    page = "it is `here` and here\n```console\n$ here\n```\nsaid anew"
    assert [(number, faults(line) != []) for number, line in prose(page)] == [(1, True), (5, True)]
    assert list(prose("`here`")) == [(1, "")]


def test_every_sentence_that_is_allowed_is_there() -> None:
    known = {text for path in modules() for _, text in sentences(path.read_text())}
    assert not ALLOWED - known


@pytest.mark.parametrize(
    "text",
    [
        "'x' is no tag",
        "the digest after @ is none",
        "Tell tokens and speed; TOLD BY, as the server told it",
        "it is started anew",
        "whoever reaches it can use it",
        "there is nobody to ask",
        "Every so manieth layer does without.",
        "So many answers: so many",
        "the models that are here",
        "Origin, licence, template",
        "a type of quantisation",
        "the pull was cancelled",
        "name a folder",
        "Default: f16",
        "A file; default: stdin",
        "A license text; may repeat.",
        "may be repeated",
        "exit status 3",
        "--link and --copy contradict each other",
        "and --offline rules the network out",
        "--limit-rate: nothing would ever come",
        "only what is missing is fetched",
        "Fetch it again, or fetch another",
        "A public key to hold signatures against, and held against it",
        "there is no editor",
        "a picture goes with the next message",
        "Run the same command to go on.",
        "44 B, already there",
        "this server does not heed --format",
        "it stopped amid the answer",
    ],
)
def test_an_odd_word_is_found(text: str) -> None:
    assert faults(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sort by this column (default: name).",
        "x is not a valid tag",
        "as long as the server runs",
        "the license where it is",
        "canceled; nothing was removed",
        "5 models are not in the local store",
    ],
)
def test_a_plain_word_is_not(text: str) -> None:
    assert faults(text) == []


def test_what_people_read_is_found_and_nothing_else() -> None:
    source = '''"""A module: no sentence."""
import re
LIMIT = 3
"""No sentence."""
HINT = "a hint" if LIMIT else "another hint"
PATTERN = re.compile("a pattern|a" + "b c")

@command(examples="  run it")
def run(name: Annotated[str, typer.Option(help="The name.")]) -> None:
    """The help."""
    raise UsageError(f"no {name!r} of {LIMIT:3}" " found", hint="word")

def other():
    """No sentence."""
    say("one" "two three")
'''
    assert sorted(text for _, text in sentences(source)) == [
        "  run it",
        "The help.",
        "The name.",
        "a hint",
        "another hint",
        "no {} of {} found",
        "onetwo three",
    ]
