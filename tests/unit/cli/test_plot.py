"""The picture of an estimate: as text, as SVG, and into a file."""

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.cli import plot
from modelrunner.errors import NotInStoreError, UsageError
from modelrunner.memory.devices import Device
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate import Estimator
from modelrunner.operations.report import Report, Wish
from modelrunner.registry.source import Source
from modelrunner.store.store import Store
from tests.support.gguf import tiny_gguf

SVG = "{http://www.w3.org/2000/svg}"
MIB = 1024 * 1024
HOST = Device("here", "host", 8192 * MIB, 8192 * MIB, "cpu")


def nowhere(reference: Reference) -> Source:
    raise NotInStoreError(f"{reference.short} is not here")


@pytest.fixture
def estimator(store: Store) -> Estimator:
    return Estimator(store, nowhere, Catalog.load, lambda: (HOST,))


def report(estimator: Estimator, tmp_path: Path, **wish: int) -> Report:
    return estimator.of_file(tiny_gguf(tmp_path / "a <tiny> & sweet.gguf"), Wish(**wish))


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
    ("context", "pointer"), [(256, "^ 256"), (1024, "^ 1024"), (1500, "1500 ^"), (2048, "2048 ^")]
)
def test_text_is_narrow_plain_and_has_the_budget(
    estimator: Estimator, tmp_path: Path, context: int, pointer: str
) -> None:
    found = report(estimator, tmp_path, budget=5 * MIB, context=context)
    lines = list(plot.text(plot.curve_of(found)))
    assert max(map(len, lines)) <= 80
    assert all(line.isascii() and line.isprintable() for line in lines)
    (marked,) = [line for line in lines if "---- 5.00 MiB" in line]
    assert marked.count("|") == 1
    assert [line.split()[-2:] for line in lines[-3:-1]] == [["2048", "tokens"], pointer.split()]
    columns = [line.partition("|")[2] for line in lines if "|" in line]
    assert columns[-1].count("=") > 0
    heights = [sum(row[i : i + 1] in {":", "="} for row in columns) for i in (0, 30, 57)]
    assert heights == sorted(heights)


def test_a_budget_far_above_is_told_below_the_picture(estimator: Estimator, tmp_path: Path) -> None:
    lines = list(plot.text(plot.curve_of(report(estimator, tmp_path))))
    assert lines[-1].strip() == "there are 8.00 GiB, far above the picture"
    assert not any("---- " in line for line in lines)


def test_svg_is_xml_with_three_areas_and_the_budget(estimator: Estimator, tmp_path: Path) -> None:
    curve = plot.curve_of(report(estimator, tmp_path, budget=5 * MIB))
    root = ElementTree.fromstring(plot.svg(curve))
    assert root.tag == f"{SVG}svg"
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text is not None
    assert title.text.endswith("memory over context")
    areas = root.findall(f"{SVG}polygon")
    assert [area.get("class") for area in areas] == [
        *("weights", "cache and states", "compute and output")
    ]
    for area in areas:
        points = [tuple(map(float, point.split(","))) for point in area.get("points", "").split()]
        assert all(0 <= x <= plot.WIDTH and 0 <= y <= plot.HEIGHT for x, y in points)
    classes = [line.get("class") for line in root.findall(f"{SVG}line")]
    assert classes.count("budget") == 1
    words = [label.text for label in root.findall(f"{SVG}text")]
    assert "there are 5.00 MiB" in words


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
    with pytest.raises(UsageError, match=r"is neither .svg nor .png"):
        plot.write(curve, tmp_path / "plot.gif")
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        plot.write(curve, tmp_path / "nowhere" / "plot.svg")


@pytest.mark.skipif(
    importlib.util.find_spec("cairosvg") is not None, reason="CairoSVG is installed"
)
def test_a_png_without_its_library_is_an_error_with_a_way_out(
    estimator: Estimator, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"\.png needs CairoSVG") as caught:
        plot.write(plot.curve_of(report(estimator, tmp_path)), tmp_path / "plot.png")
    assert caught.value.hint == "write a .svg, or pip install cairosvg"
    assert not (tmp_path / "plot.png").exists()


def test_a_row_alone_has_no_curve(estimator: Estimator) -> None:
    found = estimator.of_model("ai/granite-4.0-micro", Wish(source="card"))
    with pytest.raises(UsageError, match="memory over context is not known"):
        plot.curve_of(found)
