"""With which build of a runtime a model last worked: named when another build fails.

```
state/builds.json  {"sha256:...": {"runtime": "installed", "build": "vulkan@b11434 sha256:...",
                                   "image": "vulkan@b11434"}}
```
An update that breaks a model is then undone in one command.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from modelrunner.disk.files import disk_errors, write_lightly
from modelrunner.disk.inside import read_inside
from modelrunner.disk.lock import held
from modelrunner.errors import ModelRunnerError, RuntimeFailedError
from modelrunner.frozen import asdict, frozen
from modelrunner.runtime.base import Runtime
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json

BUILDS_FILE = "builds.json"
_MOST = 256
_MOST_BYTES = 1 << 20
_INSTALLED = "installed"


@frozen
class WorkedBuild:
    """A build that has loaded a model.

    Attributes:
        runtime: The name of the runtime.
        build: Which build it was.
        image: What an installed image is called, such as `vulkan@b11434`; None for others.
    """

    runtime: str
    build: str
    image: str | None = None

    @property
    def title(self) -> str:
        """Its name, for people."""
        return self.image or self.runtime


@frozen
class Builds:
    """A file of them; one that cannot be understood counts as empty.

    Attributes:
        path: The file.
        is_installed: Whether an image of this name is installed.
    """

    path: Path
    is_installed: Callable[[str], bool]

    def of(self, model: str) -> WorkedBuild | None:
        """Return the build that a model last worked with.

        Args:
            model: Its weights, see `weights_key`.
        """
        return self._load().get(model)

    def note(self, model: str, runtime: Runtime) -> None:
        """Remember that a runtime has loaded a model; where that cannot be kept, it is not."""
        now = _build_of(runtime)
        if now is None or self.of(model) == now:
            return
        try:
            with disk_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with held(self.path.with_suffix(".lock")):
                others = {key: each for key, each in self._load().items() if key != model}
                kept = list({**others, model: now}.items())[-_MOST:]
                value = {key: asdict(each) for key, each in kept}
                with disk_errors(self.path):
                    write_lightly(self.path, json.dumps(value, indent=1).encode())
        except ModelRunnerError:
            # the chat does not depend on it
            return

    def explained(
        self, error: RuntimeFailedError, model: str, name: str, runtime: Runtime
    ) -> RuntimeFailedError:
        """Return the failure of a start, with the build that the model worked with before.

        Args:
            error: The failure.
            model: The weights of the model.
            name: What the user calls it.
            runtime: What failed.
        """
        before, now = self.of(model), _build_of(runtime)
        if before is None or now is None or before == now:
            return error
        back = self._way_back(before, runtime)
        if back is None:
            return error
        what = f"{sanitize_line(name, 200)} last worked with {before.title}"
        return error.with_hint(f"{what}: {back}", last_worked_with=before.title)

    def _way_back(self, before: WorkedBuild, runtime: Runtime) -> str | None:
        """Return the command that goes back to a build; None where nothing does."""
        if before.image is not None:
            if not self.is_installed(before.image):
                return f"`modelrunner runtimes install {before.image}` installs it again"
            return f"`modelrunner runtimes use {before.image}` goes back to it"
        if before.runtime.partition(":")[0] != runtime.name.partition(":")[0]:
            return f"use it with `--runtime {before.runtime}`"
        return None

    def _load(self) -> Mapping[str, WorkedBuild]:
        try:
            value = parse_json(read_inside(self.path, _MOST_BYTES))
        except (OSError, ValueError):
            return {}
        rows = value.items() if isinstance(value, dict) else ()
        return {key: found for key, row in rows if (found := _parsed(row)) is not None}


def _build_of(runtime: Runtime) -> WorkedBuild | None:
    build, image = runtime.build(), runtime.image()
    if build is None:
        return None
    if image is not None:
        return WorkedBuild(_INSTALLED, build, image.name)
    return WorkedBuild(runtime.name, build)


def _parsed(row: object) -> WorkedBuild | None:
    if not isinstance(row, dict) or row.keys() != {"runtime", "build", "image"}:
        return None
    image = row["image"]
    texts = [row["runtime"], row["build"], *([] if image is None else [image])]
    return WorkedBuild(**row) if all(isinstance(text, str) for text in texts) else None
