"""How much a model is asked to think, from the command line."""

import json

import pytest

from tests.conftest import CommandLine
from tests.support.openai_server import OpenAIServer, says

pytestmark = pytest.mark.model

SMOLLM2 = "ai/smollm2:135M-Q4_1"


@pytest.mark.parametrize(
    ("template", "level", "fields", "warning"),
    [
        (
            "{{ messages }}{{ '<think>' if thinking else '' }}",
            "off",
            {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
            "",
        ),
        (
            "{{ messages }}",
            "off",
            {},
            "warning: the chat template of ai/smollm2:135M-Q4_1 has no thinking: ",
        ),
        (
            None,
            "low",
            {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}},
            "",
        ),
    ],
)
def test_a_server_that_runs_already_is_asked_to_think_in_the_words_of_its_template(
    models: CommandLine, template: str | None, level: str, fields: dict[str, object], warning: str
) -> None:
    with OpenAIServer(chat_template=template) as server:
        server.next(says("a"))
        done = models("run", SMOLLM2, "Hi", "--runtime", server.url, "--think", level)
    assert done.returncode == 0
    body = server.requests[0].body
    assert {key: body[key] for key in body if key.startswith(("chat_t", "reasoning"))} == fields
    assert warning in done.stderr


def test_json_has_the_thoughts_beside_the_answer_and_the_sampling_with_its_source(
    models: CommandLine,
) -> None:
    models("configure", SMOLLM2, "--set", "top-k=7")
    with OpenAIServer() as server:
        server.next(says("Hello", thinks=("H\x1b[31mm",)))
        asked = ("run", SMOLLM2, "Hi", "--runtime", server.url, "--json")
        done = models(*asked, "--temperature", "0.5", "--seed", "3")
        server.next(says("Hello"))
        plain = json.loads(models(*asked).stdout)
    found = json.loads(done.stdout)
    assert (found["answer"], found["reasoning"]) == ("Hello", "Hm")
    # what a server was started with is not known
    assert found["sampling"] == {"temperature": {"value": 0.5, "source": "option"}}
    assert (found["seed"], plain["seed"]) == (3, 42)
    assert (plain["reasoning"], plain["sampling"]) == (None, {})


def test_json_names_the_source_of_each_value(models: CommandLine) -> None:
    models("configure", "fixtures/tiny-llama", "--set", "top-k=7", "--temperature", "0.9")
    asked = ("run", "fixtures/tiny-llama", "Hi", "--json", "--max-tokens", "1")
    done = models(*asked, "--temperature", "0.5", "--set", "min-p=0.1")
    assert json.loads(done.stdout)["sampling"] == {
        "temperature": {"value": 0.5, "source": "option"},
        "top_k": {"value": 7, "source": "configured"},
        "min_p": {"value": 0.1, "source": "option"},
    }


def test_a_level_of_thinking_that_is_none_is_a_usage_error(models: CommandLine) -> None:
    done = models("run", SMOLLM2, "Hi", "--think", "hihg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --think must be one of off, on, low, medium, high, or a number of tokens,"
        " got 'hihg'\nhint: did you mean `high`?\n"
    )
