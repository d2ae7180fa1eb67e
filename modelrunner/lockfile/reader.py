"""Reading `modelrunner.lock`: every fact checked, since it says what is downloaded and trusted.

Errors name the line. A lock is never repaired in silence: it is a promise about
content, and somebody has changed it.
"""

import base64
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from modelrunner.errors import (
    InvalidReferenceError,
    LockError,
    LockOutdatedError,
    MalformedManifestError,
)
from modelrunner.frozen import frozen
from modelrunner.lockfile.document import Document, Kind, parse_document, read_content
from modelrunner.lockfile.intent import MAX_CONTEXT, MAX_VRAM, NAME, Fit, is_number
from modelrunner.lockfile.lock import (
    CONFIG,
    VERSION_WITH_SIGNERS,
    Lock,
    LockedBlob,
    LockedModel,
    in_order,
    version_of,
)
from modelrunner.lockfile.runtime import RUNTIME, LockedImage, LockedRuntime
from modelrunner.lockfile.signer import MOST, LockedSigner, encoded
from modelrunner.lockfile.signer import in_order as signers_in_order
from modelrunner.oci.descriptor import MAX_SIZE, Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.image import Platform
from modelrunner.oci.model.config import FAMILIES
from modelrunner.oci.model.layers import Role
from modelrunner.oci.model.paths import checked_path
from modelrunner.oci.reference import Reference

KIND = Kind(
    LockError,
    limit=4 * 1024 * 1024,
    conflict="keep either side, such as with `git checkout --ours`, and run `modelrunner lock`",
    remedy="restore the file from version control, or remove it and run `modelrunner lock`",
)
_TOP = ("version", "model", RUNTIME)
_RUNTIME = ("ref", "manifest", "media_type", "size", "images")
_IMAGE = ("platform", "digest", "size", "media_type", "bytes")
_MODEL = ("name", "ref", "manifest", "media_type", "size", "format", "fit", "blobs", "signed")
_BLOB = ("digest", "size", "media_type", "role", "name")
_SIGNED = (
    "key",
    "public_key",
    "ca",
    "certificate",
    "tsa",
    "identity",
    "issuer",
    "trusted_root",
    "signature",
)
_HEX = re.compile(r"[0-9a-f]{64}")
_TEXT_LIMIT = 2048
_ROLES = (CONFIG, *(str(role) for role in Role))


def read_lock(path: Path) -> Lock | None:
    """Reads the file, None where there is none.

    Raises:
        LockError: It says something wrong; with the line.
    """
    content = read_content(path, KIND)
    return None if content is None else parse_lock(content, str(path))


def require_lock(path: Path) -> Lock:
    """Reads the file, which has to be there.

    Raises:
        LockOutdatedError: It is not.
        LockError: It says something wrong; with the line.
    """
    lock = read_lock(path)
    if lock is None:
        raise LockOutdatedError(
            f"{path}: file not found",
            hint="run `modelrunner lock` and commit modelrunner.lock",
            file=str(path),
        )
    return lock


@lru_cache(maxsize=1)  # a pull asks for its lock, and then for the runtime in it
def parse_lock(content: bytes, file: str = "modelrunner.lock") -> Lock:
    """Understands what such a file has; `file` is its name in errors.

    Raises:
        LockError: It says something wrong; with the line.
    """
    return _lock(parse_document(content, file, KIND))


def _lock(document: Document) -> Lock:
    _check_version(document)
    _Table.of(document, (), document.value, _TOP)
    entries = document.value.get("model", [])
    if not isinstance(entries, list):
        document.refuse("model", message="the models must be tables: [[model]]")
    found: dict[str, LockedModel] = {}
    for at, entry in enumerate(entries):
        model = _model(document, ("model", at), entry)
        if model.name in found:
            document.refuse(
                *("model", at),
                message=f"duplicate model {model.name}",
                hint="remove one of the two and run `modelrunner lock`",
            )
        found[model.name] = model
    models = tuple(found[name] for name in sorted(found))
    return Lock(models, document.file, _runtime(document))


def _check_version(document: Document) -> None:
    version = document.value.get("version")
    if version is None:
        document.refuse(message="missing version")
    models = document.value.get("model")
    listed = models if isinstance(models, list) else ()
    expected = version_of(
        has_runtime=RUNTIME in document.value,
        has_signers=any(isinstance(each, dict) and "signed" in each for each in listed),
    )
    if not is_number(version, expected, expected):
        newer = is_number(version, VERSION_WITH_SIGNERS + 1, 10**9)
        document.refuse(
            "version",
            message=f"unsupported lock version: expected {expected}, got {version!s:.20}",
            hint=_upgrade() if newer else None,
        )


