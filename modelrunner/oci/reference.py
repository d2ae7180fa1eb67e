"""What a model is called: `[REGISTRY/][NAMESPACE/]NAME[:TAG][@sha256:HEX]`.

The first part is a registry where it has a dot or a colon, or is `localhost`. Defaults are
`docker.io`, the namespace `ai` (on Docker Hub only) and the tag `latest`. Names are lower-cased,
tags keep their case. Models of the Hugging Face Hub are `hf.co/ORG/REPO[@REVISION][:TAG]`, where a
tag is a quantization or a path, or an address on its site; its own spelling of the repository is
kept for its API, which minds the case. Its tags `all` and `files=GLOB,!GLOB` stand for files of any
format.

A model in the store has an ID too, its manifest's digest: `sha256:<64 hex>`, 64 hex, or 12 hex.
The store looks for an ID first, see `modelrunner.store.store.Store.resolve`; no registry is asked
for one.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Self

from modelrunner.errors import InvalidReferenceError, MalformedManifestError
from modelrunner.frozen import field, frozen, replace
from modelrunner.oci.digest import Digest, is_hex
from modelrunner.oci.hub_address import (
    HUB_HOSTS,
    MAIN,
    reference_at,
    selection_of,
    selection_tag,
    tag_of,
    unquoted,
)

DOCKER_HUB = "docker.io"
HUGGING_FACE = "huggingface.co"
OLLAMA = "registry.ollama.ai"
DEFAULT_NAMESPACE = "ai"
DEFAULT_TAG = "latest"
LOCAL = "local"
"""The namespace of names made on this machine. It is written as one of Docker Hub's, and no
registry is ever asked for it."""

_NAMESPACES = {DOCKER_HUB: DEFAULT_NAMESPACE, OLLAMA: "library"}
"""Of names without one."""

_LONGEST_STEM = 100
"""Characters of a name in a tag that ends in the name's digest."""

ANY_REPOSITORY = "_"
"""The repository of a shared store that has all its content; no real one is called so."""

_ALIASES = {
    "index.docker.io": DOCKER_HUB,
    "registry-1.docker.io": DOCKER_HUB,
    "registry.hub.docker.com": DOCKER_HUB,
    **dict.fromkeys(HUB_HOSTS, HUGGING_FACE),
}
_HOST = (
    r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])"
    r"(?::([0-9]{1,5}))?"
)
# the distribution specification's grammar for repository names and tags
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HF_COMPONENT = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
_REVISION = r"[A-Za-z0-9_](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9_-])?"
_ALGORITHM = r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9A-Fa-f]{32,}|sha[0-9]+:.*"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_TAG = f"{_LETTERS}{_LETTERS.upper()}._-"
"""The characters of a tag, which does not begin with one of the last two but `_`."""
_MAX_TAG = 128
_HF_TAG = r"(?:[A-Za-z0-9._/+,=()\[\]!~*-]|%(?![01]|7F)[0-9A-F]{2}){1,512}"
_PATHS = ("./", "../", "/", "~", ".\\", "..\\")
_IMAGE = "oci://"
_MAX_NAME = 255
_MAX_PORT = 65_535
_WHOLE_ID = 64
_SHORT_ID = 12


