import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modelrunner.chat.sse import Event, events


def test_an_event_is_its_data_lines_joined_by_line_feeds() -> None:
    stream = [b'event: add\ndata: {"a":\ndata: 1}\nid: 7\nretry: 10\n\n']
    assert list(events(stream)) == [Event("add", '{"a":\n1}')]


def test_an_event_without_a_name_is_a_message() -> None:
    assert list(events([b"data: x\n\n"])) == [Event("message", "x")]


def test_a_name_ends_with_its_event() -> None:
    stream = [b"event: add\ndata: x\n\ndata: y\n\n"]
    assert list(events(stream)) == [Event("add", "x"), Event("message", "y")]


def test_only_one_space_after_the_colon_belongs_to_the_protocol() -> None:
    assert list(events([b"data:  x\n\ndata:y\n\n"])) == [
        Event("message", " x"),
        Event("message", "y"),
    ]


def test_a_data_line_without_a_value_is_an_empty_line() -> None:
    assert list(events([b"data: x\ndata\ndata:\n\n"])) == [Event("message", "x\n\n")]


def test_comments_and_events_without_data_are_nothing() -> None:
    assert list(events([b": ping\n\nevent: ping\n\n\n\ndata: x\n\n"])) == [Event("message", "x")]


def test_lines_may_end_in_cr_lf_or_both() -> None:
    stream = [b"data: a\r\n\r\ndata: b\r\rdata: c\n\n"]
    assert [event.data for event in events(stream)] == ["a", "b", "c"]


def test_a_byte_order_mark_before_the_stream_is_no_part_of_it() -> None:
    assert list(events([b"\xef\xbb", b"\xbfdata: x\n\n"])) == [Event("message", "x")]


def test_the_error_field_of_llama_server_is_an_event_named_error() -> None:
    assert list(events([b'error: {"code": 500}\n\n'])) == [Event("error", '{"code": 500}')]


def test_an_event_that_the_end_cuts_off_does_not_count() -> None:
    assert list(events([b"data: x\n\ndata: y\n"])) == [Event("message", "x")]


def test_bytes_that_are_no_utf_8_become_replacement_characters() -> None:
    assert list(events([b"data: a\xffb\n\n"])) == [Event("message", "a�b")]


def test_an_event_is_told_before_more_is_read() -> None:
    def stream() -> object:
        yield b"data: x\r\r"
        raise AssertionError("read on")

    assert next(iter(events(stream()))) == Event("message", "x")  # type: ignore[arg-type]


_FIELDS = st.sampled_from(
    ["data: a", "data:é😀", "data", "event: n", ": c", "error: e", "id: 1", ""]
)
_ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(
    st.lists(st.tuples(_FIELDS, _ENDS)).map(lambda lines: "".join(a + b for a, b in lines)),
    st.lists(st.integers(min_value=0, max_value=60)),
)
def test_where_chunks_are_cut_changes_nothing(text: str, cuts: list[int]) -> None:
    raw = text.encode()
    edges = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    chunks = [raw[a:b] for a, b in pairwise(edges)]
    assert list(events(chunks)) == _by_the_book(text)


def _by_the_book(text: str) -> list[Event]:
    """The standard's algorithm over the whole text at once."""
    found: list[Event] = []
    name, data = "", None
    *lines, _unfinished = re.split("\r\n|\r|\n", text)
    for line in lines:
        key, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if not line:
            if data is not None:
                found.append(Event(name or "message", data))
            name, data = "", None
        elif key == "event":
            name = value
        elif key in {"data", "error"}:
            name = "error" if key == "error" else name
            data = value if data is None else f"{data}\n{value}"
    return found