def _runtime(document: Document) -> LockedRuntime | None:
    if RUNTIME not in document.value:
        return None
    table = _Table.of(document, (RUNTIME,), document.value[RUNTIME], _RUNTIME)
    manifest = Descriptor(table.text("media_type"), table.digest("manifest"), table.size("size"))
    reference = _reference(table, manifest.digest)
    entries = table.value.get("images")
    if not isinstance(entries, list) or not entries:
        table.refuse("images", "images must be a list of tables")
    found: dict[str, LockedImage] = {}
    for number, entry in enumerate(entries):
        line = _Table.of(document, (RUNTIME, "images", number), entry, _IMAGE)
        image = _image(line)
        if image.title in found:
            line.refuse("platform", f"duplicate image for {image.title}")
        found[image.title] = image
    images = tuple(found[title] for title in sorted(found))
    return LockedRuntime(reference, manifest, images, document.line(RUNTIME))


def _image(table: "_Table") -> LockedImage:
    platform = None
    if "platform" in table.value:
        text = table.text("platform")
        platform = Platform.parse(text)
        if platform is None:
            hint = "write it like linux/amd64"
            table.refuse("platform", f"invalid platform {text[:80]!r}", hint)
    manifest = Descriptor(table.text("media_type"), table.digest("digest"), table.size("size"))
    return LockedImage(platform, manifest, table.size("bytes"))


def _model(document: Document, at: tuple[str | int, ...], value: object) -> LockedModel:
    table = _Table.of(document, at, value, _MODEL)
    name = table.text("name")
    if not NAME.fullmatch(name):
        table.refuse("name", f"invalid model name {name[:80]!r}")
    manifest = Descriptor(table.text("media_type"), table.digest("manifest"), table.size("size"))
    family = table.text("format")
    known = next((name for name in FAMILIES if name == family), None)
    if known is None:
        expected = ", ".join(FAMILIES[:-1])
        table.refuse(
            "format", f"invalid format {family[:40]!r}: expected {expected} or {FAMILIES[-1]}"
        )
    return LockedModel(
        name,
        _reference(table, manifest.digest),
        manifest,
        known,
        _blobs(table),
        _fit(table),
        document.line(*at),
        _signers(table),
    )


def _reference(table: "_Table", manifest: Digest) -> Reference:
    text = table.text("ref")
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError as exc:
        table.refuse("ref", exc.message, exc.hint)
    if reference.digest is not None and (reference.tag or reference.digest != manifest):
        table.refuse("ref", "the digests of the reference and the manifest differ")
    return reference


def _fit(table: "_Table") -> Fit | None:
    if "fit" not in table.value:
        return None
    fit = _Table.of(table.document, (*table.at, "fit"), table.value["fit"], ("vram", "context"))
    context = fit.number("context", 1, MAX_CONTEXT) if "context" in fit.value else None
    return Fit(fit.number("vram", 1, MAX_VRAM), context)


def _blobs(table: "_Table") -> tuple[LockedBlob, ...]:
    entries = table.value.get("blobs")
    if not isinstance(entries, list) or not entries:
        table.refuse("blobs", "blobs must be a list of tables")
    found: list[LockedBlob] = []
    sizes: dict[Digest, int] = {}
    for number, entry in enumerate(entries):
        line = _Table.of(table.document, (*table.at, "blobs", number), entry, _BLOB)
        blob = _blob(line)
        if sizes.setdefault(blob.digest, blob.size) != blob.size:
            line.refuse("size", f"two different sizes for {blob.digest}")
        if blob in found:
            line.refuse("digest", f"duplicate blob {blob.digest}")
        found.append(blob)
    if sum(blob.role == CONFIG for blob in found) != 1:
        table.refuse("blobs", "a model must have exactly one config")
    return in_order(found)


def _blob(table: "_Table") -> LockedBlob:
    role = table.text("role")
    if role not in _ROLES:
        table.refuse("role", f"invalid role {role[:40]!r}: expected one of {', '.join(_ROLES)}")
    name = table.text("name") if "name" in table.value else None
    if name is not None:
        try:
            checked_path(name)
        except MalformedManifestError as exc:
            table.refuse("name", exc.message)
    return LockedBlob(
        role, name, table.digest("digest"), table.size("size"), table.text("media_type")
    )


def _signers(table: "_Table") -> tuple[LockedSigner, ...]:
    if "signed" not in table.value:
        return ()
    entries = table.value["signed"]
    if not isinstance(entries, list) or not entries:
        table.refuse("signed", "signers must be tables: [[model.signed]]")
    if len(entries) > MOST:
        table.refuse("signed", f"expected at most {MOST} signers, got {len(entries)}")
    found: list[LockedSigner] = []
    for number, entry in enumerate(entries):
        line = _Table.of(table.document, (*table.at, "signed", number), entry, _SIGNED)
        signer = _signer(line)
        if any(signer.who == other.who for other in found):
            line.refuse("signature", f"duplicate signer {signer}")
        found.append(signer)
    return signers_in_order(found)


