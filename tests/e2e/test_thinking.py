"""How much a model is asked to think, from the command line."""

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


def test_a_level_of_thinking_that_is_none_is_a_usage_error(models: CommandLine) -> None:
    done = models("run", SMOLLM2, "Hi", "--think", "hihg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --think must be one of off, on, low, medium, high, or a number of tokens,"
        " got 'hihg'\nhint: did you mean `high`?\n"
    )
