"""A card drawn on terminals of several widths and into a pipe."""

import io

import pytest
from rich.console import Console

from modelrunner.cards.card import Attributes, Benchmark, Card, Link, Variant
from modelrunner.cards.parser import parse_card
from modelrunner.cli.views.card import card_text, render_card

TEXT = """
# Tiny

A **tiny** [model](https://example.com).
It has two lines.

## Characteristics
| Attribute | Details |
|---|---|
| **Provider** | Somebody |
| **Tool calling** | ❌ |

## Available model variants
| Model variant | Parameters | Quantization | Context window | VRAM¹ | Size |
|---|---|---|---|---|---|
| `ai/tiny:1B`<br>`ai/tiny:latest` | 1B | Q8_0 | 131K tokens | 2 GiB | 1 GB |
| `ai/tiny:7B-F16` | 7B | F16 | 131K tokens | 12 GiB | 13 GB |

## Use this AI model with Docker Model Runner
First, pull the model.

## Considerations
1. Mind the
   *gap*.
- And `this`.

## Benchmarks
| Category | Metric | Tiny | Other |
|---|---|---|---|
| Math | GSM8K | 1.5 | 22.5 |

## Links
- [Home](https://example.com/tiny)
"""
CARD = parse_card(TEXT, name="tiny")


def drawn(card, width, marks=None, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    render_card(card, console, marks)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_pipe_gets_plain_text_with_aligned_columns():
    assert (
        card_text(CARD)
        == """\
Tiny (ai/tiny)
A tiny model. It has two lines.

Characteristics
Provider      Somebody
Tool calling  no

Variants
TAG         PARAMETERS  QUANTIZATION  CONTEXT       VRAM       SIZE
1B, latest  1B          Q8_0             131K   2.00 GiB   1.00 GiB
7B-F16      7B          F16              131K  12.00 GiB  13.00 GiB
VRAM is the card's figure for 4K tokens of context. `latest` is `ai/tiny:1B`.

Considerations
1. Mind the gap.
- And `this`.

Warnings
- ai/tiny:7B-F16: VRAM 12.00 GiB is below the size 13.00 GiB

Benchmarks
         Tiny  Other
Math
  GSM8K   1.5   22.5

Links
- Home: https://example.com/tiny
"""
    )


def test_the_variants_that_were_tried_here_are_marked():
    lines = drawn(CARD, 80, {"ai/tiny:latest": "fits", "ai/tiny:7B-F16": "too large"})
    assert "1B      1B          Q8_0             131K   2.00 GiB   1.00 GiB  fits" in [
        line.replace("       fits", "  fits") for line in lines
    ]
    assert any(line.endswith("too large") for line in lines)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, drawn(CARD, width, {"ai/tiny:1B": "fits"}))) <= width


def test_a_narrow_terminal_gets_each_variant_as_a_text_and_the_first_scores():
    lines = drawn(CARD, 40)
    assert "1B, latest" in lines
    assert "  parameters 1B, quantization Q8_0," in lines
    narrow = drawn(CARD, 18)
    assert "         Tiny" in narrow
    assert not any("Other" in line for line in narrow)


def test_a_terminal_gets_bold_headings_and_a_plain_one_no_escapes():
    assert any("\x1b[1m" in line for line in drawn(CARD, 80, force_terminal=True))
    assert not any("\x1b" in line for line in drawn(CARD, 80))


EVIL = "a\x1b[31mb\x07\u202ec[bold red]d[/]\x9b31m"


def test_foreign_text_is_neither_obeyed_nor_taken_for_markup():
    card = Card(
        name=EVIL,
        title=EVIL,
        description=EVIL,
        attributes=Attributes(provider=EVIL, languages=(EVIL,), extra=((EVIL, EVIL),)),
        variants=(Variant(references=(f"ai/{EVIL}:1",), parameters_text=EVIL, quantization=EVIL),),
        latest=EVIL,
        benchmarks=(Benchmark(EVIL, EVIL, EVIL, ((EVIL, EVIL),)),),
        links=(Link(EVIL, EVIL),),
        shapes={EVIL: {"arch": EVIL}},
        warnings=(EVIL,),
        text=f"# {EVIL}\n## {EVIL}\n{EVIL}\n|{EVIL}|{EVIL}|\n|-|-|\n|{EVIL}|{EVIL}|\n",
    )
    plain = card_text(card, {f"ai/{EVIL}:1": EVIL})
    for text in (plain, "\n".join(drawn(card, 120, {f"ai/{EVIL}:1": EVIL}))):
        assert not set("\x1b\x07\u202e\x9b") & set(text)
        assert "abc[bold red]d[/]" in text


def test_a_card_without_anything_is_one_line():
    assert card_text(Card()) == "a card without a title\n"


def test_columns_of_which_the_card_says_nothing_are_left_out():
    card = parse_card("# X\n## Available model variants\n|Quantization|Size|\n|-|-|\n|F16|1 GB|\n")
    assert card_text(card).splitlines()[3:] == [
        "QUANTIZATION        SIZE",
        "F16           953.67 MiB",
    ]


README = """\
<!-- a comment
```
## hidden
-->
# Tool
In a clone of this repository:

```bash
# not a heading
make run   <!-- kept -->
```

Then:

    indented --code

      more

## Use
1. First
   ```sh
   one
   ```
2. Second
   - nested
     - deeper

   | a | b |
   |---|---|
   | 1 | 2 |

Done.

## Example
    not closed is text:
~~~
## Links
- [Home](https://example.com)
"""

SHOWN = """\
Tool
In a clone of this repository:
    # not a heading
    make run   <!-- kept -->
Then:
    indented --code

      more

Use
1. First
    one
2. Second
  - nested
    - deeper
a  b
1  2
Done.

Example
    not closed is text:
~~~

Links
- Home
"""


def test_a_document_that_is_no_card_is_shown_whole_with_its_code():
    assert card_text(parse_card(README)) == SHOWN
    assert drawn(parse_card(README), 80) == SHOWN.splitlines()


def test_its_json_has_every_section_with_its_code():
    assert parse_card(README).to_dict()["sections"] == [
        {
            "level": 1,
            "title": "Tool",
            "text": "In a clone of this repository:\n\n```bash\n# not a heading\n"
            "make run   <!-- kept -->\n```\n\nThen:\n\n    indented --code\n\n      more",
        },
        {
            "level": 2,
            "title": "Use",
            "text": "1. First\n   ```sh\n   one\n   ```\n2. Second\n   - nested\n"
            "     - deeper\n\n   | a | b |\n   |---|---|\n   | 1 | 2 |\n\nDone.",
        },
        {"level": 2, "title": "Example", "text": "    not closed is text:\n~~~"},
        {"level": 2, "title": "Links", "text": "- [Home](https://example.com)"},
    ]
    assert "```bash" in parse_card(README).description


def test_a_card_keeps_the_code_of_its_sections():
    card = parse_card(
        TEXT.replace("And `this`.", "And `this`:\n\n  ```\n  $ one\n    two\n  ```\n")
    )
    assert "- And `this`:\n    $ one\n      two\n" in card_text(card)
