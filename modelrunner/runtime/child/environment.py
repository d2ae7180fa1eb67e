"""What a server inherits of our environment: what it needs to find libraries and GPUs, no more.

No tokens, and none of llama.cpp's own `LLAMA_ARG_*`: what a server does is what its `LaunchSpec`
says, and `LLAMA_ARG_HOST=0.0.0.0` in a user's profile does not open it to the network.
"""

from collections.abc import Mapping

_NAMES = frozenset(
    {
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "PATH",
        "PYTHONHOME",
        "PYTHONPATH",
        "SYSTEMROOT",
        "TEMP",
        "TMP",
        "TMPDIR",
        "TZ",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
    }
)
_PREFIXES = (
    "AMD_",
    "CUDA_",
    "DYLD_",
    "GGML_",
    "GPU_",
    "HIP_",
    "HSA_",
    "LC_",
    "METAL_",
    "MTL_",
    "NVIDIA_",
    "OMP_",
    "ONEAPI_",
    "ROCR_",
    "ROC_",
    "SYCL_",
    "VK_",
    "ZE_",
)


def for_child(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that a server gets."""
    return {
        name: value
        for name, value in environ.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }
