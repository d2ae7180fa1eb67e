"""Connections that several transfers share."""

import pytest

from modelrunner.transfer.budget import Budget, CancelledError
from modelrunner.transfer.limits import MOST_CONNECTIONS, Limits


def test_a_transfer_on_its_own_gets_what_it_wants():
    assert Budget().grant("a", 4, 0) == 4
    assert Budget().grant("a", 99, 0) == MOST_CONNECTIONS
    assert Budget(Limits(connections=3)).grant("a", 99, 0) == 3


def test_transfers_share_fairly_and_never_have_more_than_there_are():
    budget = Budget(Limits(connections=5))
    budget.sharers = 3
    granted = [budget.grant(name, 5, 0) for name in "abc"]
    assert granted == [2, 2, 1]


def test_what_one_has_it_keeps_when_others_come():
    budget = Budget(Limits(connections=4))
    assert budget.grant("a", 4, 0) == 4
    budget.sharers = 2
    assert budget.grant("b", 4, 0) == 0
    assert budget.grant("a", 4, 4) == 4
    # two of its connections have ended
    assert budget.grant("a", 4, 2) == 2
    assert budget.grant("b", 4, 0) == 2


def test_what_ends_leaves_its_connections_to_the_others():
    budget = Budget(Limits(connections=4))
    budget.sharers = 2
    budget.grant("a", 4, 0)
    budget.grant("b", 4, 0)
    budget.sharers = 1
    assert budget.grant("b", 4, 2) == 2
    budget.leave("a")
    assert budget.grant("b", 4, 2) == 4


def test_what_is_called_off_stays_so():
    budget = Budget()
    budget.check()
    budget.cancel()
    with pytest.raises(CancelledError):
        budget.check()
