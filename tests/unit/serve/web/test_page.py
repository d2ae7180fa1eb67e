"""The page at `/`: what people and their browsers get there."""

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.serve.models import Facts
from modelrunner.version import __version__
from tests.support.serving import Scripted, gateway, model

ONE = model("ai/one")
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


def models_of(page: str) -> str:
    found = re.search(r'<section id="models">(.*)</section>', page)
    assert found is not None
    return re.sub(r"<[^>]*>", "|", found[1])


def test_the_page_tells_a_terminal_what_is_served_and_how_to_ask() -> None:
    vectors = model("ai/vectors", kind="embedding")
    with gateway(Scripted(), ONE, vectors) as running:
        answer = running.get("/", Host="localhost:12434", Accept="*/*")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body.decode() == (
        f"modelrunner {__version__}\n"
        "The service is running.\n"
        "\n"
        "OPENAI_BASE_URL=http://localhost:12434/v1\n"
        "\n"
        "  ai/one:latest      chat       context 8\n"
        "  ai/vectors:latest  embedding  context 8\n"
        "\n"
        "curl http://localhost:12434/v1/chat/completions"
        " -H 'Content-Type: application/json' \\\n"
        """  -d '{"model": "ai/one:latest","""
        """ "messages": [{"role": "user", "content": "Hello"}]}'\n"""
    )


def test_the_page_says_to_a_browser_what_is_served_and_in_memory() -> None:
    facts = Facts(parameters="1.5 B", quantization="Q4_0")
    one = replace(model("ai/one", memory=300 << 20), facts=facts)
    vectors = model("ai/vectors", kind="embedding", memory=2 << 30)
    with gateway(Scripted(), one, vectors, budget=8 << 30) as running:
        before = running.get("/", Accept=BROWSER)
        running.chat("one")
        page = running.get("/", Accept=BROWSER).body.decode()
    assert before.headers["content-type"] == "text/html; charset=utf-8"
    assert "0 models in memory: 0 B of 8.00 GiB." in before.body.decode()
    words = re.sub(r"\|+", "|", models_of(page))
    assert words == (
        "|Models|ai/one:latest|State|loaded|Kind|chat|Context|8 tokens|Memory|300.00 MiB"
        "|Parameters|1.5 B|Quantization|Q4_0"
        "|ai/vectors:latest|State|idle|Kind|embedding|Context|8 tokens|Memory|2.00 GiB|"
        "1 model in memory: 300.00 MiB of 8.00 GiB."
        " A model is loaded by the first request for it.|"
    )


def test_the_page_has_the_address_of_each_api_as_the_client_writes_it() -> None:
    with gateway(Scripted(), ONE, hosts=frozenset({"llm.example"})) as running:
        asked = {"Host": "llm.example", "Accept": BROWSER, "X_Forwarded_Proto": "https"}
        page = running.get("/", **asked).body.decode()
    for line in (
        "OPENAI_BASE_URL=https://llm.example/v1",
        "ANTHROPIC_BASE_URL=https://llm.example\n",
        "OLLAMA_HOST=https://llm.example<",
        "MODEL_RUNNER_HOST=https://llm.example<",
        "curl https://llm.example/v1/chat/completions",
    ):
        assert line in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_client_is_named_only_where_its_api_has_a_model() -> None:
    with gateway(Scripted(), model("ai/vectors", kind="embedding")) as running:
        page = running.get("/", Accept=BROWSER).body.decode()
    assert "OPENAI_BASE_URL=" in page
    assert "/v1/embeddings" in page
    assert "ANTHROPIC_BASE_URL" not in page


def test_the_page_runs_its_own_style_and_script_alone() -> None:
    with gateway(Scripted(), ONE) as running:
        answer = running.get("/", Accept=BROWSER)
    page, headers = answer.body.decode(), answer.headers
    hashes = {
        name: base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
        for name in ("style", "script")
        for found in re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
    }
    assert headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}';"
        f" script-src 'sha256-{hashes['script']}'; img-src data:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers


def test_what_a_host_header_says_cannot_become_markup() -> None:
    # beyond loopback every name is answered
    hostile = "a\"><script>alert('x')</script>"
    with gateway(Scripted(), ONE, host="0.0.0.0", api_key="k") as running:
        answer = running.get("/", Host=hostile, Accept=BROWSER, Authorization="Bearer k")
    assert "<script>alert" not in answer.body.decode()


def test_a_browser_is_asked_for_the_key_and_told_nothing_before() -> None:
    with gateway(Scripted(), ONE, api_key="sesame") as running:
        asked = running.get("/", Accept=BROWSER)
        wrong = running.get("/", Accept=BROWSER, Authorization="Bearer other")
        right = running.get("/", Accept=BROWSER, Authorization="Bearer sesame").body.decode()
        others = [running.get(path, Accept=BROWSER).status for path in ("/models", "/metrics")]
        terminal = running.get("/")
        posted = running.ask("POST", "/", b"", Accept=BROWSER)
    assert asked.body == wrong.body
    assert '<input type="password"' in asked.body.decode()
    assert "ai/one" not in asked.body.decode()
    assert "set-cookie" not in asked.headers
    assert "ai/one:latest" in right
    assert "OPENAI_API_KEY=YOUR_KEY" in right
    assert "sesame" not in right
    assert others == [401, 401]
    assert (terminal.status, posted.status) == (401, 401)


def test_a_page_of_another_site_gets_no_page_either() -> None:
    with gateway(Scripted(), ONE, api_key="sesame") as running:
        answer = running.get("/", Accept=BROWSER, Origin="https://evil.example")
        rebound = running.get("/", Accept=BROWSER, Host="evil.example")
    assert (answer.status, rebound.status) == (403, 403)


def test_the_command_of_the_page_works(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with gateway(Scripted(), ONE) as running:
        command = running.get("/").body.decode().partition("\ncurl ")[2]
        done = subprocess.run(
            ["sh", "-c", f"curl -sS {command}"], capture_output=True, check=True, cwd=tmp_path
        )
    assert b"You said:" in done.stdout
