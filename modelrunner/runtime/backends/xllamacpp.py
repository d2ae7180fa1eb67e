"""The runtime `xllamacpp`: llama-server inside a ready-made wheel, and the program that serves.

`python -m modelrunner.runtime.backends.xllamacpp` is the child's side: it takes a `LaunchSpec` on
stdin, loads, says where it listens, and serves until it is ended.
"""

import json
import os
import sys
import threading
from typing import Any, NoReturn

from modelrunner.runtime.abilities import ABILITIES
from modelrunner.runtime.backends import arguments, llama_parser
from modelrunner.runtime.backends.arguments import (
    GPU_MARGIN_MIB,
    SAYS_ITS_BUFFERS,
    load_mode,
)
from modelrunner.runtime.backends.python_package import PythonRuntime, utf8_path
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.child import handshake
from modelrunner.runtime.child.ports import LOOPBACK
from modelrunner.wire import parse_json

_LOAD_MODES = {"auto": "AUTO", "none": "NONE", "mlock": "MLOCK", "mmap+mlock": "MMAP_MLOCK"}
_FLASH_ATTENTION = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}


class XLlamaCpp(PythonRuntime):
    """Serves with the package `xllamacpp`."""

    name = "xllamacpp"
    program = "modelrunner.runtime.backends.xllamacpp"
    modules = ("xllamacpp",)
    loads = ("xllamacpp*.so",)
    extra = "embedded"
    abilities = ABILITIES[name]


def main() -> NoReturn:
    """Serve what stdin says."""
    import xllamacpp

    spec = handshake.receive(sys.stdin)
    try:
        server = xllamacpp.Server(_parsed(spec) if _needs_parser(spec) else _params(spec))
    except RuntimeError:
        # llama.cpp has said why, and this says less
        sys.exit(1)
    handshake.announce(handshake.Announcement(server.listening_address))
    threading.Event().wait()
    sys.exit(0)


def _needs_parser(spec: LaunchSpec) -> bool:
    """Whether a spec has what the package's own parameters have no name for."""
    return bool(spec.raw_flags or spec.devices)


def _parsed(spec: LaunchSpec) -> Any:  # noqa: ANN401 - the package has no types
    """Return the parameters that llama.cpp's own parser makes of llama-server's command line."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    os.environ.update(arguments.environment(spec))
    llama_parser.parse(params, arguments.arguments(spec, spec.port))
    os.environ.pop("LLAMA_API_KEY", None)
    params.cors_credentials = False
    return params


def _params(spec: LaunchSpec) -> Any:  # noqa: ANN401 - the package has no types
    import xllamacpp
    from xllamacpp.xllamacpp import CommonAdapterLoraInfo

    params = xllamacpp.CommonParams()
    params.model.path = utf8_path(spec.model)
    params.model_alias = {spec.name}
    params.hostnames = [LOOPBACK]
    params.port = spec.port
    params.api_keys = [spec.api_key] if spec.api_key else []
    params.n_ctx = spec.context * spec.parallel
    params.n_parallel = spec.parallel
    params.n_batch = spec.batch
    params.n_ubatch = spec.micro_batch
    params.cpuparams.n_threads = spec.threads
    params.cpuparams_batch.n_threads = spec.threads
    params.cache_type_k = _ggml_type(spec.cache_type_k)
    params.cache_type_v = _ggml_type(spec.cache_type_v)
    params.flash_attn_type = xllamacpp.llama_flash_attn_type[
        f"LLAMA_FLASH_ATTN_TYPE_{_FLASH_ATTENTION[spec.flash_attention]}"
    ]
    params.load_mode = xllamacpp.llama_load_mode[f"LLAMA_LOAD_MODE_{_LOAD_MODES[load_mode(spec)]}"]
    if spec.gpu_layers is not None:
        params.n_gpu_layers = spec.gpu_layers
    if spec.mmproj is not None:
        params.mmproj.path = utf8_path(spec.mmproj)
    params.lora_adapters = [
        *([CommonAdapterLoraInfo(utf8_path(spec.adapter))] if spec.adapter is not None else []),
        *(CommonAdapterLoraInfo(utf8_path(each.path), each.scale) for each in spec.adapters),
    ]
    if spec.chat_template is not None:
        # outside: a template that a person names, or one of ours
        params.chat_template = spec.chat_template.read_text(encoding="utf-8")
    _guess(params, spec)
    _stretch(params, spec)
    _sample(params, spec)
    params.verbosity = SAYS_ITS_BUFFERS
    params.use_jinja = True
    params.embedding = spec.embedding or spec.ranking
    if spec.ranking:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    _close_what_nobody_asked_for(params)
    params.ui = spec.ui
    _split(params, spec)
    _remember(params, spec)
    return params


def _split(params: Any, spec: LaunchSpec) -> None:  # noqa: ANN401 - the package has no types
    import xllamacpp

    if spec.main_gpu is not None:
        params.main_gpu = spec.main_gpu
    if spec.split_mode is not None:
        params.split_mode = xllamacpp.llama_split_mode[
            f"LLAMA_SPLIT_MODE_{spec.split_mode.upper()}"
        ]
    if spec.tensor_split:
        rest = len(params.tensor_split) - len(spec.tensor_split)
        params.tensor_split = [*spec.tensor_split, *([0.0] * rest)]
    if spec.cpu_moe_layers:
        params.tensor_buft_overrides = ",".join(
            f"blk\\.{layer}\\.{_EXPERTS}=CPU" for layer in range(spec.cpu_moe_layers)
        )


_EXPERTS = "ffn_(up|down|gate|gate_up)_(ch|)exps"
"""Names of the tensors of experts, as llama.cpp's `--n-cpu-moe` has them."""


