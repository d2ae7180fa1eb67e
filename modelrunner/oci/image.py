"""What an image of files says of itself: its platforms, its layers and its build."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from modelrunner.errors import MalformedManifestError, UnsupportedArtifactError
from modelrunner.frozen import field, frozen
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest, parse_json
from modelrunner.text import sanitize_line

_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_SYSTEMS = {"win32": "windows", "darwin": "darwin", "linux": "linux"}
_PLATFORM = r"[A-Za-z0-9._-]{1,40}(?:/[A-Za-z0-9._-]{1,40}){1,2}"
_BUILD = r"(?:^|[^a-z0-9])b(\d{3,7})(?![a-z0-9])"
_VERSION = "org.opencontainers.image.version"


@frozen
class Platform:
    """An operating system and a processor, as images name them."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def of_machine(cls, system: str = sys.platform, machine: str | None = None) -> "Platform":
        """The platform of this machine."""
        if machine is None:
            # what lists models has no use for it
            import platform

            machine = platform.machine()
        return cls(_SYSTEMS.get(system, system), _MACHINES.get(machine, machine.lower()))

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Platform | None":
        """The platform in some JSON; None where it has none."""
        said = [value.get(key) for key in ("os", "architecture", "variant")]
        if not all(isinstance(each, str) and each for each in said[:2]):
            return None
        texts = [sanitize_line(each, 40) if isinstance(each, str) else "" for each in said]
        return cls(*texts)

    @classmethod
    def parse(cls, text: str) -> "Platform | None":
        """Return the platform that a text such as `linux/arm64` names; None if it names none."""
        return cls(*text.split("/")) if re.fullmatch(_PLATFORM, text) else None

    def serves(self, wanted: "Platform") -> bool:
        """Whether a machine of the wanted platform can run what is built for this one."""
        return (self.os, self.architecture) == (wanted.os, wanted.architecture)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@frozen
class ImageConfig:
    """The config of an image, as far as it counts.

    Attributes:
        platform: What it is built for; None where it does not say.
        diff_ids: The digests of its unpacked layers, the lowest first.
        environ: The environment that it asks for.
        entrypoint: The program that a container would start.
        version: The build, such as `b11434`, where it is said.
        created: When it was built, where it is said.
    """

    platform: Platform | None
    diff_ids: tuple[Digest, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    entrypoint: str | None = None
    version: str | None = None
    created: str | None = None


def platforms(index: Index) -> list[tuple[Descriptor, Platform | None]]:
    """The images of an index with their platforms, without attestations."""
    found = []
    entries = parse_json(index.raw, "the index")["manifests"]
    for descriptor, entry in zip(index.manifests, entries, strict=True):
        if descriptor.media_type not in media_types.MANIFESTS:
            continue
        if media_types.ANNOTATION_ATTESTATION in descriptor.annotations:
            continue
        said = entry.get("platform")
        found.append((descriptor, Platform.of(said) if isinstance(said, dict) else None))
    return found


def chosen(index: Index, wanted: Platform, name: str) -> Descriptor:
    """The manifest of an index for a platform.

    Raises:
        UnsupportedArtifactError: There is none; those that there are are named.
    """
    found = platforms(index)
    for descriptor, said in found:
        if said is not None and said.serves(wanted):
            return descriptor
    there = sorted({str(said) for _, said in found if said is not None})
    raise wrong_platform(name, wanted, there)


def wrong_platform(name: str, wanted: Platform, there: Sequence[str]) -> UnsupportedArtifactError:
    """The error for an image that this machine cannot run."""
    shown = ", ".join(there[:8]) or "none that is named"
    return UnsupportedArtifactError(
        f"{name} has no image for {wanted}, only for {shown}",
        hint="choose another image, or install llama.cpp another way: `modelrunner runtimes`"
        " lists how",
        platform=str(wanted),
        platforms=list(there),
    )


def require_image(manifest: Manifest, name: str) -> None:
    """Accept the manifest of an image of files.

    Raises:
        UnsupportedArtifactError: It is something else, such as a model.
    """
    other, kind = manifest.other_layer, manifest.config.media_type
    if manifest.is_image:
        return
    of_image = kind in media_types.IMAGE_CONFIGS
    odd = other.media_type if of_image and other is not None else kind
    raise UnsupportedArtifactError(
        f"{name} is not an image of a runtime: {sanitize_line(odd, 100)!r}",
        hint="name an image with llama-server, or get a model with `modelrunner pull`",
    )


def read_config(manifest: Manifest, raw: bytes) -> ImageConfig:
    """Read the config of an image.

    Raises:
        MalformedManifestError: It is not one, or does not fit the manifest.
    """
    value = parse_json(raw, "the config of the image")
    rootfs = value.get("rootfs")
    said = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise MalformedManifestError("the config of the image has no list of diff_ids")
    diff_ids = tuple(map(Digest.parse, said))
    if len(diff_ids) != len(manifest.layers):
        raise MalformedManifestError(
            f"the image has {len(manifest.layers)} layers, but its config lists {len(diff_ids)}",
            hint="report it to the publisher of the image, and install another one",
        )
    config = value.get("config")
    config = config if isinstance(config, dict) else {}
    labels = config.get("Labels")
    labels = labels if isinstance(labels, dict) else {}
    entrypoint = config.get("Entrypoint")
    first = entrypoint[0] if isinstance(entrypoint, list) and entrypoint else None
    notes = {**labels, **manifest.annotations}
    return ImageConfig(
        Platform.of(value),
        diff_ids,
        _environ(config.get("Env")),
        first if isinstance(first, str) else None,
        _text(notes.get(_VERSION)),
        _text(notes.get(media_types.ANNOTATION_CREATED)) or _text(value.get("created")),
    )


def build_in(*texts: str | None) -> str | None:
    """The build that the first of some texts names, such as `b11434`."""
    for text in texts:
        match = re.search(_BUILD, text or "")
        if match is not None:
            return f"b{match[1]}"
    return None


def _environ(value: object) -> Mapping[str, str]:
    lines = value if isinstance(value, list) else []
    pairs = [line.partition("=") for line in lines if isinstance(line, str) and "=" in line]
    return {name: text for name, _, text in pairs if name and "\0" not in name + text}


def _text(value: object) -> str | None:
    return sanitize_line(value, 80) or None if isinstance(value, str) else None
