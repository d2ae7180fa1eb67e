"""llama.cpp's own plan: what it would allocate for a file, without allocating or reading it.

llama-cpp-python's library loads the model with `no_alloc`, plans every buffer and reports their
sizes. That happens in a child process with a deadline: a library that crashes or hangs on a file
takes nothing else with it.
"""

import ctypes
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from modelrunner.errors import RuntimeFailedError, RuntimeUnavailableError
from modelrunner.frozen import asdict
from modelrunner.memory.devices.probe import child_path
from modelrunner.memory.estimate import Estimate
from modelrunner.memory.plan.load import Load
from modelrunner.system import installation
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json

DEADLINE = 60.0
"""Seconds that a plan may take; a second is usual."""

_TYPE_NUMBERS = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20,
    "bf16": 30,
}  # fmt: skip
_LINES = {
    "weights": r"model buffer size\s*=\s*([\d.]+) MiB",
    "kv_cache": r"llama_kv_cache\w*: size\s*=\s*([\d.]+) MiB",
    "recurrent": r"llama_memory_recurrent: size\s*=\s*([\d.]+) MiB",
    "compute": r"compute buffer size\s*=\s*([\d.]+) MiB",
    "output": r"output buffer size\s*=\s*([\d.]+) MiB",
}
_BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"
_ROOT_OFFSET, _MAP_SIZE = 16, 48
_MIB = 1024 * 1024
_LOGICAL_BATCH = 2048


def is_available() -> bool:
    """Whether llama-cpp-python is installed here; it is not loaded to find out."""
    return importlib.util.find_spec("llama_cpp") is not None


def measure(
    path: Path,
    load: Load,
    *,
    projector: int | None = None,
    python: str = sys.executable,
    deadline: float = DEADLINE,
) -> Estimate:
    """What llama.cpp plans to allocate for a GGUF file.

    Args:
        path: The file, or the first of a split model; its header is enough.
        load: The use.
        projector: Bytes of the projector's file, where one is used too.
        python: The interpreter whose llama-cpp-python to ask.
        deadline: Seconds after which the child is ended.

    Raises:
        RuntimeUnavailableError: llama-cpp-python is not installed.
        RuntimeFailedError: It refused the model, crashed, or did not answer in time.
    """
    if python == sys.executable and not is_available():
        raise RuntimeUnavailableError(
            "llama-cpp-python is not installed",
            hint=f"`{installation.add('llama-cpp-python')}`",
        )
    command = [
        python,
        "-P",
        "-m",
        "modelrunner.memory.measured",
        str(path),
        json.dumps(asdict(load)),
    ]
    name = sanitize_line(path.name)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=deadline,
            check=False,
            # the last line is why it failed, and not the end of a debugger's backtrace
            env={**os.environ, "PYTHONPATH": child_path(), "GGML_NO_BACKTRACE": "1"},
        )
    except subprocess.TimeoutExpired as exc:
        raise RuntimeFailedError(
            f"llama.cpp did not estimate {name} within {deadline:.0f} s"
        ) from exc
    parts = _last_object(done.stdout)
    if done.returncode != 0 or parts is None:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = sanitize_line(said[-1]) if said else f"exit code {done.returncode}"
        raise RuntimeFailedError(f"llama.cpp cannot estimate {name}: {why}")
    # what the library does not plan
    kept = load.prompt_cache + load.checkpoints * parts["recurrent"]
    total = sum(parts.values()) + (projector or 0) + kept
    return Estimate(
        weights=parts["weights"],
        kv_cache=parts["kv_cache"],
        recurrent=parts["recurrent"],
        compute=parts["compute"],
        output=parts["output"],
        projector=projector,
        low=total,
        high=total,
        source="measured",
        kept=kept,
    )


def _last_object(printed: bytes) -> dict[str, int] | None:
    lines = printed.decode(errors="replace").strip().splitlines()
    try:
        parts = parse_json(lines[-1]) if lines else None
    except ValueError:
        return None
    return parts if isinstance(parts, dict) and parts.keys() == _LINES.keys() else None


