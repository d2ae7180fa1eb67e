"""Small answers, as far as they may be waited for."""

import itertools
from types import SimpleNamespace

import pytest

from modelrunner.errors import InterruptedTransferError
from modelrunner.registry.http import exchange
from modelrunner.registry.http.exchange import read_limited


def answer(*blocks):
    raw = SimpleNamespace(stream=lambda _most, **_how: iter(blocks))
    return SimpleNamespace(raw=raw, headers={})


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock is ten seconds later."""
    seconds = itertools.count(step=10)
    monkeypatch.setattr(exchange, "monotonic", lambda: float(next(seconds)))


def test_answer_that_drips_is_not_waited_for(clock):
    with pytest.raises(
        InterruptedTransferError, match=r"registry\.test: the answer comes too slow"
    ):
        read_limited(answer(*[b"x"] * 1000), 10_000, "registry.test")


def test_answer_over_a_slow_line_is(clock):
    blocks = [bytes(64 * 1024)] * 60
    assert read_limited(answer(*blocks), 10_000_000, "registry.test") == b"".join(blocks)


def test_one_byte_more_than_the_limit_is_read():
    assert read_limited(answer(b"12", b"34", b"56"), 3, "registry.test") == b"1234"
