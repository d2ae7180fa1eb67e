"""What commands do: models are launched again and again, with the same few templates."""

from collections.abc import Sequence

import pytest

from modelrunner.runtime.capabilities import read
from modelrunner.runtime.capabilities.facts import TemplateFacts

_RENDERED: dict[str, TemplateFacts] = {}
"""What a child has said of each template, for all tests of this process."""


@pytest.fixture(autouse=True)
def templates_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a child render a template for the first test that needs it, and for no other."""
    rendered = read._rendered

    def known_or_rendered(templates: Sequence[str]) -> list[TemplateFacts]:
        unknown = [each for each in dict.fromkeys(templates) if each not in _RENDERED]
        if unknown:
            # one that ends the child is missing, and what is behind it
            _RENDERED.update(zip(unknown, rendered(unknown), strict=False))
        found: list[TemplateFacts] = []
        for template in templates:
            if template not in _RENDERED:
                break
            found.append(_RENDERED[template])
        return found

    monkeypatch.setattr(read, "_rendered", known_or_rendered)
