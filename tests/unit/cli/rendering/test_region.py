import os
import signal
import threading

import pytest

from modelrunner.cli.rendering.region import Region, undisturbed
from tests.support.screen import Screen


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "4")


def test_what_is_drawn_takes_the_place_of_what_was() -> None:
    screen = Screen()
    region = Region(screen)
    for lines in (["a"], ["a", "b", "c"], ["a", "x"], ["y", "x", "z"], ["y"]):
        region.draw(lines)
        assert screen.rows() == lines


def test_what_is_settled_stays() -> None:
    screen = Screen()
    region = Region(screen)
    region.draw(["a", "b"])
    region.settle(["one", "two"])
    region.draw(["three"])
    region.settle([])
    region.settle(["four"])
    assert screen.rows() == ["one", "two", "four", ""]


def test_of_more_than_the_screen_holds_the_end_is_drawn_and_all_is_settled() -> None:
    screen = Screen()
    region = Region(screen)
    lines = [str(number) for number in range(9)]
    region.draw(lines)
    assert screen.rows() == ["6", "7", "8"]
    region.settle(lines)
    assert screen.rows() == [*lines, ""]


def test_the_same_again_writes_nothing() -> None:
    screen = Screen()
    region = Region(screen)
    region.draw(["a"])
    written = screen.getvalue()
    region.draw(["a"])
    assert screen.getvalue() == written


def test_a_window_made_narrower_is_cleared_by_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    region = Region(screen)
    region.draw(["0123456789abcdef"])
    monkeypatch.setenv("COLUMNS", "8")
    assert os.environ["COLUMNS"] == "8"
    region.draw(["x"])
    assert "\r\x1b[1A\x1b[Jx" in screen.getvalue()


def test_ctrl_c_amid_a_drawing_comes_after_it() -> None:
    drawn = []

    def draws() -> None:
        with undisturbed(), undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            # a signal to the process is handled before the next instruction
            drawn.append(True)

    with pytest.raises(KeyboardInterrupt):
        draws()
    assert drawn
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_stays_with_the_thread_that_draws() -> None:
    # blocked there, it would go to any other thread, and the reader of the answer would not wake
    with undisturbed():
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_another_thread_draws_without_a_change() -> None:
    seen = []

    def draws() -> None:
        with undisturbed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=draws)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
