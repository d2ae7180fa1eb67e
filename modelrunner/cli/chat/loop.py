"""The chat: read a message, stream the answer, repeat.

Answers go to `out`, messages of the chat itself to `err`. The chat ends with `/bye`,
with Ctrl-D, and when the terminal goes away; a failed answer does not end it, for there may be
something worth a `/save`.
"""

import errno
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from modelrunner.chat.answer import Delta, Done
from modelrunner.cli.chat.answer import ONLY_THOUGHTS, cut_note, show
from modelrunner.cli.chat.prompt import HistoryFile, LinePrompt, Prompt, TerminalPrompt, unquote
from modelrunner.cli.chat.session import (
    Session,
    describe,
    describe_times,
    describe_use,
    stopped_answer,
)
from modelrunner.cli.chat.slash_commands.commands import LEAVING, Next, run_command, send
from modelrunner.cli.rendering.answer import keys_unseen, warm_up, writer_for
from modelrunner.cli.rendering.writer import Writer, let_go, send_nowhere, write
from modelrunner.errors import ContextExceededError, ModelRunnerError, RuntimeFailedError

_NEARLY_FULL = 0.8
_START_ANEW = "`/clear` starts a new conversation"
_TERMINAL_GONE = {errno.EIO, errno.EPIPE, errno.ENXIO, errno.EBADF}
_AGAIN_S = 1.0


class _HangUp(SystemExit):
    """The terminal went away. An event loop lets only this kind of exception through."""


def chat(
    session: Session,
    *,
    out: TextIO,
    err: TextIO,
    prompt: Prompt | None = None,
    history: Path | None = None,
    colour: bool = False,
    plain: bool = False,
) -> None:
    """Run the chat until the user leaves.

    Args:
        session: The model, and the conversation so far.
        out: The stream of answers.
        err: The stream of the chat's own messages.
        prompt: The source of messages; the terminal by default.
        history: The file of earlier messages; None keeps none.
        colour: Whether thoughts may be dimmed.
        plain: Whether nothing moves the cursor: lines are read and written as they come.
    """
    remembered = None if history is None or plain else HistoryFile(history)
    session.plain = plain
    if prompt is None and plain:
        prompt = LinePrompt(sys.stdin, err)
    elif prompt is None:
        prompt = TerminalPrompt(remembered.load() if remembered is not None else ())
    if out.isatty() and session.markdown and not plain:
        threading.Thread(target=warm_up).start()
    talk = _Chat(session, prompt, remembered, out, err, colour)
    seen = [stream for stream in (out, err) if stream.isatty()]
    try:
        with _hang_up_ends():
            while talk.turn():
                pass
    except (EOFError, _HangUp):
        return
    except OSError as exc:
        if exc.errno not in _TERMINAL_GONE:
            raise
    finally:
        let_go(out)
        let_go(err)
        for stream in seen:
            if not stream.isatty():
                # whatever is still to be said there is said to nobody
                send_nowhere(stream)


