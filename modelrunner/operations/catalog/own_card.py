"""The card that a stored model brings: its README, or a card that refers to it."""

import re
from collections.abc import Iterator
from pathlib import Path

from modelrunner.cards.parser import TEXT_LIMIT
from modelrunner.disk.inside import open_content
from modelrunner.errors import IntegrityError
from modelrunner.store.store import Store, StoredModel

_README = ("readme.md", "modelcard.md", "model_card.md", "card.md")
_FRONT = re.compile(r"\A---\s*\n.*?\n---\s*(?:\n|\Z)", re.DOTALL)
"""YAML at the beginning: metadata of the Hub, not a part of the text."""


def own_card(store: Store, model: StoredModel) -> str | None:
    """Return the text of the card that a model brings; None where it brings none.

    Args:
        store: Where the model is.
        model: The model.
    """
    for path in _candidates(store, model):
        try:
            with open_content(path) as file:
                raw = file.content(4 * TEXT_LIMIT)
        except OSError:
            # a file that is missing is for `verify` to report
            continue
        text = _FRONT.sub("", raw.decode("utf-8-sig", "replace").replace("\r\n", "\n"), count=1)
        if text.strip():
            return text
    return None


def _candidates(store: Store, model: StoredModel) -> Iterator[Path]:
    for referrer in model.referrers:
        if referrer.kind == "card" and referrer.manifest.layers:
            yield store.blobs.path(referrer.manifest.layers[0].digest)
    try:
        layers = model.artifact.layers
    except IntegrityError:
        return
    named = {
        str(layer.path).lower(): layer
        for layer in layers
        if layer.path is not None and len(layer.path.parts) == 1
    }
    for name in _README:
        if name in named:
            yield model.blob(named[name].descriptor)
