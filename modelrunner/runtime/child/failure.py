"""Why a server did not come up, read from the end of its log.

llama.cpp says what is wrong once and then, layer by layer, that it failed:

    gguf_init_from_reader: invalid magic characters: 'abcd', expected 'GGUF'    <- the cause
    llama_model_load: error loading model: llama_model_loader: failed to load model from x.gguf
    srv    load_model: failed to load model, 'x.gguf'
    srv          init: exiting due to model loading error
"""

import re
from collections.abc import Sequence
from pathlib import Path

from modelrunner.disk.inside import open_inside
from modelrunner.errors import RuntimeFailedError
from modelrunner.system import installation
from modelrunner.system.packages import advice
from modelrunner.text import sanitize_line

_TAIL_BYTES = 64 * 1024
_CAUSE_CHARACTERS = 240
_STAMP = re.compile(r"^\d+(?:\.\d+){2,3}\s+[A-Z]\s+(?:\w{3}\s+)?")
_TROUBLE = re.compile(
    r"^\d[\d.]*\s+E\s|error|fail|invalid|unable|cannot|could ?n.t|unknown|unsupported"
    r"|not (?:found|supported|enough)|out of memory|assert|exception",
    re.IGNORECASE,
)
_FOLLOWS = re.compile(
    r"failed to load model|failed to init server|exiting due to|cleaning up before exit"
    r"|consider disabling jinja|--no-jinja|chat template parsing error|initialize chat template"
    r"|fit params|Traceback|Server\.__cinit__|failed to create llama context|ggml_cuda_init",
    re.IGNORECASE,
)
_ARGUMENT = re.compile(
    r"(?:unknown|invalid|handling) (?:argument|option|value)|expected value for", re.IGNORECASE
)
_HINTS = (
    (
        re.compile("instruction that this processor"),
        "install a llama.cpp built for this machine: `{install}`",
    ),
    (
        re.compile("invalid chat template"),
        "package it with another one: `modelrunner package FILE.gguf REF --chat-template FILE`",
    ),
    (
        re.compile(r"out of memory|memory runs out|alloc|not enough memory", re.IGNORECASE),
        "use a smaller --context, a smaller --kv-type such as q8_0, or a smaller variant",
    ),
    (
        re.compile(r"magic|key-value|file bounds|corrupt|unexpectedly reached end", re.IGNORECASE),
        "the file is not a valid GGUF file: check it with `modelrunner verify --deep`",
    ),
    (
        re.compile(r"unknown (?:model )?architecture|pre-tokenizer|wrong number of tensors"),
        "update the runtime or choose another: this llama.cpp does not support the model",
    ),
    (
        re.compile("argument: --rpc"),
        "use a llama.cpp built with GGML_RPC=ON: this one has no RPC",
    ),
    (
        _ARGUMENT,
        "update the runtime or choose another: this llama.cpp does not support an option",
    ),
)
_UNSUPPORTED = re.compile(
    "unknown (?:model )?architecture|pre-tokenizer|wrong number of tensors|instruction that "
    "this|invalid chat template|magic|key-value|file bounds|unexpectedly reached end"
)
"""What will be the same at the next start: the model is not for this runtime, or for none."""

_LIBRARY = re.compile(r"(\S+\.so(?:\.\d+)*): cannot open shared object file")
_SIGNALS = {
    132: "crashed on an instruction that this processor does not have",
    134: "crashed",
    137: "killed, probably because the system ran out of memory",
    139: "crashed",
}
_TEMPLATE = re.compile(
    r"common_chat_templates_init: (?:error|failed)|chat template parsing error|jinja2\.exceptions"
)
_BIND = re.compile(r"couldn't bind")


def runtime_failure(
    runtime: str, model: str, log: Path, exit_code: int, flags: Sequence[str] = ()
) -> RuntimeFailedError:
    """Return the error for a server that ended before it was ready.

    Args:
        runtime: What was to serve.
        model: Which model.
        log: What the server has said.
        exit_code: Its exit code.
        flags: Options of the runtime that the user gave after `--`.
    """
    output = _tail(log)
    cause = cause_in(output)
    if cause and _TEMPLATE.search(output):
        cause = f"invalid chat template: {cause}"
    fate = _SIGNALS.get(exit_code)
    if fate is not None:
        why = f"{fate} after `{cause}`" if cause else fate
    else:
        why = cause or f"exited with code {exit_code}"
    message = f"{runtime} cannot serve {model}: {why}"
    return RuntimeFailedError(
        message,
        hint=_hint(message, log, flags),
        log=str(log),
        exit_code=exit_code,
        unsupported=bool(_UNSUPPORTED.search(message)),
    )


def broken_off(error: RuntimeFailedError, log: Path) -> RuntimeFailedError:
    """The error with what the server's log says of it, where the server broke off amid its work."""
    output = _tail(log)
    if not error.broke_off or not _TROUBLE.search(output):
        return error
    hint = f"last error in {log}: `{cause_in(output)}`"
    return error.with_hint(hint, log=str(log))


def failed_to_bind(log: Path) -> bool:
    """Whether the server ended because its port was taken."""
    return _BIND.search(_tail(log)) is not None


def cause_in(text: str) -> str | None:
    """The line of a log that says what is wrong: the last trouble that is not a consequence."""
    lines = [line for line in text.splitlines() if line.strip()]
    trouble = [line for line in lines if _TROUBLE.search(line)]
    causes = [line for line in trouble if not _FOLLOWS.search(line)]
    for line in (causes or trouble or lines)[-1:]:
        return sanitize_line(_STAMP.sub("", line.strip()), _CAUSE_CHARACTERS)
    return None


def _hint(message: str, log: Path, flags: Sequence[str]) -> str:
    library = _LIBRARY.search(message)
    if library is not None:
        return advice([Path(library[1]).name])
    for flag in (flag.partition("=")[0] for flag in flags if _ARGUMENT.search(message)):
        if flag.startswith("-") and re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", message):
            return f"correct or remove {flag} after `--`: this llama.cpp does not accept it"
    found = next((hint for sign, hint in _HINTS if sign.search(message)), f"see the log: {log}")
    if "{install}" in found:
        return found.replace("{install}", installation.add("llama-cpp-python"))
    return found


def _tail(log: Path) -> str:
    try:
        with open_inside(log, "read") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
            return stream.content().decode(errors="replace")
    except FileNotFoundError:
        return ""
