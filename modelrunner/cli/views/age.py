"""Ages of things in words."""

import time
from typing import TYPE_CHECKING

from modelrunner.units import utc_seconds

if TYPE_CHECKING:
    from datetime import datetime

_UNITS = (
    (365 * 24 * 3600, "year"),
    (30 * 24 * 3600, "month"),
    (7 * 24 * 3600, "week"),
    (24 * 3600, "day"),
    (3600, "hour"),
    (60, "minute"),
)


def age(created: str | None, now: "datetime | None" = None) -> str:
    """Return `2 months ago` for an RFC 3339 time; empty for no time."""
    if created is None:
        return ""
    begun: float | None = utc_seconds(created)
    if begun is None:
        # few artifacts write another form
        from datetime import datetime as moment

        begun = moment.fromisoformat(created).timestamp()
    seconds = (time.time() if now is None else now.timestamp()) - begun
    for unit, name in _UNITS:
        count = int(seconds // unit)
        if count >= 1:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
