"""The HTTP API of the Hugging Face Hub: what a repository has, and its files.

```
GET /api/models/ORG/REPO/revision/REVISION                 {"sha": COMMIT, ..}
GET /api/models/ORG/REPO/commits/REVISION                  [{"id": COMMIT, ..}, ..], latest first
GET /api/models/ORG/REPO/tree/COMMIT?recursive=true        [{"path", "size", "lfs": {"oid"}}, ..]
GET /api/models?search=TEXT&filter=gguf&expand=gguf&..      [{"id", "downloads", "gguf", ..}, ..]
GET /ORG/REPO/resolve/COMMIT/PATH                          302 to a CDN that knows ranges
```

Addresses, fields and `X-Error-Code` are those that the package `huggingface_hub` reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urljoin

from modelrunner.errors import (
    ConfigError,
    ModelRunnerError,
    NotInStoreError,
    RegistryAnswerError,
)
from modelrunner.huggingface.files import HubFile
from modelrunner.oci.digest import Digest
from modelrunner.oci.hub_address import MAIN
from modelrunner.oci.reference import HUGGING_FACE, Reference
from modelrunner.registry.endpoint import Endpoint
from modelrunner.registry.exchange import Exchange, finishing, read_limited
from modelrunner.registry.guard import origin
from modelrunner.registry.hub_hits import HubHit, hits_in
from modelrunner.registry.hub_refusal import refusal
from modelrunner.registry.retry import Backoff
from modelrunner.registry.session import new_session
from modelrunner.registry.settings import HUB_ENDPOINT
from modelrunner.text import mask
from modelrunner.wire import LARGEST, parse_json

if TYPE_CHECKING:
    import requests

_LISTING_LIMIT = 16 * 1024 * 1024
_MOST_PAGES = 100


@dataclass(frozen=True, slots=True)
class HubAccess:
    """Where the Hub is, the token that it is shown, and the variable that forbids to ask it."""

    endpoint: str = HUB_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository has at one commit."""

    commit: str
    files: tuple[HubFile, ...]


