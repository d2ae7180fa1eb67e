"""What cannot be true is said, and kept."""

from modelrunner.cards.checks import compare
from modelrunner.cards.parser import parse_card

HEAD = (
    "# X\n## Available model variants\n"
    "| Model variant | Parameters | Quantization | Context window | VRAM | Size |\n|-|-|-|-|-|-|\n"
)


def warnings(*rows, name="x"):
    return parse_card(HEAD + "\n".join(rows), name=name).warnings


def test_vram_below_size():
    assert warnings("| `ai/x:7B-F16` | 7B | F16 | 8K | 13.93 GiB | 14.19 GB |") == (
        "ai/x:7B-F16: VRAM 13.93 GiB is below the size 14.19 GiB",
    )


def test_fewer_bytes_for_more_parameters():
    assert warnings(
        "| `ai/x:4B` | 4B | F16 | 33K | 8 GiB | 1.11 GB |",
        "| `ai/x:0.6B` | 0.6B | F16 | 33K | 3 GiB | 2.32 GB |",
        "| `ai/x:8B` | 8B | Q4_0 | 33K | 8 GiB | 1.1 GB |",
    ) == ("ai/x:4B: smaller than ai/x:0.6B with more parameters at F16",)


def test_a_tag_that_says_something_else_than_the_cells():
    assert warnings(
        "| `ai/x:4B-F16` | 6.9B | BF16 | 8K | 9 GiB | 8 GB |",
        "| `ai/x:30B-A3B-UD-Q4_K_XL` | 30B-A3B | Q4_K_M | 8K | 9 GiB | 8 GB |",
        "| `ai/x:3B-Q4_K_M`<br>`ai/x:3B` | 3.2B | MOSTLY_Q4_K_M | 8K | 3 GiB | 2 GB |",
    ) == (
        "ai/x:4B-F16: quantization BF16, but F16 in the tag",
        "ai/x:4B-F16: parameters 6.9B, but 4B in the tag",
        "ai/x:30B-A3B-UD-Q4_K_XL: quantization Q4_K_M, but Q4_K_XL in the tag",
    )


def test_cells_that_are_read_with_a_guess_or_not_at_all():
    assert warnings("| `ai/x:8B` | 8xB | F16 | 32K | 16.8 | 4.2B |") == (
        "ai/x:8B: invalid parameters `8xB`",
        "ai/x:8B: no unit in vram `16.8`, read as GB",
        "ai/x:8B: invalid size `4.2B`",
        "ai/x:8B: context `32K` is read as 32768 tokens",
    )


def test_references_that_are_none_or_name_another_repository():
    assert warnings(
        "| `ai/x:a:b` | 8B | F16 | 8K | 16 GiB | 15 GB |",
        "| `ai/y:8B` | 8B | Q8_0 | 8K | 9 GiB | 8 GB |",
    ) == (
        "ai/x:a:b: invalid reference",
        "ai/y:8B: expected the repository x",
    )


def test_two_cards_that_share_a_row():
    row = "| `ai/{}:3B` | 3.2B | Q4_K_M | 1M | 2.32 GiB | 1.81 GB |"
    other_row = "| `ai/x:1B` | 1B | Q4_K_M | 1M | 1 GiB | 0.9 GB |"
    x = parse_card(f"{HEAD}{row.format('x')}\n{other_row}", name="x")
    y = parse_card(HEAD + row.format("y"), name="y")
    assert compare(x, y) == ("ai/x:3B: duplicate of ai/y:3B",)
    assert compare(y, y.__class__()) == ()


def test_a_flood_of_oddities_is_cut_short():
    found = warnings(*(f"| `ai/x:{n}` | ? | F16 | ? | ?! | odd |" for n in range(300)))
    assert len(found) == 101
    assert found[-1].startswith("and ")
