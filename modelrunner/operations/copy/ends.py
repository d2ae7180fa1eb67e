"""How the two ends of a copy are written.

```
REF                     a registry, or hf.co/ORG/REPO; local/NAME and an ID mean the local store
store:REF               the local store
archive:FILE[:NAME]     an OCI image layout in a tar
dir:DIRECTORY[:NAME]    an OCI image layout in a directory
```
Who comes from skopeo can write `docker://REF`, `oci-archive:FILE` and `oci:DIRECTORY`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelrunner.errors import UsageError
from modelrunner.oci.reference import Reference, is_whole_id, match_id

Kind = Literal["registry", "store", "archive", "dir"]
_PREFIXES: dict[str, Kind] = {
    "docker://": "registry",
    "store:": "store",
    "archive:": "archive",
    "oci-archive:": "archive",
    "dir:": "dir",
    "oci:": "dir",
}
LAYOUTS = tuple(prefix for prefix, kind in _PREFIXES.items() if kind in ("archive", "dir"))
"""What a text begins with that means an archive or a directory."""

_LOCAL = ("local/", "docker.io/local/")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a copy.

    Attributes:
        kind: What it is.
        text: A reference or an ID; in a file or a directory a name, empty for none.
        path: The file or the directory; None for others.
    """

    kind: Kind
    text: str
    path: Path | None = None

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
            if not rest or rest.startswith(":"):
                raise UsageError(
                    f"nothing after {prefix}",
                    hint="write REF, store:REF, archive:FILE or dir:DIRECTORY",
                )
            return _at_path(kind, rest) if kind in ("archive", "dir") else End(kind, rest)
    is_stored = is_whole_id(text) or match_id(text) is not None or text.startswith(_LOCAL)
    return End("store" if is_stored else "registry", text)


def _at_path(kind: Kind, rest: str) -> End:
    """A path, and the name after a colon, as skopeo writes it."""
    drive = rest[:2] if _DRIVE.match(rest) else ""
    path, _, name = rest.removeprefix(drive).partition(":")
    return End(kind, name, Path(drive + path))
