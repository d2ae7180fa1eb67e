"""The runtime `llama-cpp-python`: llama.cpp compiled for this machine, and the program that serves.

`python -m modelrunner.runtime.backends.llama_cpp_python` is the child's side: it takes a
`LaunchSpec` on stdin, loads, says where it listens, and serves until it is ended. The package's own
server answers one request at a time; the others wait.
"""
# the package and its server's extra are optional, and not where types are checked
# mypy: disable-error-code="import-not-found"

import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelrunner.errors import UsageError
from modelrunner.runtime.abilities import ABILITIES
from modelrunner.runtime.backends.python_package import PythonRuntime, utf8_path
from modelrunner.runtime.base import UNQUANTIZED, Ability, LaunchSpec
from modelrunner.runtime.child import handshake
from modelrunner.runtime.child.ports import LOOPBACK
from modelrunner.runtime.child.server import AnnouncedServer
from modelrunner.wire import parse_json

_CHAT_FORMAT = "modelrunner"
_ALL_LAYERS = -1
_ROPE_SCALINGS = {"none": 0, "linear": 1, "yarn": 2}
_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2, "tensor": 3}
_GOODBYE_S = 1


class LlamaCppPython(PythonRuntime):
    """Serves with the package `llama-cpp-python` and its server's extra."""

    name = "llama-cpp-python"
    program = "modelrunner.runtime.backends.llama_cpp_python"
    modules = (
        "llama_cpp",
        "fastapi",
        "pydantic_settings",
        "sse_starlette",
        "starlette_context",
        "uvicorn",
    )
    loads = ("lib/libllama.so", "lib/libmtmd.so")
    extra = "llama-cpp-python"
    abilities = ABILITIES[name]

    def start(self, spec: LaunchSpec, log: Path) -> AnnouncedServer:
        """Start the program; its own way to show images takes no values for the template."""
        if spec.mmproj is not None and spec.template_arguments is not None:
            raise UsageError(
                f"{self.name} does not offer {Ability.TEMPLATE_ARGUMENTS} of a model with images",
                hint="use --runtime xllamacpp, or remove --think and chat-template-kwargs",
                runtime=self.name,
            )
        return super().start(spec, log)


def main() -> None:
    """Serve what stdin says."""
    import uvicorn

    spec = handshake.receive(sys.stdin)
    with _listener(spec.port) as listener:
        app, context = _load(spec)
        port: int = listener.getsockname()[1]
        # whoever calls from here on waits in the socket's queue for a moment
        handshake.announce(handshake.Announcement(f"http://{LOOPBACK}:{port}", context))
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_GOODBYE_S)
        uvicorn.Server(config).run(sockets=[listener])


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        sys.exit(f"error: couldn't bind {LOOPBACK}:{port}: {error.strerror}")
    listener.listen()
    return listener


def _load(spec: LaunchSpec) -> tuple[Any, int]:
    """The package's application with the model in memory, and the model's context."""
    import llama_cpp.server.app as package
    from llama_cpp.server import types
    from llama_cpp.server.settings import ModelSettings, ServerSettings

    for request in (types.CreateCompletionRequest, types.CreateChatCompletionRequest):
        _sample(request, spec)
    app = package.create_app(
        # one request must not cut off another
        server_settings=ServerSettings(api_key=spec.api_key or None, interrupt_requests=False),
        model_settings=[ModelSettings(**_settings(spec))],
    )
    # a web page that the user looks at is not to talk to the model
    app.user_middleware = [
        layer for layer in app.user_middleware if layer.cls.__name__ != "CORSMiddleware"
    ]
    model = package._llama_proxy()  # noqa: SLF001 - the public way to it needs a request
    return app, model.n_ctx()


