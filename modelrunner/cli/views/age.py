"""Ages of things in words."""

from datetime import UTC, datetime

_UNITS = (
    (365 * 24 * 3600, "year"),
    (30 * 24 * 3600, "month"),
    (7 * 24 * 3600, "week"),
    (24 * 3600, "day"),
    (3600, "hour"),
    (60, "minute"),
)


def age(created: str | None, now: datetime | None = None) -> str:
    """Return `2 months ago` for an RFC 3339 time; empty for no time."""
    if created is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(created)).total_seconds()
    for unit, name in _UNITS:
        count = int(seconds // unit)
        if count >= 1:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