@frozen
class Reference:
    """A parsed and completed model reference.

    `str()` is the canonical spelling, `.short` the one for people; `original_repository` is the
    repository as it was typed, for a hub that minds the case, and `revision` a branch, a tag or a
    commit there.
    """

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None = None
    original_repository: str = field(default="", compare=False)
    revision: str | None = None
    image: bool = field(default=False, compare=False)
    """Whether it was written with `oci://`: an image is then taken for one with a model in it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a reference and fills in what was left out.

        Raises:
            InvalidReferenceError: With a hint at what is wrong.
        """
        if text.startswith(_IMAGE) and "://" not in text[len(_IMAGE) :]:
            return replace(cls.parse(text[len(_IMAGE) :]), image=True)
        on_site = reference_at(text)
        if on_site is not None:
            return cls.parse(on_site)
        if is_whole_id(text):
            raise InvalidReferenceError(
                f"{text} is the ID of a model, not a name",
                hint="write NAME@sha256:HEX to ask a registry for exactly this content",
            )
        if "://" in text:
            scheme = text.split("://", 1)[0]
            raise InvalidReferenceError(
                f"{text[:200]!r} is an address, not a model reference",
                hint=f"leave out {scheme}://",
            )
        if text.startswith(_PATHS):
            raise InvalidReferenceError(
                f"{text[:200]!r} is a path, not the name of a model",
                hint="`modelrunner run FILE` runs a GGUF file, `modelrunner import FILE` adds it to"
                " the local store",
            )
        rest, digest = _split_digest(text)
        name, tag = _split_tag(rest, text)
        registry, repository = _split_registry(name)
        registry = _ALIASES.get(registry, registry)
        _check_registry(registry, text)
        repository, revision = _split_revision(registry, repository, text)
        if registry in _NAMESPACES and "/" not in repository:
            repository = f"{_NAMESPACES[registry]}/{repository}"
        # some letters beyond ASCII have a lower case within it
        lowered = repository.lower() if repository.isascii() else repository
        _check_repository(registry, lowered, text)
        if tag is None and digest is None:
            tag = DEFAULT_TAG
        return cls(registry, lowered, tag, digest, repository, revision)

    @property
    def name(self) -> str:
        """Registry, repository and revision, without tag and digest."""
        return self.lowered + ("" if self.revision is None else f"@{self.revision}")

    @property
    def lowered(self) -> str:
        """Registry and repository alone, as they are compared: `original_repository` is not."""
        return f"{self.registry}/{self.repository}"

    @property
    def short(self) -> str:
        """As people type it: without `docker.io/`, and `hf.co` for the Hugging Face Hub."""
        text = str(self)
        if self.registry == HUGGING_FACE:
            repository = self.original_repository or self.repository
            text = f"hf.co/{repository}" + text[len(self.lowered) :]
        if _split_registry(self.repository)[1] != self.repository:
            # without it, the namespace would be read as a registry
            return text
        return text.removeprefix(f"{DOCKER_HUB}/")

    @property
    def is_local(self) -> bool:
        """Whether the name was made on this machine, and stands for nothing at any registry."""
        return self.registry == DOCKER_HUB and self.repository.startswith(f"{LOCAL}/")

    @property
    def pinned(self) -> bool:
        """Whether a digest says exactly which content is meant."""
        return self.digest is not None

    def with_digest(self, digest: Digest) -> Self:
        """The same name, pinned."""
        return replace(self, digest=digest)

    def with_tag(self, tag: str) -> Self:
        """Another tag of the same repository, not pinned."""
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        text = self.name
        if self.tag is not None:
            text += f":{self.tag}"
        if self.digest is not None:
            text += f"@{self.digest}"
        return text


def parse_registry(text: str) -> str:
    """Return a registry as references name it: in lower case, one spelling for each registry.

    Raises:
        InvalidReferenceError: It is not a host with an optional port.
    """
    registry = text.lower() if text.isascii() else text
    registry = _ALIASES.get(registry, registry)
    _check_registry(registry, text)
    return registry


def full_pattern(text: str) -> str:
    """Return a pattern of full names, in lower case, as `Reference.lowered` spells them.

    `*` and `?` may stand anywhere. What may be left out of a name, or be written in another way,
    may be so in a pattern: a short one is Docker Hub's, and `hf.co` is `huggingface.co`.

    Raises:
        InvalidReferenceError: It has a scheme, a tag or a digest, so no name of a model is like it.
    """
    pattern = text.removeprefix(_IMAGE).lower()
    first, slash, rest = pattern.partition("/")
    if (
        "://" in pattern
        or "@" in pattern
        or (":" in (rest if slash else first) and "*" not in first)
    ):
        raise InvalidReferenceError(
            f"{text[:200]!r} is not a pattern of repositories",
            hint="leave out schemes, tags and digests, as in 'ghcr.io/acme/*'",
        )
    if any(mark in first for mark in ".:*?[") or first == "localhost":
        registry, path = _ALIASES.get(first, first), rest
    else:
        registry, path, slash = DOCKER_HUB, pattern, "/"
    if not slash:
        return registry
    namespace = _NAMESPACES.get(registry)
    if namespace is not None and "/" not in path and path.strip("*"):
        path = f"{namespace}/{path}"
    return f"{registry}/{path}"


