"""Ollama's manifests, in whatever registry they are.

```
config    application/vnd.docker.container.image.v1+json    {"model_family", "model_type", ...}
layers    application/vnd.ollama.image.{model,projector,adapter,license,template,system,params,...}
```

Layers have no names. The template is Go's, not Jinja: it is kept beside, and the one in the GGUF
file is used. Parameters and the system prompt are settings of the artifact. Sources: ollama
`server/create.go`, `server/images.go`, `api/types.go`.
"""

from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.config import MAX_CONTEXT, Said
from modelrunner.oci.model.families.family import ArtifactFamily
from modelrunner.oci.model.formats import GGUF, OLLAMA
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.wire import parse_json

PARAMS, SYSTEM = "params", "system"
_TYPED = {
    "model": (Role.WEIGHTS, GGUF),
    "projector": (Role.PROJECTOR, GGUF),
    "adapter": (Role.ADAPTER, GGUF),
    "license": (Role.LICENSE, None),
    # tensors of models that no GGUF file is made of
    "tensor": (Role.WEIGHTS, OLLAMA),
}
_NAMES = {"template": "template.tmpl", PARAMS: PARAMS, SYSTEM: SYSTEM, "messages": "messages.json"}
_CONTEXT = "num_ctx"
_FOLLOWED = frozenset(
    {
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "seed",
        "repeat_last_n",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    }
)
"""Parameters that are settings of ours too. The rest is about a machine, or about stop words."""

_LONGEST = 64 * 1024
"""Bytes of parameters, or of a system prompt, that are read."""


def settings_of(layers: Iterable[Layer], read: Callable[[Descriptor], bytes]) -> Said:
    """What the layers say of how the model is run; nothing of what cannot be understood.

    Args:
        layers: Those of the artifact.
        read: Returns the content of a small blob.
    """
    texts = {
        str(layer.path): read(layer.descriptor).decode(errors="replace")
        for layer in layers
        if str(layer.path) in (PARAMS, SYSTEM) and layer.descriptor.size <= _LONGEST
    }
    try:
        parameters = parse_json(texts.get(PARAMS) or "{}")
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        parameters = {}
    settings = {name: value for name, value in parameters.items() if name in _FOLLOWED}
    system = texts.get(SYSTEM, "").strip()
    context = parameters.get(_CONTEXT)
    sane = isinstance(context, int) and not isinstance(context, bool) and 0 < context < MAX_CONTEXT
    return Said(settings | ({"system": system} if system else {}), context if sane else None)


def _recognizes(manifest: Manifest) -> bool:
    return any(layer.media_type.startswith(media_types.OLLAMA_PREFIX) for layer in manifest.layers)


def _layer_of(descriptor: Descriptor) -> Layer:
    kind = descriptor.media_type.removeprefix(media_types.OLLAMA_PREFIX)
    if kind in _TYPED:
        role, form = _TYPED[kind]
        return Layer(descriptor, role, None, form)
    name = _NAMES.get(kind)
    if name is None:
        return Layer(descriptor, Role.UNKNOWN, None)
    return Layer(descriptor, Role.FILE, PurePosixPath(name))


OLLAMA_FAMILY = ArtifactFamily("ollama", _recognizes, _layer_of)
