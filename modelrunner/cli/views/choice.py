"""The files that were chosen for a name that leaves it open, in one line."""

from modelrunner.huggingface.names import normalized
from modelrunner.oci.hub_address import unquoted
from modelrunner.oci.near import typed
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import Choice
from modelrunner.text import sanitize_line


def choice_line(reference: Reference, choice: Choice) -> str | None:
    """Return which files were chosen; None where the name itself says so."""
    tag, label = reference.tag or "", choice.name.tag or ""
    named = normalized(tag) == label or label.lower() == tag.lower() or unquoted(tag) == choice.file
    parts = [] if named else [label, sanitize_line(choice.file, 200)]
    if choice.projector is not None and (choice.others or not named):
        others = ", ".join(sanitize_line(path, 200) for path in choice.others)
        also = f" (also available: {others})" if others else ""
        parts.append(f"projector {sanitize_line(choice.projector, 200)}{also}")
    return f"{typed(reference)}: using {', '.join(dict.fromkeys(parts))}" if parts else None
