"""What estimates have read of models in registries, kept by digest: the next one asks less.

```
MODELRUNNER_HOME/cache/headers/<hex>.manifest    as it came
                               <hex>.config      as it came
                               <hex>.header      see `gguf.kept`; of one that is too long, how long
```

Content that is known by its digest does not change, so no entry gets old; which digest a tag has is
asked for each time.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelrunner.disk.files import disk_errors, write_lightly
from modelrunner.disk.inside import read_inside
from modelrunner.errors import HeaderTooLongError, ModelRunnerError
from modelrunner.gguf.header import Header
from modelrunner.gguf.kept import dump_header, load_header
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest, parse_manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.reference import Reference
from modelrunner.operations.model import configs, headers
from modelrunner.registry.source import BlobStream, Source
from modelrunner.wire import parse_object

MAX_ENTRIES = 512
"""Files that are kept, the latest ones: some hundred KiB each at most."""

_MAX_HEADER = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """The directory of what was read; None for nowhere: then all is asked for each time."""

    directory: Path | None = None

    def source(self, source: Source) -> Source:
        """Return a source that delivers manifests which are known by their digest from here."""
        return source if self.directory is None else _Remembering(source, self)

    def config(self, source: Source, reference: Reference, artifact: ModelArtifact) -> ModelConfig:
        """Return the config of a model in a registry.

        Raises:
            IntegrityError, TransferError: As with `configs.of_remote`.
        """

        def read(descriptor: Descriptor) -> bytes:
            def fetch() -> bytes:
                return configs.raw_of_remote(source, reference, descriptor)

            return self.verified(descriptor.digest, "config", fetch)

        return artifact.config(read(artifact.manifest.config), read)

    def headers(
        self, source: Source, reference: Reference, artifact: ModelArtifact
    ) -> headers.Headers:
        """Return the headers of a model in a registry.

        Raises:
            HeaderTooLongError, MalformedGGUFError, TransferError: As with `headers.of_remote`.
        """
        return headers.of_remote(source, reference, artifact, self._header)

    def _header(self, source: Source, reference: Reference, descriptor: Descriptor) -> Header:
        raw = self._read(descriptor.digest, "header", _MAX_HEADER)
        with suppress(ValueError):
            too_long = raw is not None and _too_long(raw)
            if too_long:
                raise HeaderTooLongError(f"{reference.short}: {too_long}")
            if raw is not None:
                return load_header(raw)
        try:
            found = headers.read_remote(source, reference, descriptor)
        except HeaderTooLongError as exc:
            problem = exc.message.removeprefix(f"{reference.short}: ")
            self._write(descriptor.digest, "header", json.dumps({"too_long": problem}).encode())
            raise
        self._write(descriptor.digest, "header", dump_header(found))
        return found

    def verified(
        self, digest: Digest, kind: Literal["manifest", "config"], fetch: Callable[[], bytes]
    ) -> bytes:
        """Return the content that has a digest, from here or else as it is fetched."""
        raw = self._read(digest, kind, MAX_BYTES)
        if raw is not None and Digest.of(raw) == digest:
            return raw
        raw = fetch()
        if Digest.of(raw) == digest:
            self._write(digest, kind, raw)
        return raw

    def _path(self, digest: Digest, kind: str) -> Path | None:
        return None if self.directory is None else self.directory / f"{digest.hex}.{kind}"

    def _read(self, digest: Digest, kind: str, limit: int) -> bytes | None:
        path = self._path(digest, kind)
        if path is None:
            return None
        try:
            return read_inside(path, limit)
        except OSError:
            return None

    def _write(self, digest: Digest, kind: str, content: bytes) -> None:
        path = self._path(digest, kind)
        if path is None:
            return
        # a directory that cannot be written costs requests, and nothing else
        with suppress(ModelRunnerError), disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_lightly(path, content)
            entries = sorted(path.parent.iterdir(), key=lambda entry: entry.stat().st_mtime_ns)
            for old in entries[:-MAX_ENTRIES]:
                old.unlink(missing_ok=True)


def _too_long(raw: bytes) -> str | None:
    """Return what was said of a header that is too long; None for one that is kept."""
    # a kept header may be long, and is parsed once
    if not raw.startswith(b'{"too_long"'):
        return None
    found = parse_object(raw)["too_long"]
    return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class _Remembering:
    """A source before which manifests are kept."""

    behind: Source
    kept: Kept = field(repr=False)

    @property
    def name(self) -> str:
        return self.behind.name

    def resolve(self, reference: Reference) -> Digest:
        return self.behind.resolve(reference)

    def manifest(self, reference: Reference) -> Manifest | Index:
        digest = reference.digest
        if digest is None:
            return self.behind.manifest(reference)
        return parse_manifest(
            self.kept.verified(digest, "manifest", lambda: self.behind.manifest(reference).raw)
        )

    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> AbstractContextManager[BlobStream]:
        return self.behind.open_blob(reference, descriptor, offset, stop)

    def tags(self, reference: Reference) -> tuple[str, ...]:
        return self.behind.tags(reference)

    def distrust(self, places: Mapping[str, int]) -> None:
        self.behind.distrust(places)

    def close(self) -> None:
        self.behind.close()