def split_name(text: str) -> tuple[str, str]:
    """Split a repository's full name into its registry and its path there.

    Unlike `Reference.parse`, no namespace is filled in: a path on the wire is a whole one.
    """
    registry, path = _split_registry(text)
    return _ALIASES.get(registry, registry), path


def listed_name(registry: str, repository: str) -> str:
    """Return the shortest name that `split_name` takes apart into this registry and path."""
    if registry == DOCKER_HUB and _split_registry(repository)[1] == repository:
        return repository
    return f"{registry}/{repository}"


def is_repository(path: str) -> bool:
    """Whether a registry may have a repository of this path."""
    parts = path.split("/")
    return len(path) <= _MAX_NAME and all(map(_is_component, parts))


def is_tag(text: str) -> bool:
    """Whether a registry may have a tag of this name."""
    return 0 < len(text) <= _MAX_TAG and text[0] not in ".-" and not text.strip(_TAG)


def names_tag(text: str) -> bool:
    """Whether a reference is written with a tag, and not completed with the default one."""
    text = text.removeprefix(_IMAGE)
    return _split_tag(_split_digest(text)[0], text)[1] is not None


def tags_for(names: Iterable[str]) -> dict[str, str]:
    """A tag for each full name in an image layout, for tools that take no full name there.

    `oras` and regctl split what names a layout at a slash or a colon. The tag is the name with `_`
    for what a tag cannot have; where two names would be the same tag, one that is a name already,
    or one is too long, the digest of the name is added. Names that are tags get none.
    """
    found = set(names)
    full = {name for name in found if not is_tag(name)}
    taken = Counter([*map(_as_tag, full), *(found - full)])
    return {
        name: tag if taken[tag] == 1 and is_tag(tag) else _as_longer_tag(name)
        for name, tag in ((name, _as_tag(name)) for name in full)
    }


def is_tag_for(tag: str, name: str) -> bool:
    """Whether a tag is what `tags_for` can make of a full name."""
    return tag != name and tag in (_as_tag(name), _as_longer_tag(name))


def is_whole_id(text: str) -> bool:
    """Whether the text is a whole ID, with `sha256:` or without: never the name of a model."""
    return is_hex(text.removeprefix("sha256:"), _WHOLE_ID)


def match_id(text: str) -> str | None:
    """The hex digits where the text has the form of a model ID, else None."""
    if is_whole_id(text):
        return text.removeprefix("sha256:")
    return text if is_hex(text, _SHORT_ID) else None


