"""Mirrors out of `registries.conf`: which of them count, and in what order."""

from pathlib import Path

import pytest

from modelrunner.config.containers import container_mirrors
from modelrunner.config.settings import Settings

CONF = """
unqualified-search-registries = ["docker.io"]

[[registry]]
prefix = "docker.io"
location = "internal.example.com/hub"
  [[registry.mirror]]
  location = "mirror.example.com/dockerhub"
  [[registry.mirror]]
  location = "127.0.0.1:5001"
  insecure = true
  [[registry.mirror]]
  location = "digests.example.com"
  pull-from-mirror = "digest-only"

[[registry]]
location = "ghcr.io"

[[registry]]
prefix = "quay.io/team"
  [[registry.mirror]]
  location = "mirror.example.com"

[[registry]]
prefix = "*.example.com"
location = "mirror.example.com"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "registries.conf"
    path.write_text(CONF)
    return path


def named(file: Path) -> dict[str, str]:
    return {"CONTAINERS_REGISTRIES_CONF": str(file)}


def test_mirrors_of_whole_registries_count(file: Path) -> None:
    found = container_mirrors(named(file))

    assert found.mirrors == {
        "docker.io": (
            "https://mirror.example.com/v2/dockerhub",
            "http://127.0.0.1:5001",
            "https://internal.example.com/v2/hub",
        )
    }
    assert found.insecure == ("127.0.0.1:5001",)
    assert found.origin == str(file)


def test_a_registry_that_is_only_asked_for_digests_has_no_mirrors(file: Path) -> None:
    file.write_text(
        '[[registry]]\nlocation = "ghcr.io"\nmirror-by-digest-only = true\n'
        '[[registry.mirror]]\nlocation = "mirror.example.com"\n'
    )

    assert container_mirrors(named(file)).mirrors == {}


def test_the_users_file_and_the_directories_beside_count(tmp_path: Path) -> None:
    folder = tmp_path / "containers"
    (folder / "registries.conf.d").mkdir(parents=True)
    (folder / "registries.conf").write_text(CONF)
    (folder / "registries.conf.d" / "10.conf").write_text(
        '[[registry]]\nlocation = "docker.io"\n'
        '[[registry.mirror]]\nlocation = "later.example.com"\n'
    )

    found = container_mirrors({"XDG_CONFIG_HOME": str(tmp_path)})

    assert found.mirrors == {"docker.io": ("https://later.example.com",)}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# [[registry]]\n",
        b"[registries.search]\nregistries = ['docker.io']\n",
        b"[[registry]]\nlocation = 3\n[[registry.mirror]]\nlocation = 4\n",
        b'[[registry]]\nlocation = "no registry"\n[[registry.mirror]]\nlocation = "a"\n',
        b'[[registry]]\nlocation = "docker.io"\nmirror = "a"\n',
    ],
)
def test_what_names_no_mirror_changes_nothing(text: bytes, file: Path) -> None:
    file.write_bytes(text)

    found = container_mirrors(named(file))

    assert (found.mirrors, found.malformed) == ({}, ())


@pytest.mark.parametrize("text", [b"[[registry]\n", b"[[registry]]\nlocation = '\xff'\n"])
def test_a_file_that_is_not_understood_stops_nothing(text: bytes, file: Path) -> None:
    file.write_bytes(text)

    found = container_mirrors(named(file))

    assert found.mirrors == {}
    assert found.origin == f"{file} (not understood)"


def test_our_own_mirrors_of_a_registry_come_instead(file: Path, tmp_path: Path) -> None:
    environ = {**named(file), "MODELRUNNER_HOME": str(tmp_path)}
    own = "docker.io=https://own.example.com"

    usual = Settings.load(environ)
    changed = Settings.load({**environ, "MODELRUNNER_MIRRORS": own})

    assert usual.mirrors["docker.io"][1] == "http://127.0.0.1:5001"
    assert usual.registries["127.0.0.1:5001"].insecure is True
    assert usual.origin_of("containers_mirrors") == str(file)
    assert changed.mirrors == {"docker.io": ("https://own.example.com",)}
