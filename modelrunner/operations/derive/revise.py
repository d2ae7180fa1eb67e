"""Revise: manifest and config of an artifact with some things different, the rest as it was.

Whatever is not understood is kept: fields of the config, of the manifest and of its layers, their
order, layers of unknown kinds. JSON is written as Go's encoder writes it, so that the config of an
artifact of Docker Model Runner comes out byte for byte as `docker model package --from` writes it.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest, parse_json
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.runtime.settings import canonical

_ESCAPED = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""Characters that Go's encoder escapes, and Python's does not; JSON has them in strings alone."""

_FILES = {True: ("rootfs", "rootfs", "diff_ids"), False: ("modelfs", "layers", "diffIds")}
"""Where the config of Docker's family, and of the other, lists layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What is different in an artifact.

    Attributes:
        context: The context that its config sets; None as it was.
        settings: Settings that its config advises, added to those that it has.
        created: When it was made, as text; None as it was.
        dropped: Indexes of layers that it has not any more.
        added: Layers that follow the others.
        annotations: Annotations of its manifest, added to those that it has.
    """

    context: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    created: str | None = None
    dropped: Collection[int] = ()
    added: Sequence[Descriptor] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def revised(manifest: Manifest, config: bytes, revision: Revision) -> tuple[Manifest, bytes]:
    """Return the manifest and the config of the other artifact.

    Args:
        manifest: What it is made of.
        config: The bytes of the config that this names.
        revision: What is different.

    Raises:
        MalformedManifestError, UnsupportedArtifactError: The layers make up no model.
    """
    is_docker = ModelArtifact.from_manifest(manifest).family == "docker"
    raw = _config(config, manifest, revision, is_docker=is_docker)
    value = parse_json(manifest.raw, "the manifest")
    entry = {key: each for key, each in value["config"].items() if key != "data"}
    value["config"] = entry | {"digest": str(Digest.of(raw)), "size": len(raw)}
    layers = value.get("layers") or []
    value["layers"] = [
        *(layer for number, layer in enumerate(layers) if number not in revision.dropped),
        *(layer.to_dict() for layer in revision.added),
    ]
    if revision.annotations:
        value["annotations"] = {**(value.get("annotations") or {}), **revision.annotations}
    made = Manifest.from_bytes(go_json(value))
    ModelArtifact.from_manifest(made)
    return made, raw


def go_json(value: object) -> bytes:
    """Return JSON as Go's encoder writes it, but for the order of keys, which stays."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character, escaped in _ESCAPED.items():
        text = text.replace(character, escaped)
    return text.encode()


def _config(raw: bytes, manifest: Manifest, revision: Revision, *, is_docker: bool) -> bytes:
    value = parse_json(raw, "the model's config")
    if is_docker:
        config = _part(value, "config")
        if revision.context is not None:
            config["context_size"] = revision.context
        if revision.settings:
            # another spelling of a name would count beside it
            names = {canonical(name) for name in revision.settings}
            before = _part(config, "settings")
            kept = {key: each for key, each in before.items() if canonical(key) not in names}
            config.pop("settings", None)
            config["settings"] = {**kept, **revision.settings}
    if revision.created is not None:
        _part(value, "descriptor")["created" if is_docker else "createdAt"] = revision.created
    name, kind, ids = _FILES[is_docker]
    files = _part(value, name)
    files.setdefault("type", kind)
    files[ids] = _diff_ids(files.get(ids), manifest, revision)
    return go_json(value)


def _part(value: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(value.get(key), dict):
        value[key] = {}
    part: dict[str, Any] = value[key]
    return part


def _diff_ids(listed: object, manifest: Manifest, revision: Revision) -> list[object]:
    """Digests of the layers' contents before they were compressed, one for each layer."""
    digests = [str(layer.digest) for layer in manifest.layers]
    ids: list[object] = list(digests)
    if isinstance(listed, list) and len(listed) == len(digests):
        ids = listed
    kept = [each for number, each in enumerate(ids) if number not in revision.dropped]
    return [*kept, *(str(layer.digest) for layer in revision.added)]
