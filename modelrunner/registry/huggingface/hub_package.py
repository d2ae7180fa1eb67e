"""What is used of `huggingface_hub`, the Hub's own package: the one module that knows it.

It has the types of the Hub's answers, the addresses of files, what error codes mean, which token a
user is logged in with, and what a glob matches. Requests are not left to it: its client is one for
the whole process, follows redirects anywhere, tries again for a minute, and reads answers of any
size. Replacing that client would change it for whatever else in this process uses the package.
Importing this module imports the package, which takes longer than most commands run.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import huggingface_hub.errors as known
from huggingface_hub import constants
from huggingface_hub.file_download import hf_hub_url
from huggingface_hub.hf_api import ModelInfo, RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # it loads them when asked
    filter_repo_objects,
    get_token,
    hf_raise_for_status,
)

from modelrunner.errors import InvalidReferenceError
from modelrunner.huggingface.repository import HubEntry
from modelrunner.registry.settings import HubAccess
from modelrunner.text import sanitize_line
from modelrunner.wire import LARGEST

_UNUSABLE = (AttributeError, LookupError, TypeError, ValueError, OverflowError)
"""What the package's types raise for entries that are not what they expect."""

_OF_A_MODEL = ("id", "sha", "downloads", "likes", "gated", "gguf", "siblings")
_OF_A_FILE = ("path", "size", "oid", "lfs", "xetHash")
_TELLING = ("X-Error-Code", "X-Error-Message")
"""Headers that an error is told by; others are shown by the package, and are foreign text."""

_TOKEN_LOG = "huggingface_hub.utils._auth"  # noqa: S105 - the name of a log
_log = logging.getLogger(__name__)
Item = TypeVar("Item")


class Refusal(Enum):
    """Why the Hub refuses a request."""

    GATED = auto()
    DISABLED = auto()
    NO_REVISION = auto()
    NO_FILE = auto()
    NO_REPOSITORY = auto()
    INVALID_TOKEN = auto()
    OTHER = auto()


_REFUSALS: dict[type[Exception], Refusal] = {
    known.GatedRepoError: Refusal.GATED,
    known.DisabledRepoError: Refusal.DISABLED,
    known.RevisionNotFoundError: Refusal.NO_REVISION,
    known.RemoteEntryNotFoundError: Refusal.NO_FILE,
    known.RepositoryNotFoundError: Refusal.NO_REPOSITORY,
}
"""By the package's errors; one that is another one's special case comes before it."""


@dataclass(frozen=True, slots=True)
class HubRepository:
    """What an answer says of a repository; `None` where it says nothing, or nothing sane."""

    name: str
    commit: str | None
    downloads: int
    likes: int
    gated: bool
    gguf: Mapping[str, object]
    paths: tuple[str, ...]


def refusal_of(status: int, headers: Mapping[str, str], url: str) -> Refusal:
    """Why the Hub refuses a request, as the package understands the answer.

    Args:
        status: Of the answer: 400 or more.
        headers: Of the answer.
        url: What was asked for.
    """
    said = {name: headers[name] for name in _TELLING if name in headers}
    answer = httpx2.Response(status, headers=said, request=httpx2.Request("GET", url))
    try:
        hf_raise_for_status(answer)
    except known.HfHubHTTPError as error:
        return next(
            (why for kind, why in _REFUSALS.items() if isinstance(error, kind)), _other(said)
        )
    return Refusal.OTHER


def _other(said: Mapping[str, str]) -> Refusal:
    invalid = said.get("X-Error-Message", "").startswith("Invalid credentials")
    return Refusal.INVALID_TOKEN if invalid else Refusal.OTHER


def files_in(page: object) -> Iterator[HubEntry]:
    """The files on a page of a listing; what cannot be understood is passed over."""
    for entry in page if isinstance(page, list) else []:
        if not isinstance(entry, dict) or entry.get("type", "file") != "file":
            continue
        # what a stand-in for the Hub may leave out
        lfs = entry.get("lfs")
        whole = {"oid": "", **entry}
        if isinstance(lfs, dict):
            whole["lfs"] = {"size": 0, "pointerSize": 0, **lfs}
        try:
            file: Any = RepoFile(**{name: whole[name] for name in _OF_A_FILE if name in whole})  # type: ignore[no-untyped-call]
        except _UNUSABLE:
            continue
        # the package takes values of any type
        match file.path, file.size, file.blob_id, file.lfs:
            case str(path), int(size), str(blob_id), None if _is_size(size):
                yield HubEntry(path, size, blob_id, None)
            case str(path), int(size), str(blob_id), lfs if _is_size(size) and lfs is not None:
                yield HubEntry(path, size, blob_id, str(lfs.sha256), _xet_hash(file.xet_hash))
            case _:
                pass


