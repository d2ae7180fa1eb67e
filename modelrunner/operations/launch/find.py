"""The model to launch: a file, a model of the store, or one that is pulled first."""

from collections.abc import Callable
from pathlib import Path

from modelrunner.errors import InvalidReferenceError
from modelrunner.oci.reference import Reference, match_id
from modelrunner.operations.package.file_model import file_model
from modelrunner.operations.pull.outcome import Pulled
from modelrunner.store.store import Store, StoredModel
from modelrunner.text import file_text, sanitize_line


def find_or_pull(
    store: Store,
    text: str,
    pull: Callable[[str], Pulled],
    *,
    projector: Path | None = None,
    say: Callable[[str], None],
) -> tuple[StoredModel, str]:
    """Return the model, from a file, the store or else the registry, and what people call it.

    Args:
        store: The local store.
        text: A name, an ID or a file.
        pull: Pulls a model that is not in the store, by what it was called.
        projector: The projector of a file.
        say: Takes a sentence about a file that is used in place.

    Raises:
        UnsupportedArtifactError: It is a model of a format that llama.cpp does not read.
    """
    of_file = file_model(store, text, projector)
    if of_file is not None:
        name = sanitize_line(file_text(text))
        say(f"{name}: using the file in place, nothing is copied")
        return of_file, name
    model = store.lookup(text)
    if model is None:
        pulled = pull(text)
        model, name = pulled.model, pulled.name.short
    else:
        name = _name_of(store, model, text)
    model.unpack()
    model.artifact.require_runnable(name)
    return model, name


def _name_of(store: Store, model: StoredModel, text: str) -> str:
    """What the user calls it, spelled out; of a model asked for by ID its first name."""
    only = store.only_name(text) if match_id(text) is None else None
    if only is not None:
        return only.short
    try:
        wanted = Reference.parse(text)
    except InvalidReferenceError:
        # an ID with its `sha256:`
        wanted = None
    meant = None if wanted is None or wanted.pinned else model.name_for(wanted)
    name = meant or next(iter(model.references), None)
    return model.digest.short if name is None else name.short
