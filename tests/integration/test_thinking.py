"""What reaches the prompt when a model is asked to think more or less, by each runtime."""

import http.client
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.select import select
from tests.support.fixtures import script

KEY = "a-key-for-this-test-only"
LOAD_S = 120
LONG = "word " * 50
TEMPLATE = (
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}" + LONG + "{% endif %}"
)
SAID = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (file,) = script("models").write_model("llama", tmp_path_factory.mktemp("model"))
    return file


def served(name: str, model: Path, folder: Path, **fields: object):
    template = folder / "t.jinja"
    template.write_text(TEMPLATE)
    spec = LaunchSpec(
        model=model, name="tiny", context=512, threads=1, api_key=KEY, chat_template=template,
        **fields,
    )  # fmt: skip
    try:
        return select(name, environ=os.environ, image="").start(spec, folder / "log")
    except RuntimeUnavailableError as error:
        pytest.skip(f"{error.message}; {error.hint}")


def posted(server, path: str, body: dict[str, object]):
    url = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def prompt_tokens(server, **fields: object) -> int:
    body = {"model": "tiny", "messages": SAID, "max_tokens": 1, **fields}
    return posted(server, "/v1/chat/completions", body)["usage"]["prompt_tokens"]


@pytest.mark.model(short=True)
def test_llama_cpp_takes_it_from_a_launch_and_from_a_request_that_counts_more(
    model: Path, tmp_path: Path
) -> None:
    off = '{"enable_thinking": false}'
    with served("xllamacpp", model, tmp_path, template_arguments=off, thinking_budget=7) as server:
        server.wait_until_ready(LOAD_S)
        assert prompt_tokens(server) > 50
        lit = {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_budget_tokens": 9}
        assert prompt_tokens(server, **lit) < 20


@pytest.mark.model
@pytest.mark.parametrize(
    ("arguments", "long"), [('{"enable_thinking": false}', True), (None, False)]
)
def test_llama_cpp_python_takes_it_from_a_launch(
    model: Path, tmp_path: Path, arguments: str | None, long: bool
) -> None:
    with served("llama-cpp-python", model, tmp_path, template_arguments=arguments) as server:
        server.wait_until_ready(LOAD_S)
        assert (prompt_tokens(server) > 50) is long
