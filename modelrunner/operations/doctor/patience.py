"""Questions asked side by side, none of which may keep the others waiting for ever.

A disk of a network or a credential helper can be silent for good. Each question has a thread that
does not hold the program's end up.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from modelrunner.errors import ExitStatus
from modelrunner.operations.doctor.finding import Finding, broken


@dataclass(frozen=True, slots=True)
class Question:
    """Something to look at.

    Attributes:
        check: What its findings are called.
        ask: Looks.
        fix: What to run where there is no answer.
        code: What no answer means.
    """

    check: str
    ask: Callable[[], Iterable[Finding]]
    fix: str
    code: ExitStatus


@dataclass(slots=True)
class _Answer:
    findings: list[Finding] = field(default_factory=list)
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


def ask_all(questions: Sequence[Question], seconds: float) -> tuple[Finding, ...]:
    """All answers, in the order of the questions; what is not answered in time fails."""
    until = time.monotonic() + seconds
    answers = [_begun(question) for question in questions]
    found: list[Finding] = []
    for question, answer in zip(questions, answers, strict=True):
        if not answer.done.wait(max(0.0, until - time.monotonic())):
            message = f"no answer within {seconds:g} seconds"
            found.append(broken(question.check, message, question.fix, question.code))
            continue
        if answer.error is not None:
            raise answer.error
        found += answer.findings
    return tuple(found)


def _begun(question: Question) -> _Answer:
    answer = _Answer()

    def work() -> None:
        try:
            answer.findings = list(question.ask())
        except BaseException as exc:  # noqa: BLE001 - raised again where somebody waits for it
            answer.error = exc
        finally:
            answer.done.set()

    threading.Thread(target=work, daemon=True, name=f"doctor {question.check}").start()
    return answer
