"""The cache of the package `huggingface_hub`, which llama.cpp uses too.

```
models--ORG--REPO/refs/REVISION               the commit
models--ORG--REPO/snapshots/COMMIT/PATH       a link to ../../blobs/ETAG
models--ORG--REPO/blobs/ETAG                  the content; of a large file the ETag is its sha256
```

The directory is `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `~/.cache/huggingface/hub`. Source:
huggingface_hub `constants.py`, `file_download.py`.
"""

from collections.abc import Iterator
from pathlib import Path

from modelrunner.disk.inside import open_content
from modelrunner.errors import MalformedManifestError
from modelrunner.huggingface.artifact import PARAMETER_FILES, SMALL_LIMIT
from modelrunner.oci.digest import Digest
from modelrunner.oci.hub_address import MAIN
from modelrunner.other_stores.found import Found, FoundFile
from modelrunner.other_stores.hub_layout import models_of
from modelrunner.other_stores.places import HUB_PREFIX
from modelrunner.text import file_text

_LONGEST_COMMIT = 4096


def find(folder: Path) -> Iterator[Found]:
    """What it has, by repository and revision."""
    for repository in sorted(folder.glob(f"{HUB_PREFIX}*")):
        names = _revisions(repository)
        for snapshot in sorted(repository.glob("snapshots/*")):
            organisation, separator, name = repository.name.removeprefix(HUB_PREFIX).partition("--")
            if not separator:
                continue
            revision = names.get(snapshot.name, snapshot.name)
            at = "" if revision == MAIN else f"@{revision}"
            repo = f"hf.co/{organisation}/{name}{at}"
            yield from models_of(_files(snapshot), repo, _parameters(snapshot))


def _revisions(repository: Path) -> dict[str, str]:
    """Names of commits; `main` where it is one of several."""
    found: dict[str, str] = {}
    refs = repository / "refs"
    for path in sorted(refs.rglob("*")):
        if path.is_file():
            with open_content(path) as file:
                commit = file.content(_LONGEST_COMMIT).decode(errors="replace").strip()
            name = path.relative_to(refs).as_posix()
            found[commit] = name if name == MAIN else found.get(commit, name)
    return found


def _files(snapshot: Path) -> list[FoundFile]:
    found = []
    for path in sorted(snapshot.rglob("*")):
        if path.suffix.lower() == ".gguf" and path.is_file():
            real = path.resolve()
            relative = file_text(path.relative_to(snapshot).as_posix())
            found.append(FoundFile(real, relative, real.stat().st_size, _digest(real.name)))
    return found


def _parameters(snapshot: Path) -> FoundFile | None:
    """The file that a pull takes along, where it is in the cache."""
    for name in PARAMETER_FILES:
        path = snapshot / name
        if path.is_file() and 0 < path.stat().st_size <= SMALL_LIMIT:
            real = path.resolve()
            with open_content(real) as file:
                raw = file.content(SMALL_LIMIT)
            return FoundFile(real, name, len(raw), Digest.of(raw), "parameters")
    return None


def _digest(etag: str) -> Digest | None:
    try:
        return Digest.parse(f"sha256:{etag}")
    except MalformedManifestError:
        # a small file's, or one of a system without links
        return None