# what follows runs in the child


class _Node(ctypes.Structure):
    """A node of the red-black tree of C++'s `map` from buffer types to three sizes."""


_Node._fields_ = (
    ("color", ctypes.c_long),
    ("parent", ctypes.c_void_p),
    ("left", ctypes.POINTER(_Node)),
    ("right", ctypes.POINTER(_Node)),
    ("key", ctypes.c_void_p),
    ("sizes", ctypes.c_size_t * 3),
)


def _planned(path: str, load: Load) -> dict[str, int]:
    import llama_cpp
    from llama_cpp import llama_cpp as api

    said: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def on_log(_level: int, text: bytes, _data: object) -> None:
        said.append(text.decode(errors="replace"))

    api.llama_log_set(on_log, ctypes.c_void_p(0))
    api.llama_backend_init()
    model = api.llama_model_load_from_file(os.fsencode(path), _model_params(api, load))
    context = model and api.llama_init_from_model(model, _context_params(api, load))
    text = "".join(said)
    if not context:
        raise SystemExit(text.strip().splitlines()[-1] if text.strip() else "refused the model")
    parts = {
        name: round(sum(map(float, re.findall(pattern, text))) * _MIB)
        for name, pattern in _LINES.items()
    }
    exact = _breakdown(api, context)
    if exact:
        parts["weights"], state, parts["compute"] = exact
        if not parts["recurrent"]:
            parts["kv_cache"] = state
        elif parts["kv_cache"]:
            parts["kv_cache"] = state - parts["recurrent"]
        else:
            parts["recurrent"] = state
    return parts


def _model_params(api: ModuleType, load: Load) -> object:
    params = api.llama_model_default_params()
    params.no_alloc = True
    params.use_extra_bufts = False
    if hasattr(api, "LLAMA_LOAD_MODE_NONE"):
        params.load_mode = api.LLAMA_LOAD_MODE_NONE
    if load.gpu_layers is not None:
        params.n_gpu_layers = load.gpu_layers
    return params


def _context_params(api: ModuleType, load: Load) -> object:
    params = api.llama_context_default_params()
    params.n_ctx, params.n_ubatch, params.n_seq_max = load.context, load.micro_batch, load.parallel
    params.n_batch = max(_LOGICAL_BATCH, load.micro_batch)
    params.type_k, params.type_v = (_TYPE_NUMBERS[kind] for kind in load.kv_types)
    params.flash_attn_type = int(load.flash_attention)
    params.swa_full, params.kv_unified = load.swa_full, load.unified
    if hasattr(params, "n_outputs_max"):
        params.n_outputs_max = load.outputs or load.parallel
    return params


def _breakdown(api: ModuleType, context: int) -> tuple[int, int, int] | None:
    """Bytes of model, context and compute buffers, exact; None where the library hides them."""
    try:
        ask = api._lib[_BREAKDOWN]  # noqa: SLF001 - the library has no public door to it
    except AttributeError:
        return None
    ask.argtypes, ask.restype = [ctypes.c_void_p, ctypes.c_void_p], ctypes.c_void_p
    room = (ctypes.c_byte * _MAP_SIZE)()
    ask(ctypes.addressof(room), context)
    root = ctypes.c_void_p.from_buffer(room, _ROOT_OFFSET).value
    if not root:
        return None
    sizes = [tuple(node.sizes) for node in _walk(ctypes.cast(root, ctypes.POINTER(_Node)))]
    model, state, compute = (sum(column) for column in zip(*sizes, strict=True))
    return model, state, compute


def _walk(pointer: "ctypes._Pointer[_Node]") -> Iterator[_Node]:
    try:
        node = pointer.contents
    except ValueError:  # a null pointer: no such node
        return
    yield node
    yield from _walk(node.left)
    yield from _walk(node.right)


def _main(path: str, asked: str) -> None:
    parts = _planned(path, Load(**parse_json(asked)))
    sys.stdout.write(json.dumps(parts) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
