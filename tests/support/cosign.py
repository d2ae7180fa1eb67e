"""The real cosign, of two generations, where `.ci/cosign` has built it."""

import os
import shutil
import subprocess
from pathlib import Path

_PLACE = Path(os.environ.get("MODELRUNNER_CI_WHEELS", "/var/cache/modelrunner-ci")) / "cosign"


def _program(name: str) -> str | None:
    path = _PLACE / name
    return str(path) if path.is_file() else shutil.which(name)


COSIGN_2 = _program("cosign-2")
COSIGN_3 = _program("cosign-3")


def cosign(program: str, *words: str, cwd: Path) -> str:
    """What a run of it prints; it is expected to end well."""
    environ = {**os.environ, "COSIGN_PASSWORD": "secret", "HOME": str(cwd)}
    found = subprocess.run(
        [program, *words], check=False, cwd=cwd, env=environ, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout
