"""Chat templates by name, for models that bring none: Jinja files that every runtime takes.

llama.cpp knows such names itself, but not where it reads Jinja; a file means the same to all.
"""

from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.text import sanitize_line, suggest

_FOLDER = Path(__file__).parent / "templates"
_SUFFIX = ".jinja"
_LIMIT = 1024 * 1024

NAMES = tuple(sorted(file.name.removesuffix(_SUFFIX) for file in _FOLDER.glob(f"*{_SUFFIX}")))
"""The names of the templates that come with this program."""

_FAMILIES = (
    ("llama4", "llama4"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("gemma", "gemma"),
    ("phi4", "phi4"),
    ("phi", "phi3"),
    ("granite", "granite"),
    ("command-r", "command-r"),
    ("cohere", "command-r"),
    ("deepseek", "deepseek"),
)
_LLAMA_3 = ("llama-bpe", "llama3", "llama-v3")
_TEKKEN = "tekken"


def template_file(text: str) -> Path:
    """Return the file of a template, by its name or its path.

    Raises:
        UsageError: There is no such template, or the file is not one.
    """
    if text in NAMES:
        return _FOLDER / f"{text}{_SUFFIX}"
    shown = sanitize_line(text, 200)
    try:
        file = Path(text).expanduser().absolute()
        # outside: a template that a person names, or one of ours
        template = file.read_bytes()[: _LIMIT + 1].decode()
    except (FileNotFoundError, NotADirectoryError) as exc:
        if not {"/", "\\", "."} & set(text):
            raise UsageError(
                f"unknown chat template {shown!r}", hint=suggest(text, NAMES) or _HINT
            ) from exc
        raise UsageError(f"{shown}: file not found", hint=_HINT) from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{shown} is not a chat template: it is not UTF-8", hint=_HINT) from exc
    except (OSError, ValueError, RuntimeError) as exc:
        reason = (getattr(exc, "strerror", None) or "invalid path").lower()
        raise UsageError(f"cannot read {shown}: {reason}", hint=_HINT) from exc
    if len(template) > _LIMIT or "messages" not in template:
        raise UsageError(
            f"{shown} is not a chat template: it does not use `messages`",
            hint=_HINT,
        )
    return file


def checked(text: str) -> str:
    """Return a template as it is kept: its name, or the absolute path of its file.

    Raises:
        UsageError: There is no such template, or the file is not one.
    """
    file = template_file(text)
    return text if text in NAMES else str(file)


def name_of(file: Path) -> str:
    """Return what to call a template: its name, or the path of its file."""
    return file.name.removesuffix(_SUFFIX) if file.parent == _FOLDER else str(file)


def family_template(architecture: str | None, pre_tokenizer: str | None, name: str | None) -> str:
    """Return the name of the template that models of a family are usually trained with.

    Args:
        architecture: As llama.cpp calls it: `gemma3`, `llama`.
        pre_tokenizer: The value of `tokenizer.ggml.pre`.
        name: The maker's name of the model.
    """
    architecture, pre = (architecture or "").lower(), (pre_tokenizer or "").lower()
    if architecture == "llama":
        title = (name or "").lower()
        if _TEKKEN in pre or "mistral" in title or "mixtral" in title:
            return "mistral"
        if pre in _LLAMA_3:
            return "llama3"
        return "llama2" if "llama-2" in title or "llama 2" in title else "chatml"
    return next((name for start, name in _FAMILIES if architecture.startswith(start)), "chatml")


_HINT = f"use one of {', '.join(NAMES)}, or a file with a Jinja template"
