"""Foreign text made safe to show: no control, escape or direction character gets through.

And what to suggest for a name that does not exist.
"""

import re
from collections.abc import Iterable, Sequence

_ALIKE = 0.65
"""How similar two names are that may be mistaken for each other, see `difflib`."""
_BESIDE_THE_BEST = 0.1
_COMPARED = 100
_PREFIX = 3

_SHORTEST_SECRET = 6
_secrets: set[str] = set()

_UNSAFE = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_ESCAPES = r"(?s)\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x1b\\|\x07|$)|[@-Z\\-_])"


def sanitize(text: str) -> str:
    """Text with escape sequences and unsafe characters removed; tabs and line feeds stay."""
    if text.isprintable():
        # most texts: nothing of what follows is printable
        return text
    return re.sub(_UNSAFE, "", re.sub(_ESCAPES, "", text.replace("\r\n", "\n")))


def escape_unsafe(document: str) -> str:
    """Return JSON with its unsafe characters escaped: the same value, safe to show."""
    return re.sub(_UNSAFE, lambda found: f"\\u{ord(found[0]):04x}", document)


def mask(secret: str) -> None:
    """Have a secret masked from now on, wherever foreign text repeats it.

    Registries and helpers get secrets, and what they answer is shown. What is too short to be
    one is passed over: it would be found in every word.
    """
    if len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def sanitize_line(text: str, limit: int = 500) -> str:
    """Text as one safe line of at most `limit` characters: for names and registry messages."""
    line = " ".join(sanitize(text).split())
    # the longest first: of one that contains another nothing is to be left
    for secret in sorted(_secrets, key=len, reverse=True):
        line = line.replace(secret, "***")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def with_article(noun: str) -> str:
    """A noun with its indefinite article: `a model`, `an adapter`."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"


def by_likeness(wanted: str, known: Iterable[str]) -> list[tuple[float, str]]:
    """The names with their likeness to `wanted`, from 1 for the same; case does not count."""
    # most runs end without a mistake
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted.casefold()[:_COMPARED])

    def likeness(name: str) -> float:
        matcher.set_seq1(name.casefold()[:_COMPARED])
        return matcher.ratio()

    return sorted(((likeness(name), name) for name in known), key=lambda each: (-each[0], each[1]))


def closest(wanted: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The names that may have been meant by one that does not exist, best first.

    Of what is alike only that counts which is nearly as much so as the best; then come names that
    begin with what was typed.
    """
    ordered = by_likeness(wanted, known)
    least = max(_ALIKE, ordered[0][0] - _BESIDE_THE_BEST) if ordered else 1.0
    typed = wanted.casefold()
    alike = [name for likeness, name in ordered if likeness >= least]
    begun = [name for _, name in ordered if name.casefold().startswith(typed)]
    return list(dict.fromkeys((*alike, *(begun if len(typed) >= _PREFIX else ()))))[:limit]


def did_you_mean(names: Sequence[str]) -> str | None:
    """The one form of the question, for names that `closest` has found; None for no name."""
    quoted = [f"`{sanitize_line(name, 200)}`" for name in names]
    if not quoted:
        return None
    head, last = ", ".join(quoted[:-1]), quoted[-1]
    return f"did you mean {head} or {last}?" if head else f"did you mean {last}?"


def suggest(wanted: str, known: Iterable[str], limit: int = 3) -> str | None:
    """A hint that names what is spelled like `wanted`, None where nothing is."""
    return did_you_mean(closest(wanted, known, limit))


def available(names: Sequence[str], limit: int = 8) -> str:
    """A hint that lists what could have been meant, and counts the rest of a long list."""
    shown = ", ".join(f"`{sanitize_line(name, 200)}`" for name in names[:limit])
    more = len(names) - limit
    return f"available: {shown}" + (f" and {more} more" if more > 0 else "")


def listed(names: Sequence[str], limit: int = 20) -> str:
    """Names as a part of a sentence, those of a long list only counted: `a, b and 3 more`."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def encodable(text: str) -> str:
    """Text without lone surrogates, which neither a server nor a terminal takes."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def file_text(name: str) -> str:
    """A file's name as UTF-8 text whatever the locale is; other bytes are replaced."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return encodable(name)


def os_reason(error: OSError) -> str:
    """Why a file could not be read or written, as part of a sentence: `permission denied`."""
    reason = error.strerror or str(error)
    return sanitize_line(reason[:1].lower() + reason[1:], 200)


def os_hint(error: OSError) -> str:
    """What to do where a file could not be read or written."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "check the path"
    if isinstance(error, IsADirectoryError):
        return "name a file, not a directory"
    if isinstance(error, PermissionError):
        return "check its owner and permissions: `ls -l`"
    return "check the path and the disk"


def json_fault(error: Exception) -> str:
    """What is wrong with a text that is not JSON: `expected JSON at line 1`."""
    if isinstance(error, RecursionError):
        return "JSON nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"expected UTF-8 text, got other bytes at byte {error.start}"
    line = getattr(error, "lineno", None)
    if line is None and type(error) is ValueError:
        # of our own parser, which refuses what is out of bounds
        return str(error)
    return "expected JSON" if line is None else f"expected JSON at line {line}"


def toml_fault(error: Exception) -> str:
    """What is wrong with a text that is not TOML: `invalid TOML at line 3, column 7`."""
    if isinstance(error, UnicodeDecodeError):
        return f"expected UTF-8 text, got other bytes at byte {error.start}"
    place = re.search(r"\(at ([^()]+)\)$", str(error))
    return "invalid TOML" + (f" at {place[1]}" if place else "")


TOML_HINT = 'text needs quotes: key = "text"; tables are written [name]'
"""What is wrong most often with TOML that people write."""
