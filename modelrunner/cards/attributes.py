"""The characteristics table: eight attributes by name, the rest as it stands.

The languages are what takes judgement. Cards write a list, a list in a sentence, a number
(`140+`) or a word (`Multilingual`); the answer is the languages that are named, none if none is.
"""

import re
from collections.abc import Iterable

from modelrunner.cards.card import Attributes
from modelrunner.cards.cells import is_nothing
from modelrunner.cards.markdown import Table, label, links, plain, split_breaks

_REMARK = r"\([^()]*\)"
_PARTS = r"(?i),|;|/|\band\b|&|\n"
_MODALITIES = r"(?i),|;|\band\b"
_LEAD = r".*(?::|\b(?:including|includes|include|such as|like|namely|especially)\b)"
_ADVERB = r"(?i)^(?:primarily|mainly|mostly|also|plus|or)\s+"
_NO = r"(?i)(?:❌|✗|✘|✖|(?:no|none|false|not supported|unsupported)\b)"
_YES = r"(?i)(?:✅|✓|✔|☑|(?:yes|true|supported)\b)"
_NAME = r"[^\W\d_][^\W\d_]*(?:[ '\u2019-][^\W\d_]+){0,3}"

_NAMES = {
    "provider": "provider",
    "architecture": "architecture",
    "cutoff date": "cutoff_date",
    "cut-off date": "cutoff_date",
    "languages": "languages",
    "tool calling": "tool_calling",
    "input modalities": "input_modalities",
    "output modalities": "output_modalities",
    "license": "license",
    "licence": "license",
}
_WORD = r"[^\W\d_]+"

_WORDS_ABOUT = """
    all any code codes coding dozens etc global languages many more most multilingual multiple
    natural none not numerous other others over programming several spoken the unknown various
    via with
"""
_NAMES_OF_LANGUAGES = """
    Afrikaans Albanian Amharic Arabic Armenian Azerbaijani Basque Belarusian Bengali Bosnian
    Bulgarian Burmese Cantonese Catalan Chinese Croatian Czech Danish Dutch English Esperanto
    Estonian Filipino Finnish French Galician Georgian German Greek Gujarati Haitian Hausa Hebrew
    Hindi Hungarian Icelandic Igbo Indonesian Irish Italian Japanese Javanese Kannada Kazakh Khmer
    Korean Kurdish Lao Latin Latvian Lithuanian Macedonian Malay Malayalam Maltese Mandarin
    Marathi Mongolian Nepali Norwegian Pashto Persian Polish Portuguese Punjabi Romanian Russian
    Serbian Sinhala Slovak Slovenian Somali Spanish Sundanese Swahili Swedish Tagalog Tajik Tamil
    Telugu Thai Tibetan Turkish Ukrainian Urdu Uzbek Vietnamese Welsh Xhosa Yoruba Zulu
"""
_NO_LANGUAGES = frozenset(_WORDS_ABOUT.split())
_KNOWN_LANGUAGES = frozenset(_NAMES_OF_LANGUAGES.split())


def parse_attributes(table: Table) -> Attributes:
    """The attributes of a two-column table; the first row of a name counts."""
    cells: dict[str, str] = {}
    extra: list[tuple[str, str]] = []
    for row in table.rows:
        if len(row) < 2:  # noqa: PLR2004
            continue
        name = _NAMES.get(label(row[0]))
        if name is not None:
            cells.setdefault(name, row[1])
        elif label(row[0]):
            extra.append((plain(row[0]).strip("*:` "), plain(row[1])))
    return Attributes(
        provider=_text(cells.get("provider")),
        architecture=_text(cells.get("architecture")),
        cutoff_date=_text(cells.get("cutoff_date")),
        languages=parse_languages(cells.get("languages")),
        tool_calling=parse_tool_calling(cells.get("tool_calling")),
        input_modalities=parse_modalities(cells.get("input_modalities")),
        output_modalities=parse_modalities(cells.get("output_modalities")),
        license=_text(cells.get("license")),
        license_url=next((url for _, url in links(cells.get("license", ""))), None),
        extra=tuple(extra),
    )


def parse_tool_calling(cell: str | None) -> bool | None:
    """True, false, or `None` for a cell that says neither."""
    text = plain(cell or "")
    if re.match(_NO, text):
        return False
    return True if re.match(_YES, text) else None


def parse_modalities(cell: str | None) -> tuple[str, ...] | None:
    """The modalities of `Text, Images` or `Text and image (up to 4k)`, without the remarks."""
    if cell is None or is_nothing(cell):
        return None
    text = _without_remarks(", ".join(split_breaks(plain(cell))))
    return _unique(re.split(_MODALITIES, text))


def parse_languages(cell: str | None) -> tuple[str, ...] | None:
    """The natural languages that the cell names, in its order; `()` when it names none."""
    if cell is None or is_nothing(cell):
        return None
    whole = ", ".join(split_breaks(plain(cell)))
    text = _without_remarks(whole)
    lead = re.match(_LEAD, text)
    listed = text[lead.end() :] if lead else text
    # what leads to a list is a sentence: only names that are known count there
    before = _known_in(text[: lead.end()]) if lead else ()
    named = (name for part in re.split(_PARTS, listed) for name in _languages_in(part))
    return _unique((*before, *named)) or _unique(_known_in(whole))


def _languages_in(part: str) -> Iterable[str]:
    """The name that a part of a list is, else the well-known names inside it."""
    name = re.sub(_ADVERB, "", part.strip().strip(".…* ")).strip()
    words = name.replace("-", " ").split()
    if (
        re.fullmatch(_NAME, name)
        and not _NO_LANGUAGES.intersection(word.casefold() for word in words)
        and all(word[0].isupper() for word in words)
    ):
        return (name,)
    return _known_in(part)


def _known_in(text: str) -> Iterable[str]:
    return (word for word in re.findall(_WORD, text) if word in _KNOWN_LANGUAGES)


def _without_remarks(text: str) -> str:
    for _ in range(3):  # remarks in remarks; deeper ones are no text of a person
        text = re.sub(_REMARK, "", text)
    return text


def _text(cell: str | None) -> str | None:
    return None if cell is None or plain(cell) in ("", "-") else plain(cell)


def _unique(parts: Iterable[str]) -> tuple[str, ...]:
    cleaned = (" ".join(part.split()).strip(". ") for part in parts)
    return tuple(dict.fromkeys(part for part in cleaned if part))
