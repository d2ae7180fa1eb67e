"""The HTTP API of the Hugging Face Hub: what a repository has, its files, searches, errors.

```
GET /api/models/ORG/REPO/revision/REVISION                 {"sha": COMMIT, ..}
GET /api/models/ORG/REPO/commits/REVISION                  [{"id": COMMIT, ..}, ..], latest first
GET /api/models/ORG/REPO/tree/COMMIT?recursive=true        [{"path", "size", "lfs": {"oid"}}, ..]
GET /api/models?search=TEXT&filter=gguf&expand=gguf&..      [{"id", "downloads", "gguf", ..}, ..]
GET /ORG/REPO/resolve/COMMIT/PATH                          302 to a CDN that knows ranges
```

What answers, error codes and tokens mean is known to `huggingface_hub`, see `hub_package`.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from http import HTTPStatus
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urljoin

from modelrunner.errors import (
    ConfigError,
    DeniedError,
    DigestMismatchError,
    ManifestNotFoundError,
    ModelRunnerError,
    NotInStoreError,
    RegistryAnswerError,
    SizeMismatchError,
    UnauthorizedError,
)
from modelrunner.huggingface.artifact import PARAMETER_FILES, SMALL_LIMIT
from modelrunner.huggingface.files import HubFile, quantizations
from modelrunner.huggingface.repository import HubEntry, git_digest
from modelrunner.oci.digest import Digest
from modelrunner.oci.hub_address import MAIN
from modelrunner.oci.reference import HUGGING_FACE, Reference
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.destinations import origin
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import (
    READ_TIMEOUT_S,
    Exchange,
    finishing,
    read_limited,
)
from modelrunner.registry.http.responses import BODY_LIMIT, error_for, next_link, rate_limited
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.huggingface.hits import HubHit
from modelrunner.registry.settings import HUB_ENDPOINT, HubAccess
from modelrunner.text import mask, sanitize_line
from modelrunner.wire import parse_json

# late imports: the package is loaded while the first answer is on its way, and few read out of Xet
# storage themselves
if TYPE_CHECKING:
    from modelrunner.registry.huggingface.xet import XetAccess
_PACKAGE = "modelrunner.registry.huggingface.hub_package"
_MOST_PARAMETERS = 10**14


def hits_in(entries: object) -> Iterator[HubHit]:
    """The repositories in an answer; what cannot be understood is passed over."""
    from modelrunner.registry.huggingface.hub_package import repositories_in

    for found in repositories_in(entries):
        total, architecture = found.gguf.get("total"), found.gguf.get("architecture")
        template = found.gguf.get("chat_template")
        sane = isinstance(total, int) and not isinstance(total, bool)
        yield HubHit(
            sanitize_line(found.name, 255),
            found.downloads,
            found.likes,
            found.gated,
            total if sane and isinstance(total, int) and 0 < total < _MOST_PARAMETERS else None,
            sanitize_line(architecture, 64) if isinstance(architecture, str) else None,
            quantizations(found.paths),
            template if isinstance(template, str) else None,
            any("mmproj" in path.lower() for path in found.paths),
        )


def refusal(  # noqa: PLR0911 - a table
    response: Response, *, what: str, hub: str, repository: str, with_token: bool
) -> ModelRunnerError:
    """The error for an answer.

    Args:
        response: The answer, its body not read yet.
        what: What was asked for.
        hub: The Hub's name, or the address of what stands for it.
        repository: As it stands in an address.
        with_token: Whether a token was shown.
    """
    from modelrunner.registry.huggingface.hub_package import Refusal, refusal_of

    status = response.status
    facts: dict[str, Any] = {"registry": hub, "status": status}
    match refusal_of(status, response.headers, response.url), status:
        case Refusal.GATED, _:
            return DeniedError(
                f"{what} is gated: its owner has to grant access",
                hint=f"request access at {HUB_ENDPOINT}/{repository}, then set HF_TOKEN to your "
                "token",
                **facts,
            )
        case Refusal.DISABLED, _:
            return DeniedError(
                f"{what}: {hub} has disabled access to the repository",
                hint=f"{HUB_ENDPOINT}/{repository} may say why; choose another repository",
                **facts,
            )
        case Refusal.NO_FILE, _:
            message = f"{what}: listed, but not found on {hub}"
            return ManifestNotFoundError(message, missing="blob", **facts)
        case Refusal.NO_REVISION, _:
            return ManifestNotFoundError(
                f"{what}: {hub} has no such revision",
                hint="write a branch, a tag or a commit before the quantization: "
                "hf.co/ORG/REPO@REVISION:QUANT",
                missing="repository",
                **facts,
            )
        case Refusal.INVALID_TOKEN, _:
            return _not_there(HTTPStatus.UNAUTHORIZED, what, hub, facts, with_token=True)
        case _, HTTPStatus.TOO_MANY_REQUESTS:
            more = (
                "try again later: this is the limit of your token"
                if with_token
                else "set HF_TOKEN for a higher limit"
            )
            return rate_limited(response.headers, what, hub, facts, hint=more)
        case _, (HTTPStatus.UNAUTHORIZED | HTTPStatus.NOT_FOUND):
            return _not_there(status, what, hub, facts, with_token=with_token)
        case _:
            body = read_limited(response, BODY_LIMIT, hub)
            return error_for(status, response.headers, body, what=what, registry=hub)


def _not_there(
    status: int, what: str, hub: str, facts: dict[str, Any], *, with_token: bool
) -> ModelRunnerError:
    if status == HTTPStatus.NOT_FOUND:
        return ManifestNotFoundError(
            f"{what}: {hub} has no such repository",
            hint="check the name and its owner: `modelrunner search` finds models",
            missing="repository",
            **facts,
        )
    if with_token:
        message = f"{hub} rejected the token"
        return UnauthorizedError(
            message,
            hint="HF_TOKEN may have expired: set it to a new token, or run `hf auth login`",
            **facts,
        )
    return UnauthorizedError(
        f"{what}: no such repository, or it is private",
        hint="check the name; for a private repository set HF_TOKEN",
        **facts,
    )


_LISTING_LIMIT = 16 * 1024 * 1024
_MOST_PAGES = 100


@dataclass(slots=True)
class XetState:
    """What the connections of a repository know of Xet storage.

    Attributes:
        access: Who was last asked, with what.
        is_off: Whether it has failed: it is not asked again.
    """

    access: "XetAccess | None" = None
    is_off: bool = False


@dataclass(frozen=True)
class Listing:
    """What a repository has at one commit.

    Attributes:
        commit: The commit.
        entries: Its files by their paths.
        is_complete: Whether these are all of them.
        digests: Those of contents that were downloaded, by what the contents are known by.
        contents: What was kept of those.
        xet: What is known of Xet storage.
    """

    commit: str
    entries: Mapping[str, HubEntry]
    is_complete: bool = True
    digests: dict[str, Digest] = field(default_factory=dict, compare=False)
    contents: dict[str, bytes] = field(default_factory=dict, compare=False)
    xet: XetState = field(default_factory=XetState, compare=False)

    @cached_property
    def files(self) -> tuple[HubFile, ...]:
        """The large files, which have digests."""
        found = (_large(entry) for entry in self.entries.values())
        return tuple(file for file in found if file is not None)

    @cached_property
    def by_digest(self) -> Mapping[Digest, str]:
        """Paths of large files by their digests."""
        return {file.digest: file.path for file in reversed(self.files)}

    @property
    def parameters(self) -> HubEntry | None:
        """The small file that says how its models are sampled."""
        found = (self.entries.get(name) for name in PARAMETER_FILES)
        return next((entry for entry in found if entry is not None and _is_small(entry)), None)


class HubApi:
    """The Hub at an address. Not to be shared between threads.

    Raises:
        ConfigError: The address is invalid, or a time limit.
    """

    def __init__(self, access: HubAccess, backoff: Backoff, ca_file: str | None) -> None:
        if access.invalid is not None:
            raise ConfigError(
                f"{access.invalid}: expected a whole number of seconds",
                hint=f"correct {access.invalid}, or unset it",
            )
        self.endpoint = _endpoint(access.endpoint, ca_file)
        self._access = access
        self._ca_file = ca_file
        mask(access.token or "")
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
    ) -> Response:
        """The answer to the request for a file, its body not read yet.

        Raises:
            TransferError: There is none.
        """
        from modelrunner.registry.huggingface.hub_package import url_of

        url = url_of(_name(reference), path, commit, self.endpoint.base)
        return self._send(url, headers, self._access.read_timeout_s)

    @property
    def uses_xet(self) -> bool:
        """Whether large files are read out of Xet storage itself."""
        return self._access.xet

    @property
    def read_timeout_s(self) -> float:
        """Seconds to wait for each byte of a file."""
        return self._access.read_timeout_s or READ_TIMEOUT_S

    def xet_access(self, reference: Reference, listing: Listing) -> "XetAccess":
        """Who has the large files of a commit: one request, once the last answer has ended.

        Raises:
            AccessError, TransferError, ManifestNotFoundError: The Hub says no, or nothing; or it
                names an address that it may not lead to.
        """
        from modelrunner.registry.huggingface.xet import XetAccess

        known = listing.xet.access
        if known is not None and known.is_fresh:
            return known
        url = f"{self._base(reference)}/xet-read-token/{listing.commit}"
        sent = self._send(url, {"Accept": "application/json"}, self._access.answer_timeout_s)
        with finishing(sent) as response:
            if response.status != HTTPStatus.OK:
                raise self.error(response, reference, f"{reference.short}: Xet storage")
            found = XetAccess.parse(
                read_limited(response, BODY_LIMIT, self.endpoint.label), self.endpoint.label
            )
        mask(found.token)
        # its client asks what it is given: not an address that a redirect might not lead to
        there = self._exchange.follow_to(self.endpoint.base, found.endpoint)
        listing.xet.access = replace(found, endpoint=there)
        return listing.xet.access

    def content(self, reference: Reference, listing: Listing, entry: HubEntry) -> bytes:
        """The content of a small file: one request, the first time.

        Raises:
            AccessError, TransferError: The Hub says no, or nothing.
            SizeMismatchError, DigestMismatchError: It is not what the listing says.
        """
        if entry.key not in listing.contents:
            found = self.fetch_content(reference, listing, entry)
            listing.contents[entry.key] = found
            listing.digests[entry.key] = Digest.of(found)
        return listing.contents[entry.key]

    def fetch_content(self, reference: Reference, listing: Listing, entry: HubEntry) -> bytes:
        """The content of a small file, which is not kept.

        Raises:
            AccessError, TransferError: The Hub says no, or nothing.
            SizeMismatchError, DigestMismatchError: It is not what the listing says.
        """
        return self._backoff.run(lambda: self._content(reference, listing, entry))

    def _content(self, reference: Reference, listing: Listing, entry: HubEntry) -> bytes:
        what = f"{reference.short}: {sanitize_line(entry.path, 200)}"
        # outside: not a file but a request
        with finishing(self.open(reference, listing.commit, entry.path, {})) as response:
            if response.status != HTTPStatus.OK:
                error = self.error(response, reference, what)
                if isinstance(error, ManifestNotFoundError):
                    # the model is there, and without the file it would be another
                    raise RegistryAnswerError(error.message)
                raise error
            raw = read_limited(response, entry.size, self.endpoint.label)
        if len(raw) != entry.size:
            raise SizeMismatchError(f"{what}: got {len(raw)} bytes, the listing has {entry.size}")
        if entry.has_git_digest and git_digest(raw) != entry.blob_id:
            raise DigestMismatchError(f"{what}: the content does not match its git digest")
        return raw

    def another(self) -> "HubApi":
        """The same Hub for another thread."""
        shown = replace(self._access, token=self._token, token_file=None)
        return HubApi(shown, self._backoff, self._ca_file)

    def close(self) -> None:
        """Lets go of the connections."""
        if "_exchange" in self.__dict__:
            self._exchange.close()

    def error(self, response: Response, reference: Reference | None, what: str) -> ModelRunnerError:
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
        from modelrunner.registry.huggingface.hub_package import repository_in

        found = repository_in(about)
        commit = None if found is None else found.commit
        if not _commit(commit):
            raise RegistryAnswerError(
                f"{self.endpoint.label} returned no commit for {reference.short}"
            )
        return self._tree(reference, str(commit))

    def _tree(self, reference: Reference, commit: str) -> Listing:
        found: dict[str, HubEntry] = {}
        is_understood = True
        url: str | None = f"{self._base(reference)}/tree/{commit}?recursive=true"
        for _page in range(_MOST_PAGES):
            entries, link = self._json(str(url), reference)
            from modelrunner.registry.huggingface.hub_package import count_files, files_in

            understood = list(files_in(entries))
            is_understood = is_understood and len(understood) == count_files(entries)
            found |= {entry.path: entry for entry in understood}
            url = urljoin(str(url), link) if link else None
            if url is None or origin(url) != origin(self.endpoint.base):
                break
        return Listing(commit, found, is_complete=url is None and is_understood)

    def _json(self, url: str, reference: Reference | None) -> tuple[Any, str | None]:
        sent = self._send(url, {"Accept": "application/json"}, self._access.answer_timeout_s)
        with finishing(sent) as response:
            if response.status != HTTPStatus.OK:
                what = "a search" if reference is None else reference.short
                raise self.error(response, reference, what)
            raw = read_limited(response, _LISTING_LIMIT, self.endpoint.label)
            link = next_link(response.headers)
        try:
            return parse_json(raw), link
        except ValueError as exc:
            raise RegistryAnswerError(
                f"unexpected answer from {self.endpoint.label}: it is not a Hugging Face Hub"
            ) from exc

    def _send(self, url: str, headers: dict[str, str], timeout_s: float | None) -> Response:
        variable = self._access.offline
        if variable is not None:
            raise NotInStoreError(
                f"the model is on the Hugging Face Hub, but {variable} is set",
                hint=f"unset {variable}, or pull the model once without it",
            )
        login = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        self._exchange.read_timeout_s = timeout_s or READ_TIMEOUT_S
        return self._exchange.send("GET", url, scope="", headers={**headers, **login})

    @cached_property
    def _token(self) -> str | None:
        if self._access.token_file is None:
            return self._access.token
        from modelrunner.registry.huggingface.hub_package import token_of

        found = token_of(self._access, self._access.token_file)
        mask(found or "")
        return found

    @cached_property
    def _exchange(self) -> Exchange:
        if _PACKAGE not in sys.modules:
            Thread(target=_load_package).start()
        return Exchange(self.endpoint, lambda: None, remaining_s=self._backoff.remaining_s)


def _load_package() -> None:
    # who uses it says what is wrong with it
    with suppress(ImportError):
        import_module(_PACKAGE)


def repository_of(reference: Reference) -> str:
    """The repository in an address, as the Hub spells it, which minds the case."""
    return quote(_name(reference))


def _name(reference: Reference) -> str:
    return reference.original_repository or reference.repository


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


def _large(entry: HubEntry) -> HubFile | None:
    """A file that is kept as a large one; None for others, and for one without a valid digest."""
    if entry.sha256 is None:
        return None
    try:
        return HubFile(entry.path, entry.size, Digest.parse(f"sha256:{entry.sha256}"))
    except ModelRunnerError:
        return None


def _is_small(entry: HubEntry) -> bool:
    """Whether it is a file of parameters that is not kept as a large one."""
    return entry.sha256 is None and entry.path in PARAMETER_FILES and 0 < entry.size <= SMALL_LIMIT
