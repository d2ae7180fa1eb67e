"""Asks a runtime's ggml for its devices; run as a child, since a driver may hang or crash.

`python -m modelrunner.runtime.backends.ggml_devices xllamacpp|llama_cpp` prints a JSON array with
an object for each device: `name`, `description`, `type` (`cpu`, `gpu`, `igpu`, `accel`), `id`,
`total`, `free`.
"""

import ctypes
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

_TYPES = ("cpu", "gpu", "igpu", "accel")
_SUFFIXES = {"darwin": ".dylib", "win32": ".dll"}


class _Properties(ctypes.Structure):
    """`ggml_backend_dev_props`, and room for what later versions add to it."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("free", ctypes.c_size_t),
        ("total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("id", ctypes.c_char_p),
        ("rest", ctypes.c_char * 256),
    )


def main(runtime: str) -> int:
    """Prints what there is; 0 where the library answered."""
    listed = {"xllamacpp": _by_xllamacpp, "llama_cpp": _by_llama_cpp}[runtime]
    sys.stdout.write(json.dumps(list(listed())) + "\n")
    return 0


def _by_xllamacpp() -> Iterator[dict[str, object]]:
    import xllamacpp

    for device in xllamacpp.get_device_info():
        yield {
            "name": device["name"],
            "description": device["description"],
            # bounded: an enumeration of the package's own
            "type": _type_name(int(device["type"])),
            "id": device.get("device_id") or "",
            "total": device["memory_total"],
            "free": device["memory_free"],
        }


def _by_llama_cpp() -> Iterator[dict[str, object]]:
    """The package is found, not imported: its library alone is half as slow to load."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llama-cpp-python is not installed")
    folder = Path(spec.submodule_search_locations[0], "lib")
    base, ggml = (_load(folder, name) for name in ("ggml-base", "ggml"))
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    base.ggml_backend_dev_get_props.restype = None
    base.ggml_backend_dev_get_props.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Properties)]
    if not ggml.ggml_backend_dev_count():
        # backends are files of their own, which somebody has to ask for
        ggml.ggml_backend_load_all_from_path.restype = None
        ggml.ggml_backend_load_all_from_path(bytes(folder))
    for index in range(ggml.ggml_backend_dev_count()):
        found = _Properties()
        base.ggml_backend_dev_get_props(ggml.ggml_backend_dev_get(index), ctypes.byref(found))
        yield {
            "name": _text(found.name),
            "description": _text(found.description),
            "type": _type_name(found.type),
            "id": _text(found.id),
            "total": found.total,
            "free": found.free,
        }


def _load(folder: Path, name: str) -> ctypes.CDLL:
    suffix = _SUFFIXES.get(sys.platform, ".so")
    prefix = "" if sys.platform == "win32" else "lib"
    return ctypes.CDLL(str(folder / f"{prefix}{name}{suffix}"), mode=ctypes.RTLD_GLOBAL)


def _type_name(number: int) -> str:
    return _TYPES[number] if 0 <= number < len(_TYPES) else "other"


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
