import io
import json
import re
from collections.abc import Sequence

import pytest

from modelrunner.cli.progress.bar import bar
from modelrunner.cli.progress.json_lines import JsonListener
from modelrunner.cli.progress.plain import PlainListener
from modelrunner.cli.progress.select import progress
from modelrunner.cli.progress.tally import Tally
from modelrunner.cli.terminal.console import Console, ProgressMode
from modelrunner.cli.terminal.status_line import StatusLine
from modelrunner.events import (
    Advanced,
    Event,
    Finished,
    Planned,
    Retrying,
    Skipped,
    Started,
    Verified,
    Waiting,
)
from tests.support.screen import Screen

MIB = 1024 * 1024
BLOB, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PULL: Sequence[Event] = (
    Planned("ai/x:1", 100 * MIB, 10 * MIB, 20 * MIB),
    Skipped(OTHER, 10 * MIB, "config"),
    Started(BLOB, 90 * MIB, 20 * MIB, "model.gguf"),
    Advanced(BLOB, 90 * MIB, 50 * MIB),
    Advanced(BLOB, 90 * MIB, 90 * MIB),
    Verified(BLOB, 90 * MIB),
    Finished("ai/x:1", BLOB, 100 * MIB),
)


class Clock:
    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Narrow(Screen):
    """A terminal of so many columns."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns


@pytest.fixture(autouse=True)
def widths(monkeypatch: pytest.MonkeyPatch) -> None:
    def columns(line: StatusLine) -> int:
        return getattr(line.stream, "columns", 80)

    monkeypatch.setattr(StatusLine, "_columns", columns)


def console(**fields: object) -> Console:
    return Console(io.StringIO(), io.StringIO(), **fields)  # type: ignore[arg-type]


def lines(found: Console) -> list[str]:
    return found.err.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_tally_counts_what_is_here_from_every_source() -> None:
    tally = Tally(Clock(1.0))
    shares = []
    for event in PULL:
        tally.on_event(event)
        shares.append(round(tally.percent))
    # what an earlier try left counts as soon as its blob begins
    assert shares == [10, 10, 30, 60, 100, 100, 100]


def test_speed_is_of_the_last_seconds_and_what_is_resumed_is_not_fast() -> None:
    clock = Clock(0.0)
    tally = Tally(clock)
    for event in PULL[:3]:
        tally.on_event(event)
    for second in range(1, 6):
        clock.now = float(second)
        tally.on_event(Advanced(BLOB, 90 * MIB, (20 + second) * MIB))
    assert tally.speed == pytest.approx(1 * MIB, rel=0.01)
    assert tally.remaining_s == pytest.approx(65, rel=0.01)


def test_speed_is_up_to_now_and_not_up_to_the_last_sample() -> None:
    clock = Clock(0.0)
    tally = Tally(clock)
    tally.on_event(Planned("ai/x:1", 100 * MIB, 0, 0))
    tally.on_event(Started(BLOB, 90 * MIB, 0, "model.gguf"))
    clock.now = 0.05
    tally.on_event(Advanced(BLOB, 90 * MIB, 1 * MIB))
    assert (tally.speed, tally.remaining_s) == (0.0, None)
    clock.now = 0.2
    tally.on_event(Advanced(BLOB, 90 * MIB, 1024))
    clock.now = 0.25
    tally.on_event(Advanced(BLOB, 90 * MIB, 10 * MIB))
    assert tally.speed == pytest.approx(40 * MIB)
    clock.now = 2.0
    assert tally.speed == pytest.approx(5 * MIB)


def test_nothing_to_move_is_all_of_it() -> None:
    tally = Tally(Clock(1.0))
    tally.on_event(Planned("ai/x:1", 0, 0, 0))
    assert (tally.percent, tally.remaining_s) == (100.0, None)


def test_a_log_has_few_lines() -> None:
    found = console()
    # every look at the clock takes four seconds
    listener = PlainListener(found, clock=Clock(4.0))
    for event in PULL:
        listener(event)
    said = lines(found)
    assert said[0] == (
        "pulling ai/x:1: 100.00 MiB, 10.00 MiB already present,"
        " resuming, 20.00 MiB kept from an earlier attempt"
    )
    assert [line[:5] for line in said[1:]] == ["100 %"]


def test_a_fast_pull_says_one_line() -> None:
    found = console()
    listener = PlainListener(found, clock=Clock(0.001))
    for event in (Planned("ai/x:1", 90 * MIB, 0, 0), *PULL[2:]):
        listener(event)
    assert lines(found) == ["pulling ai/x:1: 90.00 MiB"]


def test_a_retry_is_told_with_its_reason_made_safe() -> None:
    found = console()
    listener = PlainListener(found, verb="pushing")
    listener(Retrying(BLOB, "host\x1b[31m says 503", 1, 1.5))
    listener(Retrying(BLOB, "other bytes", 1, 0))
    assert lines(found) == [
        "host says 503; retrying in 1.5 s",
        "other bytes; restarting from the beginning",
    ]


def test_json_is_an_object_a_line_with_keys_that_stay() -> None:
    found = console()
    listener = JsonListener(found)
    for event in (*PULL, Retrying(BLOB, "503", 2, 0.25)):
        listener(event)
    events = [json.loads(line) for line in lines(found)]
    assert [event["event"] for event in events] == [
        *("planned", "skipped", "started", "advanced", "verified", "finished", "retrying")
    ]
    assert events[2] == {
        "event": "started",
        "digest": BLOB,
        "size_bytes": 90 * MIB,
        "done_bytes": 20 * MIB,
        "title": "model.gguf",
    }
    assert all({"digest", "size_bytes", "done_bytes"} <= set(event) for event in events)


def test_json_advances_at_most_ten_times_a_second() -> None:
    found = console()
    listener = JsonListener(found, clock=Clock(0.01))
    for done in range(500):
        listener(Advanced(BLOB, 500, done))
    # each event that is written looks at the clock twice
    assert len(lines(found)) <= 51


@pytest.mark.parametrize(
    ("fields", "silent"),
    [
        ({}, False),
        ({"quiet": True}, True),
        ({"json": True}, True),
        ({"progress": ProgressMode.NONE}, True),
        ({"quiet": True, "progress": ProgressMode.PLAIN}, False),
        ({"json": True, "progress": ProgressMode.JSON}, False),
        ({"progress": ProgressMode.BAR}, False),
    ],
)
def test_who_wants_silence_gets_it(fields: dict[str, object], silent: bool) -> None:
    found = console(**fields)
    with progress(found) as listener:
        listener(PULL[0])
    assert (lines(found) == []) is silent
    assert "\x1b" not in "".join(lines(found))


def test_a_bar_shows_what_is_foreign_as_it_is_and_safe() -> None:
    found = console(terminal=True, bars=True)
    with bar(found) as listener:
        for event in (
            Planned("[red]x[/red]\x1b[5my", 100 * MIB, 10 * MIB, 20 * MIB),
            *PULL[1:],
        ):
            listener(event)
    drawn = found.err.getvalue()  # type: ignore[attr-defined]
    assert "pulling [red]x[/red]y: 100.00 MiB" in drawn
    assert "━" * 40 + "  100.0/100.0 MiB" in drawn
    # no colors were asked for
    assert not re.search(r"\x1b\[[0-9;]*m", drawn)


def test_a_bar_is_gone_in_the_end_and_what_is_said_stays_above_it() -> None:
    screen = Screen()
    found = Console(io.StringIO(), screen, terminal=True, bars=True)
    with bar(found) as listener:
        for event in (*PULL[:4], Retrying(BLOB, "503", 1, 0.5)):
            listener(event)
        assert screen.rows()[-2:] == ["503; retrying in 0.5 s", ""]
        listener(PULL[-1])
        assert screen.rows()[-1].startswith("pulling ai/x:1  ━━━━")
        # as a terminal does, where the cursor is
        screen.write("^C")
    assert screen.rows() == [
        (
            "pulling ai/x:1: 100.00 MiB, 10.00 MiB already present,"
            " resuming, 20.00 MiB kept from an earlier attempt"
        ),
        "503; retrying in 0.5 s",
        "",
    ]


def test_a_bar_over_several_models_says_how_many_are_done() -> None:
    screen = Screen()
    found = Console(io.StringIO(), screen, terminal=True, bars=True)
    with bar(found, models=3) as listener:
        listener(Planned("ai/x:1", 90 * MIB, 0, 0))
        listener(Planned("ai/y:1", 10 * MIB, 10 * MIB, 0))
        assert screen.rows()[-1].startswith("pulling: 0 of 3 models done  ━━━─")
        listener(Finished("ai/y:1", OTHER, 10 * MIB))
        assert screen.rows()[-1].startswith("pulling: 1 of 3 models done  ━━━─")
        assert screen.rows()[-1].endswith("10.0/100.0 MiB")


def test_what_was_here_after_all_makes_the_bar_full() -> None:
    screen = Screen()
    found = Console(io.StringIO(), screen, terminal=True, bars=True)
    with bar(found, verb="loading") as listener:
        for event in (
            Planned("ai/x:1", 100 * MIB, 0, 0),
            Skipped(BLOB, 100 * MIB, "model.gguf"),
            Finished("ai/x:1", BLOB, 100 * MIB),
        ):
            listener(event)
        assert screen.rows()[-1].endswith("━━  100.0/100.0 MiB")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_bar_never_fills_its_row(width: int) -> None:
    screen = Narrow(width)
    found = Console(io.StringIO(), screen, terminal=True, bars=True)
    with bar(found, models=12) as listener:
        for event in PULL[:5]:
            listener(event)
            assert len(screen.rows()[-1]) <= width - 4


def test_a_bar_is_found_again_where_the_window_became_narrower() -> None:
    screen = Narrow(80)
    line = Console(io.StringIO(), screen, terminal=True).line
    line.show("x" * 76)
    screen.columns = 30
    screen.truncate(0)
    line.show("y")
    # 76 characters are three rows of 30
    assert screen.getvalue().lstrip("\0") == "\r\x1b[2A\x1b[Jy"


GIB = 1024 * MIB


@pytest.mark.parametrize(
    "rate", [500_000, 20_000_000, 1_500_000_000], ids=["slow", "usual", "fast"]
)
@pytest.mark.parametrize("shards", [1, 40])
def test_twenty_gigabytes_are_less_than_sixty_lines_however_bad_the_line_is(
    rate: int, shards: int
) -> None:
    found, clock = console(), Clock(0.0)
    listener = PlainListener(found, clock=clock)
    size = 20 * GIB // shards
    listener(Planned("ai/x:20G", 20 * GIB, 0, 0))
    for shard in range(shards):
        digest = f"sha256:{shard:064x}"
        listener(Started(digest, size, 0, f"model-{shard}.gguf"))
        steps = max(1, min(400, int(size / rate)))
        for step in range(1, steps + 1):
            clock.now += size / rate / steps
            listener(Advanced(digest, size, size * step // steps))
            listener(Retrying(digest, "the registry says 503", 1, 0.5))
        listener(Verified(digest, size))
    listener(Finished("ai/x:20G", BLOB, 20 * GIB))
    assert 1 <= len(lines(found)) < 60


def test_many_files_that_are_here_are_not_all_named() -> None:
    found = console()
    listener = PlainListener(found)
    listener(Planned("ai/x:20G", 20 * GIB, 20 * GIB, 0))
    for shard in range(200):
        listener(Skipped(f"sha256:{shard:064x}", GIB // 10, f"model-{shard}.gguf"))
    assert len(lines(found)) < 20


def test_several_models_are_one_tally_and_what_they_share_counts_for_each() -> None:
    tally = Tally(Clock(1.0))
    for event in (
        Planned("ai/x:1", 100 * MIB, 0, 0),
        Planned("ai/x:2", 100 * MIB, 50 * MIB, 0),
        Started(BLOB, 100 * MIB, 0, "model.gguf"),
        Skipped(OTHER, 50 * MIB, "here.gguf"),
        Waiting(BLOB, "model.gguf"),
        Advanced(BLOB, 100 * MIB, 100 * MIB),
    ):
        tally.on_event(event)
    assert tally.percent == 75
    tally.on_event(Skipped(BLOB, 50 * MIB, "model.gguf"))
    assert (tally.total, tally.percent) == (200 * MIB, 100)
