"""Delete: a tag, or a manifest with all of its tags, from a registry."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from modelrunner.errors import (
    IntegrityError,
    ManifestNotFoundError,
    ModelRunnerError,
    RegistryAnswerError,
    UsageError,
)
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.suggestions import about, about_tag

_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_DOMAIN = re.compile(r"([a-z0-9-]+\.)+[a-z]{2,}", re.IGNORECASE)
_HOST_PORT = re.compile(r"[^:]+(:[0-9]{1,5})?")
_NOTHING = Digest("0" * 64)
"""What no content has."""

_MOST_TAGS = 500
"""Tags that are asked for what they stand for."""


class Registry(Protocol):
    """What of a registry is needed."""

    @property
    def name(self) -> str:
        """For people: which one it is."""
        ...

    def resolve(self, reference: Reference) -> Digest:
        """What a name stands for."""
        ...

    def manifest(self, reference: Reference) -> Manifest | Index:
        """The manifest of a name or a digest."""
        ...

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """The tags of the repository."""
        ...

    def delete(self, reference: Reference) -> bool:
        """Remove a tag or a manifest; whether the registry can."""
        ...


@dataclass(frozen=True, slots=True)
class DeletionPlan:
    """What would be removed.

    Attributes:
        reference: What was named.
        digest: The manifest that it stands for.
        tags: The tags of that manifest.
        unknown: How many further tags were not asked for what they stand for.
    """

    reference: Reference
    digest: Digest
    tags: tuple[str, ...]
    unknown: int = 0

    @property
    def is_untagging(self) -> bool:
        """Whether one tag is removed, and the manifest stays."""
        return self.reference.digest is None

    @property
    def lines(self) -> list[str]:
        """What is affected, for people."""
        others = [tag for tag in self.tags if tag != self.reference.tag]
        more = f", and {self.unknown} tags that were not looked at" if self.unknown else ""
        if self.is_untagging:
            stays = f"; {', '.join(others)} stay" if others else ""
            return [f"the tag {self.reference.tag} of {self.digest}{stays}{more}"]
        named = f", with its tags {', '.join(self.tags)}" if self.tags else ", which has no tag"
        return [f"{self.digest}{named}{more}"]


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was removed: tags, and the manifest itself unless it stays."""

    digest: Digest
    tags: tuple[str, ...]
    is_gone: bool


def require_repository(text: str) -> None:
    """Refuse the address of a registry, which would mean a model of that name on Docker Hub.

    Raises:
        UsageError: It is `localhost`, an address or a domain, with or without a port.
    """
    host = text.partition(":")[0]
    is_host = host == "localhost" or _ADDRESS.fullmatch(host) or _DOMAIN.fullmatch(host)
    if "/" not in text and is_host and _HOST_PORT.fullmatch(text):
        raise UsageError(
            f"{text} is a registry: no repository given",
            hint=f"write {text}/NAME:TAG; `modelrunner search --registry {text}` lists its"
            " repositories",
        )


def plan_deletion(registry: Registry, reference: Reference) -> DeletionPlan:
    """Return what the deletion of a name comes to.

    Raises:
        ManifestNotFoundError: The registry does not have it; near tags are named.
        AccessError, TransferError: It does not answer.
    """
    wanted = reference
    if reference.digest is not None:
        # a tag beside a digest says nothing more
        wanted = replace(reference, tag=None)
        with about(wanted):
            digest = registry.manifest(wanted).digest
    else:
        with about_tag(registry, wanted):
            digest = registry.resolve(wanted)
    tags, unknown = _tags_of(registry, reference, digest)
    return DeletionPlan(wanted, digest, tags, unknown)


def delete(registry: Registry, plan: DeletionPlan) -> Deleted:
    """Remove what was planned.

    Raises:
        RegistryAnswerError: The registry cannot.
        ManifestNotFoundError: It is gone already.
        AccessError, TransferError: The registry says no, or nothing.
    """
    if registry.delete(plan.reference):
        if plan.is_untagging:
            return Deleted(plan.digest, (plan.reference.tag or "",), is_gone=False)
        return Deleted(plan.digest, plan.tags, is_gone=True)
    if not plan.is_untagging:
        raise _no_deletion(registry)
    others = [tag for tag in plan.tags if tag != plan.reference.tag]
    pinned = replace(plan.reference, tag=None, digest=plan.digest)
    if not _deletes(registry, plan.reference):
        raise _no_deletion(registry)
    raise RegistryAnswerError(
        f"{registry.name} does not remove a tag alone",
        hint=f"delete the manifest{_also(others)}: `modelrunner delete {pinned.short}`",
        registry=registry.name,
        digest=str(plan.digest),
        tags=list(plan.tags),
    )


def _by_numbers(tag: str) -> list[tuple[bool, int, str]]:
    """The order of tags in which numbers count as such."""
    parts = re.split("([0-9]{1,18})", tag)
    # bounded: digits of the pattern
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _deletes(registry: Registry, reference: Reference) -> bool:
    """Whether a registry deletes manifests: it is asked for one that cannot be there."""
    try:
        return registry.delete(replace(reference, tag=None, digest=_NOTHING))
    except ModelRunnerError:
        # it has looked for it
        return True


def _no_deletion(registry: Registry) -> RegistryAnswerError:
    return RegistryAnswerError(
        f"{registry.name} does not allow deletion",
        hint="ask its administrator to allow it (docker-registry: "
        "REGISTRY_STORAGE_DELETE_ENABLED=true)",
        registry=registry.name,
    )


def _also(others: Sequence[str]) -> str:
    if not others:
        return ""
    return f", which removes the {'tag' if len(others) == 1 else 'tags'} {', '.join(others)} too"


def _tags_of(
    registry: Registry, reference: Reference, digest: Digest
) -> tuple[tuple[str, ...], int]:
    """The tags that stand for a manifest, and how many were not asked for."""
    try:
        names = registry.tags(reference)
    except ManifestNotFoundError:
        names = ()
    found = []
    for name in names[:_MOST_TAGS]:
        try:
            if registry.resolve(reference.with_tag(name)) == digest:
                found.append(name)
        except (IntegrityError, ManifestNotFoundError):
            # one that is broken, or gone meanwhile
            continue
    return tuple(sorted(found, key=_by_numbers)), max(0, len(names) - _MOST_TAGS)
