"""Docker's credential helpers: programs that keep logins, asked with an end.

Source: https://github.com/docker/docker-credential-helpers: a verb as argument, a server's address
or a JSON object on stdin, an answer on stdout, and exit code 1 with a word on stdout where there is
no entry.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from modelrunner.errors import RegistryAnswerError
from modelrunner.wire import parse_object

if TYPE_CHECKING:
    import subprocess

PATIENCE_S = 30.0
"""How long a helper is waited for; it may show a dialog to unlock a keyring."""

_OUTPUT_LIMIT = 64 * 1024
_NO_ENTRY = (b"credentials not found in native keychain", b"no credentials server url")


class HelperError(Exception):
    """A helper is not installed, fails, or answers with something else."""


class HelperSilentError(RegistryAnswerError):
    """A helper does not end.

    Attributes:
        helper: Its program.
    """

    code = "credential_helper"

    def __init__(self, message: str, *, hint: str, helper: str) -> None:
        super().__init__(message, hint=hint, helper=helper)
        self.helper = helper


def get(name: str, server: str, patience_s: float = PATIENCE_S) -> Mapping[str, str] | None:
    """Return `Username` and `Secret` for a server, None where the helper has no entry.

    Raises:
        HelperError: It is not there, fails, or its answer is not one.
        HelperSilentError: It has not ended after `patience_s` seconds.
    """
    answer = _ask(name, "get", server.encode(), patience_s)
    if answer is None:
        return None
    try:
        found = parse_object(answer)
    except ValueError as exc:
        raise HelperError(f"docker-credential-{name} did not print JSON") from exc
    user, secret = found.get("Username"), found.get("Secret")
    if not isinstance(user, str) or not isinstance(secret, str):
        raise HelperError(f"docker-credential-{name} did not print a user name and a secret")
    return {"Username": user, "Secret": secret}


def store(name: str, server: str, username: str, secret: str) -> None:
    """Hand a login over.

    Raises:
        HelperError: The helper is not there, or does not take it.
        HelperSilentError: It does not end.
    """
    entry: dict[str, Any] = {"ServerURL": server, "Username": username, "Secret": secret}
    _ask(name, "store", json.dumps(entry).encode(), PATIENCE_S)


def erase(name: str, server: str) -> bool:
    """Remove a login; whether there was one.

    Raises:
        HelperError: The helper is not there, or does not let go of it.
        HelperSilentError: It does not end.
    """
    return _ask(name, "erase", server.encode(), PATIENCE_S) is not None


def _ask(name: str, verb: str, given: bytes, patience_s: float) -> bytes | None:
    # few pulls ask a helper, and together these take as long to load as half the interpreter
    import shutil
    import subprocess

    program = f"docker-credential-{name}"
    path = None if os.sep in name else shutil.which(program)
    if path is None:
        raise HelperError(f"{program} is not installed")
    try:
        child = subprocess.Popen(
            [path, verb],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # what it has started ends with it
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        raise HelperError(f"cannot start {program}") from exc
    try:
        answer, _ = child.communicate(given, timeout=patience_s)
    except subprocess.TimeoutExpired as exc:
        # it may have gone and left a child that holds its pipe
        _kill(child)
        raise HelperSilentError(
            f"no answer from the credential helper {program} for {patience_s:.0f} s",
            hint=f"run `{program} list` to see what it waits for (a locked keyring?), or remove"
            " it from Docker's config.json",
            helper=program,
        ) from exc
    finally:
        _end(child)
    if child.returncode == 0:
        return answer[:_OUTPUT_LIMIT]
    if any(sign in answer.lower() for sign in _NO_ENTRY):
        return None
    raise HelperError(f"{program} failed with exit code {child.returncode}")


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a helper and what it has started, where it has not ended by itself."""
    if child.poll() is None:
        _kill(child)
        child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _kill(child: "subprocess.Popen[bytes]") -> None:
    # as above
    import signal

    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
