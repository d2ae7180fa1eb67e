"""Puts the manual and the completion scripts into a wheel, where systems look for them."""

import subprocess
import sys
from pathlib import Path
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

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make them below `build/`, and list them."""
        if version == "editable":
            return
        root = Path(self.root)
        folder = root / "build" / "share"
        self._python(root / "manual" / "man.py", folder)
        shared = {str(page): f"share/man/man1/{page.name}" for page in folder.glob("*.1")}
        for shell, place in _COMPLETIONS.items():
            script = folder / f"modelrunner.{shell}"
            script.write_text(self._python("-m", "modelrunner", "completion", shell), "utf-8")
            shared[str(script)] = place
        build_data["shared_data"].update(shared)

    def _python(self, *arguments: object) -> str:
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.root, check=True, stdout=subprocess.PIPE, encoding="utf-8"
        )
        return done.stdout
