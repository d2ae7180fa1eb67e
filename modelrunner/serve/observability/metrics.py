"""What the gateway counts, as Prometheus reads it."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

Labels = tuple[tuple[str, str], ...]

_HELP = {
    "requests_total": ("counter", "Answered requests, by HTTP status."),
    "prompt_tokens_total": ("counter", "Prompt tokens, as counted by the runtime."),
    "completion_tokens_total": ("counter", "Generated tokens, as counted by the runtime."),
    "loads_total": ("counter", "Number of times a model was loaded."),
    "load_failures_total": ("counter", "Number of times loading a model failed."),
    "load_seconds_total": ("counter", "Seconds spent loading a model."),
    "unloads_total": ("counter", "Number of times a model was unloaded, by reason."),
    "runtime_deaths_total": ("counter", "Number of times a runtime exited unexpectedly."),
    "model_loaded": ("gauge", "Whether a model is in memory."),
    "model_memory_bytes": ("gauge", "Estimated memory of a loaded model."),
    "requests_in_progress": ("gauge", "Requests in progress."),
    "request_body_bytes": ("gauge", "Bytes of the bodies of all requests in progress."),
    "request_duration_seconds": ("histogram", "Seconds from a request to the end of its answer."),
    "time_to_first_token_seconds": (
        "histogram",
        "Seconds from a request to the first piece of a streamed answer, loading included.",
    ),
    "queue_seconds": (
        "histogram",
        "Seconds that a request waited for its model to load and for its turn in the runtime.",
    ),
    "cached_tokens": ("histogram", "Prompt tokens of a request that came from the cache."),
    "build_info": ("gauge", "The version of modelrunner; always 1."),
    "share_blobs_total": (
        "counter",
        "Requests for blobs: cached, joined to a download, or downloaded.",
    ),
    "share_manifests_total": (
        "counter",
        "Requests for manifests: cached, downloaded, or served while the registry failed.",
    ),
    "share_upstream_bytes_total": ("counter", "Bytes of blobs that registries have delivered."),
    "share_served_bytes_total": ("counter", "Bytes of blobs that were sent to clients."),
    "share_evictions_total": ("counter", "Blobs that were removed to stay within the size limit."),
    "share_evicted_bytes_total": ("counter", "Bytes of those blobs."),
    "share_clients": ("gauge", "Addresses with an open connection."),
    "share_connections": ("gauge", "Open connections."),
    "share_cache_bytes": ("gauge", "Bytes in the cache, with what is on its way."),
    "share_cache_limit_bytes": ("gauge", "The size limit of the cache."),
    "share_downloads": ("gauge", "Blobs on their way from registries."),
    "gen_ai_server_request_duration_seconds": (
        "histogram",
        "Seconds from a request to the end of its answer, errors included.",
    ),
    "gen_ai_server_time_to_first_token_seconds": (
        "histogram",
        "Seconds from a request to the first token of its answer, loading included.",
    ),
    "gen_ai_server_time_per_output_token_seconds": (
        "histogram",
        "Seconds for each generated token after the first.",
    ),
    "gen_ai_client_token_usage": ("histogram", "Tokens of a request, by their type."),
}
"""Metrics by name. Those of OpenTelemetry's conventions for generative AI keep their names and
buckets there, with the unit at the end as Prometheus has it; all others begin with `modelrunner_`.
"""

_GENERAL = "gen_ai_"
_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0)
"""Upper bounds of a histogram's buckets, in seconds."""

_TOKENS = tuple(4.0**power for power in range(14))
_OWN_BOUNDS: dict[str, tuple[float, ...]] = {
    "queue_seconds": (0.001, 0.005, 0.01, 0.025, *_BOUNDS),
    "cached_tokens": _TOKENS,
    "gen_ai_server_request_duration_seconds": tuple(0.01 * 2**power for power in range(14)),
    "gen_ai_server_time_to_first_token_seconds": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
        *(1.0, 2.5, 5.0, 7.5, 10.0),
    ),
    "gen_ai_server_time_per_output_token_seconds": (
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    ),
    "gen_ai_client_token_usage": _TOKENS,
}


@dataclass(slots=True)
class Histogram:
    """How often values were at most so large."""

    bounds: tuple[float, ...]
    buckets: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.buckets = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """The lines of one histogram."""
        counted = list(accumulate(self.buckets))
        for bound, count in zip([*map(_bound, self.bounds), "+Inf"], counted, strict=True):
            yield _line(f"{name}_bucket", (*labels, ("le", bound)), count)
        yield _line(f"{name}_sum", labels, self.total)
        yield _line(f"{name}_count", labels, counted[-1])


@dataclass(slots=True)
class Metrics:
    """Counters and histograms, by name and labels."""

    counts: dict[str, dict[Labels, float]] = field(default_factory=dict)
    histograms: dict[str, dict[Labels, Histogram]] = field(default_factory=dict)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Counts something that has happened."""
        counter = self.counts.setdefault(name, {})
        key = tuple(sorted(labels.items()))
        counter[key] = counter.get(key, 0) + amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Count a value in a histogram."""
        key = tuple(sorted(labels.items()))
        found = self.histograms.setdefault(name, {})
        if key not in found:
            found[key] = Histogram(_OWN_BOUNDS.get(name, _BOUNDS))
        found[key].add(value)

    def text(self, gauges: Mapping[str, Mapping[Labels, float]]) -> str:
        """Everything in Prometheus' text format, with what is measured just now."""
        lines: list[str] = []
        for name, values in ({**self.counts, **gauges}).items():
            lines += _heading(name)
            lines += [_line(name, labels, value) for labels, value in values.items()]
        for name, histograms in self.histograms.items():
            lines += _heading(name)
            for labels, histogram in histograms.items():
                lines += histogram.lines(name, labels)
        return "\n".join([*lines, ""])


def _heading(name: str) -> list[str]:
    kind, about = _HELP[name]
    full = _full(name)
    return [f"# HELP {full} {about}", f"# TYPE {full} {kind}"]


def _full(name: str) -> str:
    return name if name.startswith(_GENERAL) else f"modelrunner_{name}"


def _bound(value: float) -> str:
    # powers of two and hundredths, without what floating point adds to them
    return _number(round(value, 6))


def _number(value: float) -> str:
    # all its digits: a rate is a small difference of large sums
    # bounded: a number already
    return str(int(value)) if value == int(value) else repr(value)


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    labelled = f"{{{inside}}}" if inside else ""
    return f"{_full(name)}{labelled} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def joined(pairs: Iterable[tuple[str, float]]) -> Mapping[Labels, float]:
    """Values by the model that they belong to."""
    return {(("model", name),): value for name, value in pairs}
