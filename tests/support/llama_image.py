"""An image with the stand-in for `llama-server`, packed from the files of this machine.

xllamacpp has a folder of its own in it: `/tmp`, where a checkout may be, is empty in the container.
"""

from pathlib import Path

from tests.support.python_image import PYTHON, import_python_image, tree

IMAGE = "stand-in:1"
STAND_IN = Path(__file__).parent / "llama_server.py"
PROGRAM = "/app/llama_server.py"
_PACKAGES = Path("/app/packages")


def import_image(host: str, folder: Path) -> None:
    """Makes `IMAGE` known to the daemon."""
    import xllamacpp

    package = Path(xllamacpp.__file__).parent
    files = {_PACKAGES / file.relative_to(package.parent): file for file in tree(package)}
    settings = [f'ENTRYPOINT ["{PYTHON}", "-P", "{PROGRAM}"]', f"ENV PYTHONPATH={_PACKAGES}"]
    import_python_image(host, folder, IMAGE, {**files, Path(PROGRAM): STAND_IN}, settings=settings)
