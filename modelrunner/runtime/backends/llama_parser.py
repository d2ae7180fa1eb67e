"""llama.cpp's own parser of command lines, inside the module `xllamacpp`.

The package has no name for it, and its library exports it: `common_params_parse` of `common/arg.h`.
It fills the C++ parameters that a `CommonParams` of the package holds. Where they lie in the object
is found by two values that are written by the package and looked for in its memory; if they are not
where they should be, nothing is called.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from typing import Any

_PARSE = "_Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E"
"""Its name in the library: `bool (int, char **, common_params &, llama_example, void (*)(...))`."""

_SERVERS = (12, *range(32))
"""What `llama_example` may have as the number of the server, the usual one first."""

_MARKS = (123456789, 987654321)


def parse(params: Any, flags: Sequence[str]) -> None:  # noqa: ANN401 - the package has no types
    """Apply flags of llama-server to parameters; ends the process where they are not right.

    Args:
        params: A `CommonParams`.
        flags: The command line after the program's name.
    """
    import xllamacpp.xllamacpp as package

    library = ctypes.CDLL(package.__file__)
    function = getattr(library, _PARSE, None)
    if function is None:
        sys.exit("error: this build of xllamacpp does not export llama.cpp's parser of flags")
    function.restype = ctypes.c_bool
    function.argtypes = (
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    offset = _offset(package.CommonParams)

    def applied(to: Any, words: Sequence[str], example: int) -> bool:  # noqa: ANN401 - see above
        line = [b"llama-server", *(os.fsencode(word) for word in words)]
        argv = (ctypes.c_char_p * (len(line) + 1))(*line, None)
        return bool(function(len(line), argv, id(to) + offset, example, None))

    for example in _SERVERS:
        # a flag that the server alone has
        scratch = package.CommonParams()
        if applied(scratch, ["--metrics", "--model", "none"], example) and scratch.endpoint_metrics:
            break
    else:
        sys.exit("error: this build of xllamacpp has another parser of flags")
    if not applied(params, flags, example):
        # it has said why
        sys.exit(1)


def _offset(kind: Any) -> int:  # noqa: ANN401 - the package has no types
    """Where the C++ parameters begin in an object; ends the process where they are not found."""
    probe = kind()
    # the first two of them, in every version since 2023
    probe.n_predict, probe.n_ctx = _MARKS
    memory = ctypes.string_at(id(probe), kind.__basicsize__)
    found = memory.find(struct.pack("=ii", *_MARKS))
    if found < 0 or memory.count(struct.pack("=ii", *_MARKS)) != 1:
        sys.exit("error: this build of xllamacpp keeps its parameters elsewhere")
    return found
