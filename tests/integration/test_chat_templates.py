"""Chat templates by name, as a real runtime lays conversations out with them."""

import http.client
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.chat_templates import NAMES, template_file
from modelrunner.runtime.select import select
from tests.support.base_models import base_model

pytestmark = pytest.mark.model

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye "},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that brings no template."""
    return base_model(tmp_path_factory.mktemp("base"))


def laid_out(model: Path, name: str, log: Path, *talks: list[dict[str, str]]) -> list[str]:
    """Each conversation as the model is given it."""
    try:
        runtime = select("xllamacpp", environ=os.environ)
    except RuntimeUnavailableError as error:
        pytest.skip(f"{error.message}; {error.hint}")
    spec = LaunchSpec(
        model=model,
        name="m",
        context=256,
        threads=1,
        api_key="k",
        chat_template=template_file(name),
    )
    with runtime.start(spec, log) as server:
        server.wait_until_ready(120)
        return [asked(server.base_url, talk) for talk in talks]


def asked(url: str, talk: list[dict[str, str]]) -> str:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    headers = {"Authorization": "Bearer k", "Content-Type": "application/json"}
    connection.request("POST", "/apply-template", json.dumps({"messages": talk}), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer["prompt"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "chatml",
            (
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
                "<|im_start|>assistant\n"
            ),
        ),
        (
            "gemma",
            (
                "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello"
                "<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
            ),
        ),
        (
            "llama3",
            (
                "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
        ),
        (
            "llama2",
            "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]",
        ),
        ("mistral", "[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]"),
        (
            "phi3",
            (
                "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n"
                "<|user|>\nBye<|end|>\n<|assistant|>\n"
            ),
        ),
        ("vicuna", "Be brief.\n\nUSER: Hi\nASSISTANT: Hello</s>\nUSER: Bye\nASSISTANT:"),
        (
            "command-r",
            (
                "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
                "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>"
                "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hello<|END_OF_TURN_TOKEN|>"
                "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Bye<|END_OF_TURN_TOKEN|>"
                "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
            ),
        ),
    ],
)
def test_a_conversation_is_laid_out(model: Path, tmp_path: Path, name: str, text: str) -> None:
    assert laid_out(model, name, tmp_path / "log", TALK) == [text]


@pytest.mark.parametrize("name", NAMES)
def test_every_template_has_each_message_once(model: Path, tmp_path: Path, name: str) -> None:
    text, short = laid_out(model, name, tmp_path / "log", TALK, TALK[1:2])
    assert [text.count(each) for each in ("Be brief.", "Hi", "Hello", "Bye")] == [1, 1, 1, 1]
    assert short.count("Hi") == 1
