"""A namespace's repositories on Docker Hub, read from a page of its list."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from modelrunner.errors import RegistryAnswerError
from modelrunner.registry.guard import origin
from modelrunner.text import sanitize_line


@dataclass(frozen=True, slots=True)
class DockerHubRepository:
    """What a list says of a repository."""

    name: str
    description: str
    pulls: int
    stars: int


def repositories_in(results: object) -> Iterator[DockerHubRepository]:
    """The repositories on a page; what cannot be understood is passed over."""
    for entry in results if isinstance(results, list) else []:
        match entry:
            case {"namespace": str(namespace), "name": str(name)}:
                about = entry.get("description")
                yield DockerHubRepository(
                    sanitize_line(f"{namespace}/{name}", 255),
                    sanitize_line(about, 500) if isinstance(about, str) else "",
                    _count_in(entry, "pull_count"),
                    _count_in(entry, "star_count"),
                )
            case _:
                pass


def _count_in(entry: Mapping[str, object], key: str) -> int:
    """A number; 0 where there is none."""
    value = entry.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def next_page(here: str, following: object) -> str | None:
    """The page after this one, if it is on the same host."""
    if not isinstance(following, str) or not following:
        return None
    try:
        absolute = urljoin(here, following)
        return absolute if origin(absolute) == origin(here) else None
    except (ValueError, RegistryAnswerError):
        return None
