"""What the names of runtimes mean: backends, builds, digests, references of images."""

import pytest

from modelrunner.errors import UsageError
from modelrunner.oci.reference import Reference
from modelrunner.oci.runtime_name import BACKENDS, moving, named

OFFICIAL = "ghcr.io/ggml-org/llama.cpp"
HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "version", "reference", "backend"),
    [
        ("cpu", None, f"{OFFICIAL}:server", "cpu"),
        ("vulkan", None, f"{OFFICIAL}:server-vulkan", "vulkan"),
        ("vulkan", "latest", f"{OFFICIAL}:server-vulkan", "vulkan"),
        ("vulkan", "b11434", f"{OFFICIAL}:server-vulkan-b11434", "vulkan"),
        ("vulkan", "11434", f"{OFFICIAL}:server-vulkan-b11434", "vulkan"),
        ("vulkan@b11434", None, f"{OFFICIAL}:server-vulkan-b11434", "vulkan"),
        ("cpu@latest", None, f"{OFFICIAL}:server", "cpu"),
        (f"cuda13@sha256:{HEX}", None, f"{OFFICIAL}:server-cuda13@sha256:{HEX}", "cuda13"),
        # references, of which the tag says the backend
        (f"{OFFICIAL}:server-cuda", None, f"{OFFICIAL}:server-cuda", "cuda12"),
        (f"{OFFICIAL}:server-b11434", "latest", f"{OFFICIAL}:server-b11434", "cpu"),
        ("r.example.com/x:server-rocm-b9879", None, "r.example.com/x:server-rocm-b9879", "rocm"),
        ("docker/llamacpp:b9879-metal", None, "docker.io/docker/llamacpp:b9879-metal", "metal"),
        ("r.example.com/x:mine", None, "r.example.com/x:mine", None),
        (f"r.example.com/x@sha256:{HEX}", None, f"r.example.com/x@sha256:{HEX}", None),
    ],
)
def test_a_name_means_an_image_and_its_backend(text, version, reference, backend):
    found = named(text, version)
    assert (str(found.reference), found.backend) == (str(Reference.parse(reference)), backend)


@pytest.mark.parametrize(
    ("text", "version", "message", "hint"),
    [
        ("vulcan", None, "unknown runtime 'vulcan'", "did you mean `vulkan`?"),
        (
            "x",
            None,
            "unknown runtime 'x'",
            f"use auto, {', '.join(BACKENDS)}, or the reference of an image",
        ),
        (
            "vulkan@b1144",
            "b1145",
            "two versions are given: 'b1144' and 'b1145'",
            "remove --version",
        ),
        (
            "vulkan",
            "newest",
            "invalid version 'newest'",
            "write a build of llama.cpp such as b11434, or latest",
        ),
        (
            "r.example.com/x:1",
            "b11434",
            "--version is for the official images only",
            "write the tag into the reference",
        ),
    ],
)
def test_other_names_are_refused_with_what_helps(text, version, message, hint):
    with pytest.raises(UsageError) as caught:
        named(text, version)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("reference", "newer"),
    [
        (f"{OFFICIAL}:server-vulkan-b11434", f"{OFFICIAL}:server-vulkan"),
        (f"{OFFICIAL}:server-vulkan-b11434@sha256:{HEX}", f"{OFFICIAL}:server-vulkan"),
        (f"{OFFICIAL}:server-b11434", f"{OFFICIAL}:server"),
        (f"{OFFICIAL}:server", f"{OFFICIAL}:server"),
        # tags of others mean what their owners say
        ("r.example.com/x:server-cpu-b11434", "r.example.com/x:server-cpu-b11434"),
        (f"r.example.com/x:1@sha256:{HEX}", "r.example.com/x:1"),
        (f"r.example.com/x@sha256:{HEX}", f"r.example.com/x@sha256:{HEX}"),
    ],
)
def test_an_update_asks_for_the_name_under_which_newer_builds_come(reference, newer):
    assert moving(Reference.parse(reference)) == Reference.parse(newer)
