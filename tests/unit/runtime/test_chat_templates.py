"""Chat templates by name and by file, and which one a family has."""

import pytest

from modelrunner.errors import UsageError
from modelrunner.runtime.chat_templates import (
    checked,
    family_template,
    name_of,
    template_file,
)


@pytest.mark.parametrize(
    ("architecture", "pre", "title", "name"),
    [
        ("gemma3", "default", "Gemma 3 270M", "gemma"),
        ("gemma2", None, None, "gemma"),
        ("llama", "llama-bpe", "Meta Llama 3 8B", "llama3"),
        ("llama", "default", "Llama 2 7B", "llama2"),
        ("llama", "tekken", "Nemo", "mistral"),
        ("llama", "default", "Mistral 7B v0.1", "mistral"),
        ("llama", "smollm", "SmolLM2 135M", "chatml"),
        ("llama4", "llama4", None, "llama4"),
        ("qwen3", "qwen2", None, "chatml"),
        ("phi3", None, None, "phi3"),
        ("granitehybrid", "dbrx", None, "granite"),
        (None, None, None, "chatml"),
    ],
)
def test_a_family_has_its_template(
    architecture: str | None, pre: str | None, title: str | None, name: str
) -> None:
    assert family_template(architecture, pre, title) == name


def test_a_file_is_a_template_too(tmp_path, monkeypatch):
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages[0].content }}")
    monkeypatch.chdir(tmp_path)
    assert checked("own.jinja") == str(file)
    assert name_of(template_file("own.jinja")) == str(file)
    assert (checked("gemma"), name_of(template_file("gemma"))) == ("gemma", "gemma")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Hello", "own.jinja is not a chat template: it does not use `messages`"),
        (b"\xff messages", "own.jinja is not a chat template: it is not UTF-8"),
    ],
)
def test_what_is_no_template_is_refused(tmp_path, monkeypatch, content, message):
    (tmp_path / "own.jinja").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        template_file("own.jinja")
    assert caught.value.message == message


def test_a_folder_is_no_template(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*: is a directory"):
        template_file(str(tmp_path))
