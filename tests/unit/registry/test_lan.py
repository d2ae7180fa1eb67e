"""What shared stores say of themselves on the local network, and what is believed of it."""

from types import SimpleNamespace

import pytest

from modelrunner.registry.lan import _said, fetches_in


def heard(**properties: bytes | None) -> SimpleNamespace:
    return SimpleNamespace(properties={name.encode(): value for name, value in properties.items()})


def test_registries_that_are_announced_are_heard():
    said = _said(["docker.io", "ghcr.io", "localhost:5000"])
    assert said == {b"fetches": b"docker.io ghcr.io localhost:5000"}
    assert fetches_in(SimpleNamespace(properties=said)) == {
        "docker.io",
        "ghcr.io",
        "localhost:5000",
    }


def test_as_many_are_announced_as_fit():
    said = _said([f"registry-{number:03}.example.com" for number in range(100)])
    assert said[b"fetches"].split()[-1] == b"registry-008.example.com"
    assert _said([]) == {}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, set()),
        (b"", set()),
        (b"Docker.IO  index.docker.io", {"docker.io"}),
        (b"../.. a/b \xff\xfe http://x ghcr.io", {"ghcr.io"}),
        (b" ".join([b"a.io"] * 16 + [b"b.io"]), {"a.io"}),
    ],
)
def test_what_is_no_registry_is_passed_over(value, found):
    assert fetches_in(heard(fetches=value)) == found


def test_stores_without_registries_say_nothing():
    assert fetches_in(heard()) == fetches_in(object()) == set()
