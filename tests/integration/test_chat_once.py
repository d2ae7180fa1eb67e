"""One question, one answer, as a script meets it."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from modelrunner.chat.answer import Done, Timings, Usage
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.thoughts import Opening
from modelrunner.cli.chat.answer import Display, answer_once
from modelrunner.errors import AnswerCutError, RuntimeFailedError
from tests.support.openai_server import (
    OpenAIServer,
    Reply,
    breaks_off,
    ending,
    event,
    says,
    waits,
)

END = Done("stop", Usage(20, 10), Timings(20, 100.0, 10, 200.0))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def asking(prompt: str, system: str | None = None) -> Conversation:
    conversation = Conversation(system)
    conversation.add_user(prompt)
    return conversation


def ask(
    server: OpenAIServer, err: io.StringIO | None = None, **fields: Any
) -> tuple[Done, str, str]:
    out, err = io.StringIO(), err or io.StringIO()
    client = ChatClient(server.url, None, "m")
    done = answer_once(client, asking("hi"), context=512, out=out, err=err, **fields)
    return done, out.getvalue(), err.getvalue()


def test_stdout_has_the_answer_a_line_feed_and_nothing_else(server: OpenAIServer) -> None:
    server.next(says("Hel", "lo\x1b[", "31m!", thinks=("Hm",)))
    assert ask(server) == (END, "Hello!\n", "")


def test_a_prompt_is_sent_as_it_is_after_the_system_prompt(server: OpenAIServer) -> None:
    client = ChatClient(server.url, None, "m")
    prompt = "  /bye @/etc/hostname\n"
    answer_once(
        client,
        asking(prompt, "be brief"),
        context=512,
        out=io.StringIO(),
        err=io.StringIO(),
    )
    assert server.requests[0].body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": prompt},
    ]


def test_a_person_sees_the_thoughts(server: OpenAIServer) -> None:
    server.next(says("Hello", thinks=("Hm",)))
    assert ask(server, Terminal()) == (END, "Hello\n", "thinking\n| Hm\n\n")


@pytest.mark.parametrize(
    ("reply", "thoughts"),
    [
        (says("Hello", thinks=("H", "m")), ["Hm"]),
        (says("<think>H", "m</think>Hello"), ["Hm"]),
        (says("Hello"), []),
        (says("Hm</think>", "Hello"), ["Hm"]),
    ],
)
def test_the_thoughts_are_for_whoever_asks_for_them(
    server: OpenAIServer, reply: Reply, thoughts: list[str]
) -> None:
    server.next(reply)
    found: list[str] = []
    _done, out, _err = ask(server, display=Display(on_reasoning=found.append))
    assert (out, [each.strip() for each in found]) == ("Hello\n", thoughts)


@pytest.mark.parametrize(
    ("limit", "note"),
    [
        (None, "the answer was cut off: the context of 512 tokens is full\n"),
        (10, "the answer was cut off: it reached `max_tokens`, 10 tokens\n"),
        (11, "the answer was cut off: the context of 512 tokens is full\n"),
    ],
)
def test_an_answer_is_never_cut_in_silence(
    server: OpenAIServer, limit: int | None, note: str
) -> None:
    server.next(says("and then", finish="length", usage=(502, 10)))
    _, out, err = ask(server, options=SamplingOptions(max_tokens=limit))
    assert (out, err) == ("and then\n", note)


def test_an_answer_that_breaks_off_is_an_error_after_a_whole_line(server: OpenAIServer) -> None:
    server.next(breaks_off("I was"))
    out = io.StringIO()
    with pytest.raises(RuntimeFailedError):
        answer_once(
            ChatClient(server.url, None, "m"),
            asking("hi"),
            context=512,
            out=out,
            err=io.StringIO(),
        )
    assert out.getvalue() == "I was\n"


PROGRAM = """
import sys
from modelrunner.chat.client import ChatClient
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.thoughts import Opening
from modelrunner.cli.chat.answer import Display, answer_once
conversation = Conversation()
conversation.add_user("hi")
client = ChatClient(sys.argv[1], None, "m")
done = answer_once(
    client,
    conversation,
    context=None,
    out=sys.stdout,
    err=sys.stderr,
    display=Display(opening=Opening[sys.argv[2]]),
)
print(done.finish_reason, file=sys.stderr)
"""


def a_script(server: OpenAIServer, opening: Opening = Opening.NEVER) -> subprocess.Popen[bytes]:
    # buffered as it is for everyone: what is left in a buffer may fail when the interpreter ends
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url, opening.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
    )


def test_a_reader_that_leaves_ends_the_answer_quietly(server: OpenAIServer) -> None:
    server.next(says(*("line\n" for _ in range(500)), pause=0.005))
    with a_script(server) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"line\n"
        child.stdout.close()
        assert child.stderr.read() == b"closed\n"
        assert child.wait(60) == 0
    assert server.gone.wait(60)


def test_ctrl_c_stops_the_server_and_ends_the_line(server: OpenAIServer) -> None:
    server.next(waits("Once upon"))
    with a_script(server) as child:
        assert child.stdout is not None
        assert child.stdout.read(9) == b"Once upon"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == b"\n"
        assert child.wait(60) == -signal.SIGINT
    assert server.gone.wait(60)


def test_a_pipe_never_gets_thoughts_that_nothing_opened(server: OpenAIServer) -> None:
    server.next(says("Hm.", "\n</think>\n\n", "Hel", "lo"))
    with a_script(server, Opening.UNKNOWN) as child:
        assert child.communicate(timeout=30) == (b"Hello\n", b"stop\n")


def test_content_in_parts_is_text_and_thoughts(server: OpenAIServer) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Hel"},
        "lo",
        {"type": "image_url", "image_url": {"url": "x"}},
    ]
    server.next(
        Reply(
            (
                event({"choices": [{"delta": {"content": parts}}]}),
                event({"choices": [{"delta": {"content": [], "thinking": "So."}}]}),
                event({"choices": [{"delta": {"reasoning_details": [{"text": "Yes."}]}}]}),
                *ending(),
            )
        )
    )
    _, out, err = ask(server, Terminal())
    assert (out, err) == ("Hello[image_url]\n", "thinking\n| Hm.\n\n\nthinking\n| So.Yes.\n\n")


@pytest.mark.parametrize(
    ("reply", "limit", "hint"),
    [
        (says("<think>Hm", finish="length"), 5, "raise --max-tokens (now 5)"),
        (says(thinks=("Hm",), finish="length"), None, "use a larger --context"),
        (says("<think>Hm"), None, "ask again, with another --seed or --temperature"),
        (says("<think>Hm</think>\n"), None, "ask again, with another --seed or --temperature"),
    ],
)
def test_thoughts_without_an_answer_are_an_error(
    server: OpenAIServer, reply: Reply, limit: int | None, hint: str
) -> None:
    server.next(reply)
    with pytest.raises(AnswerCutError, match="no answer: the model was still thinking") as caught:
        ask(server, options=SamplingOptions(max_tokens=limit))
    assert caught.value.hint == hint


def test_an_empty_answer_is_not_silent(server: OpenAIServer) -> None:
    server.next(says())
    assert ask(server) == (END, "", "the answer is empty\n")


@pytest.mark.parametrize(
    ("context", "limit", "sent"),
    [(None, None, 4096), (32_768, None, 4096), (4096, None, None), (32_768, 9000, 9000)],
)
def test_an_answer_has_a_limit_of_tokens(
    server: OpenAIServer, context: int | None, limit: int | None, sent: int | None
) -> None:
    server.next(says("and then", finish="length", usage=(20, sent or 1)))
    err = io.StringIO()
    client = ChatClient(server.url, None, "m")
    options = SamplingOptions(max_tokens=limit)
    answer_once(client, asking("hi"), context=context, out=io.StringIO(), err=err, options=options)
    assert server.requests[0].body.get("max_tokens") == sent
    said = {
        None: "the answer was cut off: the context of 4096 tokens is full\n",
        4096: "the answer was cut off: it reached `max_tokens`, 4096 tokens; --max-tokens N"
        " allows more\n",
        9000: "the answer was cut off: it reached `max_tokens`, 9000 tokens\n",
    }
    assert err.getvalue() == said[sent]


def test_an_answer_that_repeats_itself_is_stopped(server: OpenAIServer) -> None:
    server.next(says(*["the same words again. "] * 1000))
    done, out, err = ask(server)
    assert (done.finish_reason, err) == (
        "repetition",
        "the answer was stopped: it repeats itself\n",
    )
    assert 2_000 < len(out) < 5_000


def test_a_text_is_continued_without_a_template(server: OpenAIServer) -> None:
    server.next(says("a mess</s>age"))
    client = ChatClient(server.url, None, "m", None, True, ("<|im_end|>", "</s>"))
    out, err = io.StringIO(), io.StringIO()
    form = {"type": "json_object"}
    options = SamplingOptions(stop=("END",), response_format=form)
    answer_once(client, asking("Once"), context=512, out=out, err=err, options=options)
    request = server.requests[0]
    assert request.path == "/v1/completions"
    assert request.body == {
        "model": "m",
        "prompt": "Once",
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop": ["END", "<|im_end|>"],
        "response_format": form,
        "json_schema": {"type": "object"},
    }
    assert out.getvalue() == "a mess\n"