class HubApi:
    """The Hub at an address. Not to be shared between threads.

    Raises:
        ConfigError: The address is none.
    """

    def __init__(self, access: HubAccess, backoff: Backoff, ca_file: str | None) -> None:
        self.endpoint = _endpoint(access.endpoint, ca_file)
        self._token = access.token
        mask(access.token or "")
        self._offline = access.offline
        self._backoff = backoff

    def listing(self, reference: Reference) -> Listing:
        """What the repository has now: one request, and one a page.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: The Hub says no, or nothing.
        """
        return self._backoff.run(lambda: self._list(reference))

    def listing_at(self, reference: Reference, commit: str) -> Listing:
        """What the repository had at a commit: one request a page.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: The Hub says no, or nothing.
        """
        return self._backoff.run(lambda: self._tree(reference, commit))

    def commits(self, reference: Reference) -> tuple[str, ...]:
        """The first page of what the repository's revision has been, the latest first.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: The Hub says no, or nothing.
        """
        url = f"{self._base(reference)}/commits/{_revision(reference)}"
        entries, _ = self._backoff.run(lambda: self._json(url, reference))
        found = entries if isinstance(entries, list) else []
        return tuple(
            entry["id"] for entry in found if isinstance(entry, dict) and _commit(entry.get("id"))
        )

    def search(self, text: str, limit: int) -> tuple[HubHit, ...]:
        """Repositories with GGUF files, the most downloaded first: one request.

        Raises:
            AccessError, TransferError: The Hub says no, or nothing.
        """
        query = {
            "search": text,
            "filter": "gguf",
            "sort": "downloads",
            "direction": "-1",
            "limit": str(limit),
            "expand": ("downloads", "likes", "gated", "gguf", "siblings"),
        }
        url = f"{self.endpoint.base}/api/models?{urlencode(query, doseq=True)}"
        entries, _ = self._backoff.run(lambda: self._json(url, None))
        return tuple(hits_in(entries))[:limit]

    def open(
        self, reference: Reference, commit: str, path: str, headers: dict[str, str]
    ) -> "requests.Response":
        """The answer to the request for a file, its body not read yet.

        Raises:
            TransferError: There is none.
        """
        place = f"{repository_of(reference)}/resolve/{commit}/{quote(path)}"
        return self._send(f"{self.endpoint.base}/{place}", headers)

    def close(self) -> None:
        """Lets go of the connections."""
        if "_exchange" in self.__dict__:
            self._exchange.close()

    def error(
        self, response: "requests.Response", reference: Reference | None, what: str
    ) -> ModelRunnerError:
        """What a refusal stands for; a search is of no repository."""
        return refusal(
            response,
            what=what,
            hub=self.endpoint.label,
            repository="" if reference is None else repository_of(reference),
            with_token=self._token is not None,
        )

    def _base(self, reference: Reference) -> str:
        return f"{self.endpoint.base}/api/models/{repository_of(reference)}"

    def _list(self, reference: Reference) -> Listing:
        url = f"{self._base(reference)}/revision/{_revision(reference)}"
        about, _ = self._json(url, reference)
        commit = about.get("sha") if isinstance(about, dict) else None
        if not _commit(commit):
            raise RegistryAnswerError(
                f"{self.endpoint.label} returned no commit for {reference.short}"
            )
        return self._tree(reference, str(commit))

    def _tree(self, reference: Reference, commit: str) -> Listing:
        files: list[HubFile] = []
        url = f"{self._base(reference)}/tree/{commit}?recursive=true"
        for _page in range(_MOST_PAGES):
            entries, link = self._json(url, reference)
            files += _files(entries)
            if not link:
                break
            url = urljoin(url, link)
            if origin(url) != origin(self.endpoint.base):
                break
        return Listing(commit, tuple(files))

    def _json(self, url: str, reference: Reference | None) -> tuple[Any, str | None]:
        with finishing(self._send(url, {"Accept": "application/json"})) as response:
            if response.status_code != HTTPStatus.OK:
                what = "a search" if reference is None else reference.short
                raise self.error(response, reference, what)
            raw = read_limited(response, _LISTING_LIMIT, self.endpoint.label)
            link = response.links.get("next", {}).get("url")
        try:
            return parse_json(raw), link
        except ValueError as exc:
            raise RegistryAnswerError(
                f"unexpected answer from {self.endpoint.label}: it is not a Hugging Face Hub"
            ) from exc

    def _send(self, url: str, headers: dict[str, str]) -> "requests.Response":
        if self._offline is not None:
            raise NotInStoreError(
                f"the model is on the Hugging Face Hub, but {self._offline} is set",
                hint=f"unset {self._offline}, or pull the model once without it",
            )
        login = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        return self._exchange.send("GET", url, scope="", headers={**headers, **login})

    @cached_property
    def _exchange(self) -> Exchange:
        return Exchange(
            self.endpoint, new_session(), lambda: None, remaining_s=self._backoff.remaining_s
        )


def repository_of(reference: Reference) -> str:
    """The repository in an address, as the Hub spells it, which minds the case."""
    return quote(reference.original_repository or reference.repository)


def _revision(reference: Reference) -> str:
    return quote(reference.revision or MAIN, safe="")


def _commit(found: object) -> bool:
    return isinstance(found, str) and found.isalnum()


def _endpoint(address: str, ca_file: str | None) -> Endpoint:
    try:
        return Endpoint.of_mirror(HUGGING_FACE, address, ca_file=ca_file)
    except ConfigError as exc:
        raise ConfigError(
            f"HF_ENDPOINT: invalid URL {address[:200]!r}",
            hint="write https://HOST; plain http is allowed for this machine only",
        ) from exc


def _files(entries: object) -> Iterator[HubFile]:
    for entry in entries if isinstance(entries, list) else []:
        match entry:
            case {"path": str(path), "size": int(size), "lfs": {"oid": str(oid)}} if (
                0 <= size <= LARGEST
            ):
                try:
                    yield HubFile(path, size, Digest.parse(f"sha256:{oid}"))
                except ModelRunnerError:
                    continue
            case _:
                pass
