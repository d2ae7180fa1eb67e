"""How the two ends of a copy are written.

```
REF          a registry, or hf.co/ORG/REPO; a name under local/ and an ID mean the local store
store:REF    the local store
```
Who comes from skopeo can write `docker://REF`.
"""

from dataclasses import dataclass
from typing import Literal

from modelrunner.errors import UsageError
from modelrunner.oci.reference import Reference, is_whole_id, match_id

Kind = Literal["registry", "store"]
_PREFIXES: dict[str, Kind] = {"docker://": "registry", "store:": "store"}
_LOCAL = ("local/", "docker.io/local/")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a copy.

    Attributes:
        kind: What it is.
        text: A reference or an ID.
    """

    kind: Kind
    text: str

    @property
    def reference(self) -> Reference:
        """The reference that the text is.

        Raises:
            InvalidReferenceError: It is not a valid one.
        """
        return Reference.parse(self.text)


def parse_end(text: str) -> End:
    """Return the end that a text means.

    Raises:
        UsageError: Nothing follows the prefix.
    """
    for prefix, kind in _PREFIXES.items():
        if text.startswith(prefix):
            rest = text.removeprefix(prefix)
            if not rest:
                raise UsageError(f"no model after {prefix}", hint="write REF or store:REF")
            return End(kind, rest)
    is_stored = is_whole_id(text) or match_id(text) is not None or text.startswith(_LOCAL)
    return End("store" if is_stored else "registry", text)
