"""What can be asked for, and how llama.cpp rounds it."""

import pytest

from modelrunner.errors import UsageError
from modelrunner.memory.plan.load import Load


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"context": 0}, "context must be at least 1, got 0"),
        ({"context": 4096, "parallel": 0}, "parallel must be at least 1, got 0"),
        ({"context": 4096, "micro_batch": -1}, "micro batch must be at least 1, got -1"),
        ({"context": 4096, "kv_type": "q3_z"}, "invalid KV cache type 'q3_z'"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(UsageError) as caught:
        Load(**given)
    assert caught.value.message == message


def test_a_context_is_shared_by_the_sequences_and_rounded_up_for_each():
    assert Load(4096).cells == 4096
    assert Load(4097).cells == 4352
    assert Load(4096, parallel=4).cells == 1024
    assert Load(1000, parallel=3).cells == 512


def test_a_micro_batch_has_the_same_number_of_tokens_of_each_sequence():
    assert Load(4096).tokens == 512
    assert Load(100).tokens == 100
    assert Load(4096, parallel=3).tokens == 513


def test_logits_are_kept_for_one_token_a_sequence_unless_asked():
    assert Load(4096).rows == 1
    assert Load(4096, parallel=4).rows == 4
    assert Load(4096, outputs=10**6).rows == 512
