"""What a shared store with registries behind it counts, as Prometheus reads it."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock

from modelrunner.serve.observability.metrics import Labels, Metrics


class ShareMetrics:
    """The counts; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._metrics = Metrics()
        self._clients: Counter[str] = Counter()
        self._lock = Lock()
        for result in ("hit", "joined", "miss"):
            self.add("share_blobs_total", 0, result=result)
        for result in ("hit", "miss", "stale"):
            self.add("share_manifests_total", 0, result=result)
        for name in ("upstream_bytes", "served_bytes", "evictions", "evicted_bytes"):
            self.add(f"share_{name}_total", 0)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count something that has happened."""
        with self._lock:
            self._metrics.add(name, amount, **labels)

    def connected(self, client: str, change: int) -> None:
        """Count connections of a client."""
        with self._lock:
            self._clients[client] += change
            if self._clients[client] <= 0:
                del self._clients[client]

    def count(self, name: str, **labels: str) -> float:
        """What was counted by now."""
        with self._lock:
            return self._metrics.counts.get(name, {}).get(tuple(sorted(labels.items())), 0)

    def text(self, gauges: Mapping[str, float], **coming: float) -> str:
        """Everything in Prometheus' text format, with what is measured just now.

        Args:
            gauges: Values by name.
            coming: By counter, what is not counted yet.
        """
        with self._lock:
            totals = {name: self._metrics.counts[name][()] + more for name, more in coming.items()}
            now: dict[str, Mapping[Labels, float]] = {
                **{name: {(): value} for name, value in {**gauges, **totals}.items()},
                "share_clients": {(): len(self._clients)},
                "share_connections": {(): sum(self._clients.values())},
            }
            return self._metrics.text(now)
