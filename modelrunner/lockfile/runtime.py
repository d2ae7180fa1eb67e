"""The runtime of a project: the image that it wants, and what that image is just now.

```toml
[runtime]                        # modelrunner.toml
image = "vulkan@b11434"          # as `runtimes install` takes it, or the reference of an image
```
The lock has the index that this names, and the image of every platform in it.
"""

from modelrunner.frozen import field, frozen
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.image import Platform
from modelrunner.oci.reference import Reference

RUNTIME = "runtime"
"""What `lock --update` and `pull --locked` call it."""


@frozen
class RuntimeIntent:
    """The runtime that a project wants.

    Attributes:
        text: Its name, as it is written.
        reference: The image that this names.
        backend: Such as `vulkan`, where the name says it.
        line: Where it is written.
    """

    text: str
    reference: Reference
    backend: str | None = None
    line: int = field(default=1, compare=False)

    @property
    def name(self) -> str:
        """What the project calls it."""
        return RUNTIME


@frozen
class LockedImage:
    """The image for one platform.

    Attributes:
        platform: What it is built for; None where the image does not say.
        manifest: Its manifest: the ID of what is installed.
        download_bytes: The size of its blobs.
    """

    platform: Platform | None
    manifest: Descriptor
    download_bytes: int

    @property
    def title(self) -> str:
        """Its platform, for people."""
        return "any platform" if self.platform is None else str(self.platform)


@frozen
class LockedRuntime:
    """The runtime of a project, pinned.

    Attributes:
        reference: Its name in the registry; with a digest only where it has no tag.
        manifest: The index that the name stands for, or the manifest of its only image.
        images: The image of each platform, sorted by platform.
        line: Where it is written; 0 where it is not written yet.
    """

    reference: Reference
    manifest: Descriptor
    images: tuple[LockedImage, ...]
    line: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """What the project calls it."""
        return RUNTIME

    @property
    def size(self) -> int:
        """Bytes to download on the platform that needs most."""
        return max(image.download_bytes for image in self.images)

    @property
    def platforms(self) -> str:
        """The platforms that have an image, for people."""
        return ", ".join(image.title for image in self.images)

    @property
    def is_index(self) -> bool:
        """Whether the name stands for an index, and not for an image itself."""
        return all(image.manifest.digest != self.manifest.digest for image in self.images)

    def image_for(self, platform: Platform) -> LockedImage | None:
        """Return the image for a platform; None if it has no image."""
        for image in self.images:
            if image.platform is None or image.platform.serves(platform):
                return image
        return None
