"""LM Studio's models: `PUBLISHER/REPO/FILE.gguf`, as on the Hugging Face Hub.

The directory is `models` in LM Studio's home, which `~/.lmstudio-home-pointer` names; `~/.lmstudio`
without it, and `~/.cache/lm-studio` of earlier versions. No digests are kept. Source: lmstudio-js
and the `lms` command.
"""

from collections.abc import Iterator
from pathlib import Path

from modelrunner.other_stores.found import Found, FoundFile
from modelrunner.other_stores.hub_layout import models_of
from modelrunner.text import file_text


def find(folder: Path) -> Iterator[Found]:
    """What it has, by publisher and repository."""
    for repository in sorted(folder.glob("*/*")):
        if repository.is_dir():
            files = [
                FoundFile(
                    path, file_text(path.relative_to(repository).as_posix()), path.stat().st_size
                )
                for path in sorted(repository.rglob("*"))
                if path.suffix.lower() == ".gguf" and path.is_file()
            ]
            place = repository.relative_to(folder).as_posix()
            yield from models_of(files, f"hf.co/{place}")
