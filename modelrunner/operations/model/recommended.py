"""What the makers of a model recommend: in its config, its header, and files beside."""

from collections.abc import Mapping

from modelrunner.disk.inside import open_content
from modelrunner.gguf.metadata import Metadata
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.runtime.packaged import Packaged
from modelrunner.runtime.sampling import Recommended, of_header, of_parameters
from modelrunner.store.store import StoredModel
from modelrunner.wire import parse_json

_FILES = ("params", "params.json", "generation_config.json")
"""Files of parameters: Ollama's and the Hugging Face Hub's. The first that is there counts."""

_LIMIT = 64 * 1024


def recommended_by(model: StoredModel, metadata: Metadata) -> Recommended:
    """Return what the model's own files recommend; what cannot be understood recommends nothing.

    Whoever packages a model may know better than its header's maker.
    """
    packaged = Packaged.read(model.config.settings).sampling
    own = packaged.over(of_parameters(_parameters(model)))
    return Recommended((("artifact", own), ("header", of_header(metadata.values))))


def packaged_by(model: StoredModel) -> Packaged:
    """Return the settings that an artifact brings, its context where that says something."""
    if not model.is_runnable:
        # what runs it reads other files
        return Packaged()
    config = model.config
    return Packaged.read(config.settings).with_context(config.advised_context)


def _parameters(model: StoredModel) -> Mapping[str, object]:
    files = {
        layer.path.name: layer
        for layer in model.artifact.layers
        if layer.role is Role.FILE and layer.path is not None
    }
    found = next((files[name] for name in _FILES if name in files), None)
    return {} if found is None else _object(model, found)


def _object(model: StoredModel, layer: Layer) -> Mapping[str, object]:
    if layer.descriptor.size > _LIMIT:
        return {}
    try:
        with open_content(model.blob(layer.descriptor)) as file:
            value = parse_json(file.content(_LIMIT))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
