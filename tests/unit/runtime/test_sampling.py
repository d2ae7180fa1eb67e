"""Sampling values: who said them, and which of them a sampler can work with."""

import pytest

from modelrunner.runtime.sampling import Recommended, Sampling, of_header, of_parameters


def test_a_header_recommends_under_llama_cpps_keys() -> None:
    header = {
        "general.name": "x",
        # 0.6 with 32 bits
        "general.sampling.temp": 0.6000000238418579,
        "general.sampling.top_k": 20,
        "general.sampling.penalty_last_n": -1,
        "general.sampling.penalty_repeat": 1.05,
        "general.sampling.mirostat_tau": 4,
    }
    assert of_header(header) == Sampling(
        temperature=0.6, top_k=20, repeat_last_n=-1, repeat_penalty=1.05, mirostat_tau=4.0
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temp", "0.6"),
        ("temp", True),
        ("temp", -1.0),
        ("temp", float("nan")),
        ("temp", float("inf")),
        ("top_p", 1.5),
        ("top_k", -5),
        ("top_k", 10**30),
        ("penalty_repeat", 0.0),
    ],
)
def test_what_no_sampler_can_work_with_recommends_nothing(key: str, value: object) -> None:
    assert of_header({f"general.sampling.{key}": value}) == Sampling()


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        (
            {"do_sample": True, "temperature": 1, "repetition_penalty": 1.1, "eos_token_id": [1]},
            Sampling(temperature=1.0, repeat_penalty=1.1),
        ),
        ({"temperature": 0.7, "stop": ["</s>"], "num_ctx": 4096}, Sampling(temperature=0.7)),
        ({"do_sample": False, "temperature": 0.6}, Sampling()),
    ],
)
def test_a_file_of_parameters_recommends_by_its_own_words(
    parameters: dict[str, object], found: Sampling
) -> None:
    assert of_parameters(parameters) == found


def test_the_first_that_says_a_value_counts_and_is_named() -> None:
    recommended = Recommended(
        (
            ("configured", Sampling(top_k=5)),
            ("artifact", Sampling()),
            ("header", Sampling(temperature=0.6, top_k=20)),
        )
    )
    assert recommended.values == Sampling(temperature=0.6, top_k=5)
    assert recommended.line() == (
        "temperature 0.6 (the GGUF header), top_k 5 (`modelrunner configure`)"
    )
    assert recommended.to_dict() == {
        "temperature": {"value": 0.6, "source": "header"},
        "top_k": {"value": 5, "source": "configured"},
    }


def test_a_value_of_zero_is_a_value() -> None:
    assert dict(Sampling(temperature=0.0).over(Sampling(temperature=0.6))) == {"temperature": 0.0}
