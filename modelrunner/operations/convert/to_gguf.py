"""To GGUF: a directory of safetensors converted by llama.cpp's own converter.

The converter would run Python code of the directory, and load pickled weights. It is given links to
the files that hold neither.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from modelrunner.errors import UsageError
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.operations.convert.child import run_child
from modelrunner.operations.convert.quantize import Quantized
from modelrunner.operations.directory.scan import scan
from modelrunner.operations.disk_space import require_room
from modelrunner.runtime.converters.hugging_face import Converter
from modelrunner.store.stamps import hash_file
from modelrunner.store.store import Store
from modelrunner.text import file_text, sanitize_line
from modelrunner.units import format_size

SOURCE = "vnd.modelrunner.converted.from"
"""An annotation: digests of the weights that a GGUF file was made of, with commas between."""
CONVERTER = "vnd.modelrunner.converted.by"
"""An annotation: the converter, and its version."""

_HARMLESS = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".vocab"})
_PROGRESS = re.compile(r"Writing:\s+(?P<done>\d{1,3})%")
_WEIGHTS = ".safetensors"


@contextmanager
def converted(
    store: Store,
    folder: Path,
    converter: Converter,
    on_plan: Callable[[str, int], None],
    on_progress: Callable[[int, int], None],
) -> Iterator[Quantized]:
    """The block in which a directory's model is there as a GGUF file.

    Nothing of it stays where this is interrupted, or ends in an error.

    Args:
        store: Where it is written to, so that it can become a blob without a copy.
        folder: The directory.
        converter: What converts it.
        on_plan: Called with the name of the directory and the bytes of its weights.
        on_progress: Called with the part that is done of a whole.

    Raises:
        UsageError: The directory has no safetensors, or no `config.json`.
        DiskFullError: There is too little room.
        RuntimeFailedError: The converter failed.
    """
    files = [
        file
        for file in scan(folder).files
        if len(file.name.parts) == 1 and file.name.suffix.lower() in _HARMLESS
    ]
    weights = [file for file in files if file.name.suffix.lower() == _WEIGHTS]
    if not weights or not any(str(file.name) == "config.json" for file in files):
        raise UsageError(
            f"{sanitize_line(str(folder), 300)}: expected a config.json and weights in safetensors",
            hint="name the directory of a model as the Hugging Face Hub has it",
        )
    size = sum(file.size for file in weights)
    require_room(store.layout.root, size, f"about {format_size(size)} for the GGUF file")
    name = file_text(folder.resolve().name)
    on_plan(name, size)
    with (
        store.blobs.unnamed() as target,
        TemporaryDirectory(prefix="modelrunner-") as beside,
    ):
        shown = Path(beside, folder.resolve().name or "model")
        shown.mkdir()
        for file in files:
            (shown / file.path.name).symlink_to(file.path.absolute())
        what = f"{converter.name} cannot convert {name}"
        run_child(converter.command(shown, target), what, _PROGRESS, on_progress)
        annotations = {
            SOURCE: ",".join(str(hash_file(file.path)) for file in weights),
            CONVERTER: converter.name,
        }
        found = Metadata.from_header(read_header(target)).quantization or ""
        word = found.removeprefix("MOSTLY_").removeprefix("ALL_")
        title = f"{name}-{word}.gguf" if word else f"{name}.gguf"
        yield Quantized(target, title, annotations)
