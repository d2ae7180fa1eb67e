"""A stand-in for `llama-server`: its options and HTTP, served by xllamacpp, which is the same code.

As the real one it refuses an option that it does not know, takes its key from `LLAMA_API_KEY`,
ignores variables that it does not know, and answers `/health`, `/props` and the OpenAI API.
"""

import argparse
import os
import sys
import threading


def main() -> None:
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--alias")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--ctx-size", type=int)
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--ubatch-size", type=int)
    parser.add_argument("--cache-type-k")
    parser.add_argument("--cache-type-v")
    parser.add_argument("--n-gpu-layers", type=int, default=-1)
    parser.add_argument("--jinja", action="store_true")
    parser.add_argument("--rpc")
    options = parser.parse_args()
    if options.version:
        sys.stderr.write("version: 4242 (0badcafe)\nbuilt with care for tests\n")
        return
    serve(options)


def serve(options: argparse.Namespace) -> None:
    import xllamacpp

    if options.rpc:
        sys.stderr.write(f"computing at {options.rpc} too\n")
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    if options.threads is not None:
        params.cpuparams.n_threads = options.threads
    params.n_batch = options.batch_size
    params.n_ubatch = options.ubatch_size
    params.cache_type_k = xllamacpp.ggml_type[f"GGML_TYPE_{options.cache_type_k.upper()}"]
    params.cache_type_v = xllamacpp.ggml_type[f"GGML_TYPE_{options.cache_type_v.upper()}"]
    params.n_gpu_layers = options.n_gpu_layers
    params.use_jinja = options.jinja
    params.ui = os.environ.get("LLAMA_ARG_UI") != "0"
    params.cache_ram_mib = int(os.environ.get("LLAMA_ARG_CACHE_RAM", "8192"))
    params.api_keys = [os.environ["LLAMA_API_KEY"]] if "LLAMA_API_KEY" in os.environ else []
    origins = os.environ.get("LLAMA_ARG_CORS_ORIGINS", "*")
    params.cors_origins, params.cors_origins_explicit = origins, origins != "*"
    params.verbosity = int(os.environ.get("LLAMA_ARG_LOG_VERBOSITY", "3"))
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:
        sys.exit(1)
    threading.Event().wait()
    del server  # it serves for as long as somebody holds it


if __name__ == "__main__":
    main()
