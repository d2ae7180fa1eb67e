"""The small files of an artifact, and a layer for each: templates, licenses, projectors."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from modelrunner.errors import UsageError
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.projector import misfit
from modelrunner.gguf.reader import read_header
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.config import Family
from modelrunner.operations.model.contents import existing_file
from modelrunner.operations.package.build_artifact import LAYER_TYPES
from modelrunner.text import with_article

PartRole = Literal["template", "license", "projector"]


@dataclass(frozen=True, slots=True)
class Part:
    """A file that goes into an artifact beside its weights.

    Attributes:
        role: What it is for.
        name: The name that it gets.
        content: Its bytes, or where they are.
    """

    role: PartRole
    name: str
    content: bytes | Path


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a name that no other file has: `LICENSE`, or else `LICENSE-2`."""
    path = PurePosixPath(name)
    free, number = path, 1
    while str(free) in taken:
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return str(free)


def layer_name(given: str, role: str, family: Family) -> str:
    """Return a name by which readers of the family find the file's role."""
    name, path = given, PurePosixPath(given)
    if role == "weights" and family == "modelpack" and path.suffix.lower() != ".gguf":
        return f"{name}.gguf"
    if role == "projector" and family == "modelpack" and path.suffix.lower() != ".gguf":
        return f"mmproj-{name}.gguf"
    if role == "projector" and "mmproj" not in name.lower():
        return f"mmproj-{name}"
    if role == "template" and family == "modelpack" and path.suffix != ".jinja":
        return "chat_template.jinja"
    if role == "license" and family == "modelpack" and "license" not in name.lower():
        return f"LICENSE-{name}"
    return name


def file_layer(media_type: str, name: str, digest: Digest, size: int, modified: str) -> Descriptor:
    """Return the layer of a file.

    Args:
        media_type: Of the layer.
        name: The path of the file in the model's directory.
        digest: Of its content.
        size: In bytes.
        modified: The time of the file, as text.
    """
    annotations = {
        media_types.ANNOTATION_PATH: name,
        media_types.ANNOTATION_FILE: json.dumps(
            {
                "name": PurePosixPath(name).name,
                "mode": 0o644,
                "uid": 0,
                "gid": 0,
                "size": size,
                "mtime": modified,
                "typeflag": 0,
            },
            separators=(",", ":"),
        ),
        media_types.ANNOTATION_UNTESTED: "false",
        # the name under which `oras pull` and `regctl artifact get` write the file
        media_types.ANNOTATION_TITLE: name,
    }
    return Descriptor(media_type, digest, size, annotations)


def part_layer(
    part: Part, name: str, family: Family, digest: Digest, size: int, modified: str
) -> Descriptor:
    """Return the layer of a part under a name, as a family has it."""
    return file_layer(LAYER_TYPES[family][part.role], name, digest, size, modified)


def require_projector(file: Path, model: Metadata, name: str) -> None:
    """Accept a file that is the projector of a model.

    Args:
        file: The file.
        model: What the headers of the weights say.
        name: What the weights are called.

    Raises:
        UsageError: It is not there, is something else, or is of another model.
    """
    header = read_header(existing_file(file))
    projector = Metadata.from_header(header)
    if projector.kind != "projector":
        raise UsageError(
            f"{file.name} is {with_article(projector.kind)}, not a projector",
            hint="give the projector of the model with --mmproj, or leave the option out",
        )
    problem = misfit(header, model.embedding_length)
    if problem is not None:
        raise UsageError(
            f"{file.name} does not match {name}: {problem}",
            hint="give the projector of this model with --mmproj, or leave the option out",
        )