def _as_tag(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-")


def _as_longer_tag(name: str) -> str:
    return f"{_as_tag(name)[:_LONGEST_STEM]}_{Digest.of(name.encode()).short}"


def _split_digest(text: str) -> tuple[str, Digest | None]:
    on_hub = _on_hub(text)
    rest, at, digest = text.rpartition("@") if on_hub else text.partition("@")
    if not at or (on_hub and not re.fullmatch(_ALGORITHM, digest)):
        return text, None
    try:
        return rest, Digest.parse(digest)
    except MalformedManifestError as exc:
        raise InvalidReferenceError(
            f"{text[:200]!r}: invalid digest after @",
            hint="write it as sha256: and 64 lower-case hex digits",
        ) from exc


def _split_tag(rest: str, text: str) -> tuple[str, str | None]:
    if _on_hub(rest):
        name, _, tag = rest.partition(":")
        return name, _hub_tag(tag, text) if tag else None
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if not colon or not tag:
        return f"{head}{slash}{last}", None
    if not is_tag(tag):
        raise InvalidReferenceError(
            f"{text[:200]!r}: {tag[:140]!r} is not a valid tag",
            hint="a tag has up to 128 letters, digits, `.`, `_` and `-`, and starts with a "
            "letter, a digit or `_`",
        )
    return f"{head}{slash}{last}", tag


def _hub_tag(tag: str, text: str) -> str:
    """A tag on the Hugging Face Hub: a quantization, or a path, percent-encoded where need be."""
    selection = selection_of(tag)
    if selection is not None:
        tag = selection_tag(*selection)
    elif not is_tag(tag):
        tag = tag_of(unquoted(tag))
    if not re.fullmatch(_HF_TAG, tag) or not {"", ".", ".."}.isdisjoint(tag.split("/")):
        raise InvalidReferenceError(
            f"{text[:200]!r}: {tag[:140]!r} is not a valid tag",
            hint="write a quantization, a directory, or the path of a file in the repository:"
            " hf.co/ORG/REPO:Q4_K_M, hf.co/ORG/REPO:13B/model-Q4_K_M.gguf",
        )
    return tag


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first.lower() == "localhost"):
        return (first.lower() if first.isascii() else first), rest
    return DOCKER_HUB, name


def _on_hub(text: str) -> bool:
    return text.partition("/")[0].lower() in HUB_HOSTS


def _split_revision(registry: str, repository: str, text: str) -> tuple[str, str | None]:
    if registry != HUGGING_FACE:
        return repository, None
    repository, at, revision = repository.partition("@")
    if not at:
        return repository, None
    if not re.fullmatch(_REVISION, revision) or ".." in revision or "//" in revision:
        raise InvalidReferenceError(
            f"{text[:200]!r}: {revision[:140]!r} is not a valid revision",
            hint="write a branch, a tag or a commit before the quantization: "
            "hf.co/ORG/REPO@REVISION:QUANT",
        )
    return repository, None if revision == MAIN else revision


def _check_registry(registry: str, text: str) -> None:
    if registry in (DOCKER_HUB, HUGGING_FACE):
        return
    match = re.fullmatch(_HOST, registry)
    if match is None or not 0 < int(match[1] or 1) <= _MAX_PORT:
        raise InvalidReferenceError(
            f"{registry[:100]!r} is not a valid registry"
            if registry == text
            else f"{text[:200]!r}: {registry[:100]!r} is not a valid registry",
            hint="write HOST or HOST:PORT, such as ghcr.io or localhost:5000",
        )


def _check_repository(registry: str, repository: str, text: str) -> None:
    of_hub = registry == HUGGING_FACE
    parts = repository.split("/")
    good = all(_is_hub_component(part) if of_hub else _is_component(part) for part in parts)
    if not good or len(repository) > _MAX_NAME:
        raise InvalidReferenceError(
            f"{text[:200]!r} is not a valid model reference",
            hint="write NAME:TAG, NAMESPACE/NAME:TAG or REGISTRY/NAMESPACE/NAME:TAG; names have"
            " lower-case letters and digits, with `.`, `_` or `-` between them",
        )
    if of_hub and len(parts) != 2:  # noqa: PLR2004
        raise InvalidReferenceError(
            f"{text[:200]!r} is not a repository of the Hugging Face Hub",
            hint="write hf.co/ORG/REPO or hf.co/ORG/REPO:QUANT",
        )


def _is_component(part: str) -> bool:
    # most have letters, digits, dashes and single dots alone, and no pattern is compiled for them
    plain = part and not part.strip(f"{_LETTERS}-.") and not (part[0] in "-." or part[-1] in "-.")
    if plain and not any(pair in part for pair in ("..", ".-", "-.")):
        return True
    return re.fullmatch(_COMPONENT, part) is not None


def _is_hub_component(part: str) -> bool:
    return re.fullmatch(_HF_COMPONENT, part) is not None and ".." not in part
