"""What a family of artifacts is."""

from collections.abc import Callable

from modelrunner.frozen import frozen
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.config import Family
from modelrunner.oci.model.layers import Layer


@frozen
class ArtifactFamily:
    """A family.

    Attributes:
        name: Its name in JSON and in locks.
        recognizes: Whether a manifest is of it.
        layer_of: Reads a layer: its role, its name and its format.
        one_model: Whether its artifacts have one model each, so that several are a mistake.
        typed_config: Whether its config is always a JSON object.
    """

    name: Family
    recognizes: Callable[[Manifest], bool]
    layer_of: Callable[[Descriptor], Layer]
    one_model: bool = True
    typed_config: bool = True
