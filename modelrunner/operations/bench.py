"""How fast a model reads and writes, measured through the server that would serve it.

A round sends its requests at the same moment and takes the time of every piece:

    |---- prompts are read ----|-------- answers are written --------|
    start          last request's first token          last request's end

The prompts of one length are made of the same words, as many as the model's tokenizer needs for
it, in an order that no earlier request had, so that nothing is read out of a cache. What is
reported is the median of the rounds.
"""

import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from modelrunner.chat.client import error_text
from modelrunner.chat.sse import DONE, events
from modelrunner.errors import RuntimeFailedError, UsageError
from modelrunner.net import http_connection
from modelrunner.runtime.base import Server
from modelrunner.wire import parse_json

if TYPE_CHECKING:
    from http.client import HTTPResponse

_WORDS = (
    "time year people way day man thing woman life child world school state family student group"
    " country problem hand part place case week company system program question work night point"
    " home water room mother area money story fact month lot right study book eye job word"
)
_PATIENCE_S = 600.0
_LARGEST = 1024 * 1024
_CHUNK = 65536
_OK = 200
_ERROR_LIMIT = 4096
_FIRST_WORDS = 16
_MOST_COUNTS = 5
_NEAR = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What is measured.

    Attributes:
        prompts: Lengths of prompts, in tokens.
        parallels: Numbers of requests at the same time.
        generate: Tokens of an answer.
        rounds: How often each is measured, after once to warm up.
    """

    prompts: Sequence[int]
    parallels: Sequence[int]
    generate: int
    rounds: int

    @property
    def context(self) -> int:
        """Tokens that one request needs at most; the length of a prompt is met roughly."""
        return max(self.prompts) * 5 // 4 + self.generate + 64


@dataclass(frozen=True, slots=True)
class Speed:
    """The median of the rounds for one length of prompt and number of requests.

    Attributes:
        prompt_tokens: Of one request, as the server counts them.
        parallel: Requests at the same time.
        generated_tokens: Of one answer.
        prompt_tokens_per_s: Read, of all requests together.
        generated_tokens_per_s: Written, of all requests together.
        first_token_s: From the request to the first piece of its answer.
    """

    prompt_tokens: int
    parallel: int
    generated_tokens: int
    prompt_tokens_per_s: float
    generated_tokens_per_s: float
    first_token_s: float

    def to_dict(self) -> dict[str, object]:
        """The same as JSON has it."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class _Answer:
    """When one request got what, in seconds of the monotonic clock."""

    begun: float
    pieces: Sequence[float]
    prompt: int
    generated: int


def _nothing_skipped(_length: int, _context: int) -> None:
    pass


def bench(
    server: Server,
    model: str,
    request: BenchRequest,
    on_speed: Callable[[Speed], None],
    skipped: Callable[[int, int], None] = _nothing_skipped,
    context: int | None = None,
) -> list[Speed]:
    """Measures a server.

    Args:
        server: It is ready.
        model: What it calls the model.
        request: What is measured.
        on_speed: Called with each result at once: what is measured is not lost by an error.
        skipped: Called with each length of prompt that does not fit the context.
        context: Tokens that one request may have; None where that is not known.

    Raises:
        RuntimeFailedError: It refuses, or breaks off.
        UsageError: No length fits.
    """
    client, seeds = _Client(server, model), count()
    found = []
    for length in request.prompts:
        if context is not None and length + request.generate > context:
            skipped(length, context)
            continue
        words, tokens = client.words_for(length, seeds)
        if context is not None and tokens + request.generate > context:
            skipped(length, context)
            continue
        for parallel in request.parallels:
            rounds = [
                client.round(parallel, words, tokens, request.generate, seeds)
                for _ in range(request.rounds + 1)
            ]
            speed = _median([_speed(answers) for answers in rounds[1:]])
            on_speed(speed)
            found.append(speed)
    if not found:
        raise UsageError(
            f"no prompt fits into the context of {context} tokens with an answer of "
            f"{request.generate}",
            hint="use smaller numbers for --prompt or --generate",
        )
    return found