def _sample(request: Any, spec: LaunchSpec) -> None:  # noqa: ANN401 - the package's own types
    """Make the spec's sampling the default of a kind of request.

    The package has a repeat penalty of its own, which no model's makers recommend.
    """
    wanted = {"repeat_penalty": 1.0, **dict(spec.sampling)}
    for name, value in wanted.items():
        known = request.model_fields.get("mirostat_mode" if name == "mirostat" else name)
        if known is not None:
            known.default = value
    request.model_rebuild(force=True)


def _settings(spec: LaunchSpec) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "model": utf8_path(spec.model),
        "model_alias": spec.name,
        "n_ctx": spec.context,
        "n_batch": spec.batch,
        "n_ubatch": spec.micro_batch,
        "n_threads": spec.threads,
        "n_threads_batch": spec.threads,
        "n_gpu_layers": _ALL_LAYERS if spec.gpu_layers is None else spec.gpu_layers,
        "type_k": _ggml_type(spec.cache_type_k),
        "type_v": _ggml_type(spec.cache_type_v),
        "flash_attn": _flash_attention(spec),
        "embedding": spec.embedding,
        "use_mmap": spec.memory_map,
        "use_mlock": spec.memory_lock,
        # a table of context times vocabulary, in host memory
        "logits_all": False,
    }
    if spec.rope_scaling is not None:
        settings["rope_scaling_type"] = _ROPE_SCALINGS[spec.rope_scaling]
    if spec.rope_scale is not None:
        settings["rope_freq_scale"] = 1 / spec.rope_scale
    if spec.rope_freq_base is not None:
        settings["rope_freq_base"] = spec.rope_freq_base
    settings |= _split(spec)
    if spec.adapter is not None:
        settings["lora_path"] = utf8_path(spec.adapter)
    if spec.mmproj is not None:
        settings |= {"chat_format": "mtmd", "clip_model_path": utf8_path(spec.mmproj)}
    elif spec.chat_template is not None or spec.template_arguments is not None:
        given = spec.chat_template
        # outside: a template that a person names, or one of ours
        template = None if given is None else given.read_text(encoding="utf-8")
        _register_template(template, parse_json(spec.template_arguments or "{}"))
        settings |= {"chat_format": _CHAT_FORMAT}
    return settings


def _split(spec: LaunchSpec) -> dict[str, Any]:
    mode = None if spec.split_mode is None else _SPLIT_MODES[spec.split_mode]
    said = {
        "main_gpu": spec.main_gpu,
        "split_mode": mode,
        "tensor_split": [*spec.tensor_split] or None,
        "seed": spec.seed,
    }
    return {name: value for name, value in said.items() if value is not None}


def _flash_attention(spec: LaunchSpec) -> bool:
    """The package has no `auto`; a quantized cache of values does not go without."""
    if spec.flash_attention == "auto":
        return spec.cache_type_v not in UNQUANTIZED
    return spec.flash_attention == "on"


def _ggml_type(name: str) -> int:
    import llama_cpp

    number: int = getattr(llama_cpp, f"GGML_TYPE_{name.upper()}")
    return number


def _register_template(template: str | None, arguments: Mapping[str, Any]) -> None:
    """Make a chat format of a template; the tokens it needs are known once the model is loaded.

    Args:
        template: The template; None for the model's own.
        arguments: Values for its variables.
    """
    from llama_cpp import llama_chat_format

    def answer(*, llama: Any, **request: Any) -> Any:  # noqa: ANN401 - the package's own types
        end, begin = llama.token_eos(), llama.token_bos()
        formatter = llama_chat_format.Jinja2ChatFormatter(
            template=template or llama.metadata["tokenizer.chat_template"],
            eos_token=llama.detokenize([end], special=True).decode(errors="replace"),
            bos_token=llama.detokenize([begin], special=True).decode(errors="replace"),
            stop_token_ids=[end],
        )
        return formatter.to_chat_handler()(llama=llama, **arguments, **request)

    llama_chat_format.register_chat_completion_handler(_CHAT_FORMAT)(answer)


if __name__ == "__main__":
    main()
