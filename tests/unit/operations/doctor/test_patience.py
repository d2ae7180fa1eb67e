"""Questions asked side by side, none of which may keep the others waiting."""

import threading
from collections.abc import Iterator

import pytest

from modelrunner.errors import ExitStatus
from modelrunner.operations.doctor.finding import Finding, exit_status, well
from modelrunner.operations.doctor.patience import Question, ask_all


def test_who_does_not_answer_fails_and_the_others_are_heard() -> None:
    forever = threading.Event()

    def silent() -> Iterator[Finding]:
        forever.wait()
        yield well("disk", "never")

    questions = [
        Question("disk", silent, "mount", ExitStatus.USAGE),
        Question("version", lambda: [well("version", "1")], "pip", ExitStatus.FAILURE),
    ]
    found = ask_all(questions, 0.2)
    forever.set()
    assert found == (
        Finding("disk", "fail", "no answer within 0.2 seconds", "mount", ExitStatus.USAGE),
        well("version", "1"),
    )
    assert exit_status(found) == ExitStatus.USAGE


def test_a_bug_in_a_question_looks_like_a_bug() -> None:
    def wrong() -> Iterator[Finding]:
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        ask_all([Question("disk", wrong, "mount", ExitStatus.USAGE)], 5)


def test_the_worst_failure_is_the_exit_code() -> None:
    found = [
        Finding("a", "fail", "", "x", ExitStatus.TRANSFER),
        Finding("b", "fail", "", "x", ExitStatus.USAGE),
        Finding("c", "warn", "", "x"),
    ]
    assert exit_status(found) == ExitStatus.TRANSFER
    assert exit_status([]) == ExitStatus.OK
