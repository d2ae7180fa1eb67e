"""The picture of an estimate: as text, as SVG, and into a file."""

import struct
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.cli.plot import plot
from modelrunner.cli.plot.curve import ticks
from modelrunner.errors import NotInStoreError, UsageError
from modelrunner.memory.devices.devices import Device
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.estimate.report import EstimateRequest, Report
from modelrunner.registry.source import Source
from modelrunner.store.store import Store
from modelrunner.system.installation import add
from modelrunner.units import format_size
from tests.support.gguf import tiny_gguf

SVG = "{http://www.w3.org/2000/svg}"
MIB = 1024 * 1024
HOST = Device("here", "host", 8192 * MIB, 8192 * MIB, "cpu")


def nowhere(reference: Reference) -> Source:
    raise NotInStoreError(f"{reference.short} is not here")


@pytest.fixture
def estimator(store: Store) -> Estimator:
    return Estimator(store, nowhere, Catalog.load, lambda: (HOST,))


def report(estimator: Estimator, tmp_path: Path, **request: int) -> Report:
    return estimator.of_file(
        tiny_gguf(tmp_path / "a <tiny> & sweet.gguf"), EstimateRequest(**request)
    )


def test_the_curve_is_the_estimate_at_every_context(estimator: Estimator, tmp_path: Path) -> None:
    found = report(estimator, tmp_path)
    curve = plot.curve_of(found, count=8)
    assert [point.context for point in curve.points] == [256 * i for i in range(1, 9)]
    assert curve.points[-1].total == found.estimate.total
    totals = [point.total for point in curve.points]
    assert totals == sorted(totals)
    assert [point.weights for point in curve.points] == [8128] * 8


def test_a_context_beyond_the_trained_one_widens_the_curve(
    estimator: Estimator, tmp_path: Path
) -> None:
    assert plot.curve_of(report(estimator, tmp_path, context=8192)).end == 8192


