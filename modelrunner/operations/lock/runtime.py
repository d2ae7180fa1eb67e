"""Pin a runtime: the index that its name stands for, and the image of every platform in it.

Of the images no more than their manifests are downloaded, which say how large they are.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from modelrunner.errors import NotInStoreError, UnsupportedArtifactError
from modelrunner.lockfile.runtime import LockedImage, LockedRuntime, RuntimeIntent
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.image import Platform, platforms, read_config, require_image
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.configs import raw_of_remote
from modelrunner.operations.model.suggestions import pin
from modelrunner.registry.source import Source


@dataclass(frozen=True, slots=True)
class RuntimePinner:
    """Pins runtimes.

    Attributes:
        source_for: Returns the registry of a reference.
        offline: Whether the network is ruled out.
    """

    source_for: Callable[[Reference], Source]
    offline: bool = False

    def pin(self, wanted: RuntimeIntent) -> LockedRuntime:
        """Return what the name of a runtime stands for now.

        Raises:
            NotInStoreError: The network is ruled out: the local store has no index of platforms.
            UnsupportedArtifactError: It is not an image of a runtime.
            ManifestNotFoundError, AccessError, TransferError: The registry does not answer.
        """
        reference = wanted.reference
        if self.offline:
            raise NotInStoreError(
                f"{reference.short}: cannot ask the registry for its platforms: --offline is set",
                hint="run it without --offline",
            )
        with closing(self.source_for(reference)) as source:
            exact = reference if reference.pinned else pin(source, reference)
            found = source.manifest(exact)
            if isinstance(found, Index):
                descriptor = Descriptor(found.media_type, found.digest, len(found.raw))
                images = _images(source, exact, found)
            else:
                descriptor = found.descriptor
                images = (_only(source, exact, found),)
        bare = replace(reference, digest=None if reference.tag is not None else descriptor.digest)
        return LockedRuntime(bare, descriptor, images)


def _images(source: Source, exact: Reference, index: Index) -> tuple[LockedImage, ...]:
    found: dict[str, LockedImage] = {}
    for entry, platform in platforms(index):
        # what builds write beside an image is for `unknown/unknown`
        said = None if platform is None else Platform.parse(str(platform))
        if said is None or said.os == "unknown" or str(said) in found:
            continue
        manifest = source.manifest(exact.with_digest(entry.digest))
        if isinstance(manifest, Manifest):
            require_image(manifest, f"{exact.short} for {said}")
            found[str(said)] = LockedImage(said, manifest.descriptor, manifest.total_bytes)
    if not found:
        raise UnsupportedArtifactError(
            f"{exact.short} is an index without an image of a runtime",
            hint="name one of llama.cpp's images, such as vulkan or cpu",
        )
    return tuple(found[platform] for platform in sorted(found))


def _only(source: Source, exact: Reference, manifest: Manifest) -> LockedImage:
    require_image(manifest, exact.short)
    raw = raw_of_remote(source, exact, manifest.config)
    platform = read_config(manifest, raw).platform
    said = None if platform is None else Platform.parse(str(platform))
    return LockedImage(said, manifest.descriptor, manifest.total_bytes)
