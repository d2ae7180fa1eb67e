"""Whether a text that stands where a model is named means a GGUF file."""

from pathlib import Path

SUFFIX = ".gguf"
_PATHS = ("./", "../", "/", "~/", ".\\", "..\\", "\\")


def file_of(text: str) -> str | None:
    """Return the path where the text means a file, not the name of a model.

    `./x` and `/x` are paths whatever is there. A bare `x.gguf` is one where there is such a file.
    """
    if text in (".", "..") or text.startswith(_PATHS) or Path(text).is_absolute():
        return text
    try:
        return text if text.lower().endswith(SUFFIX) and Path(text).is_file() else None
    except (OSError, ValueError):
        return None
