"""Tiny models without a chat template, for what a model does that only continues text."""

from pathlib import Path

from tests.support.fixtures import script


def base_model(folder: Path) -> Path:
    """A model that says its sentence and then `[INST]`, as text."""
    (file,) = script("models").write_model("base", folder)
    return Path(file)


def endless_model(folder: Path) -> Path:
    """A model that says its sentence over and over."""
    file = folder / "tiny-endless-Q8_0.gguf"
    folder.mkdir(parents=True, exist_ok=True)
    writer = script("talkers").without_template(file, "Tiny Endless", then="Hello")
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return file
