"""What an archive says of itself: the version of its layout, its models, and their names."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from modelrunner.errors import (
    IntegrityError,
    InvalidReferenceError,
    MalformedManifestError,
    UsageError,
)
from modelrunner.frozen import replace
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import parse_json
from modelrunner.oci.reference import (
    DEFAULT_TAG,
    LOCAL,
    Reference,
    is_tag,
    is_tag_for,
    tags_for,
)
from modelrunner.text import sanitize_line

_MOST_MODELS = 1000
_LONGEST_STEM = 100


def check_layout(raw: bytes) -> None:
    """Reads `oci-layout`.

    Raises:
        MalformedManifestError: It is of another version, or none.
    """
    version = parse_json(raw, "oci-layout").get("imageLayoutVersion")
    if not isinstance(version, str) or version.split(".")[0] != "1":
        raise MalformedManifestError(
            f"unsupported version of the image layout: expected 1, got {json.dumps(version)[:20]}"
        )


def entries_of(raw: bytes) -> tuple[Descriptor, ...]:
    """Reads `index.json`.

    Raises:
        MalformedManifestError: It is invalid, endless or empty.
    """
    manifests = parse_json(raw, "index.json").get("manifests")
    if not isinstance(manifests, list) or len(manifests) > _MOST_MODELS:
        raise MalformedManifestError("index.json has no valid list of manifests")
    if not manifests:
        raise MalformedManifestError("the archive is empty: no models in its index")
    found = [Descriptor.from_dict(value, "an entry of index.json") for value in manifests]
    names = {(entry.digest, _reference_in(entry)) for entry in found}
    return tuple(entry for entry in found if not _is_alias(entry, names))


def with_aliases(entries: Sequence[Descriptor]) -> list[Descriptor]:
    """The entries of an index, each full name with an alias that other tools can address.

    The alias is the name as a tag (`tags_for`), in an entry of its own after the others. The full
    name is in the annotation of containerd, which readers take before it.
    """
    tags = tags_for(name for entry in entries if (name := _reference_in(entry)) is not None)
    aliases = []
    for entry in entries:
        name = _reference_in(entry)
        if name not in tags:
            continue
        said = {
            media_types.ANNOTATION_CONTAINERD_NAME: name,
            media_types.ANNOTATION_REFERENCE: tags[name],
        }
        aliases.append(replace(entry, annotations={**entry.annotations, **said}))
    return [*entries, *aliases]


def docker_entry(raw: bytes) -> Descriptor | None:
    """The one entry of an archive of Docker Model Runner, from its `manifest.json`.

    None where that is the list of images that `docker save` writes.

    Raises:
        MalformedManifestError: It is neither.
    """
    if raw.lstrip()[:1] == b"[":
        return None
    said = parse_json(raw, "manifest.json").get("mediaType")
    kind = said if isinstance(said, str) else media_types.OCI_MANIFEST
    return Descriptor(kind, Digest.of(raw), len(raw))


def names_of(
    entries: Sequence[Descriptor], wanted: Reference | None, short: Reference | None = None
) -> dict[Digest, tuple[Reference, ...]]:
    """The names of each model; of some there may be none.

    Args:
        entries: Of the index.
        wanted: The name of the one model; of several that have short names the repository, where
            it was given without a tag.
        short: The repository of short names where there is no `wanted`.

    Raises:
        UsageError: `wanted` is meant for several.
        IntegrityError: One name stands for two models.
    """
    digests = list(dict.fromkeys(entry.digest for entry in entries))
    if wanted is not None:
        tags = {entry.digest: tag for entry in entries if (tag := _short_name(entry))}
        if len(digests) > 1 and wanted.tag == DEFAULT_TAG and len(tags) == len(digests):
            return {digest: (replace(wanted, tag=tags[digest]),) for digest in digests}
        if len(digests) > 1:
            raise UsageError(
                f"--name needs an archive of one model, got {len(digests)}",
                hint="load it without --name, then `modelrunner tag`",
            )
        return {digests[0]: (wanted,)}
    found: dict[Digest, list[Reference]] = {digest: [] for digest in digests}
    for entry in entries:
        name = _name(entry)
        tag = _short_name(entry)
        if name is None and tag is not None and short is not None:
            name = replace(short, tag=tag)
        if name is not None and name not in found[entry.digest]:
            found[entry.digest].append(name)
    named = [str(name) for names in found.values() for name in names]
    if len(set(named)) != len(named):
        raise IntegrityError("the archive has the same name for two models")
    return {digest: tuple(names) for digest, names in found.items()}


def require_named(names: Mapping[Digest, Sequence[Reference]]) -> None:
    """Refuse models without a name.

    Raises:
        UsageError: One has none.
    """
    nameless = [digest for digest, found in names.items() if not found]
    if nameless:
        raise UsageError(
            f"the model {nameless[0].short} has no name in the archive",
            hint="name it with --name, such as --name ai/smollm2:135M",
            digests=[str(digest) for digest in nameless],
        )


def repository_for(path: str) -> Reference | None:
    """The repository under `local/` for short names in an archive; None for stdin."""
    if path == "-":
        return None
    stem = re.sub(r"(\.tar)?(\.(gz|tgz|tar|[0-9]{3}))?$", "", Path(path).resolve().name.lower())
    stem = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\.tar$", "", stem)).strip("-")
    return Reference.parse(f"{LOCAL}/{stem[:_LONGEST_STEM].strip('-') or 'models'}")


def _reference_in(entry: Descriptor) -> str | None:
    return entry.annotations.get(media_types.ANNOTATION_REFERENCE)


def _is_alias(entry: Descriptor, names: Collection[tuple[Digest, str | None]]) -> bool:
    """Whether an entry only repeats another one under a tag, see `with_aliases`."""
    full, tag = entry.annotations.get(media_types.ANNOTATION_CONTAINERD_NAME), _reference_in(entry)
    if full is None or tag is None or (entry.digest, full) not in names:
        return False
    return is_tag_for(tag, full)


def _short_name(entry: Descriptor) -> str | None:
    """A bare tag, as skopeo and buildah write it."""
    text = entry.annotations.get(media_types.ANNOTATION_REFERENCE, "")
    return text if is_tag(text) else None


def _name(entry: Descriptor) -> Reference | None:
    """The name of an entry; a bare tag, as many tools write it, names no repository."""
    text = entry.annotations.get(media_types.ANNOTATION_CONTAINERD_NAME)
    if text is None:
        text = entry.annotations.get(media_types.ANNOTATION_REFERENCE, "")
        if not re.search("[/:@]", text):
            return None
    try:
        name = Reference.parse(text)
    except InvalidReferenceError:
        return None
    if name.digest is not None and name.digest != entry.digest:
        raise IntegrityError(
            f"the archive names a model {sanitize_line(text, 200)}, but its digest is "
            f"{entry.digest}",
            digest=str(entry.digest),
        )
    return name
