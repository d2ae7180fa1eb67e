"""How large a base install is, and how long pip takes for it: no runtime, no extra.

    python benchmarks/install.py

Prints megabytes in site-packages without pip's own, and seconds of `pip install` into a new venv,
first with an empty cache, then with a filled one.
"""

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
_OWN = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel")


def main() -> None:
    """Measures, and prints a line each."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for label in ("empty cache", "filled cache"):
            place = Path(folder) / label.replace(" ", "-")
            venv.create(place, with_pip=True)
            begun = time.monotonic()
            subprocess.run(
                [
                    *(str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"),
                    *("--disable-pip-version-check", "--cache-dir", str(cache), str(ROOT)),
                ],
                check=True,
            )
            seconds = time.monotonic() - begun
            (packages,) = place.glob("lib/python*/site-packages")
            size = sum(
                file.stat().st_size
                for entry in packages.iterdir()
                if not entry.name.startswith(_OWN)
                for file in [entry, *entry.rglob("*")]
                if file.is_file()
            )
            print(f"{label}: {size / 1e6:.1f} MB, {seconds:.1f} s", file=sys.stdout)


if __name__ == "__main__":
    main()
