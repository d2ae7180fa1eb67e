"""A GGUF file that is run where it lies: a model that is in no store.

To what plans a start it looks like a stored model. Nothing is read but headers: in place of the
digest of a file stands that of its path, size and time, which only measurements are kept by.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from modelrunner.errors import (
    InvalidReferenceError,
    MalformedGGUFError,
    UnsupportedArtifactError,
    UsageError,
)
from modelrunner.frozen import field, frozen
from modelrunner.gguf.header import Header
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.model.layers import Layer
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.contents import shard_files
from modelrunner.operations.model.named_file import SUFFIX, file_of
from modelrunner.operations.package.build_artifact import LAYER_TYPES, assemble, config_of
from modelrunner.other_stores.folder import name_of
from modelrunner.store.layout import Layout
from modelrunner.store.store import Store, StoredModel
from modelrunner.text import file_text, sanitize_line, with_article


@frozen
class FileModel(StoredModel):
    """GGUF files as a model.

    Attributes:
        files: The files by what stands for their digest, the first shard first.
        made: The manifest that an artifact of them would have.
        about: The bytes of its config.
    """

    files: Mapping[Digest, Path] = field(kw_only=True)
    made: Manifest = field(kw_only=True)
    about: bytes = field(kw_only=True)

    is_stored: ClassVar[bool] = False

    @classmethod
    def of(cls, layout: Layout, text: str, projector: Path | None = None) -> "FileModel":
        """The model of a file, of one of its shards, or of a file with its projector.

        Args:
            layout: Of the store that it is not in.
            text: The path as it was typed.
            projector: The file of its projector, if it has one.

        Raises:
            UsageError: The file does not exist, or it is a directory.
            MalformedGGUFError: It is not a GGUF, or a shard is not there.
            UnsupportedArtifactError: It is not a model.
        """
        weights = shard_files(_existing(text))
        shards = [_header(path) for path in weights]
        metadata = Metadata.from_header(shards[0], shards=shards[1:])
        if metadata.kind != "model":
            raise UnsupportedArtifactError(
                f"{sanitize_line(text, 200)} is {with_article(metadata.kind)}, not a model",
                hint="run the model that it belongs to: run MODEL.gguf --mmproj FILE"
                if metadata.kind == "projector"
                else "run the model that it belongs to",
                kind=metadata.kind,
            )
        parts = [("weights", path) for path in weights]
        if projector is not None:
            file = _existing(str(projector))
            kind = Metadata.from_header(_header(file)).kind
            if kind != "projector":
                raise UsageError(
                    f"--mmproj {sanitize_line(str(projector))}: expected a projector, got a {kind}",
                    hint="give a projector: its file name usually begins with mmproj-",
                )
            parts.append(("projector", file))
        layers, files = [], {}
        for role, given in parts:
            path = given.absolute()
            found = path.stat()
            identity = os.fsencode(f"{path}\0{found.st_size}\0{found.st_mtime_ns}")
            digest = Digest.of(identity)
            names = {media_types.ANNOTATION_PATH: file_text(path.name)}
            layers.append(Descriptor(LAYER_TYPES["docker"][role], digest, found.st_size, names))
            files[digest] = path
        name = Reference.parse(name_of(file_text(weights[0].name)))
        made, about = assemble(config_of(metadata, "docker"), layers, metadata, name.repository)
        return cls(layout, made.descriptor, (name,), files=files, made=made, about=about)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest that an artifact of the files would have."""
        return self.made

    @cached_property
    def config(self) -> ModelConfig:
        """What the config of such an artifact would say."""
        return self.artifact.config(self.about)

    @cached_property
    def artifact(self) -> ModelArtifact:
        """The manifest understood as a model."""
        return ModelArtifact.from_manifest(self.made)

    @property
    def path(self) -> Path:
        """The file of the weights, the first shard of several."""
        return next(iter(self.files.values()))

    def weights(self) -> Path:
        """The file of the weights, the first shard of several."""
        return self.path

    def blob(self, descriptor: Descriptor) -> Path:
        """The file that a layer stands for."""
        return self.files[descriptor.digest]

    def file(self, layer: Layer | None) -> Path | None:
        """The file that a layer stands for; None without one."""
        return None if layer is None else self.files[layer.descriptor.digest]


def file_model(store: Store, text: str, projector: Path | None = None) -> FileModel | None:
    """Return the model of a file that is named instead of a model; None where none is.

    Raises:
        UsageError: The file is not there, or a projector is given for a model with a name.
        MalformedGGUFError: It is not a GGUF.
    """
    path = file_of(text)
    if path is not None and not (_is_name(text) and store.lookup(text) is not None):
        return FileModel.of(store.layout, path, projector)
    if projector is not None:
        raise UsageError(
            f"--mmproj needs a GGUF file as the model, got the name {sanitize_line(text, 200)}",
            hint="package both as one model: `modelrunner package FILE.gguf REF --mmproj FILE`",
        )
    return None


def _is_name(text: str) -> bool:
    """Whether a text could be the name of a model, too."""
    try:
        Reference.parse(text)
    except InvalidReferenceError:
        return False
    return True


def _existing(text: str) -> Path:
    shown = sanitize_line(text, 300)
    try:
        path = Path(text).expanduser()
        if path.is_file():
            return path
        is_there = path.exists()
        inside = sorted(each.name for each in path.glob(f"*{SUFFIX}")) if path.is_dir() else None
    except (OSError, ValueError, RuntimeError):
        is_there, inside = False, None
    if inside is not None:
        example = str(Path(text) / inside[0]) if inside else f"{text.rstrip('/')}/model.gguf"
        raise UsageError(
            f"{shown} is a directory, not a GGUF file",
            hint=f"name a file in it, such as {sanitize_line(example)}",
        )
    if is_there:
        raise UsageError(f"{shown} is not a file", hint="name a GGUF file")
    raise UsageError(
        f"{shown}: file not found",
        hint="check the path; a model in a registry has a name such as ai/smollm2",
    )


def _header(path: Path) -> Header:
    try:
        return read_header(path)
    except MalformedGGUFError as exc:
        raise MalformedGGUFError(
            exc.message,
            hint=exc.hint or "convert other formats, such as safetensors, to GGUF first",
        ) from exc
    except OSError as exc:
        reason = (exc.strerror or "unknown error").lower()
        raise UsageError(
            f"cannot read {sanitize_line(str(path))}: {reason}",
            hint="check its permissions with `ls -l`",
        ) from exc
