"""Files of the Hub out of Xet storage, where large ones are kept in chunks that files share.

The Hub answers everyone else with a redirect to a bridge, which puts the file together. Its own
client asks the storage itself, and puts it together here: `xet_child` has it, and writes bytes to
a pipe. What comes out of the pipe is a stream like any other, so that it is resumed, watched,
canceled and verified as one.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory

from modelrunner.errors import InterruptedTransferError, RegistryAnswerError
from modelrunner.registry.source import BlobStream
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json

PLACE = "Xet storage"
LEAST, LEAST_PART = 16 * 1024 * 1024, 1024 * 1024
"""Smaller files, and smaller parts of others, are not worth a program of their own: not even the
first part of a file for one of 16 connections is that small."""

_PROGRAM = (sys.executable, "-P", "-m", "modelrunner.registry.huggingface.xet_child")
_LONGEST_REASON = 4096
_SAFETY_S = 60
"""Seconds before its end in which a token is not used anymore."""


@dataclass(frozen=True, slots=True)
class XetAccess:
    """Who has the files of a repository, and what it is shown.

    Attributes:
        endpoint: The storage's address.
        token: A token that reads one repository.
        expires: When it ends, in seconds of the Unix clock.
    """

    endpoint: str
    token: str = field(repr=False)
    expires: int

    @property
    def is_fresh(self) -> bool:
        """Whether it can be used for a while."""
        return self.expires > time.time() + _SAFETY_S

    @classmethod
    def parse(cls, raw: bytes, hub: str) -> "XetAccess":
        """Understand the Hub's answer.

        Raises:
            RegistryAnswerError: It is not one.
        """
        try:
            found = parse_json(raw)
        except ValueError:
            found = None
        match found:
            case {"casUrl": str(url), "accessToken": str(token), "exp": int(expires)}:
                return cls(url, token, expires)
            case _:
                raise RegistryAnswerError(f"unexpected answer from {hub}: no access to Xet storage")


@dataclass(frozen=True, slots=True)
class XetFile:
    """A file as Xet storage knows it.

    Attributes:
        hash: What it is called there: not a digest of its bytes.
        size: Its bytes.
    """

    hash: str
    size: int


class XetReader:
    """Reads a file from one place to its end, in as many parts as are asked for.

    Attributes:
        file: The file.
        at: The next byte.
        was_aborted: Whether a part was broken off from here: the storage has not failed.
    """

    def __init__(
        self, access: XetAccess, file: XetFile, offset: int, read_timeout_s: float
    ) -> None:
        self.file = file
        self.at = offset
        self.was_aborted = False
        self._stack = ExitStack()
        opened = _opened(access, file, offset, read_timeout_s)
        self._stream = self._stack.enter_context(opened)

    def part(self) -> BlobStream:
        """Return what follows as a stream.

        Reading it raises `InterruptedTransferError` where the storage, or its client, does not
        deliver.
        """
        return replace(self._stream, offset=self.at, readinto=self._readinto, abort=self._abort)

    def close(self) -> None:
        """End the client."""
        self._stack.close()

    def _readinto(self, buffer: memoryview) -> int:
        count = self._stream.readinto(buffer)
        self.at += count
        return count

    def _abort(self) -> None:
        self.was_aborted = True
        self._stream.abort()


@contextmanager
def _opened(
    access: XetAccess, file: XetFile, offset: int, read_timeout_s: float
) -> Iterator[BlobStream]:
    """The block in which bytes of a file can be read from `offset` on."""
    order: dict[str, object] = {
        "endpoint": access.endpoint,
        "token": access.token,
        "expires": access.expires,
        "hash": file.hash,
        "size": file.size,
        "start": offset,
        "agent": "modelrunner",
        # bounded: our own setting
        "read_timeout_s": max(1, int(read_timeout_s)),
    }
    with TemporaryDirectory(prefix="modelrunner-xet-", ignore_cleanup_errors=True) as folder:
        order["folder"] = folder
        child = subprocess.Popen(
            _PROGRAM,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # a Ctrl-C is for us, who end it
            start_new_session=True,
            env=_environment(folder),
        )
        try:
            yield _Pipe(child, json.dumps(order).encode() + b"\n", read_timeout_s).stream(offset)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()


def _environment(folder: str) -> dict[str, str]:
    """What the client is told: nothing of the user's, and to keep its logs where they go away."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING_FACE_"))
    }
    return {**kept, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_XET_CACHE": folder, "HF_HOME": folder}


class _Pipe:
    """What a child writes."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", order: bytes, read_timeout_s: float
    ) -> None:
        self._child = child
        self._read_timeout_s = read_timeout_s
        self._order = order

    def stream(self, offset: int) -> BlobStream:
        """Return its bytes as a stream."""
        stdin = self._child.stdin
        if stdin is None:
            raise InterruptedTransferError(f"{PLACE}: no pipe to the client")
        try:
            stdin.write(self._order)
        except OSError as exc:
            raise self._broken() from exc
        # its client has connections of its own: one of us is enough
        return BlobStream(
            offset, self._readinto, place=PLACE, abort=self._child.kill, arriving=True
        )

    def _readinto(self, buffer: memoryview) -> int:
        stdout = self._child.stdout
        if stdout is None:
            return 0
        waiting = select.poll()
        waiting.register(stdout, select.POLLIN)
        if not waiting.poll(self._read_timeout_s * 1000):
            raise InterruptedTransferError(f"{PLACE} timed out")
        count = os.readv(stdout.fileno(), [buffer])
        if count == 0:
            # who asks for all bytes and no more does not come here at the end
            raise self._broken()
        return count

    def _broken(self) -> InterruptedTransferError:
        """Why it has ended."""
        stderr = self._child.stderr
        said = b"" if stderr is None else stderr.read(_LONGEST_REASON)
        reason = sanitize_line((said or b"").decode(errors="replace"), 300)
        return InterruptedTransferError(f"{PLACE}: {reason or 'its client has ended'}")
