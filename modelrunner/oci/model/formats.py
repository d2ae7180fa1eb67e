"""Formats of weights: by the ending of a file's name, with what reads them.

llama.cpp reads GGUF. Everything else is delivered as it is, and named with the program for it.
"""

from pathlib import PurePosixPath

from modelrunner.frozen import frozen

GGUF = "gguf"
ADAPTER = "adapter"
PROJECTOR = "projector"
FILES = "files"
"""Of an artifact whose weights have a format that is not known."""

SAFETENSORS = "safetensors"
OLLAMA = "ollama"


@frozen
class Format:
    """A format of weights.

    Attributes:
        name: Its name in JSON.
        what: What such files are called, for people.
        runs: What reads them, an imperative for a hint.
    """

    name: str
    what: str
    runs: str


_SAFETENSORS = Format(SAFETENSORS, "safetensors", "run them with vLLM or SGLang")
_PYTORCH = Format("pytorch", "PyTorch files", "try PyTorch")
_KERAS = Format("keras", "Keras files", "try Keras")
_LITERT = Format("litert", "LiteRT (TensorFlow Lite)", "run them with LiteRT")
_COREML = Format("coreml", "Core ML", "run them with Core ML")
_FORMATS = {
    ".safetensors": _SAFETENSORS,
    ".dduf": Format("dduf", "DDUF", "run them with the diffusers library"),
    ".onnx": Format("onnx", "ONNX", "run them with onnxruntime"),
    ".bin": Format("pytorch", ".bin files", "try transformers"),
    ".pt": _PYTORCH,
    ".pth": _PYTORCH,
    ".ckpt": Format("pytorch", "checkpoints", "try PyTorch"),
    ".npz": Format("mlx", "MLX or NumPy files", "try mlx-lm"),
    ".tflite": _LITERT,
    ".litertlm": _LITERT,
    ".h5": _KERAS,
    ".keras": _KERAS,
    ".mlmodel": _COREML,
    ".engine": Format("tensorrt", "TensorRT engines", "run them with TensorRT"),
    ".msgpack": Format("flax", "Flax files", "try Flax"),
}
_SUFFIXES = {entry.name: suffix for suffix, entry in reversed(_FORMATS.items())}
_ADAPTER_NAMES = ("adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")
"""Files of LoRA adapters as PEFT and mlx-lm write them."""


def by_suffix(suffix: str) -> Format | None:
    """What weights in files of this ending are, and what runs them; None where it is not known."""
    return _FORMATS.get(suffix.lower())


def suffix_of(name: str | None) -> str | None:
    """The usual ending of a format's files, None where it has none."""
    return ".gguf" if name == GGUF else _SUFFIXES.get(name or "")


def format_of(path: PurePosixPath | None) -> str | None:
    """The name of the format that a file's name speaks of; None where it speaks of none."""
    if path is None:
        return None
    name = path.name.lower()
    if name.endswith(".gguf"):
        return GGUF
    if name in _ADAPTER_NAMES:
        return ADAPTER
    found = by_suffix(path.suffix)
    return None if found is None else found.name
