"""How a runtime samples where a request does not say: as the model's makers recommend."""

import os

import pytest

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.sampling import Sampling
from modelrunner.runtime.select import select
from tests.support.asking import asked
from tests.support.gguf import Typed
from tests.support.gguf import tiny_gguf as write_model

KEY = "a-key-for-this-test-only"
LOAD_S = 120


def runtime(name):
    """The runtime, or a skip that says what is missing."""
    try:
        return select(name, environ=os.environ, image="")
    except RuntimeUnavailableError as error:
        pytest.skip(f"{error.message}; {error.hint}")


def served(name, folder, sampling, **header):
    model = write_model(folder / "model.gguf", metadata=header)
    spec = LaunchSpec(
        model=model, name="tiny", context=512, threads=1, batch=64, micro_batch=64,
        api_key=KEY, sampling=sampling,
    )  # fmt: skip
    return runtime(name).start(spec, folder / "log")


def settings_of(server, **said):
    """What llama.cpp sampled a completion with."""
    body = {"prompt": [3, 4], "n_predict": 1, **said}
    found = asked(server, "POST", "/completion", body)["generation_settings"]
    names = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "presence_penalty")
    return {key: round(found[key], 3) for key in names}


USUAL = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
}


@pytest.mark.model(short=True)
def test_a_request_beats_the_launch_and_that_the_header_and_that_the_runtime(tmp_path):
    header = {
        "general.sampling.temp": Typed("float32", 0.6),
        "general.sampling.top_k": Typed("int32", 20),
        "general.sampling.min_p": Typed("float32", 0.0),
    }
    launch = Sampling(top_k=30, presence_penalty=1.5)
    with served("xllamacpp", tmp_path, launch, **header) as server:
        server.wait_until_ready(LOAD_S)
        launched = {**USUAL, "temperature": 0.6, "min_p": 0.0, "top_k": 30, "presence_penalty": 1.5}
        assert settings_of(server) == launched
        assert settings_of(server, top_k=5, temperature=0) == {
            **launched,
            "top_k": 5,
            "temperature": 0,
        }


@pytest.mark.model
def test_llama_cpp_python_samples_as_told_and_without_a_repeat_penalty_of_its_own(tmp_path):
    launch = Sampling(temperature=0.6, top_k=20, mirostat=1)
    with served("llama-cpp-python", tmp_path, launch) as server:
        server.wait_until_ready(LOAD_S)
        schemas = asked(server, "GET", "/openapi.json")["components"]["schemas"]
        for kind in ("CreateCompletionRequest", "CreateChatCompletionRequest"):
            fields = schemas[kind]["properties"]
            names = ("temperature", "top_k", "top_p", "repeat_penalty", "mirostat_mode")
            assert {name: fields[name]["default"] for name in names} == {
                "temperature": 0.6,
                "top_k": 20,
                "top_p": 0.95,
                "repeat_penalty": 1.0,
                "mirostat_mode": 1,
            }
