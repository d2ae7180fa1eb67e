"""What a log says of the cause."""

from pathlib import Path

import pytest

from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.child.failure import broken_off, cause_in, failed_to_bind, runtime_failure
from modelrunner.system.packages import advice

STAMPED = """\
0.00.003.449 I srv    load_model: loading model 'bad.gguf'
0.00.003.524 E gguf_init_from_reader: invalid magic characters: 'abcd', expected 'GGUF'
0.00.003.933 E llama_model_load: error loading model: failed to load model from bad.gguf
0.00.003.942 E llama_model_load_from_file_impl: failed to load model
0.00.003.970 E common_fit_params: error while trying to fit params to free device memory
0.00.004.009 E srv    load_model: failed to load model, 'bad.gguf'
0.00.004.010 I srv    operator(): operator(): cleaning up before exit...
0.00.004.281 E srv          init: exiting due to model loading error
"""
UNSTAMPED = """\
ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected
llama_model_load: error loading model: unknown model architecture: 'newest'
llama_model_load_from_file_impl: failed to load model
main: exiting due to model loading error
"""
NO_LIBRARY = "cannot open shared object file: No such file or directory"
OUT_OF_MEMORY = """\
alloc_buffer: allocating 9000.00 MiB on device 0: cudaMalloc failed: out of memory
llama_init_from_model: failed to initialize the context: failed to create llama context
srv          init: exiting due to model loading error
"""


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (STAMPED, "gguf_init_from_reader: invalid magic characters: 'abcd', expected 'GGUF'"),
        (
            UNSTAMPED,
            "llama_model_load: error loading model: unknown model architecture: 'newest'",
        ),
        (
            OUT_OF_MEMORY,
            "alloc_buffer: allocating 9000.00 MiB on device 0: cudaMalloc failed: out of memory",
        ),
        ("all is well\nand then nothing\n\n", "and then nothing"),
        ("main: exiting due to model loading error\n", "main: exiting due to model loading error"),
        ("", None),
    ],
)
def test_cause_is_the_line_before_its_consequences(log, cause):
    assert cause_in(log) == cause


@pytest.mark.parametrize(
    "log",
    [
        "error: invalid argument: --foo\n",
        'error while handling argument "--foo": stoi\n',
        "error: unknown argument: --foo\n",
    ],
)
def test_a_flag_that_the_user_gave_is_to_be_corrected_by_the_user(tmp_path, log):
    file = tmp_path / "server.log"
    file.write_text(log)
    given = runtime_failure("xllamacpp", "ai/m", file, 1, ("--top-k", "1", "--foo=2"))
    assert given.hint == "correct or remove --foo after `--`: this llama.cpp does not accept it"
    other = runtime_failure("xllamacpp", "ai/m", file, 1, ("--foo-bar",))
    assert "after `--`" not in other.hint


def test_cause_is_safe_to_show():
    assert cause_in("error: \x1b[31mred\x1b[0m\a and " + "long " * 100).startswith("error: red and")
    assert len(cause_in("error: " + "x" * 1000)) == 240


@pytest.mark.parametrize(
    ("log", "exit_code", "message", "hint"),
    [
        (STAMPED, 1, "invalid magic characters", "verify --deep"),
        (UNSTAMPED, 1, "unknown model architecture", "update the runtime"),
        (OUT_OF_MEMORY, 1, "out of memory", "a smaller --context"),
        ("error: invalid argument: --jinja\n", 1, "--jinja", "update the runtime"),
        (
            f"Traceback (most recent call last):\nImportError: libgomp.so.1: {NO_LIBRARY}\n",
            1,
            "libgomp.so.1",
            f"{advice(['libgomp.so.1'])}",
        ),
        (
            f"ImportError: libcuda.so.1: {NO_LIBRARY}\n",
            1,
            "libcuda.so.1",
            "install NVIDIA's driver",
        ),
        ("", 3, "xllamacpp cannot serve ai/m: exited with code 3", "see the log: "),
        ("", 139, "xllamacpp cannot serve ai/m: crashed", "see the log: "),
        ("", 132, "an instruction that this processor does not have", "llama-cpp-python"),
        (
            "loading\n",
            137,
            "m: killed, probably because the system ran out of memory after `loading`",
            "--context",
        ),
        ("a.c:1: GGML_ASSERT(x) failed\n", 134, "m: crashed after `a.c:1: GGML_ASSERT(x)", "log"),
    ],
)
def test_failure_names_model_runtime_and_cause_and_what_helps(
    tmp_path, log, exit_code, message, hint
):
    file = tmp_path / "server.log"
    file.write_text(log)
    error = runtime_failure("xllamacpp", "ai/m", file, exit_code)
    assert error.message.startswith("xllamacpp cannot serve ai/m: ")
    assert message in error.message
    assert hint in error.hint
    # what would end in the same way at the next start
    unsupported = any(word in message for word in ("magic", "architecture", "processor"))
    facts = {"log": str(file), "exit_code": exit_code, "unsupported": unsupported}
    assert error.facts == facts


def test_log_that_was_never_written_is_no_second_failure(tmp_path):
    error = runtime_failure("xllamacpp", "ai/m", tmp_path / "none.log", 127)
    assert error.message == "xllamacpp cannot serve ai/m: exited with code 127"


def test_only_the_end_of_a_long_log_counts(tmp_path):
    file = tmp_path / "server.log"
    file.write_text("error: long ago\n" + "tokens and tokens\n" * 10_000)
    assert "tokens and tokens" in runtime_failure("r", "m", file, 1).message


def test_taken_port_is_told_from_other_failures(tmp_path):
    file = Path(tmp_path / "server.log")
    file.write_text("srv init: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080\n")
    assert failed_to_bind(file)
    file.write_text(STAMPED)
    assert not failed_to_bind(file)


@pytest.mark.parametrize(
    ("log", "blamed"),
    [
        ("E common_chat_templates_init: error: parser: Parser Error: Expected }}\n", True),
        ("jinja2.exceptions.TemplateSyntaxError: unexpected end of template\n", True),
        (f"main: chat template, example_format: 'x'\n{OUT_OF_MEMORY}", False),
    ],
)
def test_a_chat_template_is_blamed_only_where_it_failed(tmp_path, log, blamed):
    file = tmp_path / "log"
    file.write_text(log)
    error = runtime_failure("llama-server", "ai/x", file, 1)
    assert ("invalid chat template" in error.message) is blamed


def test_what_broke_off_is_told_with_the_end_of_its_log(tmp_path):
    file = tmp_path / "log"
    file.write_text("all is well\nValueError: no\x1b[31mpe\n")
    told = broken_off(RuntimeFailedError("it broke off", hint="?", broke_off=True), file)
    assert (told.message, told.hint) == (
        "it broke off",
        f"last error in {file}: `ValueError: nope`",
    )
    assert told.facts["log"] == str(file)


def test_what_refused_or_left_no_log_keeps_its_own_hint(tmp_path):
    file = tmp_path / "log"
    file.write_text("ValueError: nope\n")
    refusal = RuntimeFailedError("refused", hint="use another")
    assert broken_off(refusal, file) is refusal
    error = RuntimeFailedError("it broke off", hint="?", broke_off=True)
    assert broken_off(error, tmp_path / "none") is error
