"""The look at chat templates: ordinary ones pass, hostile ones are told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.gguf.reader import read_header
from modelrunner.provenance.template import MOST, Finding, scan

TEMPLATES = Path(__file__).parents[3] / "registry-fixtures" / "templates"


@pytest.mark.parametrize("name", ["chatml", "granite"])
def test_ordinary_templates_have_nothing_to_look_at(name: str) -> None:
    assert scan((TEMPLATES / f"{name}.jinja").read_text()) == ()


@pytest.mark.model
def test_a_real_models_template_has_nothing_to_look_at(smollm2_gguf: Path) -> None:
    template = read_header(smollm2_gguf).metadata["tokenizer.chat_template"]
    assert scan(template) == ()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ ''.__class__ }}", "__class__"),
        ("{{ x['__globals__'] }}", "__globals__"),
        ("{{ x._private }}", "_private"),
        ("{{ x | attr('a' ~ 'b') }}", "name is computed"),
        ("{{ lipsum.x }}", "outside of the template"),
        ("{{ cycler.next }}", "outside of the template"),
        ("{% include 'x' %}", "another template"),
        ("{%- import 'x' as y -%}", "another template"),
        ("{% from 'x' import y %}", "another template"),
        ("{% for i in range(10 ** 9, 99999999) %}{% endfor %}", "counts to 99999999"),
        ("{{ 'x' * 123456789 }}", "repeats a text 123456789 times"),
        ("{% for m in messages %}{% set s = s ~ s %}{% endfor %}", "doubles a text"),
        ("{% for i in range(9) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "doubles a text"),
    ],
)
def test_what_no_ordinary_one_does_is_dangerous(template: str, said: str) -> None:
    found = scan(template)
    assert [finding.level for finding in found] == ["danger"]
    assert said in found[0].message


@pytest.mark.parametrize(
    "template",
    [
        "{# {{ ''.__class__ }} #}",
        "{{ 'reads __class__ and lipsum, range(999999999)' }}",
        "{% for i in range(10) %}{% endfor %}",
        "{{ message.role }}{{ message['content'] }}",
        "{{ '-' * 20 }}",
        "text with __class__ outside of code",
    ],
)
def test_what_only_looks_like_it_is_not(template: str) -> None:
    assert scan(template) == ()


def test_deep_loops_and_long_ones_are_noted() -> None:
    deep = "{% for a in b %}" * 5 + "{% endfor %}" * 5
    assert [finding.message for finding in scan(deep)] == ["loops are nested 5 deep"]
    assert "recursive" not in scan("{% for a in 'recursive' %}{% endfor %}")
    assert scan("{% for a in b recursive %}{% endfor %}")[0].message == "a loop calls itself"
    assert scan("x" * 70_000)[0].message == "70000 characters long"


def test_lines_are_those_of_the_template() -> None:
    found = scan("a\n{# b\n c #}\n{{ x.__y__ }}\n\n{{ z.__w__ }}")
    assert [finding.line for finding in found] == [4, 6]


@given(st.text(alphabet="{}%#'\"_.|*~ \n\\abfor0", max_size=400))
def test_nothing_breaks_it(text: str) -> None:
    scan(text)


@pytest.mark.parametrize(
    "text", ["{%" * 20000, "{{" + "'" * 40000, "{{ " + "a." * 20000, "'\\" * 20000, "{#" * 20000]
)
@pytest.mark.timeout(60)
def test_nothing_takes_it_long(text: str) -> None:
    # a quadratic look would take minutes
    scan(text)


def test_lines_are_counted_on_from_the_last_block() -> None:
    found = scan("\n{{ a }}\n\n{{ lipsum }}\n{{ b }}{{ cycler }}")
    assert [finding.line for finding in found] == [4, 5]


def test_very_many_findings_are_cut_and_that_is_said() -> None:
    found = scan("{{ lipsum }}\n" * 100_000)
    assert len(found) == MOST + 1
    assert found[-1].message == "more than 100 findings"


class Counting(str):
    """A template that notes how many of its characters are looked at for line feeds."""

    looked = 0

    def count(self, *given: object) -> int:
        _text, start, stop = given
        type(self).looked += stop - start
        return super().count(*given)


def test_template_of_many_expressions_is_read_once() -> None:
    text = Counting("{{ a }}\n" * 20_000)
    assert scan(text) == (Finding("notice", 1, "160000 characters long", ""),)
    assert Counting.looked <= len(text)
