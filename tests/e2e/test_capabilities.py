"""What models can do, on the command line."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf

pytest.importorskip("jinja2", reason="templates are rendered with jinja2")

TEMPLATE = "{{ messages[0].content }}{{ tools if tools }}{{ '<think>' if enable_thinking else '' }}"


def test_list_and_inspect_show_what_a_model_can_do(cli: CommandLine, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "m.gguf", metadata={"tokenizer.chat_template": TEMPLATE})
    assert cli("package", str(file), "local/m").returncode == 0
    heading, row = cli("list", "--capabilities").stdout.splitlines()
    assert heading.split()[-1] == "CAPABILITIES"
    assert row.endswith("tools, thinking (on/off)")
    assert "CAPABILITIES" not in cli("list").stdout
    wanted = {
        "chat": True,
        "tools": True,
        "thinking": {
            "off": True,
            "levels": [],
            "budget": False,
            "default": "off",
            "opened_by_prompt": True,
            "switch": "enable_thinking",
        },
        "images": False,
        "audio": False,
        "embeddings": False,
        "reranking": False,
        "draft_heads": 0,
    }
    (listed,) = json.loads(cli("list", "--capabilities", "--json").stdout)
    assert listed["capabilities"] == wanted
    assert json.loads(cli("inspect", "local/m").stdout)["capabilities"] == wanted
    assert "capabilities" not in json.loads(cli("list", "--json").stdout)[0]
