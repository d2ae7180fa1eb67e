"""`serve --ui`: llama.cpp's page for chats, as its runtime hands it out, in a real browser."""

import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.support.browser import Browser, Page, browser

pytestmark = pytest.mark.model

SMOLLM2, TALKER = "ai/smollm2:135M-Q4_1", "fixtures/tiny-llama"
KEY = "sesame"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def served(models: CommandLine) -> Iterator[CommandLine]:
    yield models
    assert models("stop", "--all").returncode == 0


def serve(models: CommandLine, *arguments: str) -> str:
    done = models("serve", *arguments, "--ui", "--port", "0", "-d", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["url"])


def get(url: str, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=sent))
    except urllib.error.HTTPError as error:
        return error


def check(page: Page, url: str) -> None:
    assert page.problems == []
    assert page.hosts == {url.removeprefix("http://")}


WRITTEN = "document.querySelector('[aria-label^=\"Assistant message\"] .markdown-content')"


def ask(page: Page, text: str) -> None:
    """Type a question, send it, and wait for an answer that is complete."""
    page.wait("document.activeElement?.tagName === 'TEXTAREA'")
    page.type(text)
    page.press("Enter")
    page.wait(f"document.body.innerText.includes({text!r}) && location.hash.includes('/chat/')")
    page.wait(f"{WRITTEN} !== null && {WRITTEN}.innerText.trim().length > 0")


def test_a_chat_through_the_page_answers_by_keyboard_alone(
    served: CommandLine, chromium: Browser
) -> None:
    url = serve(served, SMOLLM2, "--context", "1024")
    page = chromium.page()
    page.open(f"{url}/")
    page.tab_to("it.classList.contains('chat')")
    page.press("Enter")
    page.wait("location.pathname.startsWith('/ui/')")
    ask(page, "Say hello.")
    check(page, url)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_a_narrow_window_and_follows_the_colours(
    served: CommandLine, chromium: Browser, dark: bool
) -> None:
    url = serve(served, TALKER)
    page = chromium.page(width=360, dark=dark)
    page.open(f"{url}/ui")
    page.wait("document.querySelector('textarea') !== null")
    assert page.value("document.documentElement.scrollWidth") <= 360
    assert page.value("document.documentElement.classList.contains('dark')") is dark
    check(page, url)


def test_several_models_have_a_page_each(served: CommandLine, chromium: Browser) -> None:
    url = serve(served, TALKER, SMOLLM2, "fixtures/tiny-bert")
    page = chromium.page()
    page.open(f"{url}/")
    assert page.value("[...document.querySelectorAll('.chat')].map(it => it.pathname)") == [
        f"/ui/{TALKER}:latest/index.html",
        f"/ui/{SMOLLM2}/index.html",
    ]
    page.open(f"{url}/ui/{TALKER}:latest/index.html")
    page.wait("document.body.innerText.includes('tiny-llama')")
    ask(page, "Hi")
    check(page, url)
    states = {each["model"]: each["state"] for each in json.loads(served("ps", "--json").stdout)}
    assert states[f"{TALKER}:latest"] == "loaded"
    assert states[SMOLLM2] == "idle"


def test_the_key_is_asked_for_once_and_goes_on_to_the_chat(
    served: CommandLine, chromium: Browser
) -> None:
    url = serve(served, TALKER, "--api-key", KEY)
    page = chromium.page()
    page.open(f"{url}/ui/{TALKER}:latest/index.html")
    page.wait("document.activeElement.tagName === 'INPUT'")
    page.type("wrong")
    page.press("Enter")
    page.wait("document.querySelector('#problem').textContent === 'Invalid API key.'")
    page.type(KEY)
    page.press("Enter")
    ask(page, "Hi")
    assert page.value("document.cookie") == ""
    check(page, url)
    # the page is everybody's now; what it asks is not
    assert get(f"{url}/ui/{TALKER}:latest/index.html", Accept="text/html").status == 200
    assert get(f"{url}/ui/{TALKER}:latest/props").status == 401


def test_the_page_asks_for_a_key_by_itself_where_it_has_none(
    served: CommandLine, chromium: Browser
) -> None:
    url = serve(served, TALKER, "--api-key", KEY)
    first = get(f"{url}/ui/{TALKER}:latest/index.html", Authorization=f"Bearer {KEY}")
    assert first.status == 200
    page = chromium.page()
    page.open(f"{url}/ui/{TALKER}:latest/index.html")
    page.wait(
        "document.body.innerText.includes('Access denied') || "
        "document.body.innerText.includes('API Key')"
    )
    assert page.hosts == {url.removeprefix("http://")}


def test_its_headers_allow_this_server_alone(served: CommandLine) -> None:
    url = serve(served, TALKER)
    base = f"{url}/ui/{TALKER}:latest"
    plain = get(f"{base}/index.html")
    packed = get(f"{base}/index.html", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.read()) == plain.read()
    assert plain.headers["content-security-policy"].startswith("default-src 'none'; script-src ")
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert plain.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in plain.headers
    assert get(f"{base}/index.html", Origin="https://evil.example").status == 403
    assert get(f"{base}/none.json").status == 404
    assert get(f"{base}/_app/../props").status in {400, 404}


def test_a_runtime_without_the_page_is_refused(models: CommandLine) -> None:
    done = models("serve", TALKER, "--ui", "--port", "0", "--runtime", "llama-cpp-python")
    assert done.returncode in {2, 8}
    assert "hint: " in done.stderr
