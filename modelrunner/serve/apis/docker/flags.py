"""Flags of llama-server in requests: those that are settings here, and no others.

A flag can name files to read and to write, and open the runtime to strangers. What is not in this
table is refused.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from modelrunner.serve.client.errors import FINAL, RefusalError

_FLAGS = {
    "--batch-size": "batch",
    "--cache-ram": "cache-ram",
    "--cache-type-k": "kv-type-k",
    "--cache-type-v": "kv-type-v",
    "--ctx-size": "context",
    "--device": "device",
    "--flash-attn": "flash-attention",
    "--frequency-penalty": "frequency-penalty",
    "--gpu-layers": "gpu-layers",
    "--main-gpu": "main-gpu",
    "--min-p": "min-p",
    "--mirostat": "mirostat",
    "--mirostat-ent": "mirostat-tau",
    "--mirostat-lr": "mirostat-eta",
    "--n-cpu-moe": "n-cpu-moe",
    "--n-gpu-layers": "gpu-layers",
    "--parallel": "parallel",
    "--presence-penalty": "presence-penalty",
    "--repeat-last-n": "repeat-last-n",
    "--repeat-penalty": "repeat-penalty",
    "--rope-freq-base": "rope-freq-base",
    "--rope-scale": "rope-scale",
    "--rope-scaling": "rope-scaling",
    "--seed": "seed",
    "--split-mode": "split-mode",
    "--temp": "temperature",
    "--temperature": "temperature",
    "--tensor-split": "tensor-split",
    "--threads": "threads",
    "--top-k": "top-k",
    "--top-p": "top-p",
    "--ubatch-size": "micro-batch",
    "--xtc-probability": "xtc-probability",
    "--xtc-threshold": "xtc-threshold",
}
_SHORT = {
    "-b": "--batch-size",
    "-c": "--ctx-size",
    "-cram": "--cache-ram",
    "-ctk": "--cache-type-k",
    "-ctv": "--cache-type-v",
    "-dev": "--device",
    "-fa": "--flash-attn",
    "-kvu": "--kv-unified",
    "-mg": "--main-gpu",
    "-ncmoe": "--n-cpu-moe",
    "-ngl": "--n-gpu-layers",
    "-np": "--parallel",
    "-s": "--seed",
    "-sm": "--split-mode",
    "-t": "--threads",
    "-ts": "--tensor-split",
    "-ub": "--ubatch-size",
}
_SWITCHES = {
    "--kv-unified": ("kv-unified", "on"),
    "--mlock": ("mlock", "on"),
    "--mmap": ("mmap", "on"),
    "--no-mmap": ("mmap", "off"),
    "--swa-full": ("swa-full", "on"),
}
_AS_IT_IS = {"--cache-prompt", "--cont-batching", "-cb", "--jinja", "--no-webui"}
"""Switches for what is so anyway."""

_MOST_FLAGS = 128


def flags_of(fields: Mapping[str, Any]) -> list[str]:
    """Return the flags of a request: a list of them, or one text as of a shell.

    Raises:
        RefusalError: They are something else, or too many.
    """
    listed, raw = fields.get("runtime-flags") or [], fields.get("raw-runtime-flags") or ""
    if not isinstance(listed, list) or not isinstance(raw, str):
        raise _refusal("invalid runtime flags: expected a list of texts")
    try:
        flags = [str(flag) for flag in listed] or shlex.split(raw)
    except ValueError as exc:
        raise _refusal("invalid runtime flags: unclosed quote") from exc
    if len(flags) > _MOST_FLAGS:
        raise _refusal(f"too many runtime flags: expected at most {_MOST_FLAGS}")
    return flags


def settings_of(flags: Sequence[str]) -> dict[str, str]:
    """Return the settings that flags stand for.

    Raises:
        RefusalError: A flag is not allowed, or has no value.
    """
    settings: dict[str, str] = {}
    rest = list(flags)
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        name = _SHORT.get(name, name)
        if name in _AS_IT_IS:
            continue
        if name in _SWITCHES:
            key, setting = _SWITCHES[name]
            settings[key] = setting
            continue
        if name not in _FLAGS:
            raise _refusal(
                f"the runtime flag {name[:100]!r} is not allowed over HTTP: start the server with"
                " it, or use `modelrunner configure`"
            )
        if not has_value:
            if not rest:
                raise _refusal(f"the runtime flag {name} has no value")
            value = rest.pop(0)
        settings[_FLAGS[name]] = value
    return settings


def _refusal(message: str) -> RefusalError:
    return RefusalError(400, message, "invalid_flags", [FINAL])
