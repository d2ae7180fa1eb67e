"""What all pages have: one style, one script, and headers that allow nothing else.

No page sets a cookie, and none needs one: the key is sent as a header, which another
page cannot add to a request of its own.
"""

import base64
import hashlib
from functools import cache
from html import escape
from pathlib import Path

from starlette.responses import HTMLResponse

_FOLDER = Path(__file__).parent
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%230b5cad'/%3E"
    "%3Cpath d='M4 12V5l4 4 4-4v7' fill='none' stroke='%23fff' stroke-width='2'/%3E%3C/svg%3E"
)


def document(body: str) -> str:
    """A whole page with a body of ours."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>modelrunner</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="{_ICON}"><style>{_asset("page.css")}</style></head>'
        f"<body><main>{body}</main><script>{_asset('page.js')}</script></body></html>\n"
    )


def key_form() -> str:
    """The page that asks for the API key."""
    return document(
        "<header><h1>modelrunner</h1></header>"
        "<h2>API key</h2><p>This server needs an API key. It stays in this browser.</p>"
        '<form><input type="password" name="key" aria-label="API key" autocomplete="off" required'
        ' autofocus><button>Continue</button></form><p id="problem" role="alert"></p>'
        "<noscript><p>Without JavaScript, send the key as <code>Authorization: Bearer KEY</code>."
        "</p></noscript>"
    )


def error_page(message: str) -> str:
    """The page that says why another one cannot be shown."""
    return document(
        "<header><h1>modelrunner</h1></header><h2>This page cannot be shown</h2>"
        f'<p id="problem">{escape(message)}</p><p><a href="/">Back to the models</a></p>'
    )


def response(page: str, status: int = 200) -> HTMLResponse:
    """The answer with one of these pages."""
    return HTMLResponse(page, status, headers=_headers())


@cache
def _headers() -> dict[str, str]:
    return {
        "content-security-policy": (
            f"default-src 'none'; style-src '{_hashed('page.css')}';"
            f" script-src '{_hashed('page.js')}'; img-src data:; connect-src 'self';"
            " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "vary": "Accept",
        "x-content-type-options": "nosniff",
    }


@cache
def _asset(name: str) -> str:
    # outside: our own file
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hashed(name: str) -> str:
    digest = hashlib.sha256(_asset(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
