"""What is loaded beside a model: adapters (LoRA), and what guesses tokens ahead."""

from pathlib import Path

from modelrunner.errors import MalformedGGUFError, UsageError
from modelrunner.frozen import replace
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load
from modelrunner.operations.launch.request import USUAL_CACHE, LaunchRequest
from modelrunner.operations.model import headers
from modelrunner.runtime.base import DraftKind
from modelrunner.text import sanitize_line, with_article

_KINDS: dict[str, DraftKind] = {"eagle3": "draft-eagle3", "dflash": "draft-dflash"}
"""Architectures of files that guess ahead by the model's own states."""


def decided(request: LaunchRequest, metadata: Metadata, name: str) -> LaunchRequest:
    """Return the request with the way in which tokens are guessed ahead.

    Raises:
        UsageError: The model has no layers that guess ahead, or an adapter is not for it.
        MalformedGGUFError: A file is not GGUF, or cut off.
    """
    for adapter in request.adapters:
        _require_adapter(adapter.path, metadata, name)
    kind: DraftKind | None = None
    if request.draft_model is not None:
        architecture = Metadata.from_header(read_header(request.draft_model)).architecture
        kind = _KINDS.get(architecture or "", "draft-simple")
    elif request.draft is not None:
        has_heads = metadata.draft_heads > 0
        if request.draft == "mtp" and not has_heads:
            raise UsageError(
                f"draft mtp: {name} has no layers that predict further tokens (MTP)",
                hint="use --draft auto, --draft ngram, or a draft model",
            )
        kind = "draft-mtp" if has_heads and request.draft != "ngram" else "ngram-simple"
    return replace(request, draft_kind=kind)


def with_adapters(shape: ModelShape, request: LaunchRequest) -> ModelShape:
    """Return the shape with the request's adapters beside its weights."""
    # outside: files that a person names
    size = sum(adapter.path.stat().st_size for adapter in request.adapters)
    return shape.with_adapter(shape.weights.adapter + size) if size else shape


def draft_shape(request: LaunchRequest) -> ModelShape | None:
    """Return the shape of the draft model; None where there is none."""
    return None if request.draft_model is None else headers.of_file(request.draft_model).shape


def draft_estimate(draft: ModelShape, load: Load) -> Estimate:
    """Return what a draft model takes: it keeps no prompts and states, and has no draft itself.

    Its cache has the usual type, whatever the one of the model: runtimes get no option for it.
    """
    alone = replace(load, own_draft=False, prompt_cache=0, checkpoints=0)
    return estimate(draft, replace(alone, kv_type=USUAL_CACHE, kv_type_v=None))


def with_draft(found: Estimate, draft: ModelShape | None, load: Load) -> Estimate:
    """Return an estimate with what a draft model takes beside."""
    if draft is None:
        return found
    more = draft_estimate(draft, load)
    high = None if found.high is None or more.high is None else found.high + more.high
    return replace(found, draft=found.draft + more.total, low=found.low + more.low, high=high)


def _require_adapter(path: Path, metadata: Metadata, name: str) -> None:
    shown = sanitize_line(path.name, 200)
    if ":" in str(path):
        raise UsageError(
            f"adapter {shown}: its path must not contain a colon", hint="rename or move the file"
        )
    try:
        found = Metadata.from_header(read_header(path))
    except MalformedGGUFError as exc:
        raise UsageError(
            f"adapter {shown}: {exc.message}",
            hint="use a GGUF adapter, as llama.cpp's convert_lora_to_gguf.py makes it",
        ) from exc
    if found.kind != "adapter":
        raise UsageError(
            f"adapter {shown}: expected an adapter (LoRA), got {with_article(found.kind)}",
            hint="use a GGUF adapter, as llama.cpp's convert_lora_to_gguf.py makes it",
        )
    if found.architecture != metadata.architecture:
        raise UsageError(
            f"adapter {shown} is for the architecture {found.architecture or 'unknown'}, but"
            f" {name} is {metadata.architecture}",
            hint="use an adapter that was trained for this model",
        )
