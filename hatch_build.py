"""Puts the manual and the completion scripts into a wheel, where systems look for them."""

import subprocess
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_COMPLETIONS = {
    "bash": "share/bash-completion/completions/modelrunner",
    "zsh": "share/zsh/site-functions/_modelrunner",
    "fish": "share/fish/vendor_completions.d/modelrunner.fish",
}


class ManualHook(BuildHookInterface):
    """Makes what is not Python: manual pages and completion scripts."""

    PLUGIN_NAME = "custom"
    _folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make them in a directory of this build alone, and list them."""
        if version == "editable":
            return
        folder = self._folder = Path(mkdtemp(prefix="modelrunner-build-"))
        self._python(Path(self.root) / "manual" / "man.py", folder)
        shared = {str(page): f"share/man/man1/{page.name}" for page in folder.glob("*.1")}
        for shell, place in _COMPLETIONS.items():
            script = folder / f"modelrunner.{shell}"
            script.write_text(self._python("-m", "modelrunner", "completion", shell), "utf-8")
            shared[str(script)] = place
        build_data["shared_data"].update(shared)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatch's signature
        """Remove them: the wheel has them."""
        if self._folder is not None:
            rmtree(self._folder)

    def _python(self, *arguments: object) -> str:
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.root, check=True, stdout=subprocess.PIPE, encoding="utf-8"
        )
        return done.stdout
