"""A real browser, driven over Chrome's DevTools protocol through a pipe.

```
with browser() as chromium:
    page = chromium.page(width=360, dark=True)
    page.open("http://127.0.0.1:1234/")
    page.press("Tab")
    assert page.value("document.activeElement.tagName") == "BUTTON"
    assert page.problems == [] and page.hosts == {"127.0.0.1:1234"}
```
"""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest

_WITHIN_S = 60.0
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_KEYS = {
    "Tab": {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    "Escape": {"key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27},
}


@contextlib.contextmanager
def browser(*flags: str) -> "Iterator[Browser]":
    """The block in which a browser runs; without one on PATH, the test is skipped.

    Args:
        flags: More flags, such as one that maps a name to this machine.
    """
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip("chromium is not installed")
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        command = [
            *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync"),
            *("--disable-component-update", "--no-default-browser-check", "--mute-audio"),
            *flags,
            *("--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"),
        ]
        # the browser reads from 3 and writes to 4
        line = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", line, "bash", str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": folder},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(ours_in, ours_out)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours_in)
            os.close(ours_out)


@dataclass
class Browser:
    """A browser that runs."""

    _in: int
    _out: int
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _rest: bytes = b""
    _pages: "dict[str, Page]" = field(default_factory=dict)

    def page(self, *, width: int = 1000, height: int = 800, dark: bool = False) -> "Page":
        """A new page, in a profile of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, session["sessionId"])
        self._pages[page.session] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        mobile = width < 600
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        return page

    def call(self, method: str, session: str | None = None, **given: object) -> Any:
        """The result of a method of the protocol."""
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": given}
        sent = {**order, "sessionId": session} if session else order
        data = json.dumps(sent).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            piece = os.read(self._in, 1 << 16)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, message: Any) -> None:
        page = self._pages.get(message.get("sessionId", ""))
        if page is not None:
            page.note(message["method"], message["params"])


@dataclass
class Page:
    """A page, with what it has asked for and what went wrong in it."""

    browser: Browser
    session: str
    problems: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """The hosts that it has asked."""
        parts = [urlsplit(url) for url in self.urls]
        return {part.netloc for part in parts if part.scheme not in {"data", "blob", "about"}}

    def call(self, method: str, **given: object) -> Any:
        """The result of a method of the protocol."""
        return self.browser.call(method, self.session, **given)

    def note(self, method: str, given: Any) -> None:
        """Remember an event."""
        match method:
            case "Network.requestWillBeSent":
                self.urls.append(given["request"]["url"])
            case "Log.entryAdded" if given["entry"]["level"] in {"error", "warning"}:
                self.problems.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")
            case "Runtime.exceptionThrown":
                self.problems.append(str(given["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if given["type"] in {"error", "warning", "assert"}:
                said = [each.get("value", each.get("description")) for each in given["args"]]
                self.problems.append(" ".join(map(str, said)))

    def open(self, url: str) -> None:
        """Go to an address, and wait until it is loaded."""
        found = self.call("Page.navigate", url=url)
        assert "errorText" not in found, found
        self.wait(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What an expression comes to; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        self.wait_for(lambda: self._holds(expression), expression)

    def _holds(self, expression: str) -> bool:
        """Whether an expression is true; it is not while another page is loaded."""
        try:
            return bool(self.value(expression))
        except AssertionError:
            return False

    def wait_for(self, condition: Callable[[], bool], what: str = "it") -> None:
        """Wait until something is so."""
        end = time.monotonic() + _WITHIN_S
        while not condition():
            assert time.monotonic() < end, f"waited for {what}; {self.problems}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press a key, and let it go."""
        self.call("Input.dispatchKeyEvent", type="keyDown", **_KEYS[key])
        self.call("Input.dispatchKeyEvent", type="keyUp", **_KEYS[key])

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def tab_to(self, expression: str, *, most: int = 60) -> None:
        """Press Tab until what has the focus makes an expression over `it` true."""
        for _ in range(most):
            self.press("Tab")
            if self.value(f"(it => {expression})(document.activeElement)"):
                return
        pytest.fail(f"not reached with {most} tabs: {expression}")

    def screenshot(self, path: Path) -> None:
        """Write what the page looks like to a PNG file."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
