"""Names of runtimes: `vulkan`, `vulkan@b11434`, or the reference of an image."""

import re

from modelrunner.errors import UsageError
from modelrunner.frozen import frozen, replace
from modelrunner.oci.image import build_in
from modelrunner.oci.reference import Reference
from modelrunner.text import suggest

AUTO = "auto"
REPOSITORY = "ghcr.io/ggml-org/llama.cpp"
BACKENDS = ("cpu", "vulkan", "cuda12", "cuda13", "rocm", "intel", "musa", "openvino")
"""The backends that official images are built for."""

LATEST = "latest"
_TAG = r"server(?:-(?!b\d)(?P<backend>[a-z]+\d*))?(?:-(?P<build>b\d{3,7}))?"
_NATIVE_TAG = r"(?:v?[\w.]+|latest)-(?P<backend>[a-z]+\d*)"
_VERSION = r"b?(\d{3,7})"


@frozen
class Named:
    """What a text names: the reference of an image, and its backend where it is known."""

    reference: Reference
    backend: str | None


def named(text: str, version: str | None = None) -> Named:
    """What a text names.

    Args:
        text: `cpu`, `vulkan`, ..., with `@BUILD` or `@sha256:HEX` or without, or the reference of
            an image.
        version: A build, or `latest`; what `--version` says.

    Raises:
        UsageError: It is neither, or has two versions.
        InvalidReferenceError: It is not a valid reference.
    """
    backend, at, build = text.partition("@")
    if backend in BACKENDS:
        if at and version is not None:
            raise UsageError(
                f"two versions are given: {build[:60]!r} and {version[:60]!r}",
                hint="remove --version",
            )
        if build.startswith("sha256:"):
            bare = _official(backend, None)
            return Named(Reference.parse(f"{bare}@{build}"), backend)
        return Named(_official(backend, build if at else version), backend)
    if "/" not in text and ":" not in text:
        near = suggest(text, (AUTO, *BACKENDS))
        raise UsageError(
            f"unknown runtime {text[:80]!r}",
            hint=near or f"use {AUTO}, {', '.join(BACKENDS)}, or the reference of an image",
        )
    reference = Reference.parse(text)
    if version not in (None, LATEST):
        raise UsageError(
            "--version is for the official images only",
            hint="write the tag into the reference",
        )
    return Named(reference, _backend_of(reference))


def moving(one: Reference) -> Reference:
    """The name by which newer builds of an image come: an official tag without its build."""
    match = re.fullmatch(_TAG, one.tag or "")
    bare = replace(one, digest=None) if one.tag is not None else one
    if one.name != REPOSITORY or match is None:
        return bare
    return _official(match["backend"] or "cpu", None)


def _official(backend: str, version: str | None) -> Reference:
    tag = "server" if backend == "cpu" else f"server-{backend}"
    if version not in (None, LATEST):
        match = re.fullmatch(_VERSION, version)
        if match is None:
            raise UsageError(
                f"invalid version {version[:60]!r}",
                hint="write a build of llama.cpp such as b11434, or latest",
            )
        tag += f"-b{match[1]}"
    return Reference.parse(f"{REPOSITORY}:{tag}")


def _backend_of(reference: Reference) -> str | None:
    tag = reference.tag or ""
    match = re.fullmatch(_TAG, tag) or re.fullmatch(_NATIVE_TAG, tag)
    if match is None:
        return None
    backend = match["backend"] or "cpu"
    return None if build_in(backend) else {"cuda": "cuda12"}.get(backend, backend)
