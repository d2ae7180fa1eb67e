from pathlib import Path

import pytest

from modelrunner.operations.rows import rows, utc
from modelrunner.store.store import Store


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        (None, None),
        ("2025-10-02T09:00:00Z", "2025-10-02T09:00:00Z"),
        ("2025-10-02T11:00:00+02:00", "2025-10-02T09:00:00Z"),
        ("2025-10-02T09:00:00.123456789Z", "2025-10-02T09:00:00Z"),
        ("2025-10-02T09:00:00", "2025-10-02T09:00:00Z"),
        ("0001-01-01T00:00:00+05:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_utc_to_the_second_or_not_told(time: str | None, shown: str | None) -> None:
    assert utc(time) == shown


def test_no_store_has_no_rows_and_is_not_made(tmp_path: Path) -> None:
    assert rows(Store(tmp_path / "store")) == ()
    assert list(tmp_path.iterdir()) == []