@pytest.mark.parametrize(
    ("context", "pointer"), [(256, "^ 256"), (1024, "^ 1024"), (1500, "1536 ^"), (2048, "2048 ^")]
)
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_text_is_as_wide_as_the_terminal_plain_and_has_the_budget(
    estimator: Estimator, tmp_path: Path, context: int, pointer: str, columns: int
) -> None:
    found = report(estimator, tmp_path, budget=5 * MIB, context=context)
    lines = list(plot.text(plot.curve_of(found), columns))
    assert max(map(len, lines)) == columns
    assert all(line.isascii() and line.isprintable() for line in lines)
    (marked,) = [line for line in lines if "---- 5.00 MiB" in line]
    assert marked.count("|") == 1
    (end,) = [line for line in lines if line.endswith("tokens")]
    assert end.split() == ["0", "2048", "tokens"]
    assert lines[lines.index(end) + 1].strip() == pointer
    rows = [line.partition("|")[2] for line in lines if "|" in line]
    assert rows[-1].count("=") > 0
    places = (0, columns // 4, columns - 24)
    heights = [sum(row[i : i + 1] in {":", "="} for row in rows) for i in places]
    assert heights == sorted(heights)
    legend = " ".join(" ".join(lines[lines.index(end) + 2 :]).split())
    assert legend == "# weights = cache and states : compute and output"


def test_text_is_as_wide_as_people_say_and_never_absurd(
    estimator: Estimator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = plot.curve_of(report(estimator, tmp_path, budget=5 * MIB))
    for said, width in (("70", 70), ("1", 44), ("1000", 120)):
        monkeypatch.setenv("COLUMNS", said)
        assert max(map(len, plot.text(curve))) == width


def test_a_budget_inside_the_picture_is_seen_there() -> None:
    points = tuple(plot.Point(i, 100 * MIB, i * MIB, MIB) for i in range(1, 101))
    lines = list(plot.text(plot.Curve("a", points, 50, None, 50 * MIB), 80))
    assert f"  50.00 MiB|{'-#' * 29} 50.00 MiB" in lines


def test_a_budget_far_above_is_told_below_the_picture(estimator: Estimator, tmp_path: Path) -> None:
    lines = list(plot.text(plot.curve_of(report(estimator, tmp_path))))
    assert lines[-1].strip() == "available memory (8.00 GiB) is above the chart"
    assert not any("---- " in line for line in lines)


def test_svg_is_xml_with_three_areas_and_the_budget(estimator: Estimator, tmp_path: Path) -> None:
    curve = plot.curve_of(report(estimator, tmp_path, budget=5 * MIB))
    root = ElementTree.fromstring(plot.svg(curve))
    assert root.tag == f"{SVG}svg"
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text is not None
    assert title.text.endswith("memory over context")
    areas = [area for area in root.findall(f"{SVG}polygon") if area.get("class")]
    assert [area.get("class") for area in areas] == [
        *("weights", "cache and states", "compute and output")
    ]
    for area in areas:
        points = [tuple(map(float, point.split(","))) for point in area.get("points", "").split()]
        assert all(0 <= x <= plot.WIDTH and 0 <= y <= plot.HEIGHT for x, y in points)
    classes = [line.get("class") for line in root.findall(f"{SVG}line")]
    assert classes.count("budget") == 1
    words = [label.text for label in root.findall(f"{SVG}text")]
    assert "available: 5.00 MiB" in words


def test_a_name_cannot_break_out_of_the_svg(estimator: Estimator, tmp_path: Path) -> None:
    curve = plot.Curve(
        "<script>alert(1)</script>&", plot.curve_of(report(estimator, tmp_path)).points, 1, None, 1
    )
    root = ElementTree.fromstring(plot.svg(curve))
    assert root.findall(f".//{SVG}script") == []


def test_a_file_is_written_as_its_name_says(estimator: Estimator, tmp_path: Path) -> None:
    curve = plot.curve_of(report(estimator, tmp_path))
    plot.write(curve, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text() == plot.svg(curve)
    with pytest.raises(UsageError, match="unsupported file type: "):
        plot.write(curve, tmp_path / "plot.gif")
    with pytest.raises(UsageError, match="no such file or directory"):
        plot.write(curve, tmp_path / "nowhere" / "plot.svg")


def pixels(content: bytes) -> tuple[int, int, bytes]:
    """Width, height and the unpacked rows of a PNG of three bytes for each pixel."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    at, data, head = 8, b"", b""
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            head = body
        elif kind == b"IDAT":
            data += body
        at += 12 + size
    width, height, depth, colours = struct.unpack_from(">IIBB", head)
    assert (depth, colours) == (8, 2)
    return width, height, zlib.decompress(data)


def test_a_png_is_drawn_twice_as_large_and_has_all_colours(
    estimator: Estimator, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    curve = plot.curve_of(report(estimator, tmp_path, budget=5 * MIB, context=2048))
    plot.write(curve, tmp_path / "plot.png")
    content = (tmp_path / "plot.png").read_bytes()
    width, height, rows = pixels(content)
    assert (width, height) == (2 * plot.WIDTH, 2 * plot.HEIGHT)
    assert len(rows) == height * (3 * width + 1)
    with image.open(tmp_path / "plot.png") as drawn:
        counts = {colour: count for count, colour in drawn.getcolors(1 << 20)}
    share = {colour: count / (width * height) for colour, count in counts.items()}
    assert 0.3 < share[255, 255, 255] < 0.9
    areas = [(0x4C, 0x78, 0xA8), (0xF2, 0xA5, 0x41), (0xB3, 0xB3, 0xB3)]
    assert all(share[colour] > 0.0001 for colour in areas)
    assert share[0xB3, 0xB3, 0xB3] > 0.1
    assert (0xC0, 0x39, 0x2B) in counts, "the budget's line"


def test_a_png_without_its_library_is_an_error_with_a_way_out(
    estimator: Estimator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"\.png needs Pillow") as caught:
        plot.write(plot.curve_of(report(estimator, tmp_path)), tmp_path / "plot.png")
    assert caught.value.hint == f"write a .svg, or install it: `{add('plot')}`"
    assert not (tmp_path / "plot.png").exists()


@pytest.mark.parametrize(
    ("context", "longest", "labels"),
    [
        (50, None, ["50 estimated"]),
        (50, 90, ["50 estimated", "90 fits at most"]),
        (100, 100, ["100 estimated, the longest that fits"]),
        (50, 400, ["50 estimated"]),
    ],
)
def test_every_context_is_marked_that_is_in_the_picture(
    context: int, longest: int | None, labels: list[str]
) -> None:
    points = tuple(plot.Point(i, 100, i, 10) for i in range(1, 101))
    root = ElementTree.fromstring(plot.svg(plot.Curve("a", points, context, longest, None)))
    words = [label.text or "" for label in root.findall(f"{SVG}text")]
    assert [word for word in words if "estimated" in word or "fits" in word] == labels
    assert all(
        0 <= float(line.get(end, "-1")) <= plot.WIDTH
        for line in root.findall(f"{SVG}line")
        for end in ("x1", "x2")
    )


@pytest.mark.parametrize(
    ("top", "sizes"),
    [
        (1, ["0 B", "1 B"]),
        (1000, ["0 B", "200 B", "400 B", "600 B", "800 B", "1000 B"]),
        (7 * 1024 * MIB, ["0 B", "2.00 GiB", "4.00 GiB", "6.00 GiB"]),
        (1024 * MIB, ["0 B", "256.00 MiB", "512.00 MiB", "768.00 MiB", "1.00 GiB"]),
    ],
)
def test_sizes_at_the_edge_are_round(top: int, sizes: list[str]) -> None:
    assert [format_size(size) for size in ticks(top)] == sizes


def test_a_row_alone_has_no_curve(estimator: Estimator) -> None:
    found = estimator.of_model("ai/granite-4.0-micro", EstimateRequest(source="card"))
    with pytest.raises(UsageError, match="cannot draw memory over context from the card alone"):
        plot.curve_of(found)