@dataclass(frozen=True, slots=True)
class _Client:
    server: Server
    model: str

    def words_for(self, tokens: int, seeds: Iterator[int]) -> tuple[int, int]:
        """How many words make about so many tokens, and how many tokens those are.

        It is found by asking again: how many tokens a word has is for the model's tokenizer, and a
        prompt has some tokens of its own. Of two that are as near the shorter one is taken.
        """
        words = min(tokens, _FIRST_WORDS)
        tried: dict[int, int] = {}
        for _ in range(_MOST_COUNTS):
            tried[words] = self._tokens_of(_prompt(words, next(seeds)))
            if abs(tried[words] - tokens) <= _NEAR * tokens:
                break
            words = _next_try(tried, tokens)
            if words in tried:
                break
        best = min(tried, key=lambda each: (abs(tried[each] - tokens), tried[each]))
        return best, tried[best]

    def round(
        self, parallel: int, words: int, tokens: int, generate: int, seeds: Iterator[int]
    ) -> Sequence[_Answer]:
        """Sends requests at the same moment."""
        prompts = [_prompt(words, next(seeds)) for _ in range(parallel)]
        with ThreadPoolExecutor(parallel) as pool:
            return list(pool.map(lambda prompt: self._answer(prompt, tokens, generate), prompts))

    def _tokens_of(self, prompt: str) -> int:
        with _asked(self.server, self._body(prompt, 1)) as reply:
            counted = _object(_object(parse_json(reply.read(_LARGEST))).get("usage")).get(
                "prompt_tokens"
            )
        if not isinstance(counted, int):
            raise RuntimeFailedError(f"{self.server.base_url} does not report token counts")
        return counted

    def _answer(self, prompt: str, tokens: int, generate: int) -> _Answer:
        begun = time.monotonic()
        pieces, generated = list[float](), 0
        with _asked(self.server, self._body(prompt, generate, stream=True)) as reply:
            for event in events(iter(lambda: reply.read1(_CHUNK), b"")):
                chunk = _object(None if event.data == DONE else parse_json(event.data))
                if _text(chunk):
                    pieces.append(time.monotonic())
                usage = _object(chunk.get("usage"))
                tokens = usage.get("prompt_tokens", tokens)
                generated = usage.get("completion_tokens", generated)
        if not pieces:
            raise RuntimeFailedError(f"{self.server.base_url} returned an empty answer")
        return _Answer(begun, pieces, tokens, generated or len(pieces))

    def _body(self, prompt: str, generate: int, *, stream: bool = False) -> Mapping[str, object]:
        streaming = {"stream": True, "stream_options": {"include_usage": True}}
        return {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": generate,
            "temperature": 0,
            # llama.cpp's own: neither stop early nor read out of a cache; others pass over them
            "ignore_eos": True,
            "cache_prompt": False,
            **(streaming if stream else {}),
        }


@contextmanager
def _asked(server: Server, body: Mapping[str, object]) -> "Iterator[HTTPResponse]":
    """The block in which a completion is answered; both ends close with it.

    Raises:
        RuntimeFailedError: The server refuses, or breaks off, or talks of something else.
    """
    from http.client import HTTPException
    from urllib.parse import urlsplit

    path = urlsplit(server.base_url).path
    headers = {"Content-Type": "application/json"}
    if server.api_key:
        headers["Authorization"] = f"Bearer {server.api_key}"
    with closing(http_connection(server.base_url, _PATIENCE_S)) as connection:
        try:
            connection.request("POST", f"{path}/completions", json.dumps(body), headers)
            reply = connection.getresponse()
            if reply.status == _OK:
                yield reply
                return
            said = error_text(reply.read(_ERROR_LIMIT))
        except (OSError, HTTPException) as exc:
            raise RuntimeFailedError(f"no response from {server.base_url}") from exc
        except (ValueError, OverflowError) as exc:
            raise RuntimeFailedError(f"unexpected answer from {server.base_url}") from exc
    reason = f": {said}" if said else ""
    raise RuntimeFailedError(f"{server.base_url} returned HTTP {reply.status}{reason}")


def _next_try(tried: Mapping[int, int], tokens: int) -> int:
    """A number of words that is to make so many tokens, by what others made."""
    below = max((each for each in tried if tried[each] <= tokens), default=None)
    above = min((each for each in tried if tried[each] > tokens), default=None)
    if below is None or above is None or tried[above] == tried[below]:
        latest = list(tried)[-1]
        return max(1, round(latest * tokens / max(1, tried[latest])))
    share = (tokens - tried[below]) / (tried[above] - tried[below])
    return below + round(share * (above - below))


def _prompt(words: int, seed: int) -> str:
    chosen = random.Random(words).choices(_WORDS.split(), k=max(1, words - 1))  # noqa: S311
    random.Random(seed).shuffle(chosen)  # noqa: S311 - no secret
    # the first word differs at once: nothing of it is in a cache
    return " ".join([str(seed), *chosen])


def _object(value: object) -> Mapping[str, Any]:
    """The value where it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}


def _text(chunk: Mapping[str, Any]) -> bool:
    choices = chunk.get("choices")
    return bool(choices and isinstance(choices[0], dict) and choices[0].get("text"))


def _speed(answers: Sequence[_Answer]) -> Speed:
    begun = min(answer.begun for answer in answers)
    read = max(answer.pieces[0] for answer in answers)
    ended = max(answer.pieces[-1] for answer in answers)
    # what was written while others were still being read says nothing of writing
    written = sum(
        sum(moment > read for moment in answer.pieces) * answer.generated / len(answer.pieces)
        for answer in answers
    )
    return Speed(
        round(statistics.median(answer.prompt for answer in answers)),
        len(answers),
        round(statistics.median(answer.generated for answer in answers)),
        sum(answer.prompt for answer in answers) / (read - begun),
        written / (ended - read) if ended > read else 0.0,
        statistics.median(answer.pieces[0] - answer.begun for answer in answers),
    )


def _median(speeds: Sequence[Speed]) -> Speed:
    return Speed(
        round(statistics.median(speed.prompt_tokens for speed in speeds)),
        speeds[0].parallel,
        round(statistics.median(speed.generated_tokens for speed in speeds)),
        statistics.median(speed.prompt_tokens_per_s for speed in speeds),
        statistics.median(speed.generated_tokens_per_s for speed in speeds),
        statistics.median(speed.first_token_s for speed in speeds),
    )
