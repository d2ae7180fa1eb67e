"""How another program runs a model, as settings of the artifact that it becomes."""

from types import SimpleNamespace

import pytest

from modelrunner.oci.reference import Reference
from modelrunner.operations.package.import_artifact import Advice, advice_of, left_out_of
from modelrunner.other_stores.found import FoundModel

MODEL = Reference.parse("registry.ollama.ai/library/m:1")


def found(**said):
    return FoundModel("m:1", MODEL, **said)


def test_parameters_become_settings_under_the_names_that_they_have_here():
    parameters = {"num_ctx": 4096, "temperature": 1, "repeat_penalty": 1.1, "num_predict": 9}
    assert advice_of(found(parameters=parameters, system="Be brief.")) == Advice(
        4096,
        {"temperature": 1.0, "repeat_penalty": 1.1, "system": "Be brief."},
        ("num_predict",),
    )


@pytest.mark.parametrize("context", [True, 0, -1, 2**31, "8192", 1.5])
def test_a_context_that_cannot_be_is_left_out(context):
    assert advice_of(found(parameters={"num_ctx": context})) == Advice(left_out=("num_ctx",))


@pytest.mark.parametrize(
    ("has_template", "said"),
    [
        (True, "its Go template is not supported: the template in the GGUF file is used"),
        (
            False,
            (
                "its Go template is not supported, and the GGUF file has none: add --chat-template"
                " to `run`, or it continues text"
            ),
        ),
    ],
)
def test_a_template_in_go_is_left_out_with_what_happens_instead(has_template, said):
    model = found(template="{{ .Prompt }}")
    assert left_out_of(model, SimpleNamespace(has_chat_template=has_template)) == (said,)


def test_what_nobody_can_follow_is_named():
    assert left_out_of(found(parameters={"num_gpu": 1})) == ("its parameter num_gpu",)
