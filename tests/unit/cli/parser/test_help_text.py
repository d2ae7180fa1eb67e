"""What the parser writes in brackets behind a help text becomes part of the sentence."""

import pytest

from modelrunner.cli.parser.help_text import sentence


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Print the result as JSON.", "Print the result as JSON."),
        ("Type of the KV cache.  [default: f16]", "Type of the KV cache (default: f16)."),
        (
            "Port to publish.  [default: 8080; 1<=x<=65535]",
            "Port to publish (default: 8080; from 1 to 65535).",
        ),
        (
            "Temperature (default: the runtime's own).  [0.0<=x<=2.0]",
            "Temperature (default: the runtime's own; from 0.0 to 2.0).",
        ),
        # a limit that nobody meets is not shown
        ("Context size.  [1<=x<=2147483647]", "Context size."),
        ("Threads.  [x>=1]", "Threads."),
        ("Seconds.  [x>=0.001]", "Seconds (at least 0.001)."),
        # the usage line has no brackets around it
        ("[required]", ""),
        ("compose, k8s  [required]", "compose, k8s."),
        ("Of one thing [and another].", "Of one thing [and another]."),
        ("", ""),
    ],
)
def test_brackets_of_the_parser_become_part_of_the_sentence(written: str, shown: str) -> None:
    assert sentence(written) == shown
