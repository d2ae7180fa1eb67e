"""Configure: settings of one model that are always applied, kept by its full reference.

MODELRUNNER_HOME/state/models/<hash of the reference>.json
    {"reference": "docker.io/ai/smollm2:latest", "settings": {"kv_type": "q8_0"}}
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from modelrunner.disk.files import disk_errors, lasting, sync_directory, write_atomically
from modelrunner.disk.inside import read_inside
from modelrunner.errors import ConfigError
from modelrunner.oci.reference import Reference
from modelrunner.runtime import settings
from modelrunner.runtime.settings import Value
from modelrunner.wire import parse_json


class Configurations:
    """What was configured, by model.

    Args:
        state: The directory of what this program remembers.
        before: Where that was before it was moved, as out of an image that is read-only: what was
            configured there counts until it is configured again.
    """

    def __init__(self, state: Path, before: Path | None = None) -> None:
        self._folder = state / "models"
        self._before = None if before is None or before == state else before / "models"

    def of(self, reference: Reference) -> dict[str, Value]:
        """The settings of a model; empty where it has none.

        Raises:
            ConfigError: The file was damaged, or a newer modelrunner wrote it.
        """
        path = self._file(reference)
        if self._before is not None and not path.exists():
            path = self._before / path.name
        try:
            with disk_errors(path):
                text = read_inside(path)
        except FileNotFoundError:
            return {}
        try:
            written = parse_json(text)["settings"]
            return settings.parse(f"{key}={settings.as_text(written[key])}" for key in written)
        except (ValueError, TypeError, KeyError) as exc:
            raise _damaged(path, reference) from exc

    def of_any(self, references: Iterable[Reference]) -> dict[str, Value]:
        """The settings of the first of a model's names that has some."""
        return next(filter(None, map(self.of, references)), {})

    def change(
        self, reference: Reference, add: Mapping[str, Value], remove: Collection[str]
    ) -> dict[str, Value]:
        """Adds settings and removes others; what there is then.

        Raises:
            ConfigError: See `of`.
            UsageError: A setting that is to be removed is not known.
        """
        for key in remove:
            settings.known(key)
        gone = {settings.canonical(key) for key in remove}
        kept = {k: v for k, v in self.of(reference).items() if k not in gone} | dict(add)
        path = self._file(reference)
        with disk_errors(path):
            # with another place before it, that nothing is configured has to be written too
            if kept or self._before is not None:
                with lasting(path.parent):
                    path.parent.mkdir(parents=True, exist_ok=True)
                value = {"reference": str(reference), "settings": settings.to_dict(kept)}
                write_atomically(path, json.dumps(value, indent=2).encode() + b"\n")
            else:
                path.unlink(missing_ok=True)
                with suppress(FileNotFoundError):
                    sync_directory(path.parent)
        return kept

    def _file(self, reference: Reference) -> Path:
        return self._folder / f"{hashlib.sha256(str(reference).encode()).hexdigest()}.json"


def _damaged(path: Path, reference: Reference) -> ConfigError:
    return ConfigError(
        f"invalid settings file of {reference.short}: {path}",
        hint="remove the file and run `modelrunner configure` again",
        path=str(path),
    )
