"""The reference that a pull resolves, out of what was typed."""

from pathlib import Path

from modelrunner.errors import ModelNotFoundError, UsageError
from modelrunner.oci.reference import Reference, is_whole_id, match_id
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
