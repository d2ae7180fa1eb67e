"""The reference that a pull resolves, out of what was typed."""

from collections.abc import Sequence
from pathlib import Path

from modelrunner.errors import ModelNotFoundError, UsageError
from modelrunner.frozen import replace
from modelrunner.oci.hub_address import selection_tag
from modelrunner.oci.reference import (
    HUGGING_FACE,
    Reference,
    is_whole_id,
    match_id,
    names_tag,
)
from modelrunner.operations.model.named_file import file_of
from modelrunner.store.store import Store
from modelrunner.text import sanitize_line


def reference_to_pull(store: Store, text: str) -> Reference:
    """What the text names; an ID names only what is here.

    Raises:
        ModelNotFoundError: It is an ID, or a name under `local/`, of nothing in the store.
    """
    if match_id(text):
        model = store.lookup(text)
        if model is not None and model.references:
            return model.references[0].with_digest(model.digest)
        if is_whole_id(text):
            raise ModelNotFoundError(
                f"{text}: not in the local store, and cannot be pulled by ID",
                hint="pull it by name and digest: REPOSITORY@sha256:HEX",
            )
    path = file_of(text)
    if path is not None:
        raise _is_file(text)
    reference = Reference.parse(text)
    if reference.is_local and store.lookup(text) is None:
        raise store.not_found(text)
    return store.only_name(text) or reference


def files_to_pull(text: str, include: Sequence[str], exclude: Sequence[str]) -> Reference:
    """The files of a repository of the Hugging Face Hub that globs choose; without any, all.

    Raises:
        UsageError: It is not such a repository, or its name chooses already.
    """
    reference = Reference.parse(text)
    if reference.registry != HUGGING_FACE:
        raise UsageError(
            f"{reference.short}: --all, --include and --exclude need a repository of the Hugging "
            "Face Hub",
            hint="pull it without them: an artifact of a registry is always pulled whole",
        )
    if names_tag(text) or reference.pinned:
        bare = replace(reference, tag=None, digest=None).short
        raise UsageError(
            f"{reference.short} names a model or files already",
            hint=f"write {bare} with --all, --include or --exclude",
        )
    return reference.with_tag(selection_tag(include, exclude))


def _is_file(text: str) -> UsageError:
    shown = sanitize_line(text, 200)
    try:
        there = Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        there = False
    if there:
        return UsageError(
            f"{shown} is a file, not the name of a model",
            hint=f"`modelrunner run {shown}` runs it, `modelrunner import {shown}` adds it to the"
            " local store",
        )
    return UsageError(
        f"{shown}: file not found",
        hint="check the path; a model of a registry has a name such as ai/smollm2",
    )
