"""What a package is and what it was made of, before it has the form of a document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.version import __version__

TOOL = "modelrunner"
BUILDER = f"pkg:pypi/{TOOL}@{__version__}"
"""This program, as a package URL."""

_HUB = "https://huggingface.co/"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file of a package.

    Attributes:
        name: Its path in the package.
        digest: Its digest.
        size: Its bytes.
        role: What it is for, as a word.
    """

    name: str
    digest: Digest
    size: int
    role: str


@dataclass(frozen=True, slots=True)
class Source:
    """Another model that a package was made of.

    Attributes:
        url: Where it is; None where only its digest is known.
        digest: Its digest; None for a repository.
        commit: The commit of a repository.
    """

    url: str | None
    digest: Digest | None = None
    commit: str | None = None

    @property
    def purl(self) -> str | None:
        """It as a package URL, where it has one."""
        if self.url is not None and self.url.startswith(_HUB):
            name = quote(self.url.removeprefix(_HUB).lower(), safe="/")
            return f"pkg:huggingface/{name}" + (f"@{self.commit.lower()}" if self.commit else "")
        if self.url is None or self.digest is None:
            return None
        model = Reference.parse(self.url)
        return oci_purl(model.name, self.digest, model.tag)

    @property
    def name(self) -> str:
        """What it is called."""
        if self.url is not None:
            return self.url.removeprefix(_HUB)
        return str(self.digest)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A step in which weights became others.

    Attributes:
        tool: What did it, with its version where that is known.
        sources: The digests of the files before.
        option: What was asked for; None where nothing was.
    """

    tool: str
    sources: tuple[Digest, ...]
    option: str | None = None


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What is known of a package.

    Attributes:
        name: Its name.
        digest: The digest of its manifest.
        created: When it was made, in RFC 3339.
        files: Its files, the weights first.
        title: What its makers call the model.
        license: As the makers write it.
        license_text: The text of a license that it brings.
        architecture: The model's architecture.
        parameters: Their number, as text.
        quantization: How the weights are quantized.
        context_length: Tokens that it was trained for.
        format: The format of the weights.
        source: The model or the repository that it was made of.
        steps: How the weights became what they are, in order.
        settings: Settings that its config advises.
    """

    name: Reference
    digest: Digest
    created: str
    files: tuple[PackageFile, ...]
    title: str | None = None
    license: str | None = None
    license_text: str | None = None
    architecture: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    context_length: int | None = None
    format: str | None = None
    source: Source | None = None
    steps: Sequence[Conversion] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def repository(self) -> str:
        """Its name without the tag."""
        return self.name.name

    @property
    def version(self) -> str:
        """Its tag, or its digest where it has none."""
        return self.name.tag or str(self.digest)

    @property
    def purl(self) -> str | None:
        """It as a package URL; None for a name that no registry has."""
        if self.name.is_local:
            return None
        return oci_purl(self.name.name, self.digest, self.name.tag)

    @property
    def made_of(self) -> tuple[Digest, ...]:
        """The digests of the files that its weights were made of; none where they are as given."""
        return self.steps[0].sources if self.steps else ()

    @property
    def properties(self) -> Mapping[str, str]:
        """What is known of the model itself, by name."""
        context = None if self.context_length is None else str(self.context_length)
        said = {
            "format": self.format,
            "parameters": self.parameters,
            "quantization": self.quantization,
            "context_length": context,
        }
        return {key: value for key, value in said.items() if value}


def oci_purl(repository: str, digest: Digest, tag: str | None = None) -> str:
    """Return the package URL of an artifact in a registry (source: `purl-spec`, type `oci`)."""
    name = quote(repository.rpartition("/")[2].lower(), safe="")
    said = f"repository_url={quote(repository, safe='/:')}"
    more = f"&tag={quote(tag, safe='')}" if tag else ""
    return f"pkg:oci/{name}@{quote(str(digest), safe='')}?{said}{more}"
