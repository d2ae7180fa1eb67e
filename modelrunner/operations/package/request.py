"""What `package` is asked for: what the artifact is made of, and what goes into it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Literal

from modelrunner.errors import UsageError
from modelrunner.oci.model.config import Family
from modelrunner.oci.reference import Reference
from modelrunner.runtime.packaged import CONTEXT
from modelrunner.runtime.settings import Value
from modelrunner.text import sanitize_line

Kind = Literal["file", "model", "hub"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRequest:
    """What to make a package of, and how.

    Attributes:
        kind: Whether it is made of files, of another model, or of a repository of the Hub.
        source: The path of the file, or the name of the model or repository, as it was typed.
        name: The name that the package gets.
        licenses: Files of licenses.
        projector: The file of a projector.
        template: The file of a chat template.
        settings: Settings that are advised for a launch, by their names.
        family: Docker's artifact, or CNCF ModelPack's; None for the usual one.
        created: The time in its config, where one is set for it.
        link: Whether files are linked into the store, or else nothing is made.
        push: Whether it goes to its registry.
        image: Whether it is made a container image.
        quantize: The quantization that the weights get first; None for that which they have.
        to_gguf: Whether weights in safetensors are converted to GGUF first.
        documented: Whether documents are made of it, for which it has to be in the local store.
    """

    kind: Kind
    source: str
    name: Reference
    licenses: Sequence[Path] = ()
    projector: Path | None = None
    template: Path | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    family: Family | None = None
    created: datetime | None = None
    link: bool = False
    push: bool = False
    image: bool = False
    quantize: str | None = None
    to_gguf: bool = False
    matrix: Path | None = None
    documented: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be combined."""
        if self.link and self.kind != "file":
            raise UsageError(
                "--link needs a file, and cannot be combined with --from or --from-hf",
                hint="leave out --link: blobs of the local store are shared in any case",
            )
        if self.image and self.settings:
            raise UsageError(
                f"cannot package {next(iter(self.settings))}: settings are not supported by"
                " container images",
                hint="leave the setting out, and set it where the model runs",
            )
        if self.image and self.family == "modelpack":
            raise UsageError(
                "--format modelpack and --as image cannot be combined", hint="use one of them"
            )
        if self.matrix is not None and self.quantize is None:
            raise UsageError("--imatrix needs --quantize", hint="add --quantize TYPE")
        if self.link and self.converts:
            option = "--to-gguf" if self.quantize is None else "--quantize"
            raise UsageError(
                f"--link and {option} cannot be combined",
                hint="leave out --link: the file that is made is not copied",
            )

    @property
    def converts(self) -> bool:
        """Whether the weights become others first."""
        return self.to_gguf or self.quantize is not None

    @property
    def moment(self) -> datetime:
        """The time in the config of what is made of files."""
        return self.created or datetime.now(UTC)

    @property
    def context(self) -> int | None:
        """The context that the config sets."""
        tokens = self.settings.get(CONTEXT)
        return tokens if isinstance(tokens, int) else None

    @property
    def other_settings(self) -> Mapping[str, Value]:
        """The settings but for the context."""
        return {key: value for key, value in self.settings.items() if key != CONTEXT}


def source_of(
    file: str, reference: str | None, from_model: str | None, from_hub: str | None
) -> tuple[Kind, str, str]:
    """Return what a package is made of, and the name that it gets.

    Args:
        file: The first word that was typed.
        reference: The second one.
        from_model: The value of `--from`.
        from_hub: The value of `--from-hf`.

    Raises:
        UsageError: The name, or what it is made of, is missing or there twice.
    """
    if from_model is not None and from_hub is not None:
        raise UsageError("--from and --from-hf cannot be combined", hint="use one of them")
    kind: Kind = "hub" if from_model is None else "model"
    source = from_hub if from_model is None else from_model
    if source is None:
        if reference is None:
            raise UsageError(
                f"package needs a file and a name, got {sanitize_line(file, 200)}",
                hint=f"name the model: `modelrunner package {quote(sanitize_line(file, 200))}"
                f" local/{_stem(file)}`",
            )
        return "file", file, reference
    if reference is not None:
        option = "--from" if kind == "model" else "--from-hf"
        raise UsageError(
            f"{option} cannot be combined with a file: {sanitize_line(file, 200)}",
            hint=f"name the new model alone: `modelrunner package {option} {source} REF`",
        )
    return kind, source, file


def _stem(file: str) -> str:
    """A name for an example, such as a file or a directory suggests it."""
    name = Path(file).name.lower().removesuffix(".gguf")
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:60] or "model"
