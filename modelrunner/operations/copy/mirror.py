"""Mirror: a registry that is to have all of a list, under names that make it a mirror of others.

`ghcr.io/team/m:1` is `HOST/team/m:1` there, or `HOST/PREFIX/team/m:1`: the name that is asked for
with `MODELRUNNER_MIRRORS=ghcr.io=https://HOST` or `...=https://HOST/v2/PREFIX`. Where models of
several registries could have the same name, each registry gets a prefix of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from modelrunner.errors import ModelRunnerError, RegistryUnavailableError, UsageError
from modelrunner.oci.reference import HUGGING_FACE, Reference, parse_registry
from modelrunner.operations.copy.ends import LAYOUTS, End, parse_end
from modelrunner.operations.copy.origin import Origin
from modelrunner.operations.copy.result import NotCopied, Outcome
from modelrunner.operations.copy.to_registry import RegistryCopier


@dataclass(frozen=True, slots=True)
class MirrorPlace:
    """Where a mirror is.

    Attributes:
        registry: The registry.
        prefix: What comes before each repository; empty for nothing.
        scoped: Whether the registry that a model is of comes before its repository, too.
    """

    registry: str
    prefix: str = ""
    scoped: bool = False

    @classmethod
    def parse(cls, text: str, *, scoped: bool) -> "MirrorPlace":
        """Read `HOST[/PREFIX]`.

        Raises:
            InvalidReferenceError: It is not that.
        """
        host, _, prefix = text.rstrip("/").partition("/")
        if "://" in text or not host:
            raise UsageError(
                f"--to {text[:200]!r} is not a registry",
                hint="write HOST or HOST/PREFIX, such as registry.example.com/mirror",
            )
        registry = parse_registry(host)
        if registry == HUGGING_FACE:
            raise UsageError(
                f"--to {text[:200]}: the Hugging Face Hub is not an OCI registry",
                hint="name a registry, or archive:FILE; `hf upload` puts files on the Hub",
            )
        if prefix:
            # the same rules as for every repository
            prefix = Reference.parse(f"{registry}/{prefix}/x").repository.removesuffix("/x")
        return cls(registry, prefix, scoped)

    def folder_of(self, registry: str) -> str:
        """Return what comes before the repositories of a registry."""
        own = registry.replace(":", "-").strip("[]") if self.scoped else ""
        return "/".join(part for part in (self.prefix, own) if part)

    def name_of(self, reference: Reference) -> Reference:
        """Return what a model is called there.

        Raises:
            InvalidReferenceError: The mirror cannot have such a name.
        """
        folder = self.folder_of(reference.registry)
        path = f"{folder}/{reference.repository}" if folder else reference.repository
        pin = "" if reference.digest is None else f"@{reference.digest}"
        tag = "" if reference.tag is None else f":{reference.tag}"
        name = Reference.parse(f"{self.registry}/{path}{tag or pin}")
        return replace(name, original_repository="")


@dataclass(frozen=True, slots=True)
class LayoutPlace:
    """An archive or a directory that is to have all of a list, under the models' own names.

    Attributes:
        end: The archive or the directory.
    """

    end: End

    @property
    def registry(self) -> str:
        """What it is called in a report."""
        return f"{self.end.kind}:{self.end.path}"

    def name_of(self, reference: Reference) -> Reference:
        """Return what a model is called there.

        Raises:
            UsageError: It has no tag.
        """
        if reference.tag is None:
            raise UsageError(
                f"{reference.short} has no tag to copy it under",
                hint="name it with a tag: NAME:TAG@sha256:HEX",
            )
        return replace(reference, digest=None)


def parse_place(text: str, *, scoped: bool) -> MirrorPlace | LayoutPlace:
    """Return where `--to` leads.

    Raises:
        UsageError: It is not a place for several models.
    """
    if not text.startswith(LAYOUTS):
        return MirrorPlace.parse(text, scoped=scoped)
    end = parse_end(text)
    if end.text or scoped:
        raise UsageError(
            f"--to {text[:200]}: an archive has its models under their own names",
            hint=f"write {end.kind}:{end.path}, without --scoped",
        )
    return LayoutPlace(end)


def parse_start(text: str) -> End:
    """Return the archive or directory that `--from` names.

    Raises:
        UsageError: It is neither, or a model of one.
    """
    end = parse_end(text) if text.startswith(LAYOUTS) else None
    if end is None or end.text:
        raise UsageError(
            f"--from {text[:200]!r} is not an archive",
            hint="write archive:FILE or dir:DIRECTORY; what is not in an archive comes from the"
            " registries of the list",
        )
    return end


@dataclass(frozen=True, slots=True)
class MirrorSync:
    """Makes a registry, an archive or a directory have all of a list.

    Attributes:
        origin: Opens what a name means where the models come from.
        copier: Copies there.
        place: The mirror.
    """

    origin: Callable[[Reference], Origin]
    copier: RegistryCopier
    place: MirrorPlace | LayoutPlace
    _taken: dict[str, str] = field(default_factory=dict)

    def sync(self, wanted: Iterable[Reference], *, dry_run: bool = False) -> Iterator[Outcome]:
        """Copy what the mirror does not have; what fails does not end it.

        Args:
            wanted: The list.
            dry_run: Look only; what would be copied is `missing`.
        """
        away: RegistryUnavailableError | None = None
        for reference in wanted:
            target = self.place.registry
            if away is not None:
                # each of the others would wait as long as the first has
                yield NotCopied(reference.short, target, away)
                continue
            try:
                name = self.place.name_of(reference)
                target = str(name)
                self._take(reference, target)
                with closing(self.origin(reference)) as origin:
                    look = self.copier.look if dry_run else self.copier.copy
                    yield look(origin, name)
            except ModelRunnerError as exc:
                if isinstance(exc, RegistryUnavailableError) and self.place.registry in exc.message:
                    away = exc
                yield NotCopied(reference.short, target, exc)

    def _take(self, reference: Reference, target: str) -> None:
        """Give a name to one model: another one may not get it too."""
        bare = str(replace(reference, digest=None))
        taken = self._taken.setdefault(target, bare)
        if taken != bare:
            raise UsageError(
                f"{reference.short}: {taken} has the name {target} at the mirror",
                hint="use --scoped: each registry gets a prefix of its own",
            )


def mirror_settings(
    place: MirrorPlace, scheme: str, references: Sequence[Reference]
) -> dict[str, str]:
    """Return the address of the mirror for each registry whose models it has.

    Args:
        place: The mirror.
        scheme: How it is spoken to.
        references: What it has.
    """
    found = {}
    for registry in sorted({reference.registry for reference in references}):
        folder = place.folder_of(registry)
        address = f"{scheme}://{place.registry}"
        found[registry] = f"{address}/v2/{folder}" if folder else address
    return found
