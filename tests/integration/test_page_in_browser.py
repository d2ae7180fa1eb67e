"""The page at `/` in a real browser: light and dark, narrow, by keyboard alone."""

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser, Page, browser
from tests.support.serving import Running, Scripted, gateway, model

pytestmark = pytest.mark.real

LONG = "registry.example.com/some/long/namespace/with-a-very-long-name-of-a-model"
MODELS = (model("ai/one", memory=300 << 20), model(LONG, kind="embedding"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with gateway(Scripted(), *MODELS) as found:
        yield found


def check(page: Page, running: Running) -> None:
    """Nothing went wrong in a page, and it asked nobody else."""
    assert page.problems == []
    assert page.hosts == {running.url.removeprefix("http://")}


def contrast(page: Page, selector: str) -> float:
    """How much a text stands out from what is behind it, as WCAG counts."""
    return float(
        page.value(
            """(selector => {
                const light = colour => {
                    const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map(v => v / 255)
                        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
                };
                const it = document.querySelector(selector);
                let back = it;
                while (getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)')
                    back = back.parentElement;
                const both = [getComputedStyle(it).color, getComputedStyle(back).backgroundColor]
                    .map(light).sort((a, b) => b - a);
                return (both[0] + 0.05) / (both[1] + 0.05);
            })"""
            f"({selector!r})"
        )
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_readable_and_no_wider_than_the_window(
    chromium: Browser, running: Running, width: int, dark: bool
) -> None:
    page = chromium.page(width=width, dark=dark)
    page.open(f"{running.url}/")
    assert page.value("document.documentElement.scrollWidth") <= width
    for selector in ("h1", ".quiet", "dt", "dd", "pre", "button", "nav a"):
        assert contrast(page, selector) >= 4.5
    check(page, running)


def test_addresses_are_copied_by_keyboard(chromium: Browser, running: Running) -> None:
    page = chromium.page()
    page.open(f"{running.url}/")
    chromium.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    copied = "{ navigator.clipboard.writeText = async text => { window.copied = text } }"
    page.value(copied)
    page.tab_to("it.tagName === 'BUTTON'")
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter")
    page.wait("document.activeElement.textContent === 'Copied'")
    assert page.value("window.copied") == (f"OPENAI_BASE_URL={running.url}/v1\nOPENAI_API_KEY=none")
    assert page.value("document.querySelector('#said').textContent") == "Copied"
    page.tab_to("it.tagName === 'A' && it.textContent === '/health'")
    check(page, running)


def test_the_page_shows_a_model_that_was_loaded_meanwhile(chromium: Browser) -> None:
    with gateway(Scripted(), *MODELS) as running:
        page = chromium.page()
        page.open(f"{running.url}/")
        assert page.value("document.querySelectorAll('.loaded').length") == 0
        running.chat("one")
        page.wait("document.querySelectorAll('.loaded').length === 1")
        check(page, running)


def test_the_page_says_when_the_server_has_ended(chromium: Browser) -> None:
    with gateway(Scripted(), *MODELS) as running:
        page = chromium.page()
        page.open(f"{running.url}/")
    said = "document.querySelector('#problem').textContent"
    page.wait(f"{said} === 'The server does not respond.'")


def test_a_key_is_asked_for_and_stays_in_its_tab(chromium: Browser) -> None:
    with gateway(Scripted(), *MODELS, api_key="sesame") as running:
        page = chromium.page(width=360)
        page.open(f"{running.url}/")
        page.wait("document.activeElement.tagName === 'INPUT'")
        page.type("wrong")
        page.press("Enter")
        page.wait("document.querySelector('#problem').textContent === 'Invalid API key.'")
        # what was typed is selected, and replaced
        page.type("sesame")
        page.press("Enter")
        page.wait("document.querySelector('#models') !== null")
        assert page.value("document.activeElement.textContent") == "Models"
        assert page.value("document.cookie") == ""
        page.open(f"{running.url}/")
        page.wait("document.querySelector('#models') !== null")
        check(page, running)
