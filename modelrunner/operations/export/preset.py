"""A preset for llama.cpp's router, `llama-server --models-preset FILE`: one section, one model.

    [smollm2-135m-q4-1]
    alias = ai/smollm2:135M-Q4_1
    model = /var/lib/.../views/<digest>/model.gguf
    ctx-size = 8192

A section is not called as the model is: the router reads a tag there as a quantization, and makes
another name of it. A key is an option's long name. A value ends where its line does, or at `;` or
`#`, which nothing can stand for; so a path with one of them is refused.
"""

from pathlib import PurePosixPath

from modelrunner.errors import UsageError
from modelrunner.operations.export.plan import ExportPlan
from modelrunner.runtime.base import CONTEXT_CHECKPOINTS, PROMPT_CACHE_MIB
from modelrunner.runtime.child.ports import LOOPBACK

# where it listens the router says
_ROUTERS = {"host", "port"}


def files(plan: ExportPlan) -> dict[str, str]:
    """The files by their names.

    Raises:
        UsageError: A value cannot be written in such a file.
    """
    lines = [
        *(f"; {line}" for line in plan.notes(*_how(plan))),
        f"[{plan.name}]",
        *(f"{key} = {_value(key, value)}" for key, value in _options(plan).items()),
    ]
    return {f"{plan.name}.ini": "".join(f"{line}\n" for line in lines)}


def _how(plan: ExportPlan) -> list[str]:
    return [
        f"Start: llama-server --models-preset {plan.name}.ini --port {plan.port}",
        "A preset does not limit memory or privileges: use a unit or a container for that.",
    ]


def _options(plan: ExportPlan) -> dict[str, str]:
    folder = PurePosixPath(str(plan.folder))
    words = plan.arguments(folder, LOOPBACK, plan.port)
    found: dict[str, str] = {}
    while words:
        key = words.pop(0).removeprefix("--")
        found[key] = words.pop(0) if words and not words[0].startswith("--") else "true"
    kept = {key: value for key, value in found.items() if key not in _ROUTERS}
    return {
        **kept,
        "cache-ram": str(PROMPT_CACHE_MIB),
        "ctx-checkpoints": str(CONTEXT_CHECKPOINTS),
    }


def _value(key: str, text: str) -> str:
    if not text.isprintable() or text != text.strip() or any(mark in text for mark in ";#"):
        raise UsageError(
            f"{key} cannot be written in a llama.cpp preset: {text[:200]!r}",
            hint="choose another kind of export: `;` and `#` always begin a comment in a preset",
        )
    return text
