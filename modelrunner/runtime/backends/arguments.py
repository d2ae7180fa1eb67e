"""A `LaunchSpec` as llama-server's options: pure, and the same for every way to run it.

What every llama-server of the last years knows is an argument: a build that does not know it says
so. What came, went or was renamed on the way is an environment variable, which a build that does
not know it ignores; and so is the key, which must not show in a process list.
"""

from collections.abc import Iterator

from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.child.ports import LOOPBACK

GPU_MARGIN_MIB = 330
"""What llama.cpp's own fit leaves free on each GPU: as much as an estimate does. With the GiB that
it leaves otherwise, it would move layers of a model that fits."""

SAYS_ITS_BUFFERS = 4
"""The least verbosity at which llama.cpp logs what it allocates; it logs no prompt yet. Builds that
number otherwise do not know the variable, and log it anyway."""


def arguments(spec: LaunchSpec, port: int, *, host: str = LOOPBACK) -> list[str]:
    """The command line after the program's name."""
    line = [
        *("--model", str(spec.model.absolute())),
        *("--alias", spec.name),
        *("--host", host),
        *("--port", str(port)),
        *("--ctx-size", str(spec.context * spec.parallel)),
        *("--parallel", str(spec.parallel)),
        *("--threads", str(spec.threads)),
        *("--batch-size", str(spec.batch)),
        *("--ubatch-size", str(spec.micro_batch)),
        *("--cache-type-k", spec.cache_type_k),
        *("--cache-type-v", spec.cache_type_v),
        "--jinja",
    ]
    if spec.gpu_layers is not None:
        line += ["--n-gpu-layers", str(spec.gpu_layers)]
    # not `auto`, which is the default of all that know the word
    if spec.flash_attention != "auto":
        line += ["--flash-attn", spec.flash_attention]
    if spec.mmproj is not None:
        line += ["--mmproj", str(spec.mmproj.absolute())]
    if spec.adapter is not None:
        line += ["--lora", str(spec.adapter.absolute())]
    if spec.chat_template is not None:
        line += ["--chat-template-file", str(spec.chat_template.absolute())]
    if spec.embedding:
        line += ["--embeddings"]
    if spec.ranking:
        line += ["--reranking"]
    if spec.rpc is not None:
        line += ["--rpc", spec.rpc]
    return [
        *line,
        *_split(spec),
        *_memory(spec),
        *_draft(spec),
        *_rope(spec),
        *_sampling(spec),
        *spec.raw_flags,
    ]


def _split(spec: LaunchSpec) -> Iterator[str]:
    """What goes to which device."""
    if spec.devices:
        yield from ("--device", ",".join(spec.devices))
    if spec.main_gpu is not None:
        yield from ("--main-gpu", str(spec.main_gpu))
    if spec.split_mode is not None:
        yield from ("--split-mode", spec.split_mode)
    if spec.tensor_split:
        yield from ("--tensor-split", ",".join(f"{share:g}" for share in spec.tensor_split))
    if spec.cpu_moe_layers:
        yield from ("--n-cpu-moe", str(spec.cpu_moe_layers))


def _memory(spec: LaunchSpec) -> Iterator[str]:
    """What is kept, and what is applied to the weights."""
    for adapter in spec.adapters:
        yield from ("--lora-scaled", f"{adapter.path.absolute()}:{adapter.scale:g}")
    if spec.swa_full:
        yield "--swa-full"
    if spec.kv_unified is not None:
        yield "--kv-unified" if spec.kv_unified else "--no-kv-unified"
    if spec.cache_ram is not None:
        yield from ("--cache-ram", str(spec.cache_ram))
    if spec.checkpoints is not None:
        yield from ("--ctx-checkpoints", str(spec.checkpoints))
    if spec.template_arguments is not None:
        yield from ("--chat-template-kwargs", spec.template_arguments)
    if spec.seed is not None:
        yield from ("--seed", str(spec.seed))


def _draft(spec: LaunchSpec) -> list[str]:
    line = []
    if spec.draft_model is not None:
        line += ["--model-draft", str(spec.draft_model.absolute())]
    kind = spec.guesses_by
    if kind is not None and kind != "draft-simple":
        line += ["--spec-type", kind]
    if spec.draft_tokens is not None:
        line += ["--spec-draft-n-max", str(spec.draft_tokens)]
    return line


def _rope(spec: LaunchSpec) -> list[str]:
    line = []
    if spec.rope_scaling is not None:
        line += ["--rope-scaling", spec.rope_scaling]
    if spec.rope_scale is not None:
        line += ["--rope-scale", f"{spec.rope_scale:g}"]
    if spec.rope_freq_base is not None:
        line += ["--rope-freq-base", f"{spec.rope_freq_base:g}"]
    return line


_SAMPLING_FLAGS = {
    "temperature": "--temp",
    "repeat_last_n": "--repeat-last-n",
    "mirostat_tau": "--mirostat-ent",
    "mirostat_eta": "--mirostat-lr",
}
"""Those that are not called as in a request."""


def _sampling(spec: LaunchSpec) -> Iterator[str]:
    for name, value in spec.sampling:
        yield _SAMPLING_FLAGS.get(name) or f"--{name.replace('_', '-')}"
        yield f"{value:g}"


def environment(spec: LaunchSpec) -> dict[str, str]:
    """The variables to add to what the child inherits."""
    variables = {
        "LLAMA_ARG_CACHE_RAM": str(spec.planned_cache_ram),
        "LLAMA_ARG_FIT_TARGET": str(GPU_MARGIN_MIB),
        "LLAMA_ARG_CTX_CHECKPOINTS": str(spec.planned_checkpoints),
        "LLAMA_ARG_LOG_VERBOSITY": str(SAYS_ITS_BUFFERS),
        # a web page that the user looks at is not to talk to the model
        "LLAMA_ARG_CORS_ORIGINS": "localhost",
        "LLAMA_ARG_ENDPOINT_SLOTS": "0",
        "LLAMA_ARG_OFFLINE": "1",
        "LLAMA_ARG_UI": "1" if spec.ui else "0",
        "LLAMA_ARG_WEBUI": "1" if spec.ui else "0",
    }
    if not spec.ui:
        variables["LLAMA_ARG_NO_WEBUI"] = "1"
    if spec.api_key:
        variables["LLAMA_API_KEY"] = spec.api_key
    if spec.guesses_by == "draft-simple":
        # builds that do not know the word take every draft model for one of this kind
        variables["LLAMA_ARG_SPEC_TYPE"] = "draft-simple"
    if not spec.memory_map:
        variables["LLAMA_ARG_NO_MMAP"] = "1"
        variables["LLAMA_ARG_MMAP"] = "0"
    if spec.memory_lock:
        variables["LLAMA_ARG_MLOCK"] = "1"
    if spec.thinking_budget is not None:
        variables["LLAMA_ARG_THINK_BUDGET"] = str(spec.thinking_budget)
    mode = load_mode(spec)
    if mode != "auto":
        variables["LLAMA_ARG_LOAD_MODE"] = mode
    return variables


def load_mode(spec: LaunchSpec) -> str:
    """How the weights get into memory, in llama.cpp's words."""
    if spec.memory_lock:
        return "mmap+mlock" if spec.memory_map else "mlock"
    return "auto" if spec.memory_map else "none"
