"""Container images with a model in them (modelcars): the files below `/models`.

A manifest says that by its annotations, and the config by its labels or by what has made the
layers. Of an image that says nothing, only a person knows.
"""

import re
from collections.abc import Iterable, Mapping

from modelrunner.errors import MalformedManifestError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Manifest, parse_json
from modelrunner.oci.model.families.family import ArtifactFamily
from modelrunner.oci.model.layers import Layer, Role

_KEYS = ("org.cnai.model.", "org.cncf.model.", media_types.MODEL_LABELS)
_TYPE = ("org.containers.type", "ai.image.model")
_COPIED = r"\b(?:COPY|ADD)\b.*\s/?models(?:/|\s|$)|^modelrunner: /models/"
_LONGEST = 10_000


def config_says_model(raw: bytes) -> bool:
    """Whether the config of an image says that it has a model in it."""
    try:
        value = parse_json(raw, "the config of the image")
    except MalformedManifestError:
        return False
    config, history = value.get("config"), value.get("history")
    labels = config.get("Labels") if isinstance(config, dict) else None
    if isinstance(labels, dict) and _speaks(labels):
        return True
    steps = history[:_LONGEST] if isinstance(history, list) else []
    made = (step.get("created_by") for step in steps if isinstance(step, dict))
    return any(isinstance(text, str) and re.search(_COPIED, text[:_LONGEST]) for text in made)


def _speaks(notes: Mapping[str, object]) -> bool:
    kind = notes.get(_TYPE[0])
    return any(key.startswith(_KEYS) for key in notes) or (
        isinstance(kind, str) and kind.startswith(_TYPE[1])
    )


def _recognizes(manifest: Manifest) -> bool:
    notes: Iterable[Mapping[str, str]] = (
        manifest.annotations,
        *(layer.annotations for layer in manifest.layers),
    )
    return manifest.is_image and any(map(_speaks, notes))


def _layer_of(descriptor: Descriptor) -> Layer:
    return Layer(descriptor, Role.FILE, None, archived=True)


IMAGE_FAMILY = ArtifactFamily("image", _recognizes, _layer_of, one_model=False)
