"""`modelrunner.lock`: which content the models of a project are, written the same way every time.

```toml
version = 1                                  # 2 with a runtime, 3 with signers: older programs
                                             # do not know them, and refuse the file

[[model]]
name = "chat"
ref = "docker.io/ai/granite-4.0-micro:3B-Q4_K_M"
manifest = "sha256:..."
media_type = "application/vnd.oci.image.manifest.v1+json"
size = 1034
format = "docker"
fit = { vram = 8589934592, context = 8192 }
blobs = [
  { digest = "sha256:...", size = 470, media_type = "...", role = "config" },
  { digest = "sha256:...", size = 20992472, media_type = "...", role = "weights", name = "m.gguf" },
]

[[model.signed]]                             # each signer that was verified when it was locked
key = "..."
public_key = "..."
signature = "sha256:..."

[runtime]
ref = "ghcr.io/ggml-org/llama.cpp:server-vulkan-b11434"
manifest = "sha256:..."
media_type = "application/vnd.oci.image.index.v1+json"
size = 1610
images = [
  { platform = "linux/amd64", digest = "sha256:...", size = 2210, media_type = "...", bytes = 504 },
]
```
Sorted, one fact a line and without times: two branches that change different models merge, and
what changes is what a review should see.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from modelrunner.errors import LockError
from modelrunner.frozen import field, frozen, replace
from modelrunner.lockfile.intent import Fit
from modelrunner.lockfile.runtime import LockedImage, LockedRuntime
from modelrunner.lockfile.signer import LockedSigner, facts_of
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import HUGGING_FACE, Reference

if TYPE_CHECKING:
    # whoever reads a lock needs no manifest
    from modelrunner.oci.model.artifact import ModelArtifact
    from modelrunner.oci.model.config import Family

VERSION = 1
VERSION_WITH_RUNTIME = 2
VERSION_WITH_SIGNERS = 3
CONFIG = "config"
_HEADER = "# Written by `modelrunner lock` from modelrunner.toml. Check it in; do not edit it."


@frozen
class LockedBlob:
    """One blob of a model; `name` is its file's, None where it has none."""

    role: str
    name: str | None
    digest: Digest
    size: int
    media_type: str

    @property
    def descriptor(self) -> Descriptor:
        """The blob as a store and a registry know it."""
        return Descriptor(self.media_type, self.digest, self.size)

    @property
    def title(self) -> str:
        """For people: its file, or what it is for."""
        return self.name or self.role


@frozen
class LockedModel:
    """One model, pinned.

    Attributes:
        name: What the project calls it.
        reference: Its name in the registry; with a digest only where it has no tag.
        manifest: Its manifest: the model's ID.
        format: Docker's family, or CNCF ModelPack.
        blobs: The config first, the rest by role and name.
        fit: What it had to fit into when it was chosen.
        signed: Who had signed it, in order; each of them still has to.
        line: Where it is written; 0 where it is not written yet.
    """

    name: str
    reference: Reference
    manifest: Descriptor
    format: "Family"
    blobs: tuple[LockedBlob, ...]
    fit: Fit | None = None
    line: int = field(default=0, compare=False)
    signed: tuple[LockedSigner, ...] = ()

    @classmethod
    def of(
        cls, name: str, reference: Reference, artifact: "ModelArtifact", fit: Fit | None
    ) -> "LockedModel":
        """What a manifest pins."""
        manifest = artifact.manifest
        config = manifest.config
        blobs = [LockedBlob(CONFIG, None, config.digest, config.size, config.media_type)]
        for layer in artifact.layers:
            found = layer.descriptor
            path = str(layer.path) if layer.path is not None else None
            blobs.append(
                LockedBlob(str(layer.role), path, found.digest, found.size, found.media_type)
            )
        pin = None if reference.tag is not None else manifest.digest
        bare = replace(reference, digest=pin)
        return cls(name, bare, manifest.descriptor, artifact.family, in_order(blobs), fit)

    @property
    def pinned(self) -> Reference:
        """The reference by digest: the only one that is asked of a registry."""
        return self.reference.with_digest(self.manifest.digest)

    @property
    def unique(self) -> tuple[LockedBlob, ...]:
        """The blobs, each digest once."""
        return tuple({blob.digest: blob for blob in reversed(self.blobs)}.values())[::-1]

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.unique)


