"""Moments and durations as Ollama writes them."""

from datetime import UTC, datetime

FOREVER = "9999-12-31T23:59:59Z"


def moment(seconds: float) -> str:
    """A moment since 1970, in seconds, in RFC 3339 with microseconds."""
    found = datetime.fromtimestamp(max(0.0, seconds), UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def nanoseconds(seconds: float) -> int:
    """A duration as whole nanoseconds."""
    # bounded: a number already
    return max(0, int(seconds * 1e9))
