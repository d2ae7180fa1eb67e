"""How long an answer took, and in which of its parts: as OpenTelemetry's conventions name them.

A stream shows when its first token came. Where a runtime reports how long it computed (`timings` of
llama.cpp), the rest of the time was spent waiting, of an answer in one piece too.
"""

from dataclasses import dataclass

from modelrunner.serve.observability.metrics import Metrics
from modelrunner.serve.observability.usage import Usage

_PROVIDER = "modelrunner"
_OPERATIONS = {
    "chat/completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "infill": "text_completion",
    "api/chat": "chat",
    "api/generate": "text_completion",
    "api/embed": "embeddings",
    "api/embeddings": "embeddings",
}
"""The operations of the conventions; what has none is called like its endpoint."""

_COUNTING = ("count_tokens", "input_tokens")
"""Ends of endpoints that only count."""

_FIRST_ERROR = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One answer; moments are of the monotonic clock.

    Attributes:
        begun: When the request came.
        passed_on: When it was sent to the runtime; None where it was not.
        first: When the first piece of the answer came; None without one.
        ended: When everything was over.
        streams: Whether it came in pieces.
        usage: What the answer says of its tokens.
    """

    begun: float
    passed_on: float | None
    first: float | None
    ended: float
    streams: bool
    usage: Usage

    @property
    def duration(self) -> float:
        """Seconds from beginning to end."""
        return self.ended - self.begun

    @property
    def queue(self) -> float | None:
        """Seconds until the runtime began with it; None where it was not sent there."""
        if self.passed_on is None:
            return None
        return self.passed_on - self.begun + self._waited_there(self.passed_on)

    def _waited_there(self, since: float) -> float:
        prompt = self.usage.prompt_s
        if self.first is None or prompt is None:
            return 0.0
        computed = prompt if self.streams else prompt + (self.usage.completion_s or 0.0)
        return max(0.0, self.first - since - computed)

    @property
    def first_token(self) -> float | None:
        """Seconds to the first token; None where nothing says it."""
        if self.streams:
            if self.first is None:
                return None
            # a stream may begin with how far the prompt is read
            computed = (self.queue or 0.0) + (self.usage.prompt_s or 0.0)
            return max(self.first - self.begun, computed)
        if self.queue is None or self.usage.prompt_s is None or not self.usage.completion:
            return None
        return self.queue + self.usage.prompt_s

    @property
    def per_token(self) -> float | None:
        """Seconds for each token after the first; None where nothing says it."""
        tokens = (self.usage.completion or 0) - 1
        if tokens < 1:
            return None
        if self.usage.completion_s is not None:
            return self.usage.completion_s / tokens
        if not self.streams or self.first is None:
            return None
        return (self.ended - self.first) / tokens


def only_counts(endpoint: str) -> bool:
    """Whether an endpoint only counts tokens, and computes nothing."""
    return endpoint.endswith(_COUNTING)


def observe(metrics: Metrics, endpoint: str, model: str, status: int, timing: Timing) -> None:
    """Count one answer."""
    labels = {
        "gen_ai_operation_name": _OPERATIONS.get(endpoint, endpoint.replace("/", "_")),
        "gen_ai_provider_name": _PROVIDER,
        "gen_ai_request_model": model,
    }
    failed = {"error_type": str(status)} if status >= _FIRST_ERROR else {}
    duration = "gen_ai_server_request_duration_seconds"
    metrics.observe(duration, timing.duration, **labels, **failed)
    if failed or only_counts(endpoint):
        return
    usage = timing.usage
    for name, value in (
        ("gen_ai_server_time_to_first_token_seconds", timing.first_token),
        ("gen_ai_server_time_per_output_token_seconds", timing.per_token),
    ):
        if value is not None:
            metrics.observe(name, value, **labels)
    for kind, tokens in (("input", usage.prompt), ("output", usage.completion)):
        if tokens is not None:
            metrics.observe("gen_ai_client_token_usage", tokens, gen_ai_token_type=kind, **labels)
    if timing.queue is not None:
        metrics.observe("queue_seconds", timing.queue, model=model, endpoint=endpoint)
    if usage.cached is not None:
        metrics.observe("cached_tokens", usage.cached, model=model)
