"""What `list` shows of a model's headers, kept beside the blob's stamp once they were read.

    store/v1/stamps/<hex>.facts    {"architecture": "llama", "parameters": "1.2B", ...}

A header with a large vocabulary takes a tenth of a second to read: too long for each of many models
at every `list`. Content that is known by its digest does not change, so the facts hold.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from modelrunner.disk.files import disk_errors, write_atomically
from modelrunner.disk.inside import read_inside
from modelrunner.errors import ModelRunnerError
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.formats import SAFETENSORS
from modelrunner.store.store import StoredModel
from modelrunner.text import sanitize_line
from modelrunner.units import format_count
from modelrunner.wire import parse_json


class HeaderFacts(NamedTuple):
    """The facts; None is unknown."""

    architecture: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    context_length: int | None = None


def header_facts(model: StoredModel) -> HeaderFacts:
    """The facts of a stored model's header; none where it cannot be read."""
    artifact = model.artifact
    if not artifact.is_runnable and artifact.format != SAFETENSORS:
        return HeaderFacts()
    path = model.layout.facts(_key(model))
    kept = _kept(path)
    if kept is not None:
        return kept
    try:
        found = _of_gguf(model) if artifact.is_runnable else _of_safetensors(model)
    except ModelRunnerError:
        return HeaderFacts()
    # a store that cannot be written is read anew each time
    with suppress(ModelRunnerError), disk_errors(path):
        write_atomically(path, json.dumps(found._asdict()).encode(), tidy=False)
    return found


def _of_gguf(model: StoredModel) -> HeaderFacts:
    # reading headers is for models that were not looked at before
    from modelrunner.operations.model import headers

    metadata = headers.of_stored(model).metadata
    return HeaderFacts(
        _line(metadata.architecture),
        _line(metadata.parameters_text),
        _line(metadata.quantization),
        metadata.context_length,
    )


def _of_safetensors(model: StoredModel) -> HeaderFacts:
    # reading headers is for models that were not looked at before
    from modelrunner.operations.model.tensors.read import is_tensors, of_stored

    if not is_tensors(model.artifact):
        return HeaderFacts()
    found = of_stored(model)
    config, parameters = found.config, found.parameters
    return HeaderFacts(
        None if config is None else config.architecture,
        format_count(parameters) if parameters else None,
        _line(found.quantization),
        None if config is None else config.context,
    )


def _key(model: StoredModel) -> Digest:
    # a file of weights in safetensors is the same beside another config
    artifact = model.artifact
    return artifact.weights[0].descriptor.digest if artifact.is_runnable else model.digest


def _line(text: str | None) -> str | None:
    return (sanitize_line(text) or None) if text else None


def _kept(path: Path) -> HeaderFacts | None:
    try:
        value: Any = parse_json(read_inside(path))
        texts = [value[key] for key in ("architecture", "parameters", "quantization")]
        context = value["context_length"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not all(text is None or isinstance(text, str) for text in texts):
        return None
    if context is not None and (not isinstance(context, int) or isinstance(context, bool)):
        return None
    architecture, parameters, quantization = map(_line, texts)
    return HeaderFacts(architecture, parameters, quantization, context)
