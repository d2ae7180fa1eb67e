"""Chat templates, rendered in a child with limits, as facts about their models."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence

from modelrunner.runtime.capabilities.facts import TemplateFacts
from modelrunner.runtime.capabilities.look import look
from modelrunner.wire import parse_json

LONGEST = 1024 * 1024
"""Characters of a template that is rendered; the longest known ones have a fiftieth of that."""

_PROGRAM = (sys.executable, "-P", "-m", "modelrunner.runtime.capabilities.render")
_START_S = 20.0
_EACH_S = 5.0
"""Seconds of the clock for the child, and for each template: its own limit is processor time."""


def template_facts(templates: Sequence[str]) -> list[TemplateFacts]:
    """Return what each template shows of its model.

    One that cannot be rendered, or that ends the child that renders it, is looked at instead.
    """
    if importlib.util.find_spec("jinja2") is None:
        return [look(template) for template in templates]
    short = [template for template in templates if len(template) <= LONGEST]
    found: list[TemplateFacts] = []
    while len(found) < len(short):
        found += _rendered(short[len(found) :])
        if len(found) < len(short):
            # the one that the child came to last is the one that ended it
            found.append(look(short[len(found)]))
    rendered = iter(found)
    return [next(rendered) if len(text) <= LONGEST else look(text) for text in templates]


def _rendered(templates: Sequence[str]) -> list[TemplateFacts]:
    """Return the facts of the first templates, up to one that the child does not survive."""
    try:
        done = subprocess.run(
            _PROGRAM,
            input=json.dumps(templates).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_START_S + _EACH_S * len(templates),
            check=False,
        )
        lines = done.stdout.splitlines(keepends=True)
    except subprocess.TimeoutExpired as late:
        lines = (late.stdout or b"").splitlines(keepends=True)
    except OSError:
        return []
    whole = [line for line in lines if line.endswith(b"\n")]
    return [TemplateFacts.from_dict(parse_json(line)) for line in whole[: len(templates)]]
