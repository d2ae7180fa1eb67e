"""What models of the store can do, kept beside their stamps once it was found out.

    store/v1/stamps/<hex>.capabilities    {"version": 1, "purpose": "text", "template": {...}, ...}

The hex digits are those of the manifest, which names weights, template and projector alike.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelrunner.disk.files import disk_errors, write_atomically
from modelrunner.disk.inside import open_content, read_inside
from modelrunner.errors import ModelRunnerError
from modelrunner.frozen import asdict, frozen
from modelrunner.gguf.header import Header
from modelrunner.gguf.metadata import Metadata, purpose_of
from modelrunner.operations.model import headers
from modelrunner.operations.model.headers import Headers
from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts
from modelrunner.runtime.capabilities.read import template_facts
from modelrunner.store.store import StoredModel
from modelrunner.wire import parse_json

_VERSION = 1
"""Of what is kept: with another one, everything is found out anew."""

_TEMPLATE_LIMIT = 1024 * 1024
_USUAL, _FOR_TOOLS = "tokenizer.chat_template", "tokenizer.chat_template.tool_use"


def capabilities_of(models: Iterable[StoredModel]) -> list[Capabilities | None]:
    """Return what each model can do; None where its header cannot be read.

    Templates of models that were not looked at before are rendered together, in one child.
    """
    listed = list(models)
    found: list[Capabilities | None] = [_kept(model) for model in listed]
    new = [(place, _Look.of(listed[place])) for place, known in enumerate(found) if known is None]
    looks = [(place, each) for place, each in new if each is not None]
    texts = [text for _place, each in looks for text in each.templates]
    facts = iter(template_facts(texts) if texts else ())
    for place, each in looks:
        capable = each.with_facts([next(facts) for _text in each.templates])
        found[place] = capable
        _keep(listed[place], capable)
    return found


def capabilities_of_one(model: StoredModel) -> Capabilities | None:
    """Return what a model can do; None where its header cannot be read."""
    return capabilities_of([model])[0]


def capabilities_of_headers(found: Headers, *, template: str | None = None) -> Capabilities:
    """Return what the model of some headers can do.

    Args:
        found: Its headers.
        template: A chat template that takes the place of the header's.
    """
    look = _Look(found.metadata, _templates(found.metadata, template), found.projector)
    return look.with_facts(template_facts(look.templates) if look.templates else [])


@frozen
class _Look:
    """What was read of a model, before its templates are tried."""

    metadata: Metadata
    templates: Sequence[str]
    projector: Header | None

    @classmethod
    def of(cls, model: StoredModel) -> "_Look | None":
        try:
            found = headers.of_stored(model)
            metadata = found.metadata
            return cls(metadata, _templates(metadata, _beside(model)), found.projector)
        except (ModelRunnerError, OSError):
            return None

    def with_facts(self, facts: Sequence[TemplateFacts]) -> Capabilities:
        """Return what it can do, with what its templates show: the usual one first."""
        template = facts[0] if facts else None
        if template is not None and any(other.tools for other in facts[1:]):
            template = TemplateFacts(
                tools=True, thinking=template.thinking, rendered=template.rendered
            )
        projector = None if self.projector is None else Metadata.from_header(self.projector)
        sees = hears = False
        if projector is not None:
            hears = projector.has_audio
            # older ones do not say what they are for: they are for images
            sees = projector.has_vision or not hears
        return Capabilities(
            purpose=purpose_of(self.metadata.values),
            template=template,
            images=sees,
            audio=hears,
            draft_heads=self.metadata.draft_heads,
        )


def _templates(metadata: Metadata, other: str | None) -> list[str]:
    """Return the template, and the one for tools where there are two."""
    if other is not None:
        return [other]
    named = [metadata.values.get(_USUAL), metadata.values.get(_FOR_TOOLS)]
    return [text for text in named if isinstance(text, str) and text]


def _beside(model: StoredModel) -> str | None:
    """Return the template that the artifact has beside the weights."""
    layer = model.artifact.template
    if layer is None or layer.descriptor.size > _TEMPLATE_LIMIT:
        return None
    with open_content(model.blob(layer.descriptor)) as file:
        return file.content(_TEMPLATE_LIMIT).decode(errors="replace")


def _kept(model: StoredModel) -> Capabilities | None:
    if not model.is_stored:
        return None
    try:
        value: Any = parse_json(read_inside(_file(model)))
        if value.pop("version") != _VERSION:
            return None
        return Capabilities.from_dict(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(model: StoredModel, capable: Capabilities) -> None:
    if not model.is_stored:
        return
    value: Mapping[str, object] = {"version": _VERSION, **asdict(capable)}
    path = _file(model)
    # a store that cannot be written is looked at anew each time
    with suppress(ModelRunnerError), disk_errors(path):
        write_atomically(path, json.dumps(value).encode(), tidy=False)


def _file(model: StoredModel) -> Path:
    return model.layout.capabilities(model.digest)
