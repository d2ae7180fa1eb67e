"""Derive: a model with the weights of one that is stored, and settings or a template of its own.

Nothing is copied: the new artifact names the same blobs, under a config of its own. It is one of
Docker's family, the only one whose config has settings.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from modelrunner.errors import UsageError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.oci.reference import Reference
from modelrunner.operations.model import headers
from modelrunner.operations.package.build_artifact import LAYER_TYPES, assemble
from modelrunner.runtime import packaged
from modelrunner.runtime.settings import Value
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_moment

_CARRIED = {Role.WEIGHTS: "weights", Role.PROJECTOR: "projector", Role.LICENSE: "license"}
_TEMPLATE_NAME = "chat_template.jinja"


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What the new model has that the other has not; None is as there.

    Attributes:
        settings: Settings that are advised for a launch, by their names.
        template: The chat template.
        licenses: Texts of licenses, beside those that there are.
    """

    settings: Mapping[str, Value] = field(default_factory=dict)
    template: str | None = None
    licenses: Sequence[str] = ()


def derive(
    store: Store, model: StoredModel, name: Reference, differences: Differences, created: datetime
) -> StoredModel:
    """Make a model of another one, and name it.

    Args:
        store: Where both are.
        model: The other one.
        name: The name of the new one.
        differences: What is not as there.
        created: The time in its config.

    Raises:
        UsageError: No artifact may bring one of the settings, or the model has an adapter.
        DiskFullError, StoreAccessError: It cannot be stored.
    """
    advised = packaged.checked(differences.settings)
    context = differences.settings.get(packaged.CONTEXT)
    artifact, config = model.artifact, model.config
    adapter = next((layer for layer in artifact.layers if layer.role is Role.ADAPTER), None)
    if adapter is not None and artifact.family != "docker":
        raise UsageError(
            f"{name.short}: cannot be made of a model with an adapter",
            hint="set the adapter on each machine: `modelrunner configure REF --set lora=FILE`",
        )
    config = replace(
        config,
        family="docker",
        settings={**packaged.Packaged.read(config.settings).to_dict(), **advised},
        # bounded: a setting that was checked
        context_length=config.context_size if context is None else int(context),
        created=format_moment(created),
    )
    with store.arriving():
        layers = [
            _carried(layer)
            for layer in artifact.layers
            if not (layer.role is Role.TEMPLATE and differences.template is not None)
        ]
        if differences.template is not None:
            layers.append(_text(store, "template", _TEMPLATE_NAME, differences.template))
        for text in differences.licenses:
            # the other model may have a LICENSE
            title = f"LICENSE-{Digest.of(text.encode()).short}"
            layers.append(_text(store, "license", title, text))
        metadata = headers.of_stored(model).metadata
        manifest, raw = assemble(config, layers, metadata, name.repository)
        store.blobs.put(manifest.config, raw)
        return store.add(manifest, [name])


def _carried(layer: Layer) -> Descriptor:
    """A layer as Docker's family has it."""
    role = _CARRIED.get(layer.role)
    if role is None or not layer.descriptor.media_type.startswith(media_types.MODELPACK_PREFIX):
        return layer.descriptor
    return replace(layer.descriptor, media_type=LAYER_TYPES["docker"][role])


def _text(store: Store, role: str, title: str, text: str) -> Descriptor:
    content = text.encode()
    annotations = {
        media_types.ANNOTATION_PATH: title,
        media_types.ANNOTATION_FILE: json.dumps({"name": title, "size": len(content)}),
        media_types.ANNOTATION_TITLE: title,
    }
    layer = Descriptor(LAYER_TYPES["docker"][role], Digest.of(content), len(content), annotations)
    store.blobs.put(layer, content)
    return layer
