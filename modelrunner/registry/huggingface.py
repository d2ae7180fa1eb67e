"""A repository of the Hugging Face Hub as a source of models.

The Hub is no OCI registry, but the sha256 that it keeps of every large file is a blob's digest. A
manifest is made of the listing, the same one on every machine: what was pulled from elsewhere with
the same digest is not fetched again, and nothing is believed that does not match.

```
GET /api/models/ORG/REPO/revision/main                     {"sha": COMMIT, ..}
GET /api/models/ORG/REPO/tree/COMMIT?recursive=true        [{"path", "size", "lfs": {"oid"}}, ..]
GET /ORG/REPO/resolve/COMMIT/PATH                          302 to a CDN that knows ranges
```

Addresses, fields and `X-Error-Code` are those that the package `huggingface_hub` reads.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from modelrunner.errors import (
    ConfigError,
    DeniedError,
    InterruptedTransferError,
    ManifestNotFoundError,
    ModelRunnerError,
    RangesUnsupportedError,
    RegistryAnswerError,
    UnauthorizedError,
)
from modelrunner.oci import media_types
from modelrunner.oci.config import ModelConfig
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import HUGGING_FACE, Reference
from modelrunner.registry.blob_body import breaker, reader, start_of
from modelrunner.registry.endpoint import Endpoint
from modelrunner.registry.exchange import Exchange, finishing, read_limited
from modelrunner.registry.guard import origin
from modelrunner.registry.hub_files import HubFile, HubModel, choose, labels
from modelrunner.registry.responses import BODY_LIMIT, error_for, web_page
from modelrunner.registry.retry import Backoff
from modelrunner.registry.session import new_session
from modelrunner.registry.source import BlobStream
from modelrunner.units import format_size

if TYPE_CHECKING:
    import requests

DEFAULT_ENDPOINT = "https://huggingface.co"
_LISTING_LIMIT = 16 * 1024 * 1024
_MOST_PAGES = 100


@dataclass(frozen=True, slots=True)
class HubAccess:
    """Where the Hub is, and the token that it is shown."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository has at one commit."""

    commit: str
    files: tuple[HubFile, ...]


Listings = dict[str, Listing]
"""What was listed, by repository: a pull over several connections lists once."""