@contextmanager
def _hang_up_ends() -> Iterator[None]:
    """Leave the block when the terminal goes away, instead of ending the process at once."""
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        # once may not be enough: what is raised amid somebody's clean-up can get lost
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        raise _HangUp

    numbers = (hang_up, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    if before[0] is not signal.SIG_IGN:
        for number in numbers:
            signal.signal(number, leave)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class _Chat:
    session: Session
    prompt: Prompt
    history: HistoryFile | None
    out: TextIO
    err: TextIO
    colour: bool

    def turn(self) -> bool:
        """Handle one message or command; False ends the chat."""
        after = Next.READ
        try:
            line = self.prompt.read()
            self._remember(line.strip())
            after = self._heed(line)
            if after is Next.ANSWER:
                self._answer()
        except KeyboardInterrupt:
            self._say("press Ctrl-D or type /bye to leave")
        except ModelRunnerError as exc:
            self._complain(exc)
        return after is not Next.LEAVE

    def _remember(self, line: str) -> None:
        if self.history is not None and line not in {"", *LEAVING}:
            self.history.append(line)

    def _heed(self, line: str) -> Next:
        """Run a command, or add a message."""
        if not line.strip():
            return Next.READ
        if line.startswith("/"):
            return run_command(self.session, line, self._say)
        text = unquote(line)
        send(self.session, text if text != line else line.strip(), self._say)
        return Next.ANSWER

    def _answer(self) -> None:
        """Show the answer to the last message, and add it to the conversation.

        Turns alternate whatever happens, for many chat templates insist on it: an answer that was
        stopped stays, even an empty one; a message that got no answer at all is taken back.
        """
        session = self.session
        session.received, session.received_s = 0, 0.0
        writer, stopped = self._writer(), True

        def ask() -> tuple[Done, str]:
            nonlocal writer
            with keys_unseen():
                try:
                    done = self._ask(writer)
                except RuntimeFailedError:
                    if not self._restarted():
                        raise
                    writer = self._writer()
                    done = self._ask(writer)
            text = writer.text
            if done.calls:
                # what follows is another answer
                writer = self._writer()
            return done, text

        try:
            session.last = session.caller.converse(ask, session.conversation)
            stopped = False
        except KeyboardInterrupt:
            self._say("(stopped)")
        except ModelRunnerError as exc:
            turns = session.conversation.turns
            if not writer.text and turns[-1].role == "user":
                session.conversation.drop_last()
            self._complain(exc)
        finally:
            self._keep(writer.text, stopped=stopped)
        if not stopped and session.last is not None:
            self._remark(session.last, writer)

    def _keep(self, text: str, *, stopped: bool) -> None:
        """Add an answer to the conversation, unless its message was removed."""
        session = self.session
        turns = session.conversation.turns
        if turns and turns[-1].role != "assistant":
            session.conversation.add_assistant(text, stopped=stopped)
            if stopped:
                session.last = stopped_answer(session)

    def _writer(self) -> Writer:
        session = self.session
        return writer_for(
            self.out,
            markdown=session.markdown,
            thinking=session.thinking,
            colour=self.colour,
            opening=session.opening,
            drawn=not session.plain,
        )

    def _ask(self, writer: Writer) -> Done:
        session = self.session
        stream = session.client.stream(
            session.conversation.messages, session.options, session.caller.box.fields()
        )
        with closing(stream) as pieces, writer:
            return show(self._timed(pieces), writer)

    def _timed(self, pieces: Iterator[Delta | Done]) -> Iterator[Delta | Done]:
        begun = time.monotonic()
        session = self.session
        session.first_token_s, session.received, session.received_s = None, 0, 0.0
        for piece in pieces:
            waited = time.monotonic() - begun
            if session.first_token_s is None:
                session.first_token_s = waited
            if isinstance(piece, Delta):
                session.received += 1
                session.received_s = waited - session.first_token_s
            yield piece

    def _restarted(self) -> bool:
        """Restart a runtime that has died; whether it was restarted."""
        session = self.session
        client = session.restart() if session.restart is not None else None
        if client is None:
            return False
        session.client = client
        self._say(
            "the runtime stopped and was restarted; the answer starts again from the beginning"
        )
        return True

    def _remark(self, done: Done, writer: Writer) -> None:
        """Print remarks on an answer: cut off, context nearly full, statistics."""
        session = self.session
        if session.verbose:
            times = describe_times(session)
            self._say("; ".join(filter(None, [times, describe(done, session.context)])))
        if not writer.text.strip():
            why = ONLY_THOUGHTS if writer.thought else "the answer is empty"
            self._say(f"{why}; `/retry` tries again")
        note = cut_note(done, session.options, session.context)
        used = 0 if done.usage is None else done.usage.total_tokens
        if note is not None:
            remedy = "`/set max_tokens` changes the limit" if "max_tokens" in note else _START_ANEW
            self._say(f"{note}; {remedy}")
        elif session.context and used >= _NEARLY_FULL * session.context and not session.warned:
            session.warned = True
            self._say(
                f"context nearly full, {describe_use(done, session.context)}: older messages are"
                f" not dropped, an answer that reaches the limit is cut off; {_START_ANEW}"
            )

    def _complain(self, error: ModelRunnerError) -> None:
        hint = error.hint
        if isinstance(error, ContextExceededError) and self.session.conversation.turns:
            hint = f"{_START_ANEW}, the up arrow brings your message back"
        self._say(f"error: {error.message}")
        if hint is not None:
            self._say(f"hint: {hint}")

    def _say(self, text: str) -> None:
        write(self.err, f"{text}\n")
