"""Tiny models that llama.cpp loads and runs, written to the same byte on every machine.

    python registry-fixtures/models.py FOLDER [--only NAME]

```
granitehybrid   Granite 4.0 H Micro in small: recurrent layers, one with attention, Q4_K_M
llama           a dense model, Q8_0
llama-shards    the same in three files, named and marked as `llama-gguf-split` does
base            the dense model without a chat template, Q8_0
bert            an embedding model, F16
ranker          a reranking model, F16
projector       an image encoder for `llama` (mmproj), F16
refused         a valid file of an architecture that no runtime knows
```

The first four answer anything with one sentence; `weights.py` says how.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import encoders
import talkers
from gguf import GGUFWriter

MODELS: dict[str, tuple[str, Callable[[Path], GGUFWriter]]] = {
    "granitehybrid": ("granite-4.0-h-micro-Q4_K_M.gguf", talkers.granite_hybrid),
    "llama": ("tiny-llama-Q8_0.gguf", talkers.llama),
    "llama-shards": ("tiny-llama-Q8_0.gguf", talkers.llama_in_shards),
    "base": ("tiny-base-Q8_0.gguf", talkers.base),
    "bert": ("tiny-bert-F16.gguf", encoders.bert),
    "ranker": ("tiny-ranker-F16.gguf", encoders.ranker),
    "projector": ("mmproj-tiny-llama-F16.gguf", encoders.projector),
    "refused": ("nonesuch-F32.gguf", talkers.nonesuch),
}


def write_models(folder: Path) -> dict[str, Path | list[Path]]:
    """Writes every model into the folder.

    Returns:
        By name, the model's file; for a model in shards its files, the first shard first.
    """
    files = {name: write_model(name, folder) for name in MODELS}
    return {name: found[0] if len(found) == 1 else found for name, found in files.items()}


def write_model(name: str, folder: Path) -> list[Path]:
    """Writes one model, whole or not at all. Returns its files, the first shard first."""
    file_name, describe = MODELS[name]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as beside:
        writer = describe(Path(beside) / file_name)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        return [file.replace(folder / file.name) for file in sorted(Path(beside).iterdir())]


def main() -> None:
    """Writes the models and prints each file's size and digest."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument(
        "--only", choices=MODELS, metavar="NAME", help=f"one of {', '.join(MODELS)}"
    )
    options = parser.parse_args()
    for name in [options.only] if options.only else MODELS:
        for file in write_model(name, options.folder):
            written = file.read_bytes()
            print(f"{hashlib.sha256(written).hexdigest()}  {len(written):>9,}  {file.name}")


if __name__ == "__main__":
    main()