class HuggingFaceHub:
    """The Hub. Not to be shared between threads."""

    def __init__(
        self, access: HubAccess, listings: Listings, *, backoff: Backoff, ca_file: str | None = None
    ) -> None:
        self.endpoint = _endpoint(access.endpoint, ca_file)
        self._token = access.token
        self._listings = listings
        self._backoff = backoff

    @property
    def name(self) -> str:
        """The Hub's name, or the address of what stands for it."""
        return self.endpoint.label

    def resolve(self, reference: Reference) -> Digest:
        """The digest of the manifest that the listing makes.

        Raises:
            ManifestNotFoundError: No such repository or quantisation; what there is is named.
            AccessError, TransferError: The Hub says no, or nothing.
        """
        return reference.digest or Digest.of(self._manifest(reference).raw)

    def manifest(self, reference: Reference) -> Manifest:
        """The manifest that the listing makes.

        Raises:
            ManifestNotFoundError: As with `resolve`; or the repository has moved on since.
        """
        made = self._manifest(reference)
        if reference.digest is not None and Digest.of(made.raw) != reference.digest:
            raise ManifestNotFoundError(
                f"{reference.short}: {self.name} has other files now",
                hint="pull it without the digest, or `modelrunner lock --update` it",
                registry=self.name,
                missing="manifest",
            )
        return made

    @contextmanager
    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> Iterator[BlobStream]:
        """A stream of a file's bytes from `offset` to `stop`, not retried here.

        Raises:
            ManifestNotFoundError: The file is listed and not there.
            RangesUnsupportedError, TransferError, SizeMismatchError: As from a registry.
        """
        listing = self._listing(reference)
        config = _config(choose(listing.files, reference.tag, reference.short))
        if descriptor.digest == Digest.of(config):
            yield _in_memory(config, offset, stop, self.name)
            return
        file = next((each for each in listing.files if each.digest == descriptor.digest), None)
        if file is None:
            raise ManifestNotFoundError(
                f"{reference.short}: no file has the digest {descriptor.digest.short} any more",
                registry=self.name,
                missing="blob",
            )
        what = f"{reference.short}: {file.path}"
        whole = offset == 0 and (stop is None or stop >= descriptor.size)
        last = "" if stop is None else str(stop - 1)
        headers = {} if whole else {"Range": f"bytes={offset}-{last}"}
        path = f"{_repository(reference)}/resolve/{listing.commit}/{quote(file.path)}"
        with self._send(f"{self.endpoint.base}/{path}", headers) as response:
            self._check_blob(response, reference, what)
            yield BlobStream(
                start_of(response, (offset, stop), descriptor, what),
                reader(response, self.name),
                self.name if self._is_home(response) else origin(response.url)[1],
                response.headers.get("ETag", ""),
                breaker(response),
            )

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """The quantisations that the repository has.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: As with `resolve`.
        """
        return labels(self._listing(reference).files)

    def distrust(self) -> None:
        """There is no other place to go to."""

    def close(self) -> None:
        """Lets go of the connections."""
        if "_exchange" in self.__dict__:
            self._exchange.close()

    def _manifest(self, reference: Reference) -> Manifest:
        model = choose(self._listing(reference).files, reference.tag, reference.short)
        config = _config(model)
        layers = [_layer(file, media_types.DOCKER_GGUF) for file in model.files]
        if model.projector is not None:
            layers.append(_layer(model.projector, media_types.DOCKER_PROJECTOR))
        about = Descriptor(media_types.DOCKER_CONFIG_V01, Digest.of(config), len(config))
        return Manifest.build(about, layers)

    def _listing(self, reference: Reference) -> Listing:
        key = _repository(reference)
        if key not in self._listings:
            self._listings[key] = self._backoff.run(lambda: self._list(reference))
        return self._listings[key]

    def _list(self, reference: Reference) -> Listing:
        base = f"{self.endpoint.base}/api/models/{_repository(reference)}"
        about, _ = self._json(f"{base}/revision/main", reference)
        commit = about.get("sha") if isinstance(about, dict) else None
        if not isinstance(commit, str) or not commit.isalnum():
            raise RegistryAnswerError(f"{self.name} tells no commit of {reference.short}")
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
                raise self._error(response, reference, reference.short)
            raw = read_limited(response, _LISTING_LIMIT, self.name)
            link = response.links.get("next", {}).get("url")
        try:
            return json.loads(raw), link
        except (ValueError, RecursionError) as exc:
            raise RegistryAnswerError(f"{self.name} does not answer as the Hub does") from exc

    def _send(self, url: str, headers: dict[str, str]) -> "requests.Response":
        login = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        return self._exchange.send("GET", url, scope="", headers={**headers, **login})

    def _check_blob(self, response: "requests.Response", reference: Reference, what: str) -> None:
        status = response.status_code
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise web_page(what, self.name)
            return
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise RangesUnsupportedError(f"{what}: {self.name} does not deliver this part")
        if status == HTTPStatus.FORBIDDEN and not self._is_home(response):
            raise InterruptedTransferError(f"{what}: the address of the file has expired")
        raise self._error(response, reference, what)

    def _is_home(self, response: "requests.Response") -> bool:
        return origin(response.url) == origin(self.endpoint.base)

    def _error(
        self, response: "requests.Response", reference: Reference, what: str
    ) -> ModelRunnerError:
        code = response.headers.get("X-Error-Code", "")
        facts: dict[str, Any] = {"registry": self.name, "status": response.status_code}
        page = f"{DEFAULT_ENDPOINT}/{_repository(reference)}"
        if code == "GatedRepo":
            return DeniedError(
                f"{what} is gated: its owner wants to know who takes it",
                hint=f"ask for access at {page}, then set HF_TOKEN to a token of yours",
                **facts,
            )
        if code == "EntryNotFound":
            return ManifestNotFoundError(
                f"{what}: {self.name} lists it and does not have it", missing="blob", **facts
            )
        if response.status_code == HTTPStatus.UNAUTHORIZED and self._token is not None:
            return UnauthorizedError(
                f"{self.name} refuses the token", hint="HF_TOKEN may have run out", **facts
            )
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return UnauthorizedError(
                f"{what}: there is no such repository, or it is private",
                hint="check the name; for a private one set HF_TOKEN",
                **facts,
            )
        if response.status_code == HTTPStatus.NOT_FOUND:
            return ManifestNotFoundError(
                f"{what}: {self.name} has no such repository",
                hint="check the name, and whose it is",
                missing="repository",
                **facts,
            )
        body = read_limited(response, BODY_LIMIT, self.name)
        return error_for(
            response.status_code, response.headers, body, what=what, registry=self.name
        )

    @cached_property
    def _exchange(self) -> Exchange:
        return Exchange(
            self.endpoint, new_session(), lambda: None, remaining_s=self._backoff.remaining_s
        )


def _endpoint(address: str, ca_file: str | None) -> Endpoint:
    try:
        return Endpoint.of_mirror(HUGGING_FACE, address, ca_file=ca_file)
    except ConfigError as exc:
        raise ConfigError(
            f"HF_ENDPOINT is {address[:200]!r}, which is no address of a Hub",
            hint="write https://HOST; plain http is for this machine only",
        ) from exc


def _repository(reference: Reference) -> str:
    """As the Hub spells it, which minds the case."""
    return quote(reference.original_repository or reference.repository)


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


def _config(model: HubModel) -> bytes:
    """The config of the artifact: what names and digests say, the same wherever it is made."""
    config = ModelConfig("docker", format="gguf", quantization=model.quantization)
    digests = [file.digest for file in model.files]
    if model.projector is not None:
        digests.append(model.projector.digest)
    return config.to_docker(digests, format_size(model.size).replace(" ", ""))


def _layer(file: HubFile, media_type: str) -> Descriptor:
    return Descriptor(media_type, file.digest, file.size, {media_types.ANNOTATION_PATH: file.name})


def _in_memory(content: bytes, offset: int, stop: int | None, name: str) -> BlobStream:
    rest = memoryview(content)[offset:stop]

    def readinto(buffer: memoryview) -> int:
        nonlocal rest
        count = min(len(buffer), len(rest))
        buffer[:count], rest = rest[:count], rest[count:]
        return count

    return BlobStream(offset, readinto, name)
