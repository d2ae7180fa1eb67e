"""The characteristics table: eight attributes by name, the rest as it stands.

The languages are what takes judgement. Cards write a list, a list in a sentence, a number
(`140+`) or a word (`Multilingual`); the answer is the languages that are named, none if none is.
"""

import re
from collections.abc import Iterable

from modelrunner.cards.card import Attributes
from modelrunner.cards.cells import is_nothing
from modelrunner.cards.markdown import Table, label, links, plain, split_breaks

_REMARK = re.compile(r"\([^()]*\)")
_PARTS = re.compile(r",|;|/|\band\b|&|\n", re.IGNORECASE)
_MODALITIES = re.compile(r",|;|\band\b", re.IGNORECASE)
_LEAD = re.compile(r".*(?::|\b(?:including|includes|include|such as|like|namely|especially)\b)")
_ADVERB = re.compile(r"^(?:primarily|mainly|mostly|also|plus|or)\s+", re.IGNORECASE)
_NO = re.compile(r"(?:❌|✗|✘|✖|(?:no|none|false|not supported|unsupported)\b)", re.IGNORECASE)
_YES = re.compile(r"(?:✅|✓|✔|☑|(?:yes|true|supported)\b)", re.IGNORECASE)
_NAME = re.compile(r"[^\W\d_][^\W\d_]*(?:[ '\u2019-][^\W\d_]+){0,3}")

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
_WORD = re.compile(r"[^\W\d_]+")

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
    if _NO.match(text):
        return False
    return True if _YES.match(text) else None


def parse_modalities(cell: str | None) -> tuple[str, ...] | None:
    """The modalities of `Text, Images` or `Text and image (up to 4k)`, without the remarks."""
    if cell is None or is_nothing(cell):
        return None
    text = _without_remarks(", ".join(split_breaks(plain(cell))))
    return _unique(_MODALITIES.split(text))


def parse_languages(cell: str | None) -> tuple[str, ...] | None:
    """The natural languages that the cell names, in its order; `()` when it names none."""
    if cell is None or is_nothing(cell):
        return None
    whole = ", ".join(split_breaks(plain(cell)))
    text = _without_remarks(whole)
    lead = _LEAD.match(text)
    listed = text[lead.end() :] if lead else text
    # what leads to a list is a sentence: only names that are known count there
    before = _known_in(text[: lead.end()]) if lead else ()
    named = (name for part in _PARTS.split(listed) for name in _languages_in(part))
    return _unique((*before, *named)) or _unique(_known_in(whole))


def _languages_in(part: str) -> Iterable[str]:
    """The name that a part of a list is, else the well-known names inside it."""
    name = _ADVERB.sub("", part.strip().strip(".…* ")).strip()
    words = name.replace("-", " ").split()
    if (
        _NAME.fullmatch(name)
        and not _NO_LANGUAGES.intersection(word.casefold() for word in words)
        and all(word[0].isupper() for word in words)
    ):
        return (name,)
    return _known_in(part)


def _known_in(text: str) -> Iterable[str]:
    return (word for word in _WORD.findall(text) if word in _KNOWN_LANGUAGES)


def _without_remarks(text: str) -> str:
    for _ in range(3):  # remarks in remarks; deeper ones are no text of a person
        text = _REMARK.sub("", text)
    return text


def _text(cell: str | None) -> str | None:
    return None if cell is None or plain(cell) in ("", "-") else plain(cell)


def _unique(parts: Iterable[str]) -> tuple[str, ...]:
    cleaned = (" ".join(part.split()).strip(". ") for part in parts)
    return tuple(dict.fromkeys(part for part in cleaned if part))
