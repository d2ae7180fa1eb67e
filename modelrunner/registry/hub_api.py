"""The HTTP API of the Hugging Face Hub: what a repository has, and its files.

```
GET /api/models/ORG/REPO/revision/main                     {"sha": COMMIT, ..}
GET /api/models/ORG/REPO/tree/COMMIT?recursive=true        [{"path", "size", "lfs": {"oid"}}, ..]
GET /ORG/REPO/resolve/COMMIT/PATH                          302 to a CDN that knows ranges
```

Addresses, fields and `X-Error-Code` are those that the package `huggingface_hub` reads.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from modelrunner.errors import (
    ConfigError,
    DeniedError,
    ManifestNotFoundError,
    ModelRunnerError,
    RegistryAnswerError,
    UnauthorizedError,
)
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import HUGGING_FACE, Reference
from modelrunner.registry.endpoint import Endpoint
from modelrunner.registry.exchange import Exchange, finishing, read_limited
from modelrunner.registry.guard import origin
from modelrunner.registry.hub_files import HubFile
from modelrunner.registry.responses import BODY_LIMIT, error_for
from modelrunner.registry.retry import Backoff
from modelrunner.registry.session import new_session
from modelrunner.registry.settings import HUB_ENDPOINT

if TYPE_CHECKING:
    import requests

_LISTING_LIMIT = 16 * 1024 * 1024
_MOST_PAGES = 100


@dataclass(frozen=True, slots=True)
class HubAccess:
    """Where the Hub is, and the token that it is shown."""

    endpoint: str = HUB_ENDPOINT
    token: str | None = field(default=None, repr=False)


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
        self._backoff = backoff

    def listing(self, reference: Reference) -> Listing:
        """What the repository has now: one request, and one a page.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: The Hub says no, or nothing.
        """
        return self._backoff.run(lambda: self._list(reference))

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
        self, response: "requests.Response", reference: Reference, what: str
    ) -> ModelRunnerError:
        """What a refusal stands for."""
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        facts: dict[str, Any] = {"registry": self.endpoint.label, "status": status}
        if code == "GatedRepo":
            return DeniedError(
                f"{what} is gated: its owner wants to know who takes it",
                hint=f"ask for access at {HUB_ENDPOINT}/{repository_of(reference)}, then set"
                " HF_TOKEN to a token of yours",
                **facts,
            )
        if code == "EntryNotFound":
            message = f"{what}: {self.endpoint.label} lists it and does not have it"
            return ManifestNotFoundError(message, missing="blob", **facts)
        if status == HTTPStatus.UNAUTHORIZED and self._token is not None:
            message = f"{self.endpoint.label} refuses the token"
            return UnauthorizedError(message, hint="HF_TOKEN may have run out", **facts)
        if status == HTTPStatus.UNAUTHORIZED:
            return UnauthorizedError(
                f"{what}: there is no such repository, or it is private",
                hint="check the name; for a private one set HF_TOKEN",
                **facts,
            )
        if status == HTTPStatus.NOT_FOUND:
            return ManifestNotFoundError(
                f"{what}: {self.endpoint.label} has no such repository",
                hint="check the name, and whose it is",
                missing="repository",
                **facts,
            )
        body = read_limited(response, BODY_LIMIT, self.endpoint.label)
        return error_for(status, response.headers, body, what=what, registry=self.endpoint.label)

    def _list(self, reference: Reference) -> Listing:
        base = f"{self.endpoint.base}/api/models/{repository_of(reference)}"
        about, _ = self._json(f"{base}/revision/main", reference)
        commit = about.get("sha") if isinstance(about, dict) else None
        if not isinstance(commit, str) or not commit.isalnum():
            raise RegistryAnswerError(f"{self.endpoint.label} tells no commit of {reference.short}")
        files: list[HubFile] = []
        url = f"{base}/tree/{commit}?recursive=true"
        for _page in range(_MOST_PAGES):
            entries, link = self._json(url, reference)
            files += _files(entries)
            if not link:
                break
            url = urljoin(url, link)
            if origin(url) != origin(self.endpoint.base):
                break
        return Listing(commit, tuple(files))

    def _json(self, url: str, reference: Reference) -> tuple[Any, str | None]:
        with finishing(self._send(url, {"Accept": "application/json"})) as response:
            if response.status_code != HTTPStatus.OK:
                raise self.error(response, reference, reference.short)
            raw = read_limited(response, _LISTING_LIMIT, self.endpoint.label)
            link = response.links.get("next", {}).get("url")
        try:
            return json.loads(raw), link
        except (ValueError, RecursionError) as exc:
            raise RegistryAnswerError(
                f"{self.endpoint.label} does not answer as the Hub does"
            ) from exc

    def _send(self, url: str, headers: dict[str, str]) -> "requests.Response":
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


def _endpoint(address: str, ca_file: str | None) -> Endpoint:
    try:
        return Endpoint.of_mirror(HUGGING_FACE, address, ca_file=ca_file)
    except ConfigError as exc:
        raise ConfigError(
            f"HF_ENDPOINT is {address[:200]!r}, which is no address of a Hub",
            hint="write https://HOST; plain http is for this machine only",
        ) from exc


def _files(entries: object) -> Iterator[HubFile]:
    for entry in entries if isinstance(entries, list) else []:
        match entry:
            case {"path": str(path), "size": int(size), "lfs": {"oid": str(oid)}} if size >= 0:
                try:
                    yield HubFile(path, size, Digest.parse(f"sha256:{oid}"))
                except ModelRunnerError:
                    continue
            case _:
                pass