@frozen
class Lock:
    """A whole `modelrunner.lock`; the models are sorted by name."""

    models: tuple[LockedModel, ...] = ()
    file: str = field(default="modelrunner.lock", compare=False)
    runtime: LockedRuntime | None = None

    def get(self, name: str) -> LockedModel | None:
        """The model of this name, None where there is none."""
        return next((model for model in self.models if model.name == name), None)

    def emit(self) -> str:
        """The file, the same for the same facts."""
        models = sorted(self.models, key=lambda model: model.name)
        version = version_of(
            has_runtime=self.runtime is not None,
            has_signers=any(model.signed for model in models),
        )
        blocks = [f"{_HEADER}\nversion = {version}\n", *("\n".join(_block(m)) for m in models)]
        if self.runtime is not None:
            blocks.append("\n".join(_runtime_block(self.runtime)))
        return "\n".join(blocks)

    def cache_key(self) -> str:
        """A name for a cache of what is locked: another one for other content, and only then."""
        pinned = [model.manifest.digest for model in self.models]
        if self.runtime is not None:
            pinned.append(self.runtime.manifest.digest)
        return cache_key_of(map(str, pinned))

    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob, manifests included: each digest once, sorted; of a runtime its manifests."""
        found = {model.manifest.digest: model.manifest for model in self.models}
        if self.runtime is not None:
            manifests = (self.runtime.manifest, *(image.manifest for image in self.runtime.images))
            found |= {each.digest: each for each in manifests}
        for model in self.models:
            found |= {blob.digest: blob.descriptor for blob in model.blobs}
        return tuple(found[digest] for digest in sorted(found))


def version_of(*, has_runtime: bool, has_signers: bool) -> int:
    """The version of a lock: the oldest that knows what is in it."""
    if has_signers:
        return VERSION_WITH_SIGNERS
    return VERSION_WITH_RUNTIME if has_runtime else VERSION


def in_order(blobs: list[LockedBlob]) -> tuple[LockedBlob, ...]:
    """The order of the file: the config first, then by role and name."""
    return tuple(
        sorted(
            blobs,
            key=lambda blob: (blob.role != CONFIG, blob.role, blob.name or "", blob.digest),
        )
    )


def spelled(reference: Reference) -> str:
    """The canonical spelling, but for a hub that minds the case: there its own."""
    text = str(reference)
    if reference.registry == HUGGING_FACE and reference.original_repository:
        text = HUGGING_FACE + "/" + reference.original_repository + text[len(reference.lowered) :]
    return text


def quoted(text: str) -> str:
    """A TOML string."""
    return f'"{"".join(map(_escaped, text))}"'


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if character.isprintable() or character == " ":
        return character
    if 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004
        raise LockError("cannot write modelrunner.lock: a name in it is not valid Unicode")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


def _block(model: LockedModel) -> Iterator[str]:
    yield "[[model]]"
    yield f"name = {quoted(model.name)}"
    yield f"ref = {quoted(spelled(model.reference))}"
    yield f"manifest = {quoted(str(model.manifest.digest))}"
    yield f"media_type = {quoted(model.manifest.media_type)}"
    yield f"size = {model.manifest.size}"
    yield f"format = {quoted(model.format)}"
    if model.fit is not None:
        context = f", context = {model.fit.context}" if model.fit.context is not None else ""
        yield f"fit = {{ vram = {model.fit.vram}{context} }}"
    yield "blobs = ["
    for blob in model.blobs:
        name = f", name = {quoted(blob.name)}" if blob.name is not None else ""
        yield (
            f"  {{ digest = {quoted(str(blob.digest))}, size = {blob.size},"
            f" media_type = {quoted(blob.media_type)}, role = {quoted(blob.role)}{name} }},"
        )
    yield "]\n"
    for signer in model.signed:
        yield "[[model.signed]]"
        for key, value in facts_of(signer):
            if isinstance(value, str):
                yield f"{key} = {quoted(value)}"
            else:
                yield f"{key} = ["
                yield from (f"  {quoted(each)}," for each in value)
                yield "]"
        yield ""


def _runtime_block(runtime: LockedRuntime) -> Iterator[str]:
    yield "[runtime]"
    yield f"ref = {quoted(spelled(runtime.reference))}"
    yield f"manifest = {quoted(str(runtime.manifest.digest))}"
    yield f"media_type = {quoted(runtime.manifest.media_type)}"
    yield f"size = {runtime.manifest.size}"
    yield "images = ["
    yield from map(_image_line, runtime.images)
    yield "]\n"


def _image_line(image: LockedImage) -> str:
    manifest = image.manifest
    platform = "" if image.platform is None else f"platform = {quoted(str(image.platform))}, "
    return (
        f"  {{ {platform}digest = {quoted(str(manifest.digest))}, size = {manifest.size},"
        f" media_type = {quoted(manifest.media_type)}, bytes = {image.download_bytes} }},"
    )


def cache_key_of(digests: Iterable[str]) -> str:
    """A name for a cache of these manifests, in whatever order they come."""
    from hashlib import sha256

    content = "\n".join(sorted(set(digests)))
    return f"modelrunner-v{VERSION}-{sha256(content.encode()).hexdigest()}"
