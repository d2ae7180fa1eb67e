"""An image with the stand-in for `llama-server`.

It has this machine's Python where it is here, and xllamacpp in a folder of its own: `/tmp`, where a
checkout may be, is empty in the container.
"""

from pathlib import Path

from tests.support import machine_image
from tests.support.machine_image import PYTHON, python_files, tree
from tests.support.modules import folder_of

IMAGE = "stand-in:1"
STAND_IN = Path(__file__).parent / "llama_server.py"
PROGRAM = "/app/llama_server.py"
_PACKAGES = Path("/app/packages")


def import_image(host: str, folder: Path) -> None:
    """Makes `IMAGE` known to the daemon."""
    package = folder_of("xllamacpp")
    files = python_files(*package.glob("*.so"))
    files |= {_PACKAGES / file.relative_to(package.parent): file for file in tree(package)}
    files[Path(PROGRAM)] = STAND_IN
    changes = [f'ENTRYPOINT ["{PYTHON}", "-P", "{PROGRAM}"]', f"ENV PYTHONPATH={_PACKAGES}"]
    machine_image.import_image(host, IMAGE, folder / "image.tar", files, changes)
