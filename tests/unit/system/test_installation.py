"""Hints that install: with the tool that is in use, and never by a name that anybody may take."""

import importlib.metadata
import json
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from modelrunner.system import installation
from modelrunner.system.installation import EXTRAS, Installation
from tests.conftest import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIT = {
    "url": "https://me:secret@git.example.com/team/modelrunner.git",
    "vcs_info": {"vcs": "git", "commit_id": COMMIT, "requested_revision": "v1"},
}


def installed(tmp_path, direct_url=None, **more):
    return Installation(tmp_path, "/opt/x/bin/python", direct_url or {}, **more)


def test_extras_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {name: tuple(v) for name, v in project["optional-dependencies"].items()}
    # for a clone alone
    del wanted["dev"], wanted["docs"]
    assert dict(EXTRAS) == wanted


@pytest.mark.parametrize(
    ("marker", "command"),
    [
        (None, "/opt/x/bin/python -m pip install 'xllamacpp>=2026.10'"),
        ("pipx_metadata.json", "pipx inject modelrunner 'xllamacpp>=2026.10'"),
        ("uv-receipt.toml", "uv pip install --python /opt/x/bin/python 'xllamacpp>=2026.10'"),
    ],
)
def test_an_extra_is_added_by_the_tool_that_installed_the_program(tmp_path, marker, command):
    if marker:
        (tmp_path / marker).touch()
    assert installed(tmp_path).add("embedded") == command


def test_the_pip_of_an_active_environment_is_called_by_its_name(tmp_path):
    pip = tmp_path / "bin" / "pip"
    pip.parent.mkdir()
    pip.touch(0o755)
    python = str(tmp_path / "bin" / "python")
    here = Installation(tmp_path, python, {}, str(pip.parent))
    assert here.add("serve") == "pip install 'h11>=0.14' 'starlette>=0.46' 'uvicorn>=0.34'"
    assert Installation(tmp_path, python, {}, "/usr/bin").add("plot") == (
        f"{python} -m pip install 'pillow>=10.1'"
    )


def test_an_environment_of_uv_has_no_pip(tmp_path):
    assert installed(tmp_path, pip=False).add("lan") == (
        "uv pip install --python /opt/x/bin/python 'zeroconf>=0.130'"
    )


def test_a_python_of_the_system_needs_to_be_told_twice(tmp_path):
    assert installed(tmp_path, managed=True).add("sigstore") == (
        "/opt/x/bin/python -m pip install --user --break-system-packages 'pyjwt>=2.10'"
        " 'pynacl>=1.5' 'sigstore>=4'"
    )


def test_a_python_below_a_folder_with_blanks_is_quoted(tmp_path):
    here = Installation(tmp_path, "/my tools/bin/python", {})
    assert here.add("plot") == "'/my tools/bin/python' -m pip install 'pillow>=10.1'"


@pytest.mark.parametrize(
    ("direct_url", "source", "git"),
    [
        ({}, None, False),
        ({"url": "file:///src/modelrunner", "dir_info": {"editable": True}}, None, False),
        ({"url": "file:///w/modelrunner-1-py3-none-any.whl", "archive_info": {}}, None, False),
        (GIT, f"modelrunner @ git+https://git.example.com/team/modelrunner.git@{COMMIT}", True),
        (
            {"url": "https://u:p@x.example.com:8443/m.whl", "archive_info": {}},
            "modelrunner @ https://x.example.com:8443/m.whl",
            False,
        ),
        (
            {"url": "ssh://git@h.example.com/m.git", "vcs_info": GIT["vcs_info"]},
            f"modelrunner @ git+ssh://git@h.example.com/m.git@{COMMIT}",
            True,
        ),
        ({**GIT, "vcs_info": {"vcs": "hg", "commit_id": COMMIT}}, None, True),
        ({**GIT, "vcs_info": {"vcs": "git", "commit_id": "v1; rm -rf /"}}, None, True),
        ({"url": "nonsense"}, None, False),
    ],
)
def test_another_machine_installs_it_from_the_network_or_not_at_all(
    tmp_path, direct_url, source, git
):
    here = installed(tmp_path, direct_url)
    assert (here.source, here.needs_git) == (source, git)


@pytest.mark.parametrize(
    ("marker", "direct_url", "upgrade", "reinstall"),
    [
        ("pipx_metadata.json", GIT, "`pipx upgrade modelrunner`", "pipx reinstall modelrunner"),
        (
            "uv-receipt.toml",
            GIT,
            "`uv tool upgrade modelrunner`",
            "uv tool upgrade --reinstall modelrunner",
        ),
        (
            None,
            GIT,
            (
                "`/opt/x/bin/python -m pip install --upgrade"
                " git+https://git.example.com/team/modelrunner.git`"
            ),
            (
                "/opt/x/bin/python -m pip install --force-reinstall"
                f" 'modelrunner @ git+https://git.example.com/team/modelrunner.git@{COMMIT}'"
            ),
        ),
        (
            None,
            {"url": "file:///w/m.whl", "archive_info": {}},
            "install a newer one from where this one came from: /w/m.whl",
            "/opt/x/bin/python -m pip install --force-reinstall /w/m.whl",
        ),
        (
            None,
            {"url": f"file://{ROOT}", "dir_info": {"editable": True}},
            f"`git -C {ROOT} pull`",
            f"/opt/x/bin/python -m pip install --force-reinstall --editable {ROOT}",
        ),
        (
            None,
            {},
            "install a newer one from where this one came from: a package index",
            "install it again from where it came from",
        ),
    ],
)
def test_it_is_renewed_from_where_it_came(tmp_path, marker, direct_url, upgrade, reinstall):
    if marker:
        (tmp_path / marker).touch()
    here = installed(tmp_path, direct_url)
    assert (here.upgrade(), here.reinstall()) == (upgrade, reinstall)


def test_what_pip_noted_of_this_copy_is_read():
    noted = json.loads(distribution("modelrunner").read_text("direct_url.json") or "{}")
    assert Installation.current().direct_url == noted


@pytest.mark.parametrize("text", ["", "[]", "{", None])
def test_a_note_that_cannot_be_read_is_none(monkeypatch, text):
    class Distribution:
        def read_text(self, name):
            return text

    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Distribution())
    assert Installation.current().direct_url == {}


def test_nothing_installs_the_program_by_its_bare_name():
    """Not in hints, recipes, or what is generated: the name on the index may be a stranger's."""
    bare = re.compile(
        r"\b(?:pip|uv|pipx)\b[^\n`]*\binstall\b[^\n@]*?['\" ]modelrunner"
        r"(?:\[[\w,-]+\])?(?! @ )(?=[=<>~'\"`\s]|$)"
    )
    files = [
        *(ROOT / "modelrunner").rglob("*.py"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / name for name in ("README.md", "action.yml", ".pre-commit-hooks.yaml")),
    ]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        for line in path.read_text().splitlines()
        if bare.search(line) and path != Path(installation.__file__)
    ]
    assert found == []
