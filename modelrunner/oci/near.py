"""Names of models that are spelled like one that does not exist."""

from collections.abc import Iterable

from modelrunner.oci.reference import DEFAULT_TAG, DOCKER_HUB, Reference
from modelrunner.text import by_likeness, closest


def near_names(wanted: Reference, known: Iterable[Reference], limit: int = 3) -> list[str]:
    """The known names that may have been meant, as people type them, the likeliest first.

    Another tag of the same repository counts most, then a model of the same name elsewhere, then
    one whose name is spelled alike, whatever its registry and namespace.
    """
    by_name: dict[str, list[Reference]] = {}
    for reference in known:
        by_name.setdefault(_last(reference), []).append(reference)
    found: dict[str, None] = {}
    for name in closest(_last(wanted), by_name, limit):
        for reference in sorted(by_name[name], key=lambda entry: _distance(wanted, entry)):
            found.setdefault(typed(reference))
    return list(found)[:limit]


def near_tags(wanted: str, tags: Iterable[str], limit: int = 8) -> tuple[str, ...]:
    """The tags most like the wanted one, the likeliest first."""
    return tuple(tag for _, tag in by_likeness(wanted, tags))[:limit]


def typed(reference: Reference) -> str:
    """A name as people type it: without the tag `latest` too."""
    short = reference.short
    return short if reference.pinned else short.removesuffix(f":{DEFAULT_TAG}")


def _last(reference: Reference) -> str:
    return reference.repository.rpartition("/")[2]


def _distance(wanted: Reference, known: Reference) -> tuple[bool, bool, bool, str]:
    return (
        known.name != wanted.name,
        known.tag != wanted.tag,
        known.registry not in (wanted.registry, DOCKER_HUB),
        known.short,
    )
