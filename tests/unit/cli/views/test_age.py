from datetime import UTC, datetime

import pytest

from modelrunner.cli.views.age import age

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("created", "text"),
    [
        (None, ""),
        ("2026-03-10T12:00:00Z", "just now"),
        ("2026-03-10T11:59:00Z", "1 minute ago"),
        ("2026-03-10T09:00:00Z", "3 hours ago"),
        ("2026-03-10T13:00:00+02:00", "1 hour ago"),
        ("2026-03-08T12:00:00Z", "2 days ago"),
        ("2026-02-24T12:00:00Z", "2 weeks ago"),
        ("2026-01-09T12:00:00Z", "2 months ago"),
        ("2024-03-10T12:00:00Z", "2 years ago"),
        ("2027-01-01T00:00:00Z", "just now"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(created: str | None, text: str) -> None:
    assert age(created, NOW) == text
