"""A model made of another one in a registry, without its weights: they stay where they are.

What is downloaded is the manifest and the config of the other model, and, where a template or the
like is checked against them, the headers of its weights. What is sent is a config and the small
files that are new; the registry takes the other blobs over from one of its repositories.
"""

from collections.abc import Callable

from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.derive.derive import Base, Differences, check, derived
from modelrunner.operations.model import configs, headers
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.operations.model.suggestions import pin
from modelrunner.operations.package.parts import Part
from modelrunner.operations.package.push import Pushed, Pusher
from modelrunner.registry.source import Framed, Source
from modelrunner.store.stamps import hash_file


def base_in(
    source: Source, reference: Reference, accept: Callable[[Reference, Manifest], None]
) -> Base:
    """Return a model in a registry as what another one is made of.

    Args:
        source: The registry.
        reference: The model's name.
        accept: Raises where a policy keeps the model out.

    Raises:
        ManifestNotFoundError: No such model; the near ones are named.
        UnsupportedArtifactError, IntegrityError: It is not a model.
        AccessError, TransferError: The registry does not deliver.
    """
    exact = pin(source, reference)
    artifact = artifact_at(source, exact)
    exact = exact.with_digest(artifact.manifest.digest)
    accept(reference, artifact.manifest)
    raw = configs.raw_of_remote(source, exact, artifact.manifest.config)
    return Base(artifact, raw, exact, lambda: headers.of_remote(source, exact, artifact).metadata)


def derive_in_registry(
    pusher: Pusher, base: Base, origin: Reference, name: Reference, differences: Differences
) -> tuple[Pushed, Manifest]:
    """Make a model of another one in the registry that has both, and name it there.

    Args:
        pusher: Pushes to the registry.
        base: The other model, see `base_in`.
        origin: Its name.
        name: The name of the new one.
        differences: What is not as there.

    Raises:
        UsageError, UnsupportedArtifactError: It cannot be made, see `derive.check`.
        RegistryAnswerError: The registry does not take the blobs over.
        AccessError, TransferError: It does not answer.
    """
    check(base, differences)
    contents: dict[Digest, Framed] = {}

    def kept(content: bytes) -> Digest:
        digest = Digest.of(content)
        contents[digest] = Framed(None, content)
        return digest

    def arrived(part: Part) -> tuple[Digest, int]:
        if isinstance(part.content, bytes):
            return kept(part.content), len(part.content)
        digest = hash_file(part.content)
        contents[digest] = Framed(part.content)
        return digest, part.content.stat().st_size

    manifest, raw = derived(base, name, differences, arrived)
    kept(raw)
    return pusher.push_derived(manifest, name, origin, contents), manifest
