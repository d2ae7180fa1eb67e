"""One answer of the doctor: what was looked at, how it is, and what to run where it is not well."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from modelrunner.errors import ExitStatus, ModelRunnerError

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer.

    Attributes:
        check: What was looked at, one word.
        status: `warn` is what may hurt, `fail` what does.
        message: For people.
        fix: A command; empty where all is well.
        code: The exit code that commands end with for this reason; 0 unless it fails.
    """

    check: str
    status: Status
    message: str
    fix: str = ""
    code: ExitStatus = ExitStatus.OK

    def to_dict(self) -> dict[str, object]:
        """The finding as JSON has it."""
        return {
            "check": self.check,
            "status": self.status,
            "message": self.message,
            "fix": self.fix or None,
        }


def well(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", message)


def doubtful(check: str, message: str, fix: str) -> Finding:
    """It works, and may not for long or not for all."""
    return Finding(check, "warn", message, fix)


def broken(check: str, message: str, fix: str, code: ExitStatus) -> Finding:
    """It does not work."""
    return Finding(check, "fail", message, fix, code)


def failed(check: str, error: ModelRunnerError, fix: str) -> Finding:
    """It does not work, as an error says; with its hint."""
    hint = f"; {error.hint}" if error.hint else ""
    return broken(check, f"{error.message}{hint}", fix, error.exit_code)


def exit_status(findings: Sequence[Finding]) -> ExitStatus:
    """The worst of those that fail, as with several pulls: the highest code."""
    return max((entry.code for entry in findings), default=ExitStatus.OK)
