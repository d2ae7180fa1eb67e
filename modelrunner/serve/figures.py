"""What the gateway counts, as Prometheus reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]

_HELP = {
    "requests_total": ("counter", "Requests that were answered, by HTTP status."),
    "prompt_tokens_total": ("counter", "Tokens of prompts, as the runtime counts them."),
    "completion_tokens_total": ("counter", "Tokens of answers, as the runtime counts them."),
    "loads_total": ("counter", "How often a model was loaded."),
    "load_seconds_total": ("counter", "Seconds that loading took."),
    "unloads_total": ("counter", "How often a model was unloaded, by reason."),
    "runtime_deaths_total": ("counter", "How often a runtime ended that should not have."),
    "model_loaded": ("gauge", "Whether a model is in memory."),
    "model_memory_bytes": ("gauge", "Memory that a loaded model takes, as estimated."),
    "requests_in_progress": ("gauge", "Requests that are being answered."),
}


@dataclass(slots=True)
class Figures:
    """Counters, by name and labels."""

    counts: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Counts something that has happened."""
        counter = self.counts.setdefault(name, {})
        key = tuple(sorted(labels.items()))
        counter[key] = counter.get(key, 0) + amount

    def text(self, gauges: Mapping[str, Mapping[Labels, float]]) -> str:
        """Everything in Prometheus' text format, with what is measured just now."""
        lines: list[str] = []
        for name, values in ({**self.counts, **gauges}).items():
            kind, about = _HELP[name]
            lines += [f"# HELP modelrunner_{name} {about}", f"# TYPE modelrunner_{name} {kind}"]
            lines += [_line(name, labels, value) for labels, value in values.items()]
        return "\n".join([*lines, ""])


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    number = str(int(value)) if value == int(value) else f"{value:.6g}"
    return f"modelrunner_{name}{{{inside}}} {number}" if inside else f"modelrunner_{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def joined(pairs: Iterable[tuple[str, float]]) -> Mapping[Labels, float]:
    """Values by the model that they belong to."""
    return {(("model", name),): value for name, value in pairs}