def _remember(params: Any, spec: LaunchSpec) -> None:  # noqa: ANN401 - the package has no types
    params.swa_full = spec.swa_full
    if spec.kv_unified is not None:
        params.kv_unified = spec.kv_unified
    planned, asked = spec.planned_cache_ram, spec.cache_ram
    params.cache_ram_mib = planned if asked is None else asked
    planned, asked = spec.planned_checkpoints, spec.checkpoints
    params.n_ctx_checkpoints = planned if asked is None else asked
    if spec.thinking_budget is not None:
        params.sampling.reasoning_budget_tokens = spec.thinking_budget
    if spec.template_arguments is not None:
        # llama.cpp keeps each value as the JSON of it
        values = parse_json(spec.template_arguments)
        params.default_template_kwargs = {
            **params.default_template_kwargs,
            **{name: json.dumps(value) for name, value in values.items()},
        }
    if spec.seed is not None:
        params.sampling.seed = spec.seed


def _guess(params: Any, spec: LaunchSpec) -> None:  # noqa: ANN401 - the package has no types
    import xllamacpp

    if spec.guesses_by is not None:
        kind = spec.guesses_by.upper().replace("-", "_")
        params.speculative.types = [
            xllamacpp.common_speculative_type[f"COMMON_SPECULATIVE_TYPE_{kind}"]
        ]
    if spec.draft_model is not None:
        params.speculative.draft.mparams.path = utf8_path(spec.draft_model)
        params.speculative.draft.cpuparams.n_threads = spec.threads
        params.speculative.draft.cpuparams_batch.n_threads = spec.threads
    if spec.draft_tokens is not None:
        params.speculative.draft.n_max = spec.draft_tokens


def _stretch(params: Any, spec: LaunchSpec) -> None:  # noqa: ANN401 - the package has no types
    import xllamacpp

    if spec.rope_scaling is not None:
        params.rope_scaling_type = xllamacpp.llama_rope_scaling_type[
            f"LLAMA_ROPE_SCALING_TYPE_{spec.rope_scaling.upper()}"
        ]
    if spec.rope_scale is not None:
        params.rope_freq_scale = 1 / spec.rope_scale
    if spec.rope_freq_base is not None:
        params.rope_freq_base = spec.rope_freq_base


_SAMPLING = {
    "temperature": ("temp", 1 << 6),
    "top_k": ("top_k", 1 << 1),
    "top_p": ("top_p", 1 << 2),
    "min_p": ("min_p", 1 << 3),
    "xtc_probability": ("xtc_probability", 1 << 4),
    "xtc_threshold": ("xtc_threshold", 1 << 5),
    "repeat_last_n": ("penalty_last_n", 1 << 7),
    "repeat_penalty": ("penalty_repeat", 1 << 8),
    "presence_penalty": ("penalty_present", 0),
    "frequency_penalty": ("penalty_freq", 0),
    "mirostat": ("mirostat", 1 << 9),
    "mirostat_tau": ("mirostat_tau", 1 << 10),
    "mirostat_eta": ("mirostat_eta", 1 << 11),
}
"""What llama.cpp calls them, and the bit by which they count more than the header's own:
`common_params_sampling_config` of its `common.h`."""


def _sample(params: Any, spec: LaunchSpec) -> None:  # noqa: ANN401 - the package has no types
    for name, value in spec.sampling:
        attribute, bit = _SAMPLING[name]
        setattr(params.sampling, attribute, value)
        params.sampling.user_sampling_config |= bit


def _close_what_nobody_asked_for(params: Any) -> None:  # noqa: ANN401 - the package has no types
    params.ui = False
    params.endpoint_slots = False
    params.endpoint_props = False
    params.endpoint_metrics = False
    # a web page that the user looks at is not to talk to the model
    params.cors_origins = "localhost"
    params.cors_origins_explicit = True
    params.cors_credentials = False
    params.offline = True
    params.fit_params_target = [GPU_MARGIN_MIB << 20] * len(params.fit_params_target)


def _ggml_type(name: str) -> Any:  # noqa: ANN401 - the package has no types
    import xllamacpp

    return xllamacpp.ggml_type[f"GGML_TYPE_{name.upper()}"]


if __name__ == "__main__":
    main()
