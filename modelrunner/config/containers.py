"""Mirrors that are configured for Podman, skopeo and CRI-O: `registries.conf`.

Of the file's second version the tables `[[registry]]` count whose prefix is a whole registry, with
their `[[registry.mirror]]` and, where it is another place, their `location`. A mirror that is only
asked for digests is left out: ours are asked for tags too. A file that is not understood stops
nothing, since it is another program's; `config` shows it. Sources:
containers-registries.conf(5) and containers-registries.conf.d(5).
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelrunner.frozen import field, frozen

_LIMIT = 1024 * 1024
_MOST_FILES = 100
_MARK = rb"(?m)^\s*\[\[\s*\"?registry"
"""Without it a file names no mirror: most do not, and need not be parsed."""
_SYSTEM = Path("/etc/containers/registries.conf")


@frozen
class ContainerMirrors:
    """What the files say.

    Attributes:
        mirrors: Addresses of each registry's mirrors, in their order.
        insecure: Hosts among them that are spoken to in plain HTTP.
        files: The files that name them.
        malformed: Files that were not understood.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    insecure: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    malformed: tuple[Path, ...] = ()

    @property
    def origin(self) -> str:
        """Who says it, for people."""
        said = [str(path) for path in self.files]
        said += [f"{path} (not understood)" for path in self.malformed]
        return ", ".join(said) or "default"


def container_mirrors(environ: Mapping[str, str]) -> ContainerMirrors:
    """Return the mirrors that the files of this user and machine name.

    A later file of a directory counts instead of an earlier one, registry by registry.

    Args:
        environ: The environment.
    """
    tables: dict[str, Mapping[str, Any]] = {}
    files, malformed = [], []
    for path in _files(environ):
        raw = _content(path)
        if b"[[" not in raw or not re.search(_MARK, raw):
            continue
        found = _registries(raw)
        if found is None:
            malformed.append(path)
            continue
        tables |= found
        files.append(path)
    mirrors: dict[str, tuple[str, ...]] = {}
    insecure: list[str] = []
    for registry, table in tables.items():
        places = list(_places(registry, table))
        if places:
            mirrors[registry] = tuple(_address(*place) for place in places)
            insecure += [location.partition("/")[0] for location, is_plain in places if is_plain]
    if not mirrors:
        return ContainerMirrors(malformed=tuple(malformed))
    return ContainerMirrors(mirrors, tuple(insecure), tuple(files), tuple(malformed))


def _files(environ: Mapping[str, str]) -> Sequence[Path]:
    named = environ.get("CONTAINERS_REGISTRIES_CONF") or environ.get("REGISTRIES_CONFIG_PATH")
    if named:
        return (Path(named),)
    home = environ.get("HOME")
    config = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    own = Path(config) / "containers" / "registries.conf" if config else None
    main = own if own is not None and own.exists() else _SYSTEM
    return (main, *_beside(_SYSTEM), *([] if own is None else _beside(own)))


def _beside(path: Path) -> Sequence[Path]:
    folder = path.with_name(f"{path.name}.d")
    try:
        # a glob is a pattern to compile
        listed = os.listdir(folder)  # noqa: PTH208 - names are enough
        names = sorted(name for name in listed if name.endswith(".conf"))
        return [folder / name for name in names[:_MOST_FILES]]
    except OSError:
        return ()


def _content(path: Path) -> bytes:
    try:
        # outside: another program's configuration
        with path.open("rb") as file:
            return file.read(_LIMIT)
    except OSError:
        return b""


def _registries(raw: bytes) -> Mapping[str, Mapping[str, Any]] | None:
    """The tables of whole registries, by their names; None where a file is not understood."""
    # few have such a file
    import tomllib

    from modelrunner.errors import InvalidReferenceError
    from modelrunner.oci.reference import parse_registry

    try:
        listed = tomllib.loads(raw.decode()).get("registry")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    if not isinstance(listed, list):
        return None
    found: dict[str, Mapping[str, Any]] = {}
    for table in listed:
        prefix = table.get("prefix") or table.get("location") if isinstance(table, dict) else None
        if not isinstance(prefix, str) or "/" in prefix or "*" in prefix:
            continue
        try:
            found[parse_registry(prefix)] = table
        except InvalidReferenceError:
            continue
    return found


def _places(registry: str, table: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Where a registry's content is to be had, besides itself, and whether in plain HTTP."""
    mirrors = table.get("mirror")
    only_digests = table.get("mirror-by-digest-only") is True
    for mirror in mirrors if isinstance(mirrors, list) else []:
        location = mirror.get("location") if isinstance(mirror, dict) else None
        if not isinstance(location, str) or not location:
            continue
        if only_digests or mirror.get("pull-from-mirror") not in (None, "", "all"):
            continue
        yield location, mirror.get("insecure") is True
    location = table.get("location")
    if isinstance(location, str) and location not in ("", registry, table.get("prefix")):
        yield location, table.get("insecure") is True


def _address(location: str, is_plain: bool) -> str:  # noqa: FBT001 - of a pair
    host, slash, folder = location.partition("/")
    address = f"{'http' if is_plain else 'https'}://{host}"
    return f"{address}/v2/{folder}" if slash and folder else address
