"""ModelKits of KitOps: a tar for each part of a model, and the Kitfile as the config.

```
config    application/vnd.kitops.modelkit.config.v1+json                 the Kitfile, in JSON
layers    application/vnd.kitops.modelkit.{model,modelpart,...}.v1.tar[+gzip|+zstd]
```
Paths in the archives are those below the directory that was packed. Source: KitOps
`pkg/lib/constants/mediatypes`.
"""

from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.families.family import ArtifactFamily
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.oci.model.paths import annotated_path

_PREFIX = media_types.KITOPS_PREFIX


def _recognizes(manifest: Manifest) -> bool:
    return manifest.config.media_type.startswith(_PREFIX) or (
        manifest.artifact_type or ""
    ).startswith(_PREFIX)


def _layer_of(descriptor: Descriptor) -> Layer:
    kind = descriptor.media_type.removeprefix(_PREFIX)
    if descriptor.media_type.startswith(_PREFIX) and ".tar" in kind:
        # where it is put is said in it
        return Layer(descriptor, Role.FILE, None, archived=True)
    return Layer(descriptor, Role.FILE, annotated_path(descriptor.annotations))


KITOPS_FAMILY = ArtifactFamily("kitops", _recognizes, _layer_of, one_model=False)