def count_files(page: object) -> int:
    """How many files a page of a listing has, understood or not."""
    entries = page if isinstance(page, list) else []
    return sum(
        not isinstance(entry, dict) or entry.get("type", "file") == "file" for entry in entries
    )


def repositories_in(page: object) -> Iterator[HubRepository]:
    """The repositories on a page of a search; what cannot be understood is passed over."""
    for entry in page if isinstance(page, list) else []:
        found = repository_in(entry)
        if found is not None:
            yield found


def repository_in(entry: object) -> HubRepository | None:
    """What an answer says of a repository; None if it cannot be understood."""
    if not isinstance(entry, dict):
        return None
    try:
        model: Any = ModelInfo(**{name: entry[name] for name in _OF_A_MODEL if name in entry})  # type: ignore[no-untyped-call]
    except _UNUSABLE:
        return None
    if not isinstance(model.id, str):
        return None
    names: list[object] = [sibling.rfilename for sibling in model.siblings or []]
    return HubRepository(
        model.id,
        model.sha if isinstance(model.sha, str) else None,
        _count(model.downloads),
        _count(model.likes),
        model.gated not in (None, False),
        model.gguf if isinstance(model.gguf, Mapping) else {},
        tuple(name for name in names if isinstance(name, str)),
    )


def _xet_hash(said: object) -> str | None:
    # as the package judges it
    valid = isinstance(said, str) and re.fullmatch("[0-9a-f]{64}", said) is not None
    return str(said) if valid else None


def _is_size(size: int) -> bool:
    return not isinstance(size, bool) and 0 <= size <= LARGEST


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def url_of(repository: str, path: str, commit: str, endpoint: str) -> str:
    """The address of a file.

    Raises:
        InvalidReferenceError: No repository can have that name.
    """
    try:
        found: str = hf_hub_url(repository, path, revision=commit, endpoint=constants.ENDPOINT)
    except known.HFValidationError as exc:
        raise InvalidReferenceError(
            f"invalid name of a repository on the Hugging Face Hub: {repository[:200]!r}",
            hint="write hf.co/ORG/REPO",
        ) from exc
    # the package has read HF_ENDPOINT when it was imported, whatever was configured since
    return endpoint + found.removeprefix(constants.ENDPOINT)


def matching(
    items: Iterable[Item],
    include: Sequence[str],
    exclude: Sequence[str],
    path_of: Callable[[Item], str],
) -> Iterator[Item]:
    """What `hf download --include .. --exclude ..` would take: `*` matches `/` too.

    Args:
        items: The files.
        include: Globs of which one has to match; none stand for everything.
        exclude: Globs of which none may match.
        path_of: The path of a file.
    """
    return filter_repo_objects(
        items,
        allow_patterns=list(include) or None,
        ignore_patterns=list(exclude) or None,
        key=path_of,
    )


def token_of(access: HubAccess, file: str) -> str | None:
    """The token of the user who has logged in with `hf auth login`.

    One that is about to expire is refreshed by the package, as by every other tool of the Hub: this
    is the only request that it sends, to the Hub, and it waits `HF_HUB_DOWNLOAD_TIMEOUT` for it.

    Args:
        access: How the Hub may be spoken to.
        file: The file that its token was read from.
    """
    same = access.endpoint.rstrip("/") == constants.ENDPOINT
    if not same or Path(file) != Path(constants.HF_TOKEN_PATH):
        # the environment was another one when the package was imported
        return access.token
    with _kept_from_the_terminal():
        return get_token() or access.token


@contextmanager
def _kept_from_the_terminal() -> Iterator[None]:
    """The block in which the package's words, which may be a server's, go to our log alone."""
    log = logging.getLogger(_TOKEN_LOG)

    def divert(record: logging.LogRecord) -> bool:
        _log.debug("%s", sanitize_line(record.getMessage(), 300))
        return False

    log.addFilter(divert)
    try:
        yield
    finally:
        log.removeFilter(divert)