def _signer(table: "_Table") -> LockedSigner:
    texts = {
        key: table.short_text(key)
        for key in ("identity", "issuer", "trusted_root")
        if key in table.value
    }
    root = texts.get("trusted_root")
    if root is not None and not _HEX.fullmatch(root):
        table.refuse("trusted_root", "trusted_root must be a SHA-256 in hex")
    signer = LockedSigner(
        table.digest("signature"),
        table.binary("public_key") if "key" in table.value else b"",
        table.binary("certificate") if "ca" in table.value else b"",
        table.binaries("tsa") if "tsa" in table.value else (),
        texts.get("identity"),
        texts.get("issuer"),
        root,
    )
    for key, digest in {"key": signer.key, "ca": signer.ca}.items():
        if key in table.value and table.value[key] != digest:
            table.refuse(key, f"{key} is not the SHA-256 of what is recorded with it")
    by_key, by_ca = signer.key is not None, signer.ca is not None
    named = bool(signer.identity)
    extra = {"key": "public_key", "ca": "certificate"}
    lonely = any(value in table.value and key not in table.value for key, value in extra.items())
    if (
        lonely
        or (by_key and (by_ca or texts or signer.tsa))
        or (signer.tsa and not by_ca)
        or (not by_key and not by_ca and not named)
        or (by_ca and (signer.issuer is not None or root is not None))
    ):
        table.refuse("signature", "a signer needs a key, an authority or an identity: one of them")
    return signer


@frozen
class _Table:
    """A table, and where it stands."""

    document: Document
    at: tuple[str | int, ...]
    value: dict[str, Any]

    @classmethod
    def of(
        cls, document: Document, at: tuple[str | int, ...], value: object, known: tuple[str, ...]
    ) -> "_Table":
        """A table of which every key is known.

        Raises:
            LockError: It is not a table, or has another key: a newer program's, or a slip.
        """
        if not isinstance(value, dict):
            document.refuse(*at, message="expected a table")
        document.require_known(value, known, *at)
        return cls(document, at, value)

    def text(self, key: str) -> str:
        """A text that has to be there."""
        value = self.value.get(key)
        if not isinstance(value, str):
            self.refuse(key, f"{key} must be text" if key in self.value else f"missing {key}")
        return value

    def short_text(self, key: str) -> str:
        """A text of one line that has to be there."""
        value = self.text(key)
        if not value or len(value) > _TEXT_LIMIT or not value.isprintable():
            self.refuse(key, f"{key} must be one line of at most {_TEXT_LIMIT} characters")
        return value

    def binary(self, key: str) -> bytes:
        """Bytes in base64 that have to be there."""
        return self._decoded(key, self.text(key))

    def binaries(self, key: str) -> tuple[bytes, ...]:
        """A list of bytes in base64 that has to be there."""
        value = self.value.get(key)
        if not isinstance(value, list) or not 0 < len(value) <= MOST:
            self.refuse(key, f"{key} must be a list of 1 to {MOST} texts")
        return tuple(self._decoded(key, each) for each in value)

    def _decoded(self, key: str, text: object) -> bytes:
        try:
            raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        except ValueError:
            raw = b""
        if not raw or encoded(raw) != text:
            self.refuse(key, f"{key} must be base64")
        return raw

    def number(self, key: str, least: int, most: int) -> int:
        """A whole number that has to be there."""
        value = self.value.get(key)
        if not isinstance(value, int) or not is_number(value, least, most):
            self.refuse(key, f"{key} must be a number from {least} to {most}")
        return value

    def size(self, key: str) -> int:
        """A number of bytes."""
        return self.number(key, 0, MAX_SIZE)

    def digest(self, key: str) -> Digest:
        """A digest."""
        text = self.text(key)
        try:
            return Digest.parse(text)
        except MalformedManifestError:
            self.refuse(
                key, f"{key}: invalid digest {text[:80]!r}: expected sha256: and 64 hex digits"
            )

    def refuse(self, key: str, message: str, hint: str | None = None) -> NoReturn:
        """Says what is wrong at one of its keys."""
        self.document.refuse(*self.at, key, message=message, hint=hint)


def _upgrade() -> str:
    # few locks are newer than the program
    from modelrunner.system.installation import Installation

    return f"upgrade modelrunner: {Installation.current().upgrade()}"
