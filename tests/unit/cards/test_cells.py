"""Every form in which cards have printed a figure."""

import pytest

from modelrunner.cards.cells import (
    parse_bytes,
    parse_context,
    parse_parameters,
    parse_quantization,
    parse_references,
)

GIB, MIB = 1024**3, 1024**2


@pytest.mark.parametrize(
    ("cell", "total", "active"),
    [
        ("3.2B", 3.2, None),
        ("135M", 0.135, None),
        ("23.57 B", 23.57, None),
        ("334.09 M", 0.33409, None),
        ("**8B**", 8.0, None),
        ("30B-A3B", 30.0, 3.0),
        ("30\u202fB-A3B", 30.0, 3.0),
        ("30B\u2011A3B", 30.0, 3.0),
        ("1T", 1000.0, None),
        ("30.5B (3.3B active)", 30.5, None),
        ("64x994M", None, None),
        ("-", None, None),
        ("", None, None),
        ("many", None, None),
    ],
)
def test_parameters_are_counted_in_billions(cell, total, active):
    assert parse_parameters(cell) == (pytest.approx(total) if total else None, active)


@pytest.mark.parametrize(
    ("cell", "tokens"),
    [
        ("131K tokens", 131072),
        ("128K", 131072),
        ("128k tokens", 131072),
        ("131,072", 131072),
        ("32K tokens", 32768),
        ("33K tokens", 32768),
        ("41K tokens", 40960),
        ("40,960 tokens", 40960),
        ("262K tokens", 262144),
        ("256K (262,144)", 262144),
        ("524K tokens", 524288),
        ("1M tokens", 1048576),
        ("512 tokens", 512),
        ("16K tokens", 16384),
        ("4K", 4096),
        ("100K tokens", 100000),
        ("-", None),
        ("long", None),
    ],
)
def test_a_context_is_the_length_that_the_rounded_figure_stands_for(cell, tokens):
    assert parse_context(cell) == tokens


@pytest.mark.parametrize(
    ("cell", "binary", "decimal"),
    [
        ("1.81 GB", 1.81 * GIB, 1.81e9),
        ("2.32 GiB", 2.32 * GIB, 2.32 * GIB),
        ("530.18 MB", 530.18 * MIB, 530.18e6),
        ("864.5 MiB", 864.5 * MIB, 864.5 * MIB),
        ("~17.2GiB", 17.2 * GIB, 17.2 * GIB),
        ("~ 16 GB\u00b9", 16 * GIB, 16e9),
        ("24GB¹", 24 * GIB, 24e9),
        ("860 MB¹", 860 * MIB, 860e6),
        ("16.8¹", 16.8 * GIB, 16.8e9),
        ("9.GB", 9 * GIB, 9e9),
        ("1,024 MB", GIB, 1.024e9),
        ("4.2B¹", None, None),
        ("-", None, None),
        ("8 cats", None, None),
    ],
)
def test_sizes_are_read_with_the_units_that_the_table_means(cell, binary, decimal):
    assert parse_bytes(cell, "binary") == (None if binary is None else round(binary))
    assert parse_bytes(cell, "decimal") == (None if decimal is None else round(decimal))


@pytest.mark.parametrize(
    ("cell", "quantization"),
    [
        ("MOSTLY_Q4_K_M", "Q4_K_M"),
        ("IQ2_XXS/Q4_K_M", "Q4_K_M"),
        ("Q5_0 (5-bit)", "Q5_0"),
        ("`F16`", "F16"),
        ("MXFP4", "MXFP4"),
        ("-", None),
        ("", None),
    ],
)
def test_a_quantization_is_the_file_type_without_decoration(cell, quantization):
    assert parse_quantization(cell) == quantization


@pytest.mark.parametrize(
    ("cell", "references"),
    [
        ("`ai/x:3B`<br><br>`ai/x:latest`", ("ai/x:3B", "ai/x:latest")),
        ("`ai/x:4B` <br/> `ai/x:latest`", ("ai/x:4B", "ai/x:latest")),
        ("ai/x:3B<br>ai/x:latest", ("ai/x:3B", "ai/x:latest")),
        ("[ai/x:3B](https://hub.docker.com/r/ai/x)", ("ai/x:3B",)),
        ("`ai/x:3B<br>ai/x:latest`", ("ai/x:3B", "ai/x:latest")),
        ("`ai/x:3B` and again `ai/x:3B`", ("ai/x:3B",)),
        ("-", ()),
        ("", ()),
    ],
)
def test_references_are_the_names_of_a_cell_in_order(cell, references):
    assert parse_references(cell) == references
