"""Quantizes with the package llama-cpp-python; run as a child, since it takes all cores for long.

`python -m modelrunner.runtime.converters.by_llama_cpp [--allow-requantize] SOURCE TARGET NUMBER
THREADS` writes what llama.cpp says to stderr, as `llama-quantize` does.
"""

import ctypes
import os
import sys
from collections.abc import Sequence

_ALLOWED = "--allow-requantize"
_WORDS = 4


def main(words: Sequence[str]) -> int:
    """Quantize a file; 0 where it is done."""
    import llama_cpp

    source, target, number, threads = [word for word in words if word != _ALLOWED][-_WORDS:]
    # the package keeps llama.cpp's lines to itself, and they say how far it is
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(), ctypes.c_void_p(0))
    sys.stderr.write(f"main: build = {llama_cpp.__version__} (llama-cpp-python)\n")
    sys.stderr.flush()
    params = llama_cpp.llama_model_quantize_default_params()
    # bounded: our own parent's words
    params.ftype, params.nthread = int(number), int(threads)
    params.allow_requantize = _ALLOWED in words
    done = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    return 1 if done else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
