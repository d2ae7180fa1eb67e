"""One worker has the tests of a group, so that what they share is made once."""

import os

import pytest

pytestmark = [
    pytest.mark.xdist_group("together"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="only workers have groups"),
]


@pytest.mark.parametrize("number", [1, 2])
def test_a_scheduler_sees_the_group_of_a_test(request: pytest.FixtureRequest, number: int) -> None:
    if not request.config.getoption("loadgroup"):
        pytest.skip("another --dist knows no groups")
    assert request.node.nodeid.endswith(f"[{number}]@together")
